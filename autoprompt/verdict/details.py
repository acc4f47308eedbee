"""What the locked test says beside the verdict: labels, calibration, the strongest baseline, the ledger of answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprompt import events
from autoprompt.metrics import Metric, Outcome
from autoprompt.verdict.answers import UNPARSEABLE, answers, is_labelled, known_labels, probability_of
from autoprompt.verdict.exact import exact_p
from autoprompt.verdict.paired import paired_interval
from autoprompt.verdict.power import detectable

__all__ = ["calibration_error", "details", "worst_label"]

_BINS, _BIN_SIZE = 15, 10


def details(
    metric: Metric,
    baseline: Outcome,
    winner: Outcome,
    rival: tuple[str, Outcome] | None = None,
    truncated: Collection[int] = (),
    left_out: int = 0,
    seed: int = 0,
) -> events.VerdictDetailed:
    """What the test says of winner and baseline, outcomes on the same test examples.

    rival: the strongest baseline's name and its outcome. truncated: the places in the outcomes of examples that were
    shortened to fit, or of the winner's answers that ran out of tokens. left_out: how many were too long and are in no
    outcome.

    The classes' order is the worst of the winner first; labels without a test example are left out. Of the ledger,
    "right", "wrong" and "unparseable" add up to the examples scored; "truncated" counts some of these once more, "too
    long" comes on top. Texts and numbers have neither classes nor calibration; right is what is worth all that the
    metric can give, or says just what the target says.
    """
    test, p = exact_p(metric, baseline, winner, seed)
    known = known_labels(baseline, winner)
    said = answers(baseline, known), answers(winner, known)
    labelled, pairs = is_labelled(winner), {"baseline": (baseline, said[0]), "winner": (winner, said[1])}
    return events.VerdictDetailed(
        test,
        p,
        detectable(metric, baseline, winner, seed),
        {} if rival is None else _against(metric, rival, winner, seed),
        _classes(winner.targets, *said) if labelled else {},
        {name: calibration_error(*pair) for name, pair in pairs.items()} if labelled else {},
        _ledger(_right(metric, winner, said[1]), said[1], truncated, left_out),
    )


def worst_label(classes: Mapping[str, Mapping[str, float]]) -> str:
    """The label that the winner answers right least often; of equals the one with more examples, then by name."""
    return min(classes, key=lambda label: (classes[label]["winner"], -classes[label]["examples"], label))


def calibration_error(outcome: Outcome, said: list[str]) -> float:
    """The expected calibration error of answers: how far confidence and share right are apart, weighted over bins.

    The bins are of equal mass, as Nixon et al. (2019, "Measuring calibration in deep learning") advise, over the
    confidence in the answer that was given (top label, L1): 15, or fewer so that each holds ten examples. Equal
    confidences share a bin. An answer that is no label is wrong, with confidence 0.
    """
    size = len(said)
    confidence = probability_of(outcome, said) * np.array([a != UNPARSEABLE for a in said])
    right = np.array([a == target for a, target in zip(said, outcome.targets, strict=True)], dtype=np.float64)
    bins = max(1, min(_BINS, size // _BIN_SIZE))
    rank = np.searchsorted(np.sort(confidence), confidence, side="left")
    gaps = np.bincount(rank * bins // size, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / size)


def _against(metric: Metric, rival: tuple[str, Outcome], winner: Outcome, seed: int) -> dict[str, Any]:
    name, outcome = rival
    value, after = metric.many([outcome, winner])
    interval, (_, p) = paired_interval(metric, outcome, winner, seed), exact_p(metric, outcome, winner, seed)
    return {"name": name, "value": value, "difference": after - value, "interval": interval, "p": p}


def _classes(targets: tuple[str, ...], before: list[str], after: list[str]) -> dict[str, dict[str, float]]:
    at: dict[str, list[int]] = {}
    for place, target in enumerate(targets):
        at.setdefault(target, []).append(place)
    found = {
        label: {
            "examples": float(len(places)),
            "baseline": sum(before[i] == label for i in places) / len(places),
            "winner": sum(after[i] == label for i in places) / len(places),
        }
        for label, places in at.items()
    }
    left, ordered = dict(found), {}
    while left:
        label = worst_label(left)
        ordered[label] = left.pop(label)
    return ordered


def _right(metric: Metric, winner: Outcome, said: list[str]) -> NDArray[np.bool_]:
    """Which answers are right (N,)."""
    same: NDArray[np.bool_] = np.array([a == target for a, target in zip(said, winner.targets, strict=True)])
    return same if is_labelled(winner) else same | (metric.proxy(winner) >= 1 - 1e-9)


def _ledger(right: NDArray[np.bool_], said: list[str], truncated: Collection[int], left_out: int) -> dict[str, int]:
    unparseable = said.count(UNPARSEABLE)
    return {
        "right": int(right.sum()),
        "wrong": len(said) - int(right.sum()) - unparseable,
        "unparseable": unparseable,
        "truncated": len(set(truncated)),
        "too long": left_out,
    }
