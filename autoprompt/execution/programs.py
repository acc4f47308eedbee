"""Many programs, several side by side, each remembered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from autoprompt.execution.containment import tier_here
from autoprompt.execution.program import Limits, Program, Ran
from autoprompt.execution.warden import guarded

__all__ = ["run_programs"]

_known: dict[tuple[Program, Limits], Ran] = {}  # a program's outcome holds for as long as this process lives


def run_programs(programs: Sequence[Program], limits: Limits | None = None, workers: int | None = None) -> list[Ran]:
    """Run each program with its tests, contained; what came of each, in their order.

    workers: how many side by side; by itself one a core. A program that ran before is not run again. Raises
    ExecutionError where this machine cannot contain programs: then none runs.
    """
    allowed = limits or Limits()
    tier = tier_here()
    new = [program for program in dict.fromkeys(programs) if (program, allowed) not in _known]
    if new:
        with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
            for program, ran in zip(new, pool.map(lambda one: guarded(one, allowed, tier), new), strict=True):
                _known[program, allowed] = ran
    return [_known[program, allowed] for program in programs]
