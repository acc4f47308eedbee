"""Part one of the search benchmark: selection rules on recorded tables, ours among them.

For each rule and table: the share of all evaluations that it asked for, its regret on the columns
that it did not see, and its excess: regret minus that of evaluating everything, seed by seed.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from numpy.typing import NDArray
from played import play as race
from record import bar
from rules import RULES, Correct, Margins, Order, Played, Rule, as_is, play
from tables import Table, load_or_record, load_table
from tasks import Task, load_task

from autoprompt.evidence import bounded
from autoprompt.racing import PairedRule, in_class_turns

__all__ = ["SMALL", "Replayed", "bars_of_replay", "replay"]

FULL, FULL_BY_MARGIN, RACING = "full evaluation", "full, ties by margin", "racing"
_SHARPNESS = 0.5  # of the baseline's median |margin|: the scale of bounded margins, as in the study


@dataclass(frozen=True)
class Replayed:
    """How much is played: prompts and selection columns of a table, and how often."""

    prompts: int = 100
    selection: int = 250
    seeds: int = 240


SMALL = Replayed(60, 150, 20)  # of a table of 60 x 300, which takes half a minute to record


def racing(rule: PairedRule, correct: Correct, margins: Margins, rng: np.random.Generator) -> tuple[int, int]:
    """Ours, as a study plays it: batches of 8, the margins bounded by the baseline's."""
    scale = max(1e-6, _SHARPNESS * float(np.median(np.abs(margins[0]))))
    played = race(bounded(margins.astype(np.float64), scale), correct.astype(np.float64), rule)
    return played.best, played.used


OURS: dict[str, Rule] = {
    RACING: partial(racing, PairedRule()),
    "racing, strict": partial(racing, PairedRule(share=1.0)),
}


def replay(name: str, data: Path, cache: Path, plan: Replayed, quick: bool) -> dict[str, Any]:
    """Play all rules on one task's table.

    quick: where the cache lacks the whole table, a small one of the task's is recorded beside it.
    """
    task = load_task(name, data)
    table, plan = _table(task, cache, plan, quick)
    found: dict[str, Played] = {}
    for title, rule in (RULES | OURS).items():
        started = time.perf_counter()
        order = _class_turns(task) if title in OURS else as_is
        found[title] = play(table, title, rule, plan.seeds, plan.prompts, plan.selection, order)
        print(
            f"replay    {name:10} {title:22} {found[title].used.mean():7.1%} of evaluations, "
            f"regret {found[title].regret.mean():5.2f} points   {time.perf_counter() - started:5.1f} s",
            flush=True,
        )
    return {
        "table": list(table.correct.shape),
        "prompts": plan.prompts,
        "selection": plan.selection,
        "seeds": plan.seeds,
        "rules": {title: _figures(played, found) for title, played in found.items()},
    }


def _table(task: Task, cache: Path, plan: Replayed, quick: bool) -> tuple[Table, Replayed]:
    whole = load_table(task, cache=cache)
    if whole is not None or not quick:
        return whole or load_or_record(task, cache=cache), plan
    return load_or_record(task, SMALL.prompts, 2 * SMALL.selection, cache=cache / "quick"), SMALL


def _class_turns(task: Task) -> Order:
    """The order that a study shows its examples in."""

    def order(columns: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        examples = [task.replay.examples[at] for at in columns]  # an example's number is its column
        return np.array([example.number for example in in_class_turns(examples, seed)])

    return order


def _figures(played: Played, others: dict[str, Played]) -> dict[str, float]:
    """Means over the seeds, and standard errors of what is paired. Regrets in points."""

    def excess(over: str) -> tuple[float, float]:
        differences = played.regret - others[over].regret
        error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0.0
        return float(differences.mean()), float(error)

    plain, by_margin = excess(FULL), excess(FULL_BY_MARGIN)
    return {
        "share": round(float(played.used.mean()), 4),
        "regret": round(float(played.regret.mean()), 3),
        "excess": round(plain[0], 3),
        "excess_error": round(plain[1], 3),
        "excess_by_margin": round(by_margin[0], 3),
        "excess_by_margin_error": round(by_margin[1], 3),
    }


def bars_of_replay(tables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The worst of the tables that were played."""

    def worst(of: str) -> float:
        return max(float(table["rules"][RACING][of]) for table in tables.values())

    return {
        "racing evaluations, worst table": bar(worst("share"), 0.20, at_most=True),
        "racing regret over full evaluation, worst table": bar(worst("excess"), 0.3, at_most=True),
    }
