"""Texts as words, and whether a word goes with a label more often than luck allows."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprompt.doctor.power import log_factorials

__all__ = ["exact_tail", "holm", "words_of"]

# scripts without spaces: each sign counts as a word
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]+")

Floats = NDArray[np.float64]


def words_of(text: str) -> list[str]:
    """The words of a text without case, and what stands between them (such as "[" or "!!")."""
    return _WORD.findall(text.casefold())


def exact_tail(hits: int, marked: int, members: int, everything: int) -> float:
    """The probability that at least `hits` of `marked` texts are among `members` of `everything`, by luck: Fisher's
    exact test, one-sided (the upper tail of the hypergeometric distribution)."""
    logs = log_factorials(everything)
    k = np.arange(max(hits, marked + members - everything), min(marked, members) + 1)
    strangers = everything - members
    each = (
        (logs[members] - logs[k] - logs[members - k])
        + (logs[strangers] - logs[marked - k] - logs[strangers - marked + k])
        - (logs[everything] - logs[marked] - logs[everything - marked])
    )
    return float(min(1.0, np.exp(each).sum()))


def holm(tails: Sequence[float], tests: int) -> Floats:
    """Probabilities adjusted for `tests` looks, of which `tails` are some (Holm 1979); those not given count as
    the smaller ones would, so that none is adjusted too little."""
    given = np.asarray(tails, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    adjusted = np.empty(len(given))
    steps = given[order] * (tests - np.arange(len(given)))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(given) else steps
    return adjusted
