"""A search's races, played on a table of what each prompt got on each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprompt.racing import Entrant, Lane, Rivals, Rule, inflation, standings

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Played:
    """best: the row with the best score of those that saw all examples, `complete`. promoted: the best
    that is beyond luck, or row 0, the baseline. worse: rows that were certainly not the best. used:
    evaluations."""

    best: int
    promoted: int
    complete: list[int]
    worse: list[int]
    used: int


def play(evidence: Floats, values: Floats, rule: Rule, batch: int = 8, level: float = 0.05) -> Played:
    """Race the rows (P, n) of a table in batches, as a study does; row 0 is the baseline.

    evidence: bounded margins. values: the metric of each example, greater is better.
    """
    prompts, total = evidence.shape
    complete, used, worse = [0], total, list[int]()
    seen = {0: total}

    def lane(row: int, n: int) -> Lane:
        return Lane(row, evidence[row, :n], float(values[row, :n].mean()), values[row, :n])

    for start in range(1, prompts, batch):
        running: Sequence[int] = range(start, min(prompts, start + batch))
        best = max(complete, key=lambda row: (evidence[row].mean(), -row))
        group = sorted(complete, key=lambda row: -evidence[row].mean())[:64]
        field = tuple(lane(row, seen[row]) for row in range(max(0, start - 64), start))
        rivals = Rivals((lane(best, total),), inflation([evidence[row] for row in group]), field)
        race, before = rule.race(running, rivals), 0
        for n in rule.looks(total):
            used += len(running) * (n - before)
            fates = race.judge([lane(row, n) for row in running])
            seen |= dict.fromkeys(running, n)
            if n < total:
                worse += [row for row, fate in zip(running, fates, strict=True) if fate == "worse"]
                running = [row for row, fate in zip(running, fates, strict=True) if fate == "stays"]
            before = n
            if not running:
                break
        race.finish([lane(row, total) for row in running])
        complete += running
    stood = standings([Entrant(evidence[row], values[row]) for row in complete], prompts - 1, True, level)
    order = sorted(range(len(complete)), key=lambda at: (values[complete[at]].mean(), evidence[complete[at]].mean()))
    promoted = [at for at in order if stood[at].certain]
    return Played(complete[order[-1]], complete[promoted[-1]], complete, worse, used)
