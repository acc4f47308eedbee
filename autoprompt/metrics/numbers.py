"""Metrics of answers that are numbers.

An answer that could not be read, or is beyond 1e100, counts as the end of the targets' range that is farther from its
target; where all targets are equal, as away from it by its own size, and by 1 at least.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from autoprompt.errors import MetricError
from autoprompt.metrics.base import Metric, metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

__all__ = ["NUMBERS", "mae", "mse", "number", "pearson", "spearman"]

_LARGEST = 1e100  # its square is finite
_CONSTANT = 1e-13  # of its mean, by which a constant may vary


def number(text: str) -> float | None:
    """A text as a number, or None where it is none or too large.

    >>> number(" 1.50 "), number("about 2")
    (1.5, None)
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None  # neither is NaN


def _squared(targets: list[str], predictions: list[str]) -> Floats:
    """1 less the squared error over the targets' squared range, at least 0 (N,)."""
    wanted, given = _sides(targets, predictions)
    return _near((given - wanted) ** 2, wanted)


def _absolute(targets: list[str], predictions: list[str]) -> Floats:
    """1 less the absolute error over the targets' range, at least 0 (N,)."""
    import numpy as np

    wanted, given = _sides(targets, predictions)
    return _near(np.abs(given - wanted), wanted, 1)


def _standard(targets: list[str], predictions: list[str]) -> Floats:
    """As `_squared`, of both sides less their mean and over their standard deviation: its mean rises with Pearson's."""
    wanted, given = (_standardized(side) for side in _sides(targets, predictions))
    return _near((given - wanted) ** 2, wanted)


def _ranked(targets: list[str], predictions: list[str]) -> Floats:
    """As `_standard`, of ranks."""
    from scipy.stats import rankdata

    wanted, given = (_standardized(rankdata(side)) for side in _sides(targets, predictions))
    return _near((given - wanted) ** 2, wanted)


@metric(maximize=False, proxy=_squared)
def mse(targets: list[str], predictions: list[str]) -> Floats:
    """The mean squared error."""
    wanted, given = _sides(targets, predictions)
    return (given - wanted) ** 2


@metric(maximize=False, proxy=_absolute)
def mae(targets: list[str], predictions: list[str]) -> Floats:
    """The mean absolute error."""
    import numpy as np

    wanted, given = _sides(targets, predictions)
    return np.abs(given - wanted)


@metric(proxy=_standard, worst=-1.0)
def pearson(targets: list[str], predictions: list[str]) -> float:
    """Pearson's correlation of targets and answers; 0 where one side is constant."""
    from scipy.stats import pearsonr

    wanted, given = _sides(targets, predictions)
    return 0.0 if _constant(wanted) or _constant(given) else float(pearsonr(wanted, given).statistic)


@metric(proxy=_ranked, worst=-1.0)
def spearman(targets: list[str], predictions: list[str]) -> float:
    """Spearman's correlation of ranks; 0 where one side is constant."""
    from scipy.stats import spearmanr

    wanted, given = _sides(targets, predictions)
    return 0.0 if len(set(wanted)) < 2 or len(set(given)) < 2 else float(spearmanr(wanted, given).statistic)


def _sides(targets: list[str], predictions: list[str]) -> tuple[Floats, Floats]:
    """Both sides as numbers (N,). Raises MetricError where a target is none."""
    import numpy as np

    wanted = [number(target) for target in targets]
    if None in wanted:
        raise MetricError(
            f"The target {targets[wanted.index(None)][:40]!r} is no number; metrics of numbers need one as each label."
        )
    sure = np.array(wanted, np.float64)
    low, high = (float(sure.min()), float(sure.max())) if len(sure) else (0.0, 0.0)
    given = []
    for target, text in zip(sure.tolist(), predictions, strict=True):
        value = number(text)
        given.append(_farther(target, low, high) if value is None else value)
    return sure, np.array(given, np.float64)


def _farther(target: float, low: float, high: float) -> float:
    if low == high:
        return target - max(1.0, abs(target))
    return low if target - low >= high - target else high


def _near(errors: Floats, wanted: Floats, power: int = 2) -> Floats:
    import numpy as np

    width = float(np.ptp(wanted)) ** power if len(wanted) else 1.0
    with np.errstate(over="ignore"):
        return 1 - np.minimum(1.0, errors / (width or 1.0))


def _standardized(side: Floats) -> Floats:
    import numpy as np

    return np.zeros(len(side)) if _constant(side) else (side - side.mean()) / side.std()


def _constant(side: Floats) -> bool:
    """Whether numbers are too few or too equal to be correlated with others."""
    import numpy as np

    return len(side) < 2 or float(np.linalg.norm(side - side.mean())) <= _CONSTANT * abs(float(side.mean()))


NUMBERS: tuple[Metric, ...] = (mse, mae, pearson, spearman)
