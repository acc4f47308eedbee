"""The locked test: paired intervals, and "no improvement" as a legal answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoprompt.metrics import Metric, Outcome

__all__ = ["Cell", "Parts", "Verdict", "judge", "judge_parts", "paired_interval"]

Cell = Literal["base", "prompt", "tuning", "both"]

_RESAMPLES, _RESAMPLES_WHOLE_SET, _CHUNK = 10_000, 2_000, 50


def paired_interval(
    metric: Metric, first: Outcome, second: Outcome, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of metric(second) - metric(first) on the same examples.

    Examples are drawn with replacement, the same for both (Efron & Tibshirani 1993, chapter 13).
    """
    size = len(first.targets)
    generator = np.random.default_rng(seed)
    values = metric.per_example(first), metric.per_example(second)
    if values[0] is not None and values[1] is not None:
        difference = values[1] - values[0]
        drawn = np.concatenate(
            [difference[generator.integers(0, size, (500, size))].mean(1) for _ in range(_RESAMPLES // 500)]
        )
    else:
        chunks = range(_RESAMPLES_WHOLE_SET // _CHUNK)
        drawn = np.concatenate([_resampled(metric, first, second, generator) for _ in chunks])
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(metric: Metric, first: Outcome, second: Outcome, generator: np.random.Generator) -> NDArray[np.float64]:
    """The differences of a chunk of resamples; a metric in another process is asked once for all of them."""
    size = len(first.targets)
    rows = [generator.integers(0, size, size) for _ in range(_CHUNK)]
    values = metric.many([outcome.take(chosen) for outcome in (second, first) for chosen in rows])
    return np.subtract(values[:_CHUNK], values[_CHUNK:], dtype=np.float64)


@dataclass(frozen=True)
class Verdict:
    """What the locked test says of the winner against the baseline.

    interval: the 95 % interval of winner minus baseline, in the metric's own direction.
    """

    outcome: Literal["improved", "no improvement", "worse"]
    sentence: str
    baseline: float
    winner: float
    interval: tuple[float, float]


def judge(metric: Metric, baseline: Outcome, winner: Outcome, same_prompt: bool = False, seed: int = 0) -> Verdict:
    """The verdict on two outcomes on the same test examples.

    "improved" needs the whole interval on the better side of zero; `same_prompt` says that the
    search did not leave the baseline.
    """
    low, high = paired_interval(metric, baseline, winner, seed)
    before, after = metric(baseline), metric(winner)
    worst, best = (low, high) if metric.maximize else (-high, -low)
    size = len(winner.targets)
    span = f"{after - before:+.3f} {metric.name}, 95 % interval {low:+.3f} to {high:+.3f}, {size} test examples"
    if same_prompt:
        return Verdict(
            "no improvement", "No improvement found: the search ends with your own prompt.", before, after, (low, high)
        )
    if worst > 0:
        return Verdict("improved", f"The winner is better than your prompt ({span}).", before, after, (low, high))
    if best < 0:
        return Verdict(
            "worse",
            f"The winner is worse than your prompt on the test split ({span}): keep your prompt.",
            before,
            after,
            (low, high),
        )
    return Verdict(
        "no improvement",
        f"No improvement found: the interval holds zero ({span}). Keep your prompt.",
        before,
        after,
        (low, high),
    )


# -- what each part was worth --------------------------------------------------------------------

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
