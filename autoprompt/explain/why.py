"""Why the winner is better: what each of its parts earned.

Parts act together (label words mean nothing without the instruction that names them), so that
taking them out one by one says little. The Shapley value (Shapley 1953) is the one division of the gain that adds up,
treats equal parts alike and gives nothing to a part that changes nothing: what a part adds to the user's
prompt, in the mean over all orders in which the parts of the winner can come to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprompt import events
from autoprompt.data import Example
from autoprompt.explain.attempts import attempted, required, said
from autoprompt.explain.parts import Part, mixed, parts_of
from autoprompt.explain.shapley import Coalitions, coalitions
from autoprompt.metrics import Metric
from autoprompt.prompt import Prompt
from autoprompt.scorer import Score, Scorer
from autoprompt.soft import seed_of

__all__ = ["explain_gain"]

Floats = NDArray[np.float64]
_RESAMPLES, _CHUNK = 4000, 50
_CALLS = 20_000  # of a metric that has no number for one example
_FEWEST, _MOST = 200, 500  # resamples of such a metric
_SMALL = 0.05  # a smaller share of the gain is not named


def explain_gain(
    scorer: Scorer,
    baseline: Prompt,
    winner: Prompt,
    examples: Sequence[Example],
    split: str,
    seed: int,
    budget: int = 128,
) -> events.GainExplained:
    """What each part of the winner earned on `examples`, in points of the metric; positive is better, also
    where the metric is minimized.

    budget: the most mixtures of the two prompts that are scored. All of them are where they are that few (up to
    7 parts for 128); else orders are sampled, and each part's "error" is the standard error of its value that
    this leaves. A mixture that cannot be scored, such as one with more demonstrations than the model can read,
    is worth what the user's prompt is worth: it can be used as little as if nothing were gained.

    "low" and "high" are those of a paired bootstrap over examples (95 %; Efron & Tibshirani 1993,
    chapter 13), widened by the error of sampling. "share" is 0 where there is no gain.
    Raises PromptError when the user's prompt or the winner cannot be scored, DataError without examples.
    """
    parts = parts_of(baseline, winner)
    if not parts:
        text = "The winner is your own prompt: there is no gain to explain."
        return events.GainExplained(split, len(examples), 0.0, (), text)
    plan = coalitions(len(parts), budget, seed)
    mixtures = [
        mixed(baseline, winner, {part.name for part, taken in zip(parts, row, strict=True) if taken})
        for row in plan.members
    ]
    own, best = map(required, attempted(scorer, mixtures[:2], examples))
    tried = [own, best, *attempted(scorer, mixtures[2:], examples)]
    for mixture in mixtures[2:]:
        scorer.forget(mixture)
    lost = sum(isinstance(one, str) for one in tried)
    game = _Game(scorer.metric, plan, [own if isinstance(one, str) else one for one in tried])
    low, high = game.interval(seed)
    total = float(game.worth[1] - game.worth[0])
    earned = [
        _Earned(part, *map(float, row))
        for part, *row in zip(
            parts, game.values, low, high, game.errors, plan.alone(game.worth), plan.last(game.worth), strict=True
        )
    ]
    sentence = _sentence(earned, total, f"{scorer.metric.name} on {len(examples)} {split} examples")
    sentence += _notes(plan, lost, max(one.error for one in earned), scorer.metric.name)
    rows = tuple(one.row(total) for one in earned)
    return events.GainExplained(split, len(examples), total, rows, sentence)


@dataclass(frozen=True)
class _Earned:
    """A part with its Shapley value, the 95 % interval of that, and what it is worth first and last."""

    part: Part
    value: float
    low: float
    high: float
    error: float
    alone: float
    last: float

    @property
    def certain(self) -> bool:
        return self.low > 0 or self.high < 0

    def row(self, total: float) -> dict[str, Any]:
        return {
            "part": self.part.name, "kind": self.part.kind, "value": self.value, "low": self.low, "high": self.high,
            "share": self.value / total if total > 0 else 0.0, "alone": self.alone, "last": self.last,
            "error": self.error, "text": self.part.text,
        }  # fmt: skip

    def verb(self, stem: str) -> str:
        """What it does, in its number: "label words cost", "instruction costs"."""
        return stem + "s" * (self.part.kind not in ("label words", "vectors"))

    def __str__(self) -> str:
        if self.part.kind == "demonstration":
            return f"{self.part.name} ({said(self.part.text)})"
        return f"the {self.part.name}"


class _Game:
    """What every mixture is worth. worth (M,): the metric, turned so that more is better. values (n,): of the parts."""

    def __init__(self, metric: Metric, plan: Coalitions, scores: Sequence[Score]) -> None:
        self._metric, self._plan = metric, plan
        self._outcomes = [score.outcome for score in scores]
        self._sign = 1 if metric.maximize else -1
        found = metric.each(self._outcomes)
        # (M, N), where the metric has a number for each example
        self._rows = self._sign * np.stack(found) if all(values.ndim for values in found) else None
        self.worth: Floats = self._sign * np.array([float(values.mean()) for values in found])
        self.values = plan.values(self.worth)
        self.errors = plan.errors(self.worth)

    def interval(self, seed: int) -> tuple[Floats, Floats]:
        """95 % intervals of the values: (n,) low and high."""
        generator = np.random.default_rng(seed_of(seed, "why"))
        drawn = self._drawn_whole(generator) if self._rows is None else self._drawn(self._rows, generator)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
        # two independent errors: which examples there are, and which orders were sampled
        chance = _two_sided(len(self._plan.weights)) * self.errors
        below, above = np.maximum(0, self.values - low), np.maximum(0, high - self.values)
        return self.values - np.hypot(below, chance), self.values + np.hypot(above, chance)

    def _drawn(self, rows: Floats, generator: np.random.Generator) -> Floats:
        """The values (n, B) of resampled examples; they are means of what each example says of them."""
        each, size = self._plan.values(rows), rows.shape[1]
        chunks = range(_RESAMPLES // _CHUNK)
        return np.concatenate([each[:, generator.integers(0, size, (_CHUNK, size))].mean(2) for _ in chunks], 1)

    def _drawn_whole(self, generator: np.random.Generator) -> Floats:
        size = len(self._outcomes[0].targets)
        drawn = []
        for _ in range(min(_MOST, max(_FEWEST, _CALLS // len(self._outcomes)))):
            rows = generator.integers(0, size, size)
            worth = self._metric.many([outcome.take(rows) for outcome in self._outcomes])
            drawn.append(self._plan.values(self._sign * np.array(worth)))
        return np.stack(drawn, 1)


def _two_sided(pairs: int) -> float:
    """The 97.5 % quantile of Student's t for the mean of so many, at least 5 (Cornish & Fisher's expansion)."""
    z, freedom = 1.96, max(4, pairs - 1)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


# -- in words --------------------------------------------------------------------------------------


def _sentence(earned: Sequence[_Earned], total: float, what: str) -> str:
    order = sorted(earned, key=lambda one: -one.value)
    if total <= 0:
        text = f"The winner gains nothing over your prompt ({total:+.3f} {what})"
        best, worst = order[0], order[-1]
        ends = ([f"{best} {best.verb('earn')} {best.value:.3f}"] if best.value > 0 else []) + (
            [f"{worst} {worst.verb('cost')} {-worst.value:.3f}"] if worst.value < 0 else []
        )
        return text + (": " + " and ".join(ends) if ends else "") + "."
    named = [one for one in order if one.value >= _SMALL * total][:3] or order[:1]
    shares = [f"{100 * one.value / total:.0f} % of the gain is {one}" for one in named[:1]]
    shares += [f"{100 * one.value / total:.0f} % {one}" for one in named[1:]]
    costs = [f"{one} {one.verb('cost')} {-one.value:.3f}" for one in order[::-1] if one.value <= -_SMALL * total][:2]
    text = _listed(shares) + f" (the gain: {total:+.3f} {what})"
    if costs:
        text += "; " + _listed(costs)
    if not any(one.certain for one in named):
        text += "; the interval of each of these parts holds zero" if len(named) > 1 else "; its interval holds zero"
    return text + "."


def _notes(plan: Coalitions, lost: int, error: float, name: str) -> str:
    """How the values were found, where that is not by scoring every mixture."""
    text = ""
    if not plan.exact:
        text += (
            f" The parts' values come from {2 * len(plan.weights)} sampled orders (standard error {error:.4f} {name})."
        )
    if lost:
        text += f" {lost} of {len(plan.members)} mixtures cannot be scored and count as your prompt."
    return text


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
