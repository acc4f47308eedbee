"""Real tables of scores, prompts × examples, for playing selection rules again without a model.

    python tests/benchmarks/tables.py [--task NAME ...] [--cache FOLDER] [--data FOLDER]
                                      [--prompts 500] [--examples N] [--seed 7]

Each row is a prompt drawn at random from a task's space, the first one the baseline; each column an
example that none of the prompts shows. A table is recorded once and lies in the cache, as
NAME.npz; it is recorded again when the task, the model, the size or the seed is another. On two
cores that takes a few minutes each, and prints the tables' figures.

The public tasks' prompts share 16 random pairs of template and instruction, so that the encoder
reads each example 16 times and not up to 100 times: what differs more is how labels are described.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from tasks import DATA, SEED, TASKS, Replay, Task, load_task

from autoprompt.data import fingerprint
from autoprompt.engine import Engine
from autoprompt.errors import PromptError
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.space import Drawn

__all__ = ["CACHE", "Table", "load_or_record", "load_table", "read_table"]

CACHE = Path(tempfile.gettempdir()) / "autoprompt-tables"
CHUNK = 25  # prompts that are scored in one call; bounds what is held in memory
TRIES = 20  # draws for each prompt that is wanted, before a space counts as too small

Params = dict[str, int]


@dataclass(frozen=True)
class Table:
    """What P prompts scored on N examples.

    prompts: the parameters of each, which its space plays again (`autoprompt.space.Stored`).
    margins (P, N): log-likelihood of the right label minus that of the best other one. likelihoods
    (P, N): log P(right label), natural. correct (P, N): whether the answer was right. baseline: its
    row. key: what the table was recorded from. seconds: how long that took, and on how many threads.
    """

    name: str
    prompts: list[Params]
    margins: NDArray[np.float32]
    likelihoods: NDArray[np.float32]
    correct: NDArray[np.bool_]
    baseline: int
    seed: int
    key: str
    seconds: float
    threads: int

    def write(self, path: Path) -> None:
        """Written beside its place and moved there: no half table is ever read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "name": self.name, "prompts": self.prompts, "baseline": self.baseline, "seed": self.seed,
            "key": self.key, "seconds": self.seconds, "threads": self.threads,
        }  # fmt: skip
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez_compressed(
                file, margins=self.margins, likelihoods=self.likelihoods, correct=self.correct,
                about=np.array(json.dumps(about)),
            )  # fmt: skip
        part.replace(path)


def read_table(path: Path) -> Table:
    """The table of a file that `load_or_record` wrote; stops with what to do when there is none."""
    if not path.exists():
        raise SystemExit(f"There is no table {path}; record it with: python tests/benchmarks/tables.py --cache FOLDER")
    with np.load(path, allow_pickle=False) as found:
        about = json.loads(str(found["about"]))
        return Table(margins=found["margins"], likelihoods=found["likelihoods"], correct=found["correct"], **about)


def load_table(
    task: Task, prompts: int = 500, examples: int | None = None, seed: int = SEED, cache: Path = CACHE
) -> Table | None:
    """The task's table from the cache; None when there is none, or one of another task, model, size or seed.

    examples: how many columns; None takes all that the task has for it.
    """
    path = cache / f"{task.name}.npz"
    if not path.exists():
        return None
    found = read_table(path)
    return found if found.key == _key(task, draw(task.replay, prompts, seed), examples) else None


def load_or_record(
    task: Task, prompts: int = 500, examples: int | None = None, seed: int = SEED, cache: Path = CACHE
) -> Table:
    """The task's table from the cache, or recorded now; see `load_table`."""
    found = load_table(task, prompts, examples, seed, cache)
    if found is None:
        drawn = draw(task.replay, prompts, seed)
        columns = len(task.replay.examples[:examples])
        found = _record(task, drawn, columns, seed, _key(task, drawn, examples))
        found.write(cache / f"{task.name}.npz")
    return found


def _key(task: Task, drawn: Sequence[tuple[Params, Prompt]], examples: int | None) -> str:
    """What a table is recorded from: the model, the columns and the prompts."""
    columns = fingerprint(task.replay.examples[:examples])
    identity = [task.model.identity, columns, [prompt.fingerprint for _, prompt in drawn]]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


# -- drawing ---------------------------------------------------------------------------------


def draw(replay: Replay, count: int, seed: int) -> list[tuple[Params, Prompt]]:
    """The baseline, and `count` - 1 other prompts drawn at random, all distinct, with their parameters."""
    generator = random.Random(f"{seed} table")
    framings = _framings(replay, generator)
    found: dict[Prompt, Params] = {}
    base = dict.fromkeys(replay.space.choices, 0)  # the baseline's parts are the first candidates
    for _ in range(TRIES * count):
        if len(found) == count:
            break
        trial = Drawn(generator, base)
        with suppress(PromptError):  # two labels got the same word
            found.setdefault(replay.space.discrete(trial), trial.params)
        base = generator.choice(framings) if framings else {}
    if len(found) < count:
        raise SystemExit(f"The space gave {len(found)} distinct prompts, and {count} are wanted.")
    return [(params, prompt) for prompt, params in found.items()]


def _framings(replay: Replay, generator: random.Random) -> list[Params]:
    """Random pairs of template and instruction, or none where each prompt draws its own."""
    templates, instructions = range(len(replay.space.templates)), range(len(replay.space.instructions))
    pairs = [
        {"template": template, "instruction": instruction} for template in templates for instruction in instructions
    ]
    return [] if replay.framings is None else generator.sample(pairs, min(replay.framings, len(pairs)))


# -- recording -------------------------------------------------------------------------------


def _record(task: Task, drawn: Sequence[tuple[Params, Prompt]], columns: int, seed: int, key: str) -> Table:
    import torch

    started, examples = time.perf_counter(), task.replay.examples[:columns]
    margins, likelihoods = (np.empty((len(drawn), columns), np.float32) for _ in range(2))
    correct = np.empty((len(drawn), columns), np.bool_)
    engine = Engine(task.model)
    for rows in _chunks([prompt for _, prompt in drawn]):
        scorer = Scorer(task.model, task.metric)  # a new one each time: it keeps all that it ever scored
        scorer.engine = engine  # always the same: what it keeps is bounded
        for at, score in zip(rows, scorer.score([drawn[at][1] for at in rows], examples), strict=True):
            outcome = score.outcome
            gold = [outcome.labels.index(target) for target in outcome.targets]
            margins[at] = score.margins
            likelihoods[at] = np.log(np.maximum(outcome.probabilities[np.arange(columns), gold], 1e-12))
            correct[at] = outcome.probabilities.argmax(1) == gold
    seconds = round(time.perf_counter() - started, 1)
    params = [params for params, _ in drawn]
    return Table(task.name, params, margins, likelihoods, correct, 0, seed, key, seconds, torch.get_num_threads())


def _chunks(prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Rows with the same template and instruction, CHUNK at most: what they share is read once."""
    groups: dict[tuple[str, str], list[int]] = {}
    for at, prompt in enumerate(prompts):
        groups.setdefault((prompt.template, prompt.instruction), []).append(at)
    for members in groups.values():
        for start in range(0, len(members), CHUNK):
            yield members[start : start + CHUNK]


# -- figures ---------------------------------------------------------------------------------


def figures(table: Table) -> dict[str, Any]:
    """Size, spread of accuracy, the baseline's, and how margins and accuracies go together."""
    accuracy, margin = table.correct.mean(1), table.margins.mean(1)
    return {
        "prompts": len(accuracy),
        "examples": table.correct.shape[1],
        "seconds": table.seconds,
        "threads": table.threads,
        "accuracy": {"min": accuracy.min(), "median": float(np.median(accuracy)), "max": accuracy.max()},
        "spread": accuracy.std(),
        "baseline": accuracy[table.baseline],
        "baseline_rank": (accuracy < accuracy[table.baseline]).mean(),
        "margin_and_accuracy": np.corrcoef(margin, accuracy)[0, 1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--examples", type=int)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    for name in options.task:
        task = load_task(name, options.data)
        table = load_or_record(task, options.prompts, options.examples, options.seed, options.cache)
        found = figures(table)
        spread = " / ".join(f"{found['accuracy'][kind]:.3f}" for kind in ("min", "median", "max"))
        print(
            f"{name:10} {found['prompts']} x {found['examples']} in {found['seconds']:.0f} s ({found['threads']} threads)"
            f"   accuracy {spread}   deviation {found['spread']:.3f}   baseline {found['baseline']:.3f}"
            f" (better than {found['baseline_rank']:.0%})   margin/accuracy {found['margin_and_accuracy']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
