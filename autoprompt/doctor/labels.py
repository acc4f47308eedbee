"""Labels that the model contradicts twice: by its own embeddings, and under the user's prompt.

Confident learning (Northcutt et al. 2021): a label is contradicted where another one is at least as
probable as it is, on the average, for the examples that bear it. The embeddings' probabilities are those of
a probe fitted on other examples; the prompt has seen no label at all. Both must name the same other label,
and hold it to be far more probable than the given one: hard examples are contradicted too, and seldom so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprompt.data import Example
from autoprompt.doctor.probe import MOST, Embeddings, Floats, cross_fitted, softmax
from autoprompt.events import Finding
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer, preview
from autoprompt.soft import seed_of

__all__ = ["contradicted", "suspicious_labels"]

_FEWEST = 5  # examples of a label, below which nothing is said of it
_SHOWN = 20
# On the demo's texts with every twentieth label wrong, 9 of 10 that are named are wrong, and 4 of 10 wrong ones
# are named; without this bound 3 of 10, and 5 of 10.
_ODDS = 15.0
_MANY = 0.1  # share of the labels


@dataclass(frozen=True)
class _Suspect:
    """doubt: how many times more probable the other label is, to the probe."""

    at: int
    likely: int
    doubt: float


def suspicious_labels(
    scorer: Scorer,
    prompt: Prompt,
    examples: Mapping[str, Sequence[Example]],
    seed: int,
    embeddings: Embeddings | None = None,
) -> Finding:
    """The labels that are contradicted, the most suspicious first.

    examples: by split, such as {"train": ..., "dev": ...}, at most 2000 of each are looked at; never the locked
    test. embeddings: what others have read already. details: "examined", "suspicious", "skipped" (examples of
    labels with fewer than 5), "tokens", and up to 20 "examples", each with "split", "number", "text", "label",
    "likely" (the other label), "probe" and "prompt" (the probability of that one by each).

    Raises ModelError or PromptError when the prompt cannot be scored.
    """
    rows = [(split, example) for split, found in examples.items() for example in found[:MOST]]
    whole = [example for _, example in rows]
    labels = list(prompt.labels)
    gold = np.array([labels.index(example.label) for example in whole], dtype=np.int64)
    judged = np.bincount(gold, minlength=len(labels))[gold] >= _FEWEST
    details: dict[str, Any] = {"examined": len(rows), "skipped": int((~judged).sum()), "tokens": 0}
    if judged.sum() < 2 or len(set(gold[judged].tolist())) < 2:
        empty = details | {"suspicious": 0, "examples": []}
        return Finding("labels", "fine", f"{len(rows)} examples are too few to doubt a label.", empty)
    embeddings = embeddings or Embeddings(scorer, prompt)
    vectors = np.concatenate([embeddings.of(found[:MOST]) for found in examples.values() if found])
    _, own = cross_fitted(vectors, gold, len(labels), seed_of(seed, "labels"))
    prompted = softmax(scorer.log_likelihoods([prompt], whole)[0])
    suspects = _suspects(own, prompted, gold, judged)
    details["tokens"] = embeddings.tokens + scorer.work(prompt, whole)
    details["suspicious"] = len(suspects)
    details["examples"] = [
        {
            "split": rows[one.at][0],
            "number": whole[one.at].number,
            "text": preview(whole[one.at].fields),
            "label": whole[one.at].label,
            "likely": labels[one.likely],
            "probe": round(float(own[one.at, one.likely]), 4),
            "prompt": round(float(prompted[one.at, one.likely]), 4),
        }
        for one in suspects[:_SHOWN]
    ]
    return Finding("labels", _level(details), _message(details), details)


def contradicted(probabilities: Floats, gold: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row of (N, C) the other label that contradicts its own, or -1.

    The confident joint of Northcutt et al. 2021, equations 1 and 2: the likeliest of the labels whose
    probability reaches their threshold, which is their mean probability over the examples that bear them.
    """
    classes = probabilities.shape[1]
    bearers = [probabilities[gold == label, label] for label in range(classes)]
    threshold = np.array([found.mean() if len(found) else np.inf for found in bearers])
    reaching = np.where(probabilities >= threshold, probabilities, -1.0)
    own = np.maximum(reaching[np.arange(len(gold)), gold], -0.5)  # a tie is no contradiction
    return np.where(reaching.max(1) > own, reaching.argmax(1), -1)


def _suspects(own: Floats, prompted: Floats, gold: NDArray[np.int64], judged: NDArray[np.bool_]) -> list[_Suspect]:
    """Those that both contradict alike, the least probable given label by the probe first."""
    first, second = contradicted(own, gold), contradicted(prompted, gold)
    found = []
    for at in np.flatnonzero((first == second) & (first >= 0) & judged).tolist():
        other, given = int(first[at]), int(gold[at])
        if all(by[at, other] > _ODDS * by[at, given] for by in (own, prompted)):
            found.append(_Suspect(at, other, float(own[at, other] / max(own[at, given], 1e-12))))
    return sorted(found, key=lambda one: (-one.doubt, one.at))


def _level(details: Mapping[str, Any]) -> str:
    if not details["suspicious"]:
        return "fine"
    return "problem" if details["suspicious"] > _MANY * details["examined"] else "warning"


def _message(details: Mapping[str, Any]) -> str:
    count, size = details["suspicious"], details["examined"]
    if not count:
        return f"No label of {size} examples is contradicted by both the model's embeddings and your prompt."
    first = details["examples"][0]
    said = f'{first["split"]} {first["number"]} ("{first["text"]}") is {first["label"]!r} and reads like'
    verb = "label is" if count == 1 else "labels are"
    return (
        f"{count} of {size} {verb} contradicted by both the model's embeddings and your prompt: "
        f"{said} {first['likely']!r}. Look at them, and mend those that are wrong."
    )
