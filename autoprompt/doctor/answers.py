"""Made-up answers, to try a metric on without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoprompt.metrics import Outcome
from autoprompt.soft import seed_of

__all__ = ["made_up", "strange"]


def made_up(labels: Sequence[str], examples: int, right: float, number: int = 0, blind: str | None = None) -> Outcome:
    """An outcome of `examples` examples, the labels in turns, a share of them answered right; the same every time.

    number: one of many such, with other examples right and other probabilities. blind: a label whose examples are
    all answered wrong besides.
    """
    generator = np.random.default_rng(seed_of("doctor", "metric", examples, right, number))
    rows, targets = np.arange(examples), np.arange(examples) % len(labels)
    hit = generator.permutation(examples) < round(right * examples)
    if blind is not None:
        hit &= targets != labels.index(blind)
    others = (targets + generator.integers(1, max(2, len(labels)), examples)) % len(labels)
    odds = generator.uniform(0.1, 0.9, (examples, len(labels)))
    odds[rows, np.where(hit, targets, others)] += generator.uniform(1.0, 9.0, examples)
    return Outcome(tuple(labels[at] for at in targets.tolist()), odds / odds.sum(1, keepdims=True), tuple(labels))


def strange(labels: Sequence[str], examples: int) -> dict[str, Outcome]:
    """Outcomes that small slices, resamples and poor prompts can have, each by what is strange about it."""
    usual, names = made_up(labels, examples, 0.5), tuple(labels)
    even = np.full_like(usual.probabilities, 1 / len(labels))
    lazy = even / 2
    lazy[:, 0] += 0.5
    sure = np.eye(len(labels))[usual.probabilities.argmax(1)]
    return {
        "one example": usual.take(np.arange(1)),
        "examples of one label": usual.take(np.arange(0, examples, len(labels))),
        "one answer to all": Outcome(usual.targets, lazy, names),
        "probabilities that are all equal": Outcome(usual.targets, even, names),
        "probabilities of 0 and 1": Outcome(usual.targets, sure, names),
    }
