"""The verdict on winner and baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autoprompt.metrics import Metric, Outcome
from autoprompt.verdict.exact import exact_p
from autoprompt.verdict.paired import paired_interval

__all__ = ["Verdict", "judge"]

_LEVEL = 0.05
_SAME = "No improvement found: the search ends with your own prompt."


@dataclass(frozen=True)
class Verdict:
    """What the locked test says of the winner against the baseline.

    interval: the 95 % interval of winner minus baseline, in the metric's own direction. p: two-sided, of the exact
    test that `test` names; "" where none was made.
    """

    outcome: Literal["improved", "no improvement", "worse"]
    sentence: str
    baseline: float
    winner: float
    interval: tuple[float, float]
    p: float = 1.0
    test: str = ""


def judge(metric: Metric, baseline: Outcome, winner: Outcome, same_prompt: bool = False, seed: int = 0) -> Verdict:
    """The verdict on two outcomes on the same test examples.

    "improved" and "worse" need both: the whole interval on one side of zero, and an exact test at 5 %, which keeps its
    level for few examples too. `same_prompt` says that the search did not leave the baseline.
    """
    before, after = metric.many([baseline, winner])
    if same_prompt:
        return Verdict("no improvement", _SAME, before, after, (0.0, 0.0))
    low, high = paired_interval(metric, baseline, winner, seed)
    test, p = exact_p(metric, baseline, winner, seed)
    size, shown = len(winner.targets), "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    span = (
        f"{after - before:+.3f} {metric.name}, 95 % interval {low:+.3f} to {high:+.3f}, {shown}, {size} test examples"
    )
    outcome, sentence = _said((low, high) if metric.maximize else (-high, -low), p, test, span)
    return Verdict(outcome, sentence, before, after, (low, high), p, test)


def _said(
    gain: tuple[float, float], p: float, test: str, span: str
) -> tuple[Literal["improved", "no improvement", "worse"], str]:
    """Outcome and sentence; gain: the interval, above zero where the winner is better."""
    if gain[0] <= 0 <= gain[1]:
        return "no improvement", f"No improvement found: the interval holds zero ({span}). Keep your prompt."
    if p > _LEVEL:
        return "no improvement", f"No improvement found: by {test} it may be luck ({span}). Keep your prompt."
    if gain[0] > 0:
        return "improved", f"The winner is better than your prompt ({span})."
    return "worse", f"The winner is worse than your prompt on the test split ({span}): keep your prompt."
