"""What a run will take, from its first seconds: time by stage, trials to expect, memory, disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoprompt.clock import Clock
from autoprompt.data import Example, Splits
from autoprompt.events import PlanMade
from autoprompt.finetune import FinetuneOptions
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.space import Space
from autoprompt.study import BRANCHES, StudyOptions

__all__ = ["Plan", "Speed", "Training", "make_plan", "measured_speed"]

_SPARE = ("search", "explain")  # have what the others leave
_ENOUGH = 1.0  # seconds of scoring that a measurement needs
_LONGER = 1.5  # a searched prompt is longer than the user's own: it has demonstrations and instructions
# what branches take to find candidates, in parts of what scoring takes, as in the demo: trainings of vectors, and
# the search back to text from them; gradients of tokens, chosen demonstrations and rewriting together
_SOFT, _OTHERS = 3.0, 0.5
_BACKWARD = 3.0  # a training pass beside a scoring pass: once forward, twice back
_MARGIN, _LEAST = 1.5, 5.0  # the reserve is so many times what is expected, and so many seconds more
_TRIAL, _PAIR = 6_000, 100  # bytes on disk of a trial, and of a score in the engine's memory
_BYTES_A_SECOND = 100e6  # of an export, written through to the disk


@dataclass(frozen=True)
class Speed:
    """Seconds to score one example with the user's prompt; and to read it alone, sharing nothing with others."""

    example: float
    alone: float


def measured_speed(scorer: Scorer, prompt: Prompt, examples: Sequence[Example]) -> Speed:
    """Score a prompt on more and more examples, without any memory, until it has taken a second."""
    size = 4
    scorer.using(scorer.model).score([prompt], examples[:size])  # what is done once is not counted
    while True:
        size *= 2
        fresh, part = scorer.using(scorer.model), examples[:size]
        tokens, began = fresh.tokens, time.monotonic()
        fresh.score([prompt], part)
        seconds = max(1e-6, time.monotonic() - began)
        if seconds >= _ENOUGH or size >= len(examples):
            break
    whole = sum(
        len(one.context) + len(one.tail) + sum(map(len, one.choices))
        for one in fresh.encode(prompt, [dict(example.fields) for example in part])
    )
    shared = max(1.0, whole / max(1, fresh.tokens - tokens))
    return Speed(seconds / len(part), seconds / len(part) * shared)


@dataclass(frozen=True)
class Training:
    """How fine-tuning goes, and how many times: once more where it is compared with starting from the user's prompt."""

    options: FinetuneOptions
    times: int


@dataclass(frozen=True)
class Plan:
    """seconds: by stage, in their order; training: of one whole training. after: of the stages behind the search, with
    a margin. memory, disk: bytes."""

    speed: Speed
    trials: int
    seconds: dict[str, float]
    training: float
    memory: int
    disk: int

    @property
    def after(self) -> float:
        return _MARGIN * sum(value for stage, value in self.seconds.items() if stage not in _SPARE) + _LEAST

    def reserve(self, left: float) -> float:
        """Seconds to keep for what follows the search: at most half of what there is, a tenth for explaining."""
        return min(self.after + min(self.seconds["explain"], left / 10), left / 2)

    def last(self, *stages: str) -> float:
        """Seconds to keep for these stages, with the margin."""
        return _MARGIN * sum(self.seconds[stage] for stage in stages) + _LEAST

    def event(self, folder: Path, clock: Clock) -> PlanMade:
        """What is told of it."""
        free = shutil.disk_usage(next(p for p in (folder, *folder.absolute().parents) if p.exists())).free
        ends = min(clock.left, sum(self.seconds.values()))
        rounded = {stage: round(value, 1) for stage, value in self.seconds.items()}
        return PlanMade(
            self.trials, round(1000 * self.speed.example, 3), rounded, self.memory, self.disk, free, round(ends)
        )


def make_plan(
    space: Space,
    splits: Splits,
    scorer: Scorer,
    options: StudyOptions,
    training: Training | None,
    clock: Clock,
    explained: int = 0,
) -> Plan:
    """Measure the scorer on training examples, and say what the run will take.

    training: None where nothing is trained. explained: scores of all of dev that explaining the winner takes.
    """
    speed = measured_speed(scorer, space.baseline, splits.train or splits.dev)
    dev, test = len(splits.dev), len(splits.test)
    weights = scorer.model.parameters * scorer.model.dtype.itemsize
    seconds = {"search": 0.0, "confirm": 0.1 * options.finalists * dev * speed.example}
    seconds["verdict"] = 2 * test * speed.example
    one = 0.0 if training is None else _seconds(splits, speed, training.options)
    seconds["finetune"] = 0.0 if training is None else training.times * one
    copies = 0 if training is None or training.options.method == "vectors" else 1
    seconds["export"] = 1.0 + copies * weights / _BYTES_A_SECOND
    seconds["explain"] = explained * min(dev, 200) * speed.example
    share = options.share if options.pruner == "racing" else 1.0
    trial = share * dev * speed.example * _LONGER * _beside(space, options) + 0.02
    reserve = Plan(speed, 0, seconds, one, 0, 0).reserve(clock.left)
    if clock.limited:  # what does not fit is cut: fine-tuning ends early, the rest is short
        seconds["explain"] = min(seconds["explain"], clock.left / 10)
        others = sum(value for stage, value in seconds.items() if stage != "finetune")
        seconds["finetune"] = min(seconds["finetune"], max(0.0, reserve - others))
    left = max(0.0, clock.left - reserve)
    trials = min(options.trials, max(1, int(left / trial))) if clock.limited else options.trials
    seconds["search"] = min(left, trials * trial)
    memory = weights + scorer.engine.budget_bytes + _bytes(weights, scorer, training)
    disk = trials * (_TRIAL + round(share * dev) * _PAIR) + copies * weights
    if training is not None and training.options.method == "full":
        disk += 4 * weights  # the checkpoint: weights, the best ones, and two moments of Adam
    return Plan(speed, trials, seconds, one, memory, disk)


def _beside(space: Space, options: StudyOptions) -> float:
    """What a trial takes with what finding it takes, in parts of scoring it."""
    branches = set(BRANCHES if options.branches is None else options.branches)
    soft = _SOFT if space.soft is not None and branches & {"tuning", "projection"} else 0.0
    return 1 + soft + (_OTHERS if branches & {"demonstrations", "gradients", "rewrite", "infill"} else 0.0)


def _seconds(splits: Splits, speed: Speed, options: FinetuneOptions) -> float:
    """One training at its longest, and the scores of what comes out on the test split."""
    train, dev = len(splits.train), len(splits.dev)
    epochs = options.epochs
    if options.steps is not None:
        epochs = max(1, min(epochs, options.steps * options.batch_size // max(1, train)))
    judged = epochs if options.keep == "best" else 4
    scored = (judged + 1) * dev + len(splits.test)
    return epochs * train * speed.alone * _BACKWARD + scored * speed.example


def _bytes(weights: int, scorer: Scorer, training: Training | None) -> int:
    """What fine-tuning needs beside the model: a copy, and for all weights gradients and Adam's moments."""
    if training is None:
        return 0
    return weights + (3 * 4 * scorer.model.parameters if training.options.method == "full" else weights // 20)
