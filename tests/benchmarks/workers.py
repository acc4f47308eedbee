"""What many workers cost a study: trials per second of the bookkeeping alone, and how many GPUs a storage bears.

    python tests/benchmarks/workers.py [--quick] [--out FILE]

Workers in processes of their own ask and tell with scores that are made up at once, on the journal
file, on PostgreSQL and through Optuna's gRPC proxy; the server is one of the benchmark's own. From
what a trial costs there, a simulation counts the GPUs at which waiting for the storage takes a tenth of
their time.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from crew import crew
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from postgres import Proxy, Server, proxy, server
from record import bar, write_record

from autoprompt.clock import never
from autoprompt.events import silent
from autoprompt.metrics.builtin import accuracy
from autoprompt.prompt import Prompt
from autoprompt.racing import Lane
from autoprompt.soft import seed_of
from autoprompt.space import Space
from autoprompt.study import Shared, StudyOptions, joined
from autoprompt.study.asking import Plan
from autoprompt.study.beats import Beats
from autoprompt.study.branches import Found
from autoprompt.study.history import History
from autoprompt.study.records import Asked, Told
from autoprompt.study.sharing import Roll
from autoprompt.study.together import AskingTogether
from autoprompt.study.trials import Trials

SEED = 7
BATCH = 8
STORAGES = ("journal", "postgresql", "grpc")
TRIAL_SECONDS = (0.2, 2.0, 20.0)
_EXAMPLES, _FIRST = 200, 32  # that a finalist saw, and one that was dropped
_VALUES = 50  # of each parameter


class Instant:
    """Makes candidates at once."""

    name = "discrete"
    whole = False

    def __init__(self, space: Space) -> None:
        self._space = space

    def find(self, history: History, count: int, number: int) -> Found:
        drawn = random.Random(seed_of(SEED, "candidates", number))
        among = {name: CategoricalDistribution(range(_VALUES)) for name in ("template", "instruction")}
        asked = []
        for _ in range(count):
            params = {name: drawn.randrange(_VALUES) for name in among}
            prompt = Prompt(
                self._space.baseline.template, self._space.baseline.label_words, f"{params} {drawn.random()}"
            )
            asked.append(Asked(prompt, self.name, params, dict(among)))
        return Found(asked)


def work(place: Shared, trials: int, ready: Barrier) -> None:
    """One worker, which asks and tells until all is done; all begin at once."""
    space = Space(Prompt("{{ text }} {{ label }}", {"a": "yes", "b": "no"}))
    own = Trials(place, space, (StudyDirection.MAXIMIZE,))
    assert own.board is not None
    options = StudyOptions(trials=trials, batch=BATCH)
    plan = Plan(space.baseline, {"discrete": Instant(space)}, options, accuracy, SEED, silent, never)
    drawn = np.random.default_rng(seed_of(SEED, "scores", place.worker))
    with Beats(Roll(own.store, place.name), place) as beats:
        asking = AskingTogether(plan, own, own.board, beats, lambda: None, 0.05)
        ready.wait()
        while members := asking.ask():
            for at, trial in enumerate(members):
                whole = trial.number == 0 or at == 0
                evidence = drawn.normal(size=_EXAMPLES if whole else _FIRST)
                lane = Lane(trial.number, evidence, 0.5, (evidence > 0).astype(float))
                own.tell(trial, Told(lane, 1.0, 0.1, 0.0, {len(evidence): 0.5}, 100), complete=whole)
            own.commit()
            asking.ended(members[0].user_attrs["batch"])


def joining(place: Shared, trials: int, ready: Barrier) -> None:
    work(joined(place), trials, ready)


# -- measured --------------------------------------------------------------------------------------


@contextmanager
def storages(kind: str, database: Server, folder: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    """A storage of a kind, and the seconds of processor time that its server has taken so far."""
    if kind == "journal":
        yield f"journal:{folder / 'study.journal'}", lambda: 0.0
    elif kind == "postgresql":
        url = database.create(f"d{time.monotonic_ns()}")
        yield url, lambda: _seconds_of(database)
    else:
        url = database.create(f"d{time.monotonic_ns()}")
        with proxy(url) as found:
            yield found.url, lambda: _seconds_of(database) + _seconds_of(found)


def _seconds_of(running: Server | Proxy) -> float:
    """Processor seconds of a server's processes, those that have ended included."""
    if isinstance(running, Proxy):
        return _ticks(running.process.pid)
    first = int((running.data / "postmaster.pid").read_text().split()[0])
    own = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _parent(path) == first]
    return _ticks(first, children=True) + sum(map(_ticks, own))


def _fields(process: int | str) -> list[str]:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return []


def _parent(path: Path) -> int:
    fields = _fields(path.name)
    return int(fields[1]) if fields else -1


def _ticks(process: int, children: bool = False) -> float:
    fields = _fields(process)
    taken = fields[11:15] if children else fields[11:13]
    return sum(map(int, taken)) / os.sysconf("SC_CLK_TCK")


def measured(kind: str, workers: int, trials: int, database: Server) -> dict[str, float]:
    """Trials per second with so many workers, and processor seconds of server and of one worker a trial."""
    with tempfile.TemporaryDirectory() as folder, storages(kind, database, Path(folder)) as (url, server_seconds):
        context = crew("__main__")
        place, ready = Shared(url, "bench", beat=5.0), context.Barrier(workers + 1)
        processes = [
            context.Process(target=joining if at else work, args=(place, trials, ready)) for at in range(workers)
        ]
        for process in processes:
            process.start()
        ready.wait()
        before, began = server_seconds(), time.perf_counter()
        ends = []
        for process in processes:
            process.join()
            ends.append(process.exitcode)
        took, server = time.perf_counter() - began, server_seconds() - before
        if any(ends):
            raise RuntimeError(f"workers on {kind} ended with {ends}")
    return {
        "workers": workers,
        "trials_per_second": round(trials / took, 2),
        "ms_a_trial": round(1000 * workers * took / trials, 2),
        "server_ms_a_trial": round(1000 * server / trials, 3),
    }


# -- simulated -------------------------------------------------------------------------------------


def efficiency(gpus: int, trial: float, own: float, served: float, batches: int = 60) -> float:
    """The share of its time that a GPU scores, with so many of them on one storage.

    trial: seconds of a trial on the GPU. own, served: seconds of bookkeeping a trial, in the worker and in
    the storage, which serves one after another. Batches of all GPUs queue for it, first come first served.
    """
    drawn = random.Random(SEED)
    free, scored = 0.0, 0.0
    clocks = sorted(drawn.uniform(0, BATCH * trial) for _ in range(gpus))
    queue = [(at, gpu) for gpu, at in enumerate(clocks)]
    heapq.heapify(queue)
    for _ in range(gpus * batches):
        at, gpu = heapq.heappop(queue)
        begun = max(at, free)
        free = begun + BATCH * served
        work_ = BATCH * trial * drawn.uniform(0.7, 1.3)
        scored += work_
        heapq.heappush(queue, (free + BATCH * own + work_, gpu))
    return scored / sum(at for at, _ in queue)


def most_gpus(trial: float, own: float, served: float) -> int:
    """The most GPUs of which each scores nine tenths of what one alone would."""
    alone = efficiency(1, trial, own, served)
    low, high = 1, 2
    while efficiency(high, trial, own, served) >= 0.9 * alone and high < 4096:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if efficiency(middle, trial, own, served) >= 0.9 * alone else (low, middle)
    return low


def simulated(rows: list[dict[str, float]], kind: str) -> dict[str, Any]:
    """GPUs by the seconds of a trial. What one worker alone takes is split into its own part and the storage's.

    Of the journal, all of it is taken for the storage's: appends hold one lock, and everyone reads
    what all write. So it is a lower bound.
    """
    alone = rows[0]["ms_a_trial"] / 1000
    best = 1 / max(row["trials_per_second"] for row in rows)
    served = best if kind == "journal" else min(best, max(row["server_ms_a_trial"] for row in rows) / 1000)
    own = max(0.0, alone - served)
    gpus = {f"{trial:g} s": most_gpus(trial, own, served) for trial in TRIAL_SECONDS}
    return {"own_ms": round(1000 * own, 2), "served_ms": round(1000 * served, 2), "gpus": gpus}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 and 4 workers, few trials")
    parser.add_argument("--out", type=Path, help="where the record goes")
    options = parser.parse_args()
    counts, trials = ((1, 4), 201) if options.quick else ((1, 2, 4, 8, 16), 1001)
    found: dict[str, Any] = {}
    with server() as database:
        for kind in STORAGES:
            rows = []
            for workers in counts:
                rows.append(measured(kind, workers, trials, database))
                print(kind, rows[-1], flush=True)
            found[kind] = {"rows": rows, **simulated(rows, kind)}
            print(kind, {key: value for key, value in found[kind].items() if key != "rows"}, flush=True)
    bars = {f"GPUs that {kind} bears with trials of 2 s": bar(found[kind]["gpus"]["2 s"], 8) for kind in STORAGES}
    write_record("workers", SEED, {"trials": trials, "storages": found, "bars": bars}, options.out)


if __name__ == "__main__":
    main()
