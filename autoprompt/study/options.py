"""How long and how wide a search is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BRANCHES", "Objective", "StudyOptions"]

Objective = Literal["score", "tokens"]
# in the order of their first turns
BRANCHES = (
    "discrete",
    "edits",
    "demonstrations",
    "tuning",
    "coordinates",
    "words",
    "gradients",
    "projection",
    "infill",
    "rewrite",
)


@dataclass(frozen=True)
class StudyOptions:
    """trials: how many prompts to score, the baseline included. evaluations: the search ends when it
    has scored so many (prompt, example) pairs, tokens: when its trials and branches have taken so many
    (None: the trials alone end it). batch: prompts asked and raced at once.
    slice: examples of a race's first look. pruner: how candidates are dropped
    (`racing.RULES`); of our own, share is what it may spend of scoring every prompt on every example,
    and level the chance of finding the best worse, and of promoting one over the baseline by luck.
    promote: "best" makes the finalist with the best score the winner, "certain" keeps the baseline
    unless one is better beyond luck. sampler: of the discrete branch
    (`samplers.SAMPLERS`). branches: those that take part (None: all that apply). floor: the share of
    batches that is spread evenly over them. startup: discrete trials before the others have their
    turns. generations: of a search by coordinates, before the next one starts; deviation: its first
    step. steps: of one training of vectors. objectives: "tokens" asks for short prompts too; then
    the winner is the shortest within `tolerance` of the best. writer_tokens: the most that a proposer
    may read and write with a language model in one turn.
    """

    trials: int = 80
    evaluations: int | None = None
    tokens: int | None = None
    batch: int = 8
    slice: int = 8
    pruner: str = "racing"
    share: float = 0.17
    level: float = 0.05
    sampler: str = "surrogate"
    branches: tuple[str, ...] | None = None
    floor: float = 0.2
    startup: int = 16
    generations: int = 4
    deviation: float = 0.5
    steps: int = 40
    finalists: int = 6
    objectives: tuple[Objective, ...] = ("score",)
    tolerance: float = 0.01
    promote: Literal["best", "certain"] = "best"
    writer_tokens: int = 20_000

    @property
    def several(self) -> bool:
        """Whether the prompt's size is an objective beside the score."""
        return "tokens" in self.objectives
