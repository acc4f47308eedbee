"""What is stored of a candidate, as plain values."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from autoprompt.prompt import Prompt
from autoprompt.racing import Lane

__all__ = ["Asked", "Brief", "Kind", "Told", "by_batch", "lane_of"]

Kind = Literal["baseline", "discrete", "soft"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """A candidate before it is scored.

    params, distributions: what Optuna knows of it. operator, parents: its lineage. notes: what its
    branch must know of it later. reason: why it cannot be scored, if it cannot.
    """

    prompt: Prompt | None
    branch: str
    params: Mapping[str, Any] = field(default_factory=dict)
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    operator: str = ""
    parents: tuple[int, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def kind(self) -> Kind:
        if self.branch == "baseline":
            return "baseline"
        return "discrete" if self.prompt is None else self.prompt.kind


@dataclass(frozen=True)
class Told:
    """What a candidate got, on as many examples as it was scored on.

    lane: per example. loss, margin: means. gain: mean advantage over the baseline in evidence. looks:
    the metric after each slice. work: tokens, counted as if nothing were remembered; tokens, seconds:
    what it really took.
    """

    lane: Lane
    loss: float
    margin: float
    gain: float
    looks: Mapping[int, float]
    work: int
    tokens: int = 0
    seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        """As plain values."""
        lane = self.lane
        return {
            "examples": len(lane.evidence), "value": lane.value, "loss": self.loss, "margin": self.margin,
            "gain": self.gain, "work": self.work, "tokens": self.tokens,
            "seconds": self.seconds, "size": lane.size, "looks": {str(n): v for n, v in self.looks.items()},
            "evidence": _packed(lane.evidence), "values": None if lane.values is None else _packed(lane.values),
        }  # fmt: skip


class Brief(NamedTuple):
    """What is asked for of every told trial again and again. examples: that it was scored on."""

    prompt: Prompt
    fingerprint: str
    value: float
    examples: int
    complete: bool


def by_batch(trials: Iterable[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """Trials by the number of their batch, both in order."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        found.setdefault(trial.user_attrs["batch"], []).append(trial)
    return found


def lane_of(trial: FrozenTrial) -> Lane:
    """What a told trial got, as it is stored."""
    score = trial.user_attrs["score"]
    values = None if score["values"] is None else _unpacked(score["values"])
    return Lane(trial.number, _unpacked(score["evidence"]), score["value"], values, score["size"])


def _packed(numbers: Floats) -> str:
    return base64.b64encode(np.asarray(numbers, dtype="<f8").tobytes()).decode()


@lru_cache(maxsize=64)
def _unpacked(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text), dtype="<f8")
