"""The test examples on which winner and baseline do not agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoprompt import events
from autoprompt.data import Example
from autoprompt.metrics import Metric, Outcome
from autoprompt.verdict.answers import answers, is_labelled, known_labels, probability_of

__all__ = ["flips"]

_SHOWN = 500  # characters of a field


def flips(
    metric: Metric, examples: Sequence[Example], baseline: Outcome, winner: Outcome, most: int = 200
) -> events.ExamplesFlipped:
    """The examples that are answered differently, the most telling first, and at most `most` of them.

    examples: those of the outcomes, in their order. First come those that were gained or lost, by how far the right
    label's probability moved, then those where both answers are wrong. Fields are cut to 500 characters; an answer that
    is no label is "". Of texts and numbers one is gained where it is worth more than before, and the shift is by how
    much.
    """
    known = known_labels(baseline, winner)
    targets = winner.targets
    before, after = answers(baseline, known), answers(winner, known)
    if is_labelled(winner):
        shifts = probability_of(winner, targets) - probability_of(baseline, targets)
        turns = [_turn(old, new, target) for old, new, target in zip(before, after, targets, strict=True)]
    else:
        shifts = metric.proxy(winner) - metric.proxy(baseline)
        turns = ["gained" if shift > 0 else "lost" if shift < 0 else "other" for shift in shifts.tolist()]
    apart = [at for at in range(len(targets)) if before[at] != after[at]]
    apart.sort(key=lambda at: (turns[at] == "other", -abs(float(shifts[at])), examples[at].number))
    return events.ExamplesFlipped(
        sum(turns[at] == "gained" for at in apart),
        sum(turns[at] == "lost" for at in apart),
        tuple(_row(examples[at], before[at], after[at], float(shifts[at]), turns[at]) for at in apart[:most]),
    )


def _turn(before: str, after: str, target: str) -> str:
    return "gained" if after == target else "lost" if before == target else "other"


def _row(example: Example, before: str, after: str, shift: float, turn: str) -> dict[str, Any]:
    fields = {name: text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…" for name, text in example.fields.items()}
    return {
        "number": example.number,
        "fields": fields,
        "label": example.label[:_SHOWN],
        "before": before[:_SHOWN],
        "after": after[:_SHOWN],
        "shift": shift,
        "turn": turn,
    }
