"""A Gaussian process over prompts seen in parts, with the noise of each observation known.

Rasmussen & Williams 2006, chapters 2 and 5. The covariance of two prompts is

    k = 1 + sum_p a_p M(r_p / l_p) + b * mean_{p<q} M(r_p / l_p) M(r_q / l_q)

with r_p their distance in part p, M the Matern function of smoothness 5/2, and the constant for an
unknown mean. What two parts do together has the second order of the additive kernels of Duvenaud et
al. 2011: a product over all parts would know nothing of a prompt that shares all but one of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

__all__ = ["Fitted", "Process", "fit"]

Floats = NDArray[np.float64]
Parts = Mapping[str, Floats]  # for each part its numbers (N, D)

# log-normal priors, for targets of deviation 1 and distances of about 1: (median, deviation of the logarithm)
_AMPLITUDE, _LENGTH, _TOGETHER, _NOISE = (0.2, 1.2), (1.5, 0.6), (0.2, 1.2), (0.03, 1.2)
_STEPS = 40  # of the optimizer
_JITTER = 1e-6


@dataclass(frozen=True)
class Fitted:
    """Hyperparameters: the parts that differ at all, their amplitudes and lengths (P,), the amplitude
    of what two do together, and the noise that the observations' own does not explain."""

    parts: tuple[str, ...]
    amplitudes: Floats
    lengths: Floats
    together: float
    noise: float

    @classmethod
    def of(cls, parts: tuple[str, ...], logs: Floats) -> Fitted:
        count, values = len(parts), np.exp(logs)
        return cls(parts, values[:count], values[count : 2 * count], float(values[-2]), float(values[-1]))

    @property
    def variance(self) -> float:
        """The covariance of a prompt with itself."""
        return 1 + float(self.amplitudes.sum()) + (self.together if len(self.parts) > 1 else 0.0)

    def covariance(self, left: Parts, right: Parts) -> Floats:
        """Covariances (N, M) of prompts."""
        shape = len(next(iter(left.values()))), len(next(iter(right.values())))
        total, first, second = np.ones(shape), np.zeros(shape), np.zeros(shape)
        for part, amplitude, length in zip(self.parts, self.amplitudes, self.lengths, strict=True):
            alike = _matern(cdist(left[part], right[part]) / length)
            total += amplitude * alike
            first += alike
            second += alike * alike
        if len(self.parts) > 1:
            total += self.together * (first * first - second) / (len(self.parts) * (len(self.parts) - 1))
        return total


class Process:
    """The posterior after `targets` (N,) with variances `noises` (N,) at prompts."""

    def __init__(self, fitted: Fitted, parts: Parts, targets: Floats, noises: Floats) -> None:
        self.fitted, self._parts = fitted, parts
        covariance = fitted.covariance(parts, parts)
        self._root = cholesky(covariance + np.diag(noises + fitted.noise + _JITTER), lower=True)
        self._weights = cho_solve((self._root, True), targets)
        self.means: Floats = covariance @ self._weights

    def at(self, parts: Parts) -> tuple[Floats, Floats, Floats]:
        """Means (M,), variances (M,), and what `between` needs (N, M), at other prompts."""
        cross = self.fitted.covariance(self._parts, parts)
        halves: Floats = solve_triangular(self._root, cross, lower=True)
        variances = np.maximum(self.fitted.variance - (halves * halves).sum(0), 1e-12)
        return cross.T @ self._weights, variances, halves

    def between(self, parts: Parts, halves: Floats, one: int) -> Floats:
        """Covariances (M,) of prompt `one` of `parts` with all of them."""
        own = {part: rows[one : one + 1] for part, rows in parts.items()}
        prior: Floats = self.fitted.covariance(own, parts)[0]
        return prior - halves[:, one] @ halves


def _matern(scaled: Floats) -> Floats:
    root = math.sqrt(5) * scaled
    result: Floats = (1 + root + root * root / 3) * np.exp(-root)
    return result


def fit(parts: Parts, targets: Floats, noises: Floats) -> Fitted:
    """The hyperparameters of the greatest marginal likelihood times prior, from one fixed start."""
    names = tuple(part for part, rows in parts.items() if len(rows) > 1 and np.ptp(rows, axis=0).max(initial=0.0) > 0)
    count = len(names)
    medians = np.repeat([_AMPLITUDE, _LENGTH, _TOGETHER, _NOISE], [count, count, 1, 1], axis=0)
    centre, width = np.log(medians[:, 0]), medians[:, 1]
    distances = [cdist(parts[name], parts[name]) * math.sqrt(5) for name in names]

    def negative(logs: Floats) -> tuple[float, Floats]:
        value, slope = _likelihood(logs, distances, targets, noises)
        away = (logs - centre) / width
        return -value + 0.5 * float(away @ away), -slope + away / width

    bounds = list(zip(centre - 3 * width, centre + 3 * width, strict=True))
    found = minimize(negative, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
    return Fitted.of(names, found.x)


def _likelihood(logs: Floats, distances: list[Floats], targets: Floats, noises: Floats) -> tuple[float, Floats]:
    """The log marginal likelihood and its gradient by the logarithms of the hyperparameters.

    dL/dt = tr((w w^T - K^-1) dK/dt) / 2 with w = K^-1 y (Rasmussen & Williams 2006, equation 5.9).
    """
    count, size = len(distances), len(targets)
    values = np.exp(logs)
    amplitudes, lengths, together, noise = values[:count], values[count : 2 * count], values[-2], values[-1]
    pairs = max(1, count * (count - 1))
    alike, slopes, first, second = [], [], np.zeros((size, size)), np.zeros((size, size))
    for distance, length in zip(distances, lengths, strict=True):
        root = distance / length
        decay, third = np.exp(-root), root * root / 3
        alike.append((1 + root + third) * decay)
        slopes.append(third * (1 + root) * decay)  # by the logarithm of the length
        first += alike[-1]
        second += alike[-1] * alike[-1]
    both = (first * first - second) / pairs
    covariance = 1.0 + together * both
    for amplitude, matrix in zip(amplitudes, alike, strict=True):
        covariance += amplitude * matrix
    covariance[np.diag_indices(size)] += noises + noise + _JITTER
    root = cholesky(covariance, lower=True)
    weights = cho_solve((root, True), targets)
    value = -0.5 * float(targets @ weights) - float(np.log(np.diag(root)).sum()) - 0.5 * size * math.log(2 * math.pi)
    trace = 0.5 * (np.outer(weights, weights) - cho_solve((root, True), np.eye(size)))
    gradient = np.zeros(len(logs))
    for at, (amplitude, matrix, slope) in enumerate(zip(amplitudes, alike, slopes, strict=True)):
        weighted = trace * slope
        gradient[at] = amplitude * np.vdot(trace, matrix)
        gradient[count + at] = amplitude * weighted.sum() + 2 * together / pairs * np.vdot(weighted, first - matrix)
    gradient[-2] = together * np.vdot(trace, both)
    gradient[-1] = noise * np.trace(trace)
    return value, gradient
