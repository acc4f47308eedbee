"""Selection rules of other tools, played on recorded tables: what they spend, and what they lose.

    python tests/benchmarks/rules.py [--cache FOLDER] [--task NAME ...] [--seeds 20] [--prompts 100] [--selection 250]

For each seed some prompts of a table are drawn, and some columns for selection; the others are the
test. The baseline arrives first, the other prompts in random order. A rule sees the selection
columns alone and chooses a prompt. Printed are the share of all prompts × selection columns that it
asked for, and its regret: the accuracy on the test columns of the best prompt there minus that of
the chosen one, in points. A score that is asked for twice counts once: these tools cache answers.

The rules are written anew from what their authors published. What cannot be replayed is left out:
they all propose new prompts from the scores so far, and here each gets the same ones.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from paired import Correct, better, wilcoxon_trials
from tables import CACHE, Table, read_table
from tasks import SEED, TASKS

from autoprompt.soft import seed_of

__all__ = ["RULES", "Correct", "Margins", "Order", "Played", "Rule", "as_is", "baseline_of_the_floor", "play"]

Margins: TypeAlias = NDArray[np.float32]  # (P, n)
# the chosen prompt, and how many evaluations it took; the first prompt is the baseline
Rule: TypeAlias = Callable[[Correct, Margins, np.random.Generator], tuple[int, int]]


# -- the floor -------------------------------------------------------------------------------


def baseline(correct: Correct, margins: Margins, rng: np.random.Generator) -> tuple[int, int]:
    """No search at all."""
    return 0, 0


def full(correct: Correct, margins: Margins, rng: np.random.Generator) -> tuple[int, int]:
    """All prompts on all columns; of equals the first."""
    return int(correct.mean(1).argmax()), correct.size


def full_by_margin(correct: Correct, margins: Margins, rng: np.random.Generator) -> tuple[int, int]:
    """All prompts on all columns; of equals the one with the greatest mean margin."""
    return int(np.lexsort((margins.mean(1), correct.mean(1)))[-1]), correct.size


def minibatch(correct: Correct, margins: Margins, rng: np.random.Generator, size: int = 35) -> tuple[int, int]:
    """All prompts on the same few random columns, once."""
    batch = rng.choice(correct.shape[1], size, replace=False)
    return int(correct[:, batch].mean(1).argmax()), len(correct) * size


# -- DSPy ------------------------------------------------------------------------------------


def mipro(
    correct: Correct, margins: Margins, rng: np.random.Generator, size: int = 35, every: int = 5
) -> tuple[int, int]:
    """MIPROv2 (Opsahl-Ong et al. 2024) with DSPy's defaults: minibatch_size 35, minibatch_full_eval_steps 5.

    The baseline is evaluated in full. Each later prompt is a trial on a random minibatch of its own;
    after every 5 trials, and after the last, the prompt with the best minibatch of those not yet
    evaluated in full is. The best in full wins. In the replay each prompt is one trial, where its
    sampler (TPE) would come back to good ones and average their minibatches.
    """
    count, columns = correct.shape
    best, used = 0, columns
    waiting: dict[int, float] = {}
    for trial in range(1, count):
        batch = rng.choice(columns, size, replace=False)
        waiting[trial] = correct[trial, batch].mean()
        used += size
        if trial % every == 0 or trial == count - 1:
            leader = max(waiting, key=lambda at: waiting[at])
            del waiting[leader]
            used += columns - size
            if correct[leader].mean() > correct[best].mean():
                best = leader
    return best, used


# -- CAPO ------------------------------------------------------------------------------------


@dataclass
class _Race:
    """Racing in blocks of columns: a prompt is out when `keep` others are significantly better.

    Zehle et al. 2025 (CAPO), with the defaults of promptolution: blocks of 30, at most 10 of them, in
    an order drawn for each race, a one-sided paired t-test at alpha 0.2 without correction. The
    penalty for long prompts is left out: regret counts accuracy alone.
    """

    correct: Correct
    rng: np.random.Generator
    keep: int
    block: int = 30
    most: int = 10
    alpha: float = 0.2

    def __post_init__(self) -> None:
        self.blocks = self.correct.shape[1] // self.block
        self.seen = np.zeros((len(self.correct), self.blocks), np.bool_)

    def survivors(self, candidates: Sequence[int]) -> list[int]:
        """At most `keep` of the candidates, the best average over all that was evaluated first."""
        alive, columns = np.array(candidates), np.empty(0, np.int64)
        for block in self.rng.permutation(self.blocks)[: self.most]:
            if len(alive) <= self.keep:
                break
            self.seen[alive, block] = True
            columns = np.append(columns, np.arange(block * self.block, (block + 1) * self.block))
            alive = alive[better(self.correct[np.ix_(alive, columns)], self.alpha).sum(0) < self.keep]
        return sorted((int(at) for at in alive), key=lambda at: -self._average(at))[: self.keep]

    def _average(self, at: int) -> float:
        seen = np.repeat(self.seen[at], self.block)
        return float(self.correct[at, : len(seen)][seen].mean()) if seen.any() else 0.0

    @property
    def used(self) -> int:
        return int(self.seen.sum()) * self.block


def capo(
    correct: Correct, margins: Margins, rng: np.random.Generator, population: int = 10, step: int = 4
) -> tuple[int, int]:
    """CAPO's search: 10 prompts, 4 new ones a step, a race that keeps 10."""
    race = _Race(correct, rng, population)
    kept = list(range(min(population, len(correct))))
    for start in range(population, len(correct), step):
        kept = race.survivors([*kept, *range(start, min(start + step, len(correct)))])
    return kept[0], race.used


def capo_at_once(correct: Correct, margins: Margins, rng: np.random.Generator) -> tuple[int, int]:
    """One race of all prompts with the same rule, that keeps 1."""
    race = _Race(correct, rng, 1)
    return race.survivors(range(len(correct)))[0], race.used


# -- halving ---------------------------------------------------------------------------------


def halving(correct: Correct, margins: Margins, rng: np.random.Generator, eta: int = 2) -> tuple[int, int]:
    """Successive halving (Jamieson & Talwalkar 2016): the best 1/eta of a rung go on to eta times the columns.

    All prompts start together, on so few columns that the last rung has at most eta prompts and all
    columns; shares are rounded up, as scikit-learn does. Each rung's columns hold those of the one before.
    """
    count, columns = correct.shape
    order, alive = rng.permutation(columns), np.arange(count)
    rungs = math.floor(math.log(count, eta) + 1e-9)
    read = used = 0
    for rung in range(rungs + 1):
        more = max(1, round(columns / eta ** (rungs - rung)))
        used += len(alive) * (more - read)
        read = more
        scores = correct[np.ix_(alive, order[:read])].mean(1)
        alive = alive[np.argsort(-scores, kind="stable")[: math.ceil(len(alive) / eta)]]
    return int(alive[0]), used


def halving_by_3(correct: Correct, margins: Margins, rng: np.random.Generator) -> tuple[int, int]:
    """The same with eta 3."""
    return halving(correct, margins, rng, eta=3)


# -- Optuna ----------------------------------------------------------------------------------


def wilcoxon(
    correct: Correct, margins: Margins, rng: np.random.Generator, threshold: float = 0.1, startup: int = 2
) -> tuple[int, int]:
    """Optuna's WilcoxonPruner with its defaults: one prompt after the other against the best so far.

    Columns come in an order drawn for each prompt, as its manual advises, and a pruned trial's value is
    the average of what was seen.
    """
    orders = np.array([rng.permutation(correct.shape[1]) for _ in correct])
    best, seen = wilcoxon_trials(correct, orders, threshold, startup)
    return best, sum(seen)


RULES: dict[str, Rule] = {
    "baseline": baseline,
    "full evaluation": full,
    "full, ties by margin": full_by_margin,
    "one minibatch of 35": minibatch,
    "MIPROv2": mipro,
    "CAPO": capo,
    "CAPO's race at once": capo_at_once,
    "halving, eta 2": halving,
    "halving, eta 3": halving_by_3,
    "Optuna Wilcoxon": wilcoxon,
}


# -- playing ---------------------------------------------------------------------------------

Order: TypeAlias = Callable[[NDArray[np.int64], int], NDArray[np.int64]]  # columns, and the seed


def as_is(columns: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """At random, as they were drawn."""
    return columns


@dataclass(frozen=True)
class Played:
    """A rule on a table, one entry a seed: the share of evaluations used, and the regret in points."""

    used: NDArray[np.float64]
    regret: NDArray[np.float64]


def play(
    table: Table, name: str, rule: Rule, seeds: int = 20, prompts: int = 100, selection: int = 250, order: Order = as_is
) -> Played:
    """Play a rule. Prompts and columns depend on the seed alone, the rule's own draws on its name too.

    order: the order in which the rule is shown the selection columns.
    """
    used, regret = np.empty(seeds), np.empty(seeds)
    for seed in range(seeds):
        rng = np.random.default_rng(seed_of(SEED, "play", table.name, seed))
        others = rng.permutation(np.delete(np.arange(len(table.prompts)), table.baseline))
        rows = np.array([table.baseline, *others[: prompts - 1]])
        columns = rng.permutation(table.correct.shape[1])
        seen, test = np.ix_(rows, order(columns[:selection], seed)), np.ix_(rows, columns[selection:])
        own = np.random.default_rng(seed_of(SEED, "rule", name, table.name, seed))
        chosen, evaluations = rule(table.correct[seen], table.margins[seen], own)
        accuracy = table.correct[test].mean(1)
        used[seed] = evaluations / (len(rows) * selection)
        regret[seed] = 100 * (accuracy.max() - accuracy[chosen])
    return Played(used, regret)


def baseline_of_the_floor(
    table: Table, seeds: int = 20, prompts: int = 100, selection: int = 250
) -> tuple[float, float]:
    """What every rule lies between: the mean regret of evaluating all, and of not searching at all, in points."""
    floor, none = (play(table, rule.__name__, rule, seeds, prompts, selection) for rule in (full, baseline))
    return float(floor.regret.mean()), float(none.regret.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--selection", type=int, default=250)
    options = parser.parse_args()
    tables = [read_table(options.cache / f"{name}.npz") for name in options.task]
    print(" " * 22 + "".join(f"{table.name:>16}" for table in tables) + f"{'mean':>16}")
    for name, rule in RULES.items():
        started = time.perf_counter()
        played = [play(t, name, rule, options.seeds, options.prompts, options.selection) for t in tables]
        shares, regrets = (
            [float(values.mean()) for values in (getattr(p, of) for p in played)] for of in ("used", "regret")
        )
        cells = [*zip(shares, regrets, strict=True), (float(np.mean(shares)), float(np.mean(regrets)))]
        shown = "".join(f"{share:>9.1%} {regret:>6.2f}" for share, regret in cells)
        print(f"{name:22}{shown}   {time.perf_counter() - started:5.1f} s", flush=True)


if __name__ == "__main__":
    main()
