"""Round ticks and scales for pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from autoprompt.report.page.markup import finite

__all__ = ["Scale", "bounds", "tick", "ticks"]


def bounds(values: Iterable[float | None], pad: float = 0.06) -> tuple[float, float]:
    """The range that holds all values that are numbers, with some air."""
    found = [value for value in values if value is not None and finite(value)]
    if not found:
        return 0.0, 1.0
    low, high = max(min(found), -1e300), min(max(found), 1e300)
    air = pad * (high - low) or 0.05 * abs(high) or 0.5
    return low - air, high + air


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two: steps of 1, 2 or 5 times a power of ten."""
    if not (math.isfinite(high - low) and high > low):
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 5) if m * power >= raw), 10 * power)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [n * step for n in range(first, last + 1)] if last - first < 4 * about else [low]


def tick(value: float) -> str:
    """A number beside an axis, short."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{letter}" if abs(value) < 1e13 else f"{value:.1e}"
    return f"{value:.3g}" if abs(value) > 1e-12 else "0"


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` as places from `start` to `end` of a picture; by ratios where `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value, kept inside the picture."""
        low, high = self._of(self.low), self._of(self.high)
        part = (self._of(min(max(value, self.low), self.high)) - low) / ((high - low) or 1.0)
        return round(self.start + part * (self.end - self.start), 1)

    def _of(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.log else value

    def ticks(self, about: int = 5) -> list[float]:
        """Where to write numbers."""
        if not self.log:
            return ticks(self.low, self.high, about)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found = [m * 10.0**power for power in powers for m in (1, 2, 5)]
        return [value for value in found if self.low <= value <= self.high]
