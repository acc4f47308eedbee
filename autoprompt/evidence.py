"""What an example says of a prompt as a bounded number, and means of it over different examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bounded", "levelled"]

Floats = NDArray[np.float64]


def bounded(margins: Floats, scale: float) -> Floats:
    """Margins (N,) of any size as numbers in [-1/2, 1/2]: tanh(margin / scale) / 2.

    Differences of these lie in [-1, 1], as a bet needs. A right answer is above zero and a wrong
    one below, as in accuracy; close calls count less than clear ones.
    """
    return np.asarray(np.tanh(np.asarray(margins, dtype=np.float64) / scale) / 2)


def levelled(rows: Sequence[Floats], total: int) -> tuple[Floats, Floats]:
    """The mean of each row over all `total` examples, estimated, and the variance of that: (K,) each.

    Row k is the evidence of a prompt on the first n_k examples, which may be easier than the rest.
    So each is compared with the mean r of the rows that are complete, on the same examples, and r's
    own mean is added (a difference estimator; Cochran 1977, section 7.2). At least one row must be
    complete.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.intp)
    reference = np.stack([row for row in rows if len(row) == total]).mean(0)
    means, variances = np.empty(len(rows)), np.ones(len(rows))
    for length in np.unique(lengths):
        members = np.flatnonzero(lengths == length)
        apart = np.stack([rows[int(at)] for at in members]) - reference[:length]
        means[members] = apart.mean(1) + reference.mean()
        if length > 1:
            variances[members] = apart.var(1, ddof=1) / length
    return means, variances
