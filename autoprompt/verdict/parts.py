"""What prompt and fine-tuning were each worth on the locked test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from autoprompt.metrics import Metric, Outcome
from autoprompt.verdict.paired import paired_interval

__all__ = ["Cell", "Parts", "judge_parts"]

Cell = Literal["base", "prompt", "tuning", "both"]

_DIFFERENCES: dict[str, tuple[Cell, Cell]] = {
    "prompt - base": ("prompt", "base"),
    "tuning - base": ("tuning", "base"),
    "both - base": ("both", "base"),
    "both - prompt": ("both", "prompt"),
    "both - tuning": ("both", "tuning"),
}


@dataclass(frozen=True)
class Parts:
    """The 2 x 2 of prompt and fine-tuning on the locked test.

    cells: the metric with neither ("base": your prompt, the model as it was), with the winner alone
    ("prompt"), with fine-tuning from your own prompt ("tuning"), with both. differences: of two
    cells, in the metric's own direction: its value and its 95 % paired interval.
    """

    cells: Mapping[Cell, float]
    differences: Mapping[str, tuple[float, float, float]]
    sentence: str


def judge_parts(metric: Metric, outcomes: Mapping[Cell, Outcome], seed: int = 0) -> Parts:
    """What prompt and fine-tuning are worth, from outcomes on the same test examples.

    "tuning" may be missing, with the differences that need it.
    """
    cells: dict[Cell, float] = {cell: metric(outcome) for cell, outcome in outcomes.items()}
    differences = {
        name: (cells[more] - cells[less], *paired_interval(metric, outcomes[less], outcomes[more], seed))
        for name, (more, less) in _DIFFERENCES.items()
        if more in cells and less in cells
    }
    return Parts(cells, differences, _said_of_parts(metric, differences))


def _said_of_parts(metric: Metric, differences: Mapping[str, tuple[float, float, float]]) -> str:
    gain, low, high = differences["both - prompt"]
    span = f"{gain:+.3f} {metric.name}, 95 % interval {low:+.3f} to {high:+.3f}"
    worst, best = (low, high) if metric.maximize else (-high, -low)
    if worst > 0:
        said = f"Fine-tuning improves on the prompt alone ({span})."
    elif best < 0:
        said = f"Fine-tuning is worse than the prompt alone ({span}): use the prompt alone."
    else:
        said = f"Fine-tuning does not certainly improve on the prompt alone ({span})."
    if "both - tuning" in differences:
        gain, low, high = differences["both - tuning"]
        said += f" Starting it from the winner and not from your prompt: {gain:+.3f} ({low:+.3f} to {high:+.3f})."
    return said
