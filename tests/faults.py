"""Small real runs of the builtin model that meet faults: killed, out of disk, out of rights, out of time.

A run is a process of its own that does what the command line does. It is forked from a server that
has imported the libraries, because importing them takes longer than the whole job.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from autoprompt import events
from autoprompt.errors import ResultsError
from autoprompt.results import RunFolder, read_journal, repair_tail
from autoprompt.study.storages import open_storage

__all__ = ["Fault", "Run", "differing", "fill", "lock", "outcome_of", "stored_trials", "trials_of", "written"]

ROOT = Path(__file__).parents[1]
NAME = "tiny"
# what depends on the clock, on how often a run was begun, on what it remembered, and what it is called
COSTS = ("name", "seconds", "tokens", "test_openings", "git", "versions")
_TRIAL = (
    "kind", "branch", "operator", "parents", "fingerprint", "text", "value", "margin", "gain", "examples", "dropped",
)  # fmt: skip
_PRELOADED = ["autoprompt.cli", "autoprompt.run", "peft", "transformers.models.llama.modeling_llama"]

SPACE = """
name = "tiny"
seed = 5
doctor = false
explain = false
[model]
name = "builtin"
device = "cpu"
[data]
file = "tiny.jsonl"
label = "team"
shares = [0.2, 0.4, 0.4]
[prompt]
template = "{{ text }}\\nLabel: {{ label }}"
instruction = "Sort the message."
label_words = { billing = "billing", shipping = "shipping", account = "account" }
[space]
templates = ["Message: {{ text }}\\nTeam: {{ label }}", "Input: {{ text }}\\nOutput: {{ label }}"]
instructions = ["", "Which team should get the message?"]
[space.demonstrations]
most = 2
draws = 4
[space.soft]
vectors = [2]
dimensions = 4
[study]
trials = 25
batch = 4
slice = 10
startup = 4
generations = 2
steps = 4
finalists = 3
branches = ["discrete", "edits", "demonstrations", "tuning", "coordinates"]
[finetune]
method = "lora"
rank = 2
epochs = 3
learning_rate = 0.001
keep = "last"
compare = false
"""


def written(folder: Path, study: str = "") -> Path:
    """A space file and its data in `folder`: 99 short messages of three teams, 39 of them dev.

    study: more lines of [study].
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in (ROOT / "search_spaces" / "support.jsonl").read_text("utf-8").splitlines()]
    chosen = []
    for team in ("billing", "shipping", "account"):
        texts = [row for row in rows if row["team"] == team]
        chosen += sorted(texts, key=lambda row: (len(row["text"]), row["text"]))[:33]
    (folder / "tiny.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    path = folder / "tiny.toml"
    path.write_text(SPACE.replace("[study]\n", f"[study]\n{study}"), encoding="utf-8")
    return path


def trials_of(folder: Path) -> dict[int, tuple[Any, ...]]:
    """What each trial of a run's journal was and what it got, by number; a failed one has its reason."""
    found: dict[int, tuple[Any, ...]] = {}
    if (folder / "events.jsonl").exists():
        for event in read_journal(folder / "events.jsonl"):
            if event["event"] == "TrialFinished":
                found[event["number"]] = tuple(event[key] for key in _TRIAL)
            elif event["event"] == "TrialFailed":
                found[event["number"]] = (event["kind"], event["reason"])
    return dict(sorted(found.items()))


def outcome_of(folder: Path) -> dict[str, Any]:
    """result.json without what a run cost."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {key: value for key, value in result.items() if key not in COSTS}


def stored_trials(folder: Path, url: str | None = None) -> dict[int, tuple[str, Any]]:
    """State and score of each finished trial of a run's study, by number.

    url: the storage that other processes reach too; None reads a copy of the file in the run's folder, and not by
    what wrote it.
    """
    with tempfile.TemporaryDirectory() as place:
        storage: BaseStorage
        if url is not None:
            storage, name = open_storage(url).storage, folder.name
        else:
            path, name = Path(place) / "study.journal", "autoprompt"
            if not (folder / path.name).exists():
                return {}
            shutil.copy(folder / path.name, path)
            repair_tail(path)
            storage = JournalStorage(JournalFileBackend(str(path)))
        try:
            study = optuna.load_study(study_name=name, storage=storage)
        except KeyError:  # it is not begun
            return {}
        return {t.number: (t.state.name, t.user_attrs.get("score")) for t in study.trials if t.state.is_finished()}


@dataclass(frozen=True)
class Fault:
    """What happens to a run, and when.

    at: the event that brings it, by name, as `StageStarted=export` or `TrialFinished=9`, or as `#17`, the 17th that
    this process tells. disk: a folder on a
    small disk, of which at the event all but `spare` bytes are filled. limit: from the event on no file may grow
    more than so many bytes beyond the journal. plain: the modes of files hold for the process, as for
    users other than root. locked: at the event the run's folder becomes read-only. clock: seconds by which the wall clock jumps back at the event.
    kill: with -9. wait: until it is killed.
    """

    at: str = ""
    disk: Path | None = None
    spare: int = 0
    limit: int | None = None
    plain: bool = False
    locked: bool = False
    clock: float = 0.0
    kill: bool = False
    wait: bool = False

    def strike(self, folder: RunFolder) -> None:
        if self.disk is not None:
            fill(self.disk, self.spare)
        if self.limit is not None:
            most = folder.journal.stat().st_size + self.limit
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        if self.locked:
            lock(folder.path)
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        while self.wait:
            time.sleep(1)
        if self.clock:
            real, back = time.time, self.clock
            time.time = lambda: real() - back

    def meets(self, event: events.Event, number: int) -> bool:
        """Whether an event is the one; `=` compares its first field."""
        if self.at.startswith("#"):
            return self.at == f"#{number}"
        name, _, value = self.at.partition("=")
        first = list(event.record().values())[1:2]
        return type(event).__name__ == name and (not value or str(*first) == value)


def lock(folder: Path, write: bool = False) -> None:
    """Make a folder and all that lies in it read-only, or writable again."""
    for path in sorted([folder, *folder.rglob("*")]):
        path.chmod((0o755 if write else 0o555) if path.is_dir() else (0o644 if write else 0o444))


def fill(disk: Path, spare: int) -> None:
    """Fill a disk but for `spare` bytes."""
    with (disk / "filler").open("ab", buffering=0) as file:
        step = 1 << 20
        while step:
            try:
                file.write(bytes(step))
            except OSError:
                step //= 2
        file.truncate(max(0, file.tell() - spare))


def _obey_modes() -> None:
    """Let go of root's right to read and write everything (capabilities 1 and 2 of Linux)."""
    if os.geteuid() or not sys.platform.startswith("linux"):
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the low halves first
    library = ctypes.CDLL(None, use_errno=True)
    failed = library.capget(header, sets)
    sets[0] &= ~0b110
    if failed or library.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capabilities")


def _child(arguments: Sequence[str], cwd: Path, out: Path, fault: Fault | None) -> None:
    """What the process of a run does."""
    os.chdir(cwd)
    for number, suffix in ((1, ".out"), (2, ".err")):
        file = os.open(out.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
    from autoprompt.cli import main

    if fault is not None:
        if fault.plain:
            _obey_modes()
        tell, numbers = RunFolder.__call__, itertools.count(1)

        def told(folder: RunFolder, event: events.Event) -> None:
            tell(folder, event)
            if fault.at and fault.meets(event, next(numbers)):
                fault.strike(folder)

        RunFolder.__call__ = told  # type: ignore[method-assign,assignment]
    sys.exit(main(arguments))


class Run:
    """A run of a space file in a process of its own."""

    def __init__(
        self, space: Path, results: Path, fault: Fault | None = None, name: str = NAME, more: Sequence[str] = ()
    ) -> None:
        """more: options of the command."""
        self.folder = results / name
        self._out = space.parent / f"{name}.{time.monotonic_ns()}.log"
        arguments = ["run", str(space), "--results", str(results), "--name", name, *more]
        self._process: ForkServerProcess = _context().Process(
            target=_child, args=(arguments, space.parent, self._out, fault)
        )
        self.began = time.monotonic()
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def wait(self, seconds: float = 300) -> tuple[int, str, str]:
        """Exit code (minus the signal that killed it), output and errors."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self.kill()
            raise ResultsError(f"The run in {self.folder} is not done after {seconds} s.")
        out, error = (self._out.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".out", ".err"))
        return code, out, error

    def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        self._process.kill()
        self._process.join()

    def runs(self) -> bool:
        return self._process.is_alive()

    def events(self) -> list[dict[str, Any]]:
        """What the journal says now."""
        path = self.folder / "events.jsonl"
        return list(read_journal(path)) if path.exists() else []


def _context() -> multiprocessing.context.ForkServerContext:
    os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})  # the server has them from here
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")  # of the killed
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def differing(one: Mapping[Any, Any], other: Mapping[Any, Any], within: float = 0.0) -> list[Any]:
    """The keys at which two mappings differ, numbers by more than `within`."""
    return sorted(key for key in {*one, *other} if not _alike(one.get(key), other.get(key), within))


def _alike(one: Any, other: Any, within: float) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return not differing(one, other, within)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_alike(a, b, within) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= within
    return bool(one == other)
