"""Whether the verdict is true: simulated searches whose truth is known, and recorded scores of real prompts.

    python tests/benchmarks/truth.py [--quick] [--out FILE] [--searches N] [--cache FOLDER] [--tables NAME ...]

A simulated search draws candidate prompts, each with an ability of its own; an example has a difficulty, and
how well a prompt answers it is ability + difficulty + what only the two have in common, all normal. Dev chooses the
best candidate, as searches do, also where none is better than the baseline; the project's own verdict judges it on
other examples. The truth is the metric over all examples that there could be, by formula.

Of a recorded table (tables.py) some prompts and columns are drawn: dev chooses, test reports, and the rest, which
neither has seen, is the truth. Tables that the cache lacks are left out.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from record import bar, write_record
from tables import CACHE, Table, read_table
from tasks import SEED, TASKS

from autoprompt.metrics import Metric, Outcome
from autoprompt.metrics.builtin import METRICS
from autoprompt.soft import seed_of
from autoprompt.verdict import Verdict, detectable_before, judge
from autoprompt.verdict.exact import mcnemar

Floats = NDArray[np.float64]

DIFFICULTY, ALONE = 1.0, 0.8  # deviations: of examples, and of what a prompt and an example have alone
SPREAD = math.hypot(DIFFICULTY, ALONE)
LABELS = ("a", "b", "c", "d")
SHARES = np.array([0.4, 0.3, 0.2, 0.1])  # of the labels, where there are several


@dataclass(frozen=True)
class Setting:
    """A kind of search.

    tests: sizes of the test split, in turns. level: the baseline's ability. better: share of candidates that are, by
    `gain`. spread: deviation of the others' abilities.
    """

    name: str
    tests: tuple[int, ...]
    metric: str = "accuracy"
    level: float = 0.8
    better: float = 0.0
    gain: float = 0.0
    spread: float = 0.0
    candidates: int = 40
    dev: int = 150
    times: float = 1.0  # of the searches

    @property
    def equal(self) -> bool:
        return not (self.better or self.spread)


SETTINGS = (
    Setting("all equal", (100, 200, 400)),
    Setting("all equal, small test", (20, 30, 40, 60)),
    Setting("all equal, near ceiling", (50, 100, 400), level=2.5),
    Setting("few better", (100, 200, 400), better=0.1, gain=0.35, spread=0.15),
    Setting("few better, small test", (20, 30, 40, 60), better=0.1, gain=0.6, spread=0.15),
    Setting("few better, near ceiling", (50, 100, 400), level=2.2, better=0.1, gain=0.5, spread=0.15),
    Setting("all equal, log loss", (20, 50, 100, 400), metric="log_loss"),
    Setting("few better, log loss", (20, 50, 100, 400), metric="log_loss", better=0.1, gain=0.4, spread=0.15),
    Setting("all equal, macro F1", (40, 100, 200), metric="macro_f1", times=0.3),
    Setting("few better, macro F1", (40, 100, 200), metric="macro_f1", better=0.1, gain=0.4, spread=0.15, times=0.3),
)


# -- simulated searches ------------------------------------------------------------------------


@dataclass(frozen=True)
class Searched:
    """One search: its verdict, the true difference of winner and baseline, the winner's scores, and a bootstrap.

    bootstrap: the percentile interval of metrics that have values of examples.
    """

    verdict: Verdict
    difference: float
    truth: float
    dev: float
    bootstrap: tuple[float, float] | None


def searched(setting: Setting, number: int) -> Searched:
    generator = np.random.default_rng(seed_of(SEED, setting.name, number))
    metric, size = METRICS[setting.metric], setting.tests[number % len(setting.tests)]
    abilities = setting.level + setting.spread * generator.standard_normal(setting.candidates)
    abilities[generator.random(setting.candidates) < setting.better] += setting.gain
    abilities[0] = setting.level
    dev, truths = _latent(abilities, setting.dev, generator), _labels(setting.dev, generator)
    if metric.name == "macro_f1":  # chosen by accuracy, which goes with it; the scores are the metric's own
        best = 1 + int((dev[1:] > 0).mean(1).argmax())
    else:
        best = 1 + int(
            (dev[1:] > 0).mean(1).argmax() if metric.maximize else np.logaddexp(0, -dev[1:]).mean(1).argmin()
        )
    rows, labels = _latent(abilities[[0, best]], size, generator), _labels(size, generator)
    before, after = (_outcome(metric, row, labels, generator) for row in rows)
    truth = [_truth(metric.name, float(abilities[at])) for at in (0, best)]
    return Searched(
        judge(metric, before, after, seed=number),
        truth[1] - truth[0],
        truth[1],
        metric(_outcome(metric, dev[best], truths, generator)),
        _percentiles(metric, before, after, generator),
    )


def _latent(abilities: Floats, examples: int, generator: np.random.Generator) -> Floats:
    """How well each prompt answers each example (K, N): right above zero."""
    difficulty = DIFFICULTY * generator.standard_normal(examples)
    return abilities[:, None] + difficulty + ALONE * generator.standard_normal((len(abilities), examples))


def _labels(examples: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return generator.choice(len(LABELS), examples, p=SHARES)


def _outcome(metric: Metric, latent: Floats, labels: NDArray[np.int64], generator: np.random.Generator) -> Outcome:
    """Answers of two labels with their probabilities; for macro F1 of four, a wrong one drawn evenly."""
    if metric.name != "macro_f1":
        right = 1 / (1 + np.exp(-latent))
        return Outcome(("a",) * len(latent), np.stack([right, 1 - right], 1), LABELS[:2])
    wrong = (labels + generator.integers(1, len(LABELS), len(labels))) % len(LABELS)
    said = np.where(latent > 0, labels, wrong)
    return Outcome(tuple(LABELS[i] for i in labels), np.eye(len(LABELS))[said], LABELS)


@cache
def _truth(name: str, ability: float) -> float:
    """The metric over all examples."""
    right = NormalDist().cdf(ability / SPREAD)
    if name == "accuracy":
        return right
    if name == "log_loss":
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        return float(weights @ np.logaddexp(0, -(ability + SPREAD * nodes)) / weights.sum())
    said = SHARES * right + (1 - SHARES) * (1 - right) / (len(LABELS) - 1)
    return float((2 * SHARES * right / (SHARES + said)).mean())


def _percentiles(
    metric: Metric, before: Outcome, after: Outcome, generator: np.random.Generator
) -> tuple[float, float] | None:
    old, new = metric.each([before, after])
    if not old.ndim:
        return None
    drawn = (new - old)[generator.integers(0, len(old), (1000, len(old)))].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def measured(setting: Setting, searches: int) -> dict[str, Any]:
    """Shares over the searches of a setting."""
    found = [searched(setting, number) for number in range(max(1, round(setting.times * searches)))]
    covered = [_holds(one.verdict.interval, one.difference) for one in found]
    sign = 1 if METRICS[setting.metric].maximize else -1
    bootstrap = [_holds(one.bootstrap, one.difference) for one in found if one.bootstrap is not None]
    outcomes = [(one.verdict.outcome, sign * one.difference) for one in found]
    return {
        "searches": len(found),
        "equal": setting.equal,
        "covered": float(np.mean(covered)),
        "covered_by_examples": {
            size: float(np.mean(covered[at :: len(setting.tests)])) for at, size in enumerate(setting.tests)
        },
        "covered_by_percentile_bootstrap": float(np.mean(bootstrap)) if bootstrap else None,
        "called_better": float(np.mean([said == "improved" for said, _ in outcomes])),
        "falsely_better": float(np.mean([said == "improved" and gain <= 0 for said, gain in outcomes])),
        "falsely_worse": float(np.mean([said == "worse" and gain >= 0 for said, gain in outcomes])),
        "true_difference": float(np.mean([one.difference for one in found])),
        "dev_bias": float(np.mean([one.dev - one.truth for one in found])),
        "test_bias": float(np.mean([one.verdict.winner - one.truth for one in found])),
    }


def _holds(interval: tuple[float, float], value: float) -> bool:
    return interval[0] - 1e-12 <= value <= interval[1] + 1e-12


# -- power ---------------------------------------------------------------------------------------


def power(size: int, discordant: float, draws: int) -> dict[str, float]:
    """How often McNemar's exact test finds the difference that is said to be detectable."""
    difference = detectable_before(size, discordant)
    share = max(discordant, difference)
    chances = [(share + difference) / 2, (share - difference) / 2, 1 - share]
    pairs = np.random.default_rng(seed_of(SEED, "power", size)).multinomial(size, chances, draws)[:, :2]
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    shown = [gained > lost and mcnemar(int(gained), int(lost)) <= 0.05 for gained, lost in kinds]
    return {
        "examples": size,
        "discordant": discordant,
        "difference": difference,
        "power": float(counts @ shown) / draws,
    }


# -- recorded tables -------------------------------------------------------------------------------


def replayed(table: Table, draws: int, prompts: int = 100, columns: int = 150) -> dict[str, float]:
    """Biases in points: of the winner's score on dev and on test, against the columns that neither has seen."""
    gaps = np.empty((draws, 3))
    for number in range(draws):
        generator = np.random.default_rng(seed_of(SEED, table.name, number))
        chosen = generator.choice(len(table.correct), min(prompts, len(table.correct)), replace=False)
        order = generator.permutation(table.correct.shape[1])
        dev, test, rest = np.split(order, [columns, 2 * columns])
        scores = table.correct[np.ix_(chosen, dev)].mean(1)
        winner, own = table.correct[chosen[scores.argmax()]], table.correct[table.baseline]
        gain = (winner[test].mean() - own[test].mean()) - (winner[rest].mean() - own[rest].mean())
        gaps[number] = scores.max() - winner[rest].mean(), winner[test].mean() - winner[rest].mean(), gain
    means, errors = 100 * gaps.mean(0), 100 * gaps.std(0) / math.sqrt(draws)
    return {
        "draws": draws,
        "dev_bias": float(means[0]),
        "test_bias": float(means[1]),
        "test_bias_error": float(errors[1]),
        "gain_bias": float(means[2]),
    }


# -- the record ------------------------------------------------------------------------------------


def bars(settings: dict[str, Any], tables: dict[str, Any], powers: list[dict[str, float]]) -> dict[str, Any]:
    searches = np.array([found["searches"] for found in settings.values()])
    covered = np.array([found["covered"] for found in settings.values()])
    whole = float(searches @ covered / searches.sum())
    equal = {name: found for name, found in settings.items() if found["equal"]}
    found = {
        "simulated searches": bar(int(searches.sum()), 1000),
        "the 95 % interval covers, at least": bar(whole, 0.93),
        "the 95 % interval covers, at most": bar(whole, 0.97, at_most=True),
        "the 95 % interval covers in its worst setting": bar(float(covered.min()), 0.93),
        "false 'better' in the worst setting of equals": bar(
            max(one["falsely_better"] for one in equal.values()), 0.05, at_most=True
        ),
        "power at the detectable difference, least": bar(min(one["power"] for one in powers), 0.75),
    }
    if tables:
        worst = max(abs(one["test_bias"]) for one in tables.values())
        found["bias of the reported test value on recorded tables, points"] = bar(worst, 0.5, at_most=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--searches", type=int, help="of each setting; three in ten of them with macro F1")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--tables", nargs="*", choices=TASKS, default=TASKS)
    options = parser.parse_args()
    started, searches = time.perf_counter(), options.searches or (300 if options.quick else 1000)
    settings: dict[str, Any] = {}
    for setting in SETTINGS:
        settings[setting.name] = found = measured(setting, searches)
        print(
            f"{setting.name:26} {found['searches']:5} searches   covered {found['covered']:.3f}   "
            f"better {found['called_better']:.3f}, falsely {found['falsely_better']:.3f}   "
            f"bias of dev {found['dev_bias']:+.4f}, of test {found['test_bias']:+.4f}",
            flush=True,
        )
    there = [name for name in options.tables if (options.cache / f"{name}.npz").exists()]
    draws = 2000 if options.quick else 5000
    tables = {name: replayed(read_table(options.cache / f"{name}.npz"), draws) for name in there}
    for name, one in tables.items():
        print(f"{name:10} bias of dev {one['dev_bias']:+.2f} points, of test {one['test_bias']:+.2f}", flush=True)
    powers = [power(size, share, 20_000) for size in (30, 60, 100, 200, 400, 1000) for share in (0.05, 0.2, 0.4)]
    seconds = round(time.perf_counter() - started, 1)
    measures = {"settings": settings, "tables": tables, "power": powers, "seconds": seconds, "quick": options.quick}
    write_record("truth", SEED, {"bars": bars(settings, tables, powers), **measures}, options.out)


if __name__ == "__main__":
    main()
