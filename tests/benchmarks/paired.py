"""The paired tests of other tools' selection rules, fast enough to be played thousands of times.

    python tests/benchmarks/paired.py

compares them with scipy and with Optuna's pruner itself, and stops where they differ.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["Correct", "better", "wilcoxon_trials"]

SEED = 7
Correct: TypeAlias = NDArray[np.bool_]  # (P, n): whether prompts answered columns right


def better(correct: Correct, alpha: float) -> NDArray[np.bool_]:
    """(C, C): whether prompt i is significantly better than prompt j by a one-sided paired t-test."""
    columns = correct.shape[1]
    right = correct.astype(np.int64)
    wins = right @ (1 - right).T  # in whole numbers, so that equal differences have no spread at all
    total, squares = wins - wins.T, wins + wins.T
    with np.errstate(divide="ignore", invalid="ignore"):  # no spread: t is infinite, or no number for equals
        t = total * np.sqrt((columns - 1) / (columns * squares - total**2))
    return np.asarray(t > stats.t.ppf(1 - alpha, columns - 1))


def wilcoxon_trials(
    correct: Correct, orders: NDArray[np.int64], threshold: float = 0.1, startup: int = 2
) -> tuple[int, list[int]]:
    """The best trial, and after how many columns of its order (P, n) each one ended."""
    best, seen = 0, [correct.shape[1]]
    steps = np.arange(1, correct.shape[1] + 1)
    for at in range(1, len(correct)):
        own, other = (correct[row, orders[at]].astype(np.int64) for row in (at, best))
        plus, minus = np.cumsum(own > other), np.cumsum(own < other)
        # its safety: never pruned while as good on average as the best was in the end
        worse = np.cumsum(own) / steps < correct[best].mean()
        pruned = worse & (steps >= max(2, startup)) & (p_values(plus, minus, steps) < threshold)
        seen.append(int(steps[pruned][0]) if pruned.any() else len(steps))
        if not pruned.any() and correct[at].mean() > correct[best].mean():
            best = at
    return best, seen


def p_values(plus: NDArray[np.int64], minus: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """p (n,) of scipy's Wilcoxon signed-rank test that differences of -1, 0 and 1 are less than 0.

    zero_method is "zsplit", which shares the ranks of zeros out to both sides. Up to 13 differences
    scipy permutes their signs, which for equal sizes is a sign test; beyond, it takes the normal
    approximation with its correction for ties.
    """
    moved, zeros = plus + minus, count - plus - minus
    exact = stats.binom.cdf(plus, moved, 0.5)
    ranks = plus * (zeros + (moved + 1) / 2) + zeros * (zeros + 1) / 4
    ties = (zeros**3 - zeros + moved**3 - moved) / 2
    deviation = np.sqrt(np.maximum((count * (count + 1) * (2 * count + 1) - ties) / 24, 1e-12))
    normal = stats.norm.cdf((ranks - count * (count + 1) / 4) / deviation)
    return np.asarray(np.where(count <= 13, exact, normal))


def check() -> None:
    """Stops when a test of a rule differs from that of scipy, or of the pruner itself."""
    import optuna

    rng = np.random.default_rng(SEED)
    correct = rng.random((12, 60)) < rng.uniform(0.3, 0.9, (12, 1))
    found = better(correct, 0.2)
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = correct.astype(np.float64)
        wanted = [[bool(stats.ttest_rel(a, b, alternative="greater").pvalue < 0.2) for b in rows] for a in rows]
    if not np.array_equal(found, wanted):
        raise SystemExit("The paired t-test differs from scipy's.")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    orders = np.array([rng.permutation(60) for _ in correct])
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.WilcoxonPruner(p_threshold=0.1))
    seen = []
    for at, order in enumerate(orders):
        trial, values = study.ask(), []
        for column in order:
            values.append(float(correct[at, column]))
            trial.report(values[-1], int(column))
            if trial.should_prune():
                break
        study.tell(trial, sum(values) / len(values))
        seen.append(len(values))
    if (study.best_trial.number, seen) != wilcoxon_trials(correct, orders):
        raise SystemExit("The Wilcoxon rule differs from Optuna's pruner.")
    print(f"as scipy's t-test and Optuna's pruner: {seen}")


if __name__ == "__main__":
    check()
