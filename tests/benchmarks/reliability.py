"""What a run survives: killed with -9 at random instants of every stage, and disks that are full at random moments.

    python tests/benchmarks/reliability.py --quick
    python tests/benchmarks/reliability.py --kills 100 --full 20 --out reliability.json
    python tests/benchmarks/reliability.py --kills 0 --full 0 --with fuzz.json --with tests.json --out reliability.json

A small job (25 trials on 39 dev examples, three epochs of fine-tuning) is killed in the search, the
confirmation and the verdict, fine-tuning, and the export, and begun again until it is done. Then its
trials, its winner, its result and its weights must be those of a run that nobody disturbed. What the
journal showed in the moment before a kill is acknowledged, and must be there at the end.

The libraries are loaded before, so the times from a new start to the next trial are without that.
A file that is given --with holds counts of other faults: a list of {"fault", "times", "lost",
"unreadable", "different", "crashed", "failed"}, as `pytest -m fault --counts FILE` writes it, an object with
such a list under "counts", or what tests/fuzz/run.py writes. They join the same table.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import NAME, Fault, Run, differing, outcome_of, stored_trials, trials_of, written
from postgres import proxy, server
from record import bar, write_record

from autoprompt.errors import AutopromptError
from autoprompt.results import read_journal

SEED = 20
STAGES = {"search": ("search",), "judge": ("confirm", "verdict"), "finetune": ("finetune",), "export": ("export",)}
CHAIN = ("search", "search", "search", "judge", "finetune", "finetune", "export")  # the kills of one job
BAD = ("lost", "unreadable", "different", "crashed", "failed")
FULLS = 4  # full disks of one job
_TICK = 0.0005  # seconds between two looks at the journal
_TAIL = 0.08  # seconds from the export to the end of the run


Place = Callable[[Path], str | None]  # the storage of a run in a results folder; None: a file of its own


@contextlib.contextmanager
def _own() -> Iterator[Place]:
    yield lambda results: None


@contextlib.contextmanager
def _shared_journal() -> Iterator[Place]:
    yield lambda results: f"journal:{results / 'shared.journal'}"


@contextlib.contextmanager
def _postgresql() -> Iterator[Place]:
    with server() as found:
        url = found.create("reliability")
        yield lambda results: url


@contextlib.contextmanager
def _grpc() -> Iterator[Place]:
    with server() as found, proxy(found.create("reliability")) as front:
        yield lambda results: front.url


STORAGES = {"journal": _own, "shared journal": _shared_journal, "postgresql": _postgresql, "grpc": _grpc}


@dataclass
class Count:
    """What became of one kind of fault. resume: seconds from a new start to the next trial, epoch or stage."""

    fault: str
    times: int = 0
    lost: int = 0
    unreadable: int = 0
    different: int = 0
    resume: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Job:
    """A small run in a folder, and what was seen of it. whole: the folder of the same run, never disturbed."""

    space: Path
    results: Path
    place: Place
    name: str = NAME
    whole: Path | None = None
    known: dict[int, Any] = field(default_factory=dict)  # acknowledged trials
    stored: dict[int, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.results / self.name

    def begin(self, fault: Fault | None = None) -> Run:
        url = self.place(self.results)
        return Run(self.space, self.results, fault, self.name, ("--storage", url) if url else ())

    def in_study(self) -> dict[int, Any]:
        return stored_trials(self.folder, self.place(self.results))

    def see(self) -> int:
        """Note what is acknowledged now; how many that was before are not there or are others."""
        lost = self.lost()
        self.known |= trials_of(self.folder)
        self.stored |= self.in_study()
        return lost

    def lost(self) -> int:
        told, stored = trials_of(self.folder), self.in_study()
        return len(
            {n for n in self.known if self.known[n] != told.get(n)}
            | {n for n in self.stored if self.stored[n] != stored.get(n)}
        )

    def differs(self) -> list[str]:
        """What is not as in the undisturbed run."""
        assert self.whole is not None
        trials = differing(trials_of(self.whole), trials_of(self.folder))
        found = [f"trial {number}" for number in trials]
        found += differing(outcome_of(self.whole), outcome_of(self.folder))
        return found + differing(_files(self.whole), _files(self.folder))


def _files(folder: Path) -> dict[str, str]:
    """Digests of the exported prompt, its vectors and all weights, and of the best prompt of the search."""
    paths = [
        path
        for place in (folder / "winner", folder / "best")
        for pattern in ("*.safetensors", "prompt.json")
        for path in place.rglob(pattern)
    ]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


class Tail:
    """The events that are added to a journal, as they come."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, path.stat().st_size if path.exists() else 0

    def new(self) -> list[dict[str, Any]]:
        if not self._path.exists() or self._path.stat().st_size <= self._at:
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, _, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + 1 if whole else 0
        return [json.loads(line) for line in whole.splitlines()]


# -- kills -------------------------------------------------------------------------------------


def lengths(folder: Path) -> dict[str, float]:
    """Seconds of each stage of the undisturbed run."""
    began: dict[str, float] = {}
    found: dict[str, float] = {}
    for event in read_journal(folder / "events.jsonl"):
        if event["event"] == "StageStarted":
            began[event["stage"]] = event["up"]
        elif event["event"] == "StageFinished":
            found[event["stage"]] = event["up"] - began[event["stage"]]
    return {name: sum(found[stage] for stage in stages) for name, stages in STAGES.items()}


def kill_once(job: Job, stage: str, delay: float, counts: dict[str, Count]) -> None:
    """Begin the job, and kill it so many seconds after a stage began; it may be done before."""
    tail, run = Tail(job.folder / "events.jsonl"), job.begin()
    resumed, at, strike = job.folder.exists() and bool(job.known), "start", float("inf")
    before = time.monotonic()
    while run.runs() and time.monotonic() < strike:
        for event in tail.new():
            at = event["stage"] if event["event"] == "StageStarted" else at
            if at in STAGES[stage] and strike == float("inf"):
                strike = time.monotonic() + delay
            if resumed and _is_progress(event, job):
                counts[_of(at)].resume.append(time.monotonic() - before)
                resumed = False
        time.sleep(_TICK)
    told = trials_of(job.folder)
    if not run.runs():
        code, _, error = run.wait()
        if code:
            _fail(counts[stage], error)
        return
    run.kill()
    count = counts[_of(at)]
    count.times += 1
    job.known |= told
    _look(job, count)


def _is_progress(event: dict[str, Any], job: Job) -> bool:
    """Whether an event tells of something that was not known before the process began."""
    if event["event"] in ("TrialFinished", "TrialFailed"):
        return event["number"] not in job.known
    return event["event"] in ("EpochFinished", "TestOpened", "PartsCompared", "RunFinished")


def _of(stage: str) -> str:
    return next((name for name, stages in STAGES.items() if stage in stages), "search")


def _fail(count: Count, error: str) -> None:
    count.unreadable += 1
    count.notes.append(error[-2000:])


def _look(job: Job, count: Count) -> None:
    """Read the folder as the process left it."""
    try:
        count.lost += job.see()
    except (AutopromptError, ValueError, KeyError, OSError) as error:
        _fail(count, f"{type(error).__name__}: {error}")


def finish(job: Job, count: Count) -> None:
    """Run a job to its end and compare it."""
    code, _, error = job.begin().wait()
    if code:
        _fail(count, error)
        return
    _look(job, count)
    differs = job.differs()
    count.different += bool(differs)
    count.notes += [f"different: {', '.join(differs)}"] if differs else []


def kills(whole: Job, name: str, wanted: int) -> list[Count]:
    """Kill jobs at random instants until it was so often; what came of it, by stage."""
    took, counts = lengths(whole.folder), {stage: Count(f"kill -9 in {stage}, {name}") for stage in STAGES}
    number = 0
    while sum(count.times for count in counts.values()) < wanted:
        draw = random.Random(f"{SEED} {name} {number}")
        with tempfile.TemporaryDirectory(prefix="kills-") as place:
            job = Job(whole.space, Path(place), whole.place, f"{NAME}{number}", whole.folder)
            for stage in CHAIN:
                left = 1 - len(job.known) / 25 if stage == "search" else 1.0
                kill_once(job, stage, draw.random() * (took[stage] * left + _TAIL * (stage == "export")), counts)
                if sum(count.times for count in counts.values()) >= wanted:
                    break
            finish(job, counts[_of(stage)])
        number += 1
        done = sum(count.times for count in counts.values())
        bad = sum(count.lost + count.unreadable + count.different for count in counts.values())
        print(f"{name}: {done} kills in {number} jobs, {bad} bad", flush=True)
    return list(counts.values())


# -- full disks --------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk() -> Iterator[Path | None]:
    """A disk of 128 MB; None where none may be mounted."""
    with tempfile.TemporaryDirectory(prefix="disk-") as place:
        command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", place]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        try:
            yield Path(place) if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", "-l", place], check=True)


def full_disks(whole: Job, wanted: int) -> Count:
    """Fill the disk at random events until it was so often; freed, the same command must go on."""
    events = sum(1 for _ in read_journal(whole.folder / "events.jsonl"))
    count, number = Count("disk full at a random event"), 0
    while count.times < wanted:
        draw = random.Random(f"{SEED} full {number}")
        with small_disk() as disk:
            if disk is None:
                count.notes.append("no small disk may be mounted here: not tried")
                return count
            job = Job(whole.space, disk / "results", whole.place, whole=whole.folder)
            left = events
            for _ in range(min(FULLS, wanted - count.times)):
                at = draw.randrange(1, max(2, left // 2))
                fault = Fault(f"#{at}", disk=disk, spare=draw.randrange(8192))
                code, _, error = job.begin(fault).wait()
                (disk / "filler").unlink(missing_ok=True)
                left -= at
                if code == 0:
                    break
                count.times += 1
                if code != 2 or "finished trials are kept" not in error or "Traceback" in error:
                    _fail(count, error)
                _look(job, count)
            finish(job, count)
        number += 1
        print(f"full disks: {count.times} in {number} jobs, {count.lost + count.unreadable + count.different} bad")
    return count


# -- the record --------------------------------------------------------------------------------


def row(count: Count) -> dict[str, Any]:
    """A count as the record has it."""
    found = {key: value for key, value in asdict(count).items() if key not in ("resume", "notes")}
    if count.resume:
        found |= {"resume_median": round(median(count.resume), 3), "resume_longest": round(max(count.resume), 3)}
    return found | ({"notes": count.notes} if count.notes else {})


def others(path: Path) -> list[dict[str, Any]]:
    """The counts of another harness; those of tests/fuzz/run.py are inputs and crashes by target."""
    content = json.loads(path.read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = content.get("counts", []) if isinstance(content, dict) else content
    if isinstance(content, dict) and not rows:
        for target, found in content.items():
            rows.append({"fault": f"strange input: {target}", "times": found["inputs"], "crashed": found["crashed"]})
    return rows


def bars(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Nothing is lost, unreadable or different, and a search that was killed has its next trial within 3 s."""
    found = {f"{kind}, all faults": bar(sum(each.get(kind, 0) for each in rows), 0, at_most=True) for kind in BAD}
    for each in rows:
        if "in search" in each["fault"] and "resume_median" in each:
            found[f"seconds to the next trial, {each['fault']}, median"] = bar(each["resume_median"], 3.0, at_most=True)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'fault':44}{'times':>9}" + "".join(f"{kind:>12}" for kind in BAD) + f"{'goes on after':>16}"]
    for each in rows:
        after = f"{each['resume_median']:.1f} s" if "resume_median" in each else ""
        bad = "".join(f"{each.get(kind, 0):12}" for kind in BAD)
        lines.append(f"{each['fault']:44}{each['times']:9,}{bad}{after:>16}")
    return "\n".join(lines)


def measured(options: argparse.Namespace) -> list[Count]:
    counts = []
    for name in options.storages:
        with tempfile.TemporaryDirectory(prefix="whole-") as folder, STORAGES[name]() as place:
            whole = Job(written(Path(folder)), Path(folder) / "whole", place)
            code, _, error = whole.begin().wait()
            if code:
                raise SystemExit(error)
            if options.kills:
                counts += kills(whole, name, options.kills)
            if options.full and name == "journal":
                counts.append(full_disks(whole, options.full))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="how often, a storage")
    parser.add_argument("--full", type=int, default=20, help="full disks")
    parser.add_argument("--storages", nargs="+", choices=list(STORAGES), default=["journal"])
    parser.add_argument("--quick", action="store_true", help="12 kills, 4 full disks")
    parser.add_argument("--with", dest="others", type=Path, action="append", default=[], help="counts of other faults")
    parser.add_argument("--out", type=Path, help="the record (JSON)")
    options = parser.parse_args()
    if options.quick:
        options.kills, options.full = 12, 4
    began = time.monotonic()
    rows = [row(count) for count in measured(options)] if options.kills or options.full else []
    rows += [each for path in options.others for each in others(path)]
    print(table(rows))
    found = {"counts": rows, "seconds": round(time.monotonic() - began, 1), "bars": bars(rows)}
    write_record("reliability", SEED, found, options.out)


if __name__ == "__main__":
    main()
