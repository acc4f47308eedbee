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
    """winner: the row that may be called so. best: the row with the best estimate, certain or not.
    complete: the rows that saw all examples. used: evaluations."""

    winner: int
    best: int
    complete: list[int]
    used: int


def play(evidence: Floats, values: Floats, rule: Rule, batch: int = 8, level: float = 0.05) -> Played:
    """Race the rows (P, n) of a table in batches, as a study does; row 0 is the baseline.

    evidence: bounded margins. values: the metric of each example, greater is better.
    """
    prompts, total = evidence.shape
    complete, used = [0], total

    def lane(row: int, n: int) -> Lane:
        return Lane(row, evidence[row, :n], float(values[row, :n].mean()), values[row, :n])

    for start in range(1, prompts, batch):
        running: Sequence[int] = range(start, min(prompts, start + batch))
        best = max(complete, key=lambda row: (evidence[row].mean(), -row))
        group = sorted(complete, key=lambda row: -evidence[row].mean())[:64]
        rivals = Rivals((lane(best, total),), inflation([evidence[row] for row in group]))
        race, before = rule.race(running, rivals), 0
        for n in rule.looks(total):
            used += len(running) * (n - before)
            keep = race.keep([lane(row, n) for row in running])
            running = [row for row, kept in zip(running, keep, strict=True) if kept or n == total]
            before = n
            if not running:
                break
        race.finish([lane(row, total) for row in running])
        complete += running
    stood = standings([Entrant(evidence[row], values[row]) for row in complete], prompts - 1, True, level)
    order = sorted(
        range(len(complete)), key=lambda at: (stood[at].estimate, evidence[complete[at]].mean()), reverse=True
    )
    winner = next(at for at in order if stood[at].certain)
    return Played(complete[winner], complete[order[0]], complete, used)
