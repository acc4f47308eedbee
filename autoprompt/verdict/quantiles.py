"""Quantiles of Student's t."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

__all__ = ["student"]

_NODES = 400


@lru_cache(maxsize=256)
def student(share: float, freedom: int) -> float:
    """The t that a share of Student's distribution with `freedom` (>= 1) degrees of freedom lies below; share >= 1/2.

    With t = sqrt(freedom) tan(a) the density is proportional to cos(a)^(freedom - 1), which is integrated by
    Gauss and Legendre's rule and solved for by bisection.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        inside = angle / 2 * float(weights @ np.cos(angle / 2 * (nodes + 1)) ** (freedom - 1))
        low, high = (angle, high) if 0.5 + scale * inside < share else (low, angle)
    return math.sqrt(freedom) * math.tan(low)
