"""Exact tests of two outcomes on the same examples: p-values that need no large numbers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from autoprompt.metrics import Metric, Outcome
from autoprompt.soft import seed_of
from autoprompt.verdict.paired import CHUNK, binary_pair, is_same, like, mixed

__all__ = ["exact_p", "mcnemar"]

Floats = NDArray[np.float64]

_HALF = 16  # signs of half an enumeration
_STEPS, _WORK = 2**16, 5 * 10**7  # most sums on a grid, and most additions to find their distribution
_FLIPS, _SWAPS = 9_999, 499
_NEAR = 1e-9  # sums that differ less are equal


def exact_p(metric: Metric, first: Outcome, second: Outcome, seed: int = 0) -> tuple[str, float]:
    """The name of a test that the two outcomes are alike, and its two-sided p.

    For values 0 and 1 McNemar's exact test (McNemar 1947; a binomial one on the examples where they differ). For other
    values of examples the sign-flip test of the mean difference (Fisher 1935), exact where the differences lie on a
    grid or where at most 32 are not zero, else over 9,999 random flips. For a metric of the whole set the permutation
    test that swaps the two answers of an example, over 499 random swaps. Of k random ones p is (as extreme + 1) /
    (k + 1), which is valid for any k (Phipson & Smyth 2010).
    """
    binary = binary_pair(metric, first, second)
    if binary is not None:
        return "McNemar's exact test", mcnemar(int((binary[1] > binary[0]).sum()), int((binary[1] < binary[0]).sum()))
    before, after = metric.each([first, second])
    if before.ndim and after.ndim:
        return _flipped(after - before, seed)
    return "permutation test", _swapped(metric, first, second, seed)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p of so many gained and lost examples, where each is as likely to be the one as the other."""
    count, few = gained + lost, min(gained, lost)
    logs = [-math.lgamma(i + 1) - math.lgamma(count - i + 1) for i in range(few + 1)]
    tail = float(np.exp(np.array(logs) + math.lgamma(count + 1) - count * math.log(2)).sum())
    return 1.0 if gained == lost else min(1.0, 2 * tail)


# -- flips of signs --------------------------------------------------------------------------------


def _flipped(differences: Floats, seed: int) -> tuple[str, float]:
    sizes = np.abs(differences[differences != 0])
    if not len(sizes):
        return "exact sign-flip test", 1.0
    sizes /= sizes.max()  # what a sum may lose by rounding is known then
    observed = abs(float((np.sign(differences[differences != 0]) * sizes).sum()))
    steps = _grid(sizes)
    if steps is not None:
        return "exact sign-flip test", _convolved(steps, observed / float(sizes[0]) * int(steps[0]))
    if len(sizes) <= 2 * _HALF:
        return "exact sign-flip test", _met_in_the_middle(sizes, observed)
    generator, beyond = np.random.default_rng(seed_of(seed, "sign flips")), 0
    for start in range(0, _FLIPS, 500):
        signs = generator.integers(0, 2, (min(500, _FLIPS - start), len(sizes)), dtype=np.int8)
        beyond += int((np.abs(2 * (signs @ sizes) - sizes.sum()) >= observed - _NEAR).sum())
    return "sign-flip test", (beyond + 1) / (_FLIPS + 1)


def _grid(sizes: Floats) -> NDArray[np.int64] | None:
    """Sizes as multiples of a common step, or None where there is none or their sums are too many."""
    for parts in range(1, 13):
        multiples = sizes / (sizes.min() / parts)
        if multiples.sum() > min(_STEPS, _WORK / len(sizes)):
            return None
        if np.abs(multiples - multiples.round()).max() < _NEAR * multiples.max():
            steps: NDArray[np.int64] = multiples.round().astype(np.int64)
            return steps
    return None


def _convolved(steps: NDArray[np.int64], observed: float) -> float:
    """P(|sum of +-steps| >= observed), from the distribution of what is flipped: the product of (1 + x^step) / 2."""
    total = int(steps.sum())
    shares = np.zeros(total + 1)
    shares[0], filled = 1.0, 0
    for step in map(int, steps):
        moved = shares[: filled + 1] / 2
        shares[: filled + 1] = moved
        shares[step : filled + step + 1] += moved
        filled += step
    sums = np.abs(2 * np.arange(total + 1) - total)
    return min(1.0, float(shares[sums >= round(observed)].sum()))


def _met_in_the_middle(sizes: Floats, observed: float) -> float:
    """P(|sum of +-sizes| >= observed) over all signs, from the sorted sums of two halves."""
    left, right = _sums(sizes[::2]), np.sort(_sums(sizes[1::2]))
    above = len(right) - np.searchsorted(right, observed - _NEAR - left, side="left")
    below = np.searchsorted(right, -observed + _NEAR - left, side="right")
    return min(1.0, float(above.sum() + below.sum()) / 2.0 ** len(sizes))


def _sums(sizes: Floats) -> Floats:
    found = np.zeros(1)
    for size in sizes:
        found = np.concatenate([found - size, found + size])
    return found


# -- swaps of answers ------------------------------------------------------------------------------


def _swapped(metric: Metric, first: Outcome, second: Outcome, seed: int) -> float:
    if is_same(first, second):
        return 1.0
    second = like(first, second)
    generator = np.random.default_rng(seed_of(seed, "swaps"))
    [before, after] = metric.many([first, second])
    beyond = 0
    for start in range(0, _SWAPS, CHUNK):
        pairs = [_swap(first, second, generator) for _ in range(min(CHUNK, _SWAPS - start))]
        values = metric.many([pair[side] for side in (0, 1) for pair in pairs])
        moved = np.abs(np.subtract(values[len(pairs) :], values[: len(pairs)]))
        beyond += int((moved >= abs(after - before) - 1e-12).sum())
    return (beyond + 1) / (_SWAPS + 1)


def _swap(first: Outcome, second: Outcome, generator: np.random.Generator) -> tuple[Outcome, Outcome]:
    chosen = generator.integers(0, 2, (len(first.targets), 1)).astype(bool)
    return mixed(first, second, chosen[:, 0]), mixed(second, first, chosen[:, 0])
