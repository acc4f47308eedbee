"""Part three of the search benchmark: what the sampler and the bookkeeping take beside scoring.

A search of the demo's space runs on disk with a scorer that answers at once, so that thousands of
trials are reached in minutes; its time outside the scorer is what the loop takes. It is set beside
a trial of a real, short search.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from numpy.typing import NDArray
from record import bar
from tasks import SEED, Task, load_task

from autoprompt.data import Example
from autoprompt.metrics import Metric
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt
from autoprompt.results import RunFolder
from autoprompt.scorer import Score, Scorer
from autoprompt.soft import seed_of
from autoprompt.study import Study, StudyOptions

__all__ = ["Long", "bars_of_overhead", "overhead"]

MARKS = (100, 1000, 2000, 5000)
_WINDOW = 200  # trials over which the time of one is averaged
_ROWS = 512  # examples that have fabricated scores of their own


@dataclass(frozen=True)
class Long:
    """trials: of the long search. seconds: after which it ends early, at `least` trials. real: trials of the real one."""

    trials: int = 5000
    seconds: float = 240
    least: int = 2000
    real: int = 64


class Instant(Scorer):
    """Scores that are made up at once, and depend on what the prompt says.

    Each part of a prompt has an effect of its own, vectors have one by their size, and examples differ.
    seconds: spent in here.
    """

    def __init__(self, model: LanguageModel, metric: Metric) -> None:
        super().__init__(model, metric)
        self.seconds = 0.0
        self._shown = np.random.default_rng(SEED).normal(size=_ROWS)  # how hard an example is for all prompts
        self._depth = 0
        self._noise: dict[str, NDArray[np.float64]] = {}

    def score(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[Score]:
        began = time.perf_counter()
        self._depth += 1
        scores = super().score(prompts, examples)
        self._leave(began)
        return scores

    def read(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> None:
        """Nothing is read."""

    def _calibrated(self, prompt: Prompt, examples: Sequence[Example]) -> NDArray[np.float64]:
        return self._made_up(prompt, examples)

    def work(self, prompt: Prompt, examples: Sequence[Example]) -> int:
        return len(examples) * 50

    def forget(self, prompt: Prompt) -> None:
        self._noise.pop(prompt.fingerprint, None)

    def _leave(self, began: float) -> None:
        self._depth -= 1
        if not self._depth:
            self.seconds += time.perf_counter() - began

    def _made_up(self, prompt: Prompt, examples: Sequence[Example]) -> NDArray[np.float64]:
        print_ = prompt.fingerprint
        if print_ not in self._noise:
            drawn = np.random.default_rng(seed_of(SEED, "noise", print_)).normal(size=(_ROWS, len(prompt.labels)))
            self._noise[print_] = drawn.astype(np.float64)
        places = [example.number % _ROWS for example in examples]
        rows = self._noise[print_][places]
        rows[np.arange(len(rows)), [prompt.labels.index(e.label) for e in examples]] += (
            1.0 + _quality(prompt) + self._shown[places]
        )
        return rows


def _quality(prompt: Prompt) -> float:
    """The sum of the parts' effects, each a normal number of its own."""
    parts = [prompt.template, prompt.instruction, *prompt.label_words.values(), str(len(prompt.demonstrations))]
    effects = [np.random.default_rng(seed_of(SEED, "part", part)).normal() for part in parts]
    vectors = 0.0 if prompt.soft is None else float(np.square(prompt.soft.vectors).mean())
    return 0.3 * float(np.sum(effects)) - vectors


def overhead(plan: Long) -> dict[str, Any]:
    """Milliseconds a trial of the loop at several lengths of the search, and of a real trial."""
    task = load_task("support")
    real = _real(task, plan.real)
    print(f"overhead  a real trial takes {1000 * real:.1f} ms ({plan.real} trials)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        times, asking, branches = _long(task, plan, Path(folder))
    marks = {str(n): round(1000 * _around(times, n), 3) for n in sorted({*MARKS, len(times)}) if n <= len(times)}
    last = _around(times, len(times))
    return {
        "trials": len(times),
        "wanted": plan.trials,
        "ms_a_trial": marks,
        "ms_of_it_asking": round(1000 * _around(asking, len(times)), 3),
        "ms_a_real_trial": round(1000 * real, 3),
        "share": round(last / real, 4),
        "branches": branches,
    }


def _real(task: Task, trials: int) -> float:
    """Seconds a trial of a real search, the loop included."""
    options = StudyOptions(trials=trials, branches=("discrete", "edits"))
    scorer = Scorer(task.model, task.metric)
    with tempfile.TemporaryDirectory() as folder:
        study = Study(task.space, scorer, task.splits.dev, options, Path(folder), SEED)
        began = time.perf_counter()
        study.run()
        return (time.perf_counter() - began) / trials


def _long(task: Task, plan: Long, folder: Path) -> tuple[list[float], list[float], dict[str, dict[str, int]]]:
    """Seconds outside the scorer of each trial of the long search, and those of asking among them.

    A batch's are spread over its trials.
    """
    options = StudyOptions(trials=plan.trials, branches=("discrete", "edits", "coordinates"))
    scorer = Instant(task.model, task.metric)
    with RunFolder(folder, "long") as kept:  # every trial is told to the journal of events too
        study = Study(task.space, scorer, task.splits.dev, options, kept.path, SEED, kept)
        times, asking = _timed(study, scorer, plan)
    return times, asking, study.counts_by_branch()


def _timed(study: Study, scorer: Instant, plan: Long) -> tuple[list[float], list[float]]:
    """Seconds of each trial of a study, and of asking it."""
    times: list[float] = []
    asking: list[float] = []
    began = printed = time.perf_counter()
    while True:
        at, inside = time.perf_counter(), scorer.seconds
        batch = study.ask()
        if not batch:
            break
        asking += [(time.perf_counter() - at - (scorer.seconds - inside)) / len(batch)] * len(batch)
        study.tell(study.raced(batch))
        now = time.perf_counter()
        times += [(now - at - (scorer.seconds - inside)) / len(batch)] * len(batch)
        if now - printed > 15:
            printed = now
            print(f"overhead  {len(times):,} trials, {1000 * _around(times, len(times)):.1f} ms each", flush=True)
        if now - began > plan.seconds and len(times) >= plan.least:
            break
    return times, asking


def _around(times: Sequence[float], n: int) -> float:
    """The mean of the last trials up to number n."""
    return float(np.mean(times[max(0, n - _WINDOW) : n]))


def bars_of_overhead(measured: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The title says how long the search got."""
    title = f"overhead at {measured['trials']:,} trials, share of a trial's time"
    return {title: bar(measured["share"], 0.05, at_most=True)}
