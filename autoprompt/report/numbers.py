"""Numbers as a person reads them; a dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

__all__ = [
    "count",
    "duration",
    "energy",
    "finite",
    "number_of",
    "pvalue",
    "score",
    "share",
    "signed",
    "span",
]

_DASH = "–"


def finite(value: Any) -> TypeGuard[float]:
    """Whether it is a number that a picture can show."""
    return value is not None and math.isfinite(value)


def score(value: Any, digits: int = 3) -> str:
    """A score; a dash where there is none."""
    if not finite(value):
        return _DASH
    return f"{value:,.{digits}f}" if abs(value) < 1e6 else f"{value:.{digits}g}"


def signed(value: Any, digits: int = 3) -> str:
    """A difference, with its sign."""
    if not finite(value):
        return _DASH
    return f"{value:+,.{digits}f}" if abs(value) < 1e6 else f"{value:+.{digits}g}"


def span(interval: Sequence[Any]) -> str:
    """An interval."""
    low, high = interval
    return f"{signed(low)} to {signed(high)}"


def share(value: Any, digits: int = 0) -> str:
    """A share as per cent."""
    return f"{100 * value:,.{digits}f} %" if finite(value) else _DASH


def count(value: Any) -> str:
    """A whole number, its thousands apart."""
    return f"{value:,.0f}" if finite(value) else _DASH


def number_of(number: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def pvalue(value: Any) -> str:
    """A probability of a test."""
    if not finite(value):
        return _DASH
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}"


def duration(seconds: Any) -> str:
    """Seconds in the units that fit."""
    if not finite(seconds):
        return _DASH
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def energy(kwh: Any) -> str:
    """Kilowatt-hours, or watt-hours where they are few."""
    if not finite(kwh):
        return _DASH
    return f"{kwh:,.3f} kWh" if kwh >= 0.1 else f"{1000 * kwh:.3g} Wh"
