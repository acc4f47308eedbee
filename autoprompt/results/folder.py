"""One run's folder: its paths, its lock, its journal and its stages."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from autoprompt.errors import ResultsError
from autoprompt.events import Event
from autoprompt.results.files import append, mended, refused, telling, write_json
from autoprompt.results.journal import read_journal
from autoprompt.results.manifest import differences

try:
    import fcntl
except ImportError:  # Windows: the folder is not guarded against a second run
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunFolder", "is_held"]

_RESTART = "Move the folder away and start again."
_AGAIN = "Delete that file and run the same command again: it is made anew, all else is kept."
_PATIENCE = 0.2  # seconds to wait for a lock: who only looks at it has it for less


def is_held(path: Path) -> bool:
    """Whether a process holds a run's folder now."""
    return RunFolder(path.parent, path.name).holder() is not None


class RunFolder:
    """One run's folder, held by one process at a time; a context manager.

    Listens to events: calling it writes one to the journal, through to the disk.
    """

    def __init__(self, root: Path, name: str) -> None:
        if name in {"", ".", ".."} or Path(name).name != name:
            raise ResultsError(f"The name of a run is {name!r}; it must be the name of one folder.")
        self.path = root / name
        self.name = name
        self._lock: int | None = None
        self._journal: int | None = None
        self._began = 0.0

    _lock_file = property(lambda self: self.path / ".lock")
    journal = property(lambda self: self.path / "events.jsonl")
    manifest = property(lambda self: self.path / "manifest.json")
    study = property(lambda self: self.path / "study.journal")
    vectors = property(lambda self: self.path / "vectors")
    winner = property(lambda self: self.path / "winner")
    tuning = property(lambda self: self.path / "tuning")
    best = property(lambda self: self.path / "best")
    short = property(lambda self: self.path / "short")
    page = property(lambda self: self.path / "report.html")
    result = property(lambda self: self.path / "result.json")
    report = property(lambda self: self.path / "report.md")
    test_rows = property(lambda self: self.path / "test.jsonl")
    scores = property(lambda self: self.path.parent / "scores.sqlite")  # the engine's memory, for all runs here

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ResultsError(
                f"The results folder {self.path} cannot be written ({error.strerror}). "
                'Give another one: --results FOLDER, or results = "..." in the space file.'
            ) from None
        try:
            with telling(self._lock_file, "locked"):
                self._hold(lock)
            with telling(self.journal):
                self._journal = os.open(self.journal, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
                mended(self._journal)
            self._lock = lock
        finally:
            if self._lock is None:
                self._close(lock)
        self._sweep()
        self._began = time.monotonic()
        return self

    def _hold(self, lock: int) -> None:
        """Take the lock, and write into it who has it."""
        until = time.monotonic() + _PATIENCE
        while not _locked(lock, exclusive=True):
            if time.monotonic() > until:
                raise ResultsError(
                    f"Another process is running in {self.path} (process {self.holder() or 'unknown'}). "
                    "Wait for it, or give this run another --name."
                )
            time.sleep(0.01)
        with contextlib.suppress(OSError):  # on a full disk nobody knows who it is
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())

    def holder(self) -> int | None:
        """The process that holds the folder now, or None; 0 where its number is not known."""
        try:
            lock = os.open(self._lock_file, os.O_RDONLY)
        except OSError:
            return None
        try:
            if _locked(lock, exclusive=False):
                return None
            text = os.read(lock, 32).strip()
            return int(text) if text.isdigit() else 0
        except OSError:  # a file system without locks
            return None
        finally:
            os.close(lock)  # lets go of the lock

    def _sweep(self) -> None:
        """Remove what killed writers left; nobody else writes here now."""
        for folder in (self.path, self.path / "stages", self.vectors):
            for part in sorted(folder.glob("*.part")):
                with contextlib.suppress(OSError):
                    shutil.rmtree(part) if part.is_dir() else part.unlink()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(self._lock)
        told = refused(error, self.path, "read or written") if isinstance(error, Exception) else None
        if told is not None:
            raise ResultsError(told) from error

    def _close(self, lock: int | None) -> None:
        for descriptor in (self._journal, lock):
            if descriptor is not None:
                os.close(descriptor)
        self._journal = self._lock = None

    def __call__(self, event: Event) -> None:
        if self._journal is None:
            raise ResultsError(f"The run folder {self.path} is not open.")
        record = {"at": round(time.time(), 3), "up": self.up(), **event.record()}
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        with telling(self.journal):
            if os.fstat(self._journal).st_nlink == 0:
                raise ResultsError(
                    f"{self.journal} was removed while this run wrote it. Start it again; what lay there is lost."
                )
            append(self._journal, line)

    def up(self) -> float:
        """Seconds since this process opened the folder, by a clock that never goes back."""
        return round(time.monotonic() - self._began, 3)

    def claim(self, manifest: Mapping[str, Any]) -> bool:
        """Make the folder this run's: True when it resumes a run that was started with the same.

        Raises ResultsError, with what differs, when the folder belongs to another run.
        """
        if not self.manifest.exists():
            write_json(self.manifest, manifest)
            return False
        old = self.read_json(self.manifest)
        if not isinstance(old, dict):
            raise ResultsError(f"{self.manifest} cannot be read back. {_RESTART}")
        # what identifies a run; versions and revision may change between a run and its resumption
        keys = ("settings", "data", "model", "writer")
        changed = differences({k: old.get(k) for k in keys}, {k: json.loads(json.dumps(manifest.get(k))) for k in keys})
        if changed:
            shown = "\n".join(f"  - {line}" for line in changed[:12])
            raise ResultsError(
                f"{self.path} holds a run that was started with something else:\n{shown}\n"
                "Nothing was changed there. Give this run another --name, or move that folder away."
            )
        return True

    def read_json(self, path: Path) -> Any:
        """A JSON file of this folder. Raises ResultsError when it is damaged."""
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            remedy = _RESTART if path == self.manifest else _AGAIN
            raise ResultsError(f"{path} cannot be read back ({error}). {remedy}") from None

    def stage(self, name: str) -> Any | None:
        """The stored outcome of a finished stage, or None. Raises ResultsError when it is damaged."""
        path = self.path / "stages" / f"{name}.json"
        if not path.exists():
            return None
        stored = self.read_json(path)
        if not isinstance(stored, dict) or stored.get("check") != _check(stored.get("outcome")):
            raise ResultsError(f"{path} is not as it was written. {_AGAIN}")
        return stored["outcome"]

    def finish_stage(self, name: str, outcome: object) -> None:
        """Store a stage's outcome; from now on a resumed run takes it from here."""
        if dataclasses.is_dataclass(outcome) and not isinstance(outcome, type):
            outcome = dataclasses.asdict(outcome)
        write_json(self.path / "stages" / f"{name}.json", {"check": _check(outcome), "outcome": outcome})

    def reopen(self) -> None:
        """Set the outcome of a finished run aside, under `earlier/`, so that it can search on."""
        earlier = self.path / "earlier"
        earlier.mkdir(exist_ok=True)
        place = earlier / str(1 + len(list(earlier.iterdir())))
        place.mkdir()
        # a process that is killed between two leaves a finished run, or one whose stages are done again
        for path in (self.path / "stages", self.result, self.report, self.page, self.winner, self.tuning, self.short):
            if path.exists():
                path.replace(place / path.name)

    def openings(self) -> int:
        """How many times the locked test split was opened in this folder."""
        with contextlib.suppress(ResultsError):
            return sum(event["event"] == "TestOpened" for event in read_journal(self.journal))
        return 0


def _check(value: object) -> str:
    """A digest of a value as JSON has it: a flipped bit would be another verdict."""
    plain = json.loads(json.dumps(value))  # keys as they are read back, which decides their order
    return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=16).hexdigest()


def _locked(file: int, exclusive: bool) -> bool:
    """Take the lock of an open file, as far as the system has any; False while another has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
