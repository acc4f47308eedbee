"""Where a run's files lie, and the journal of its events. Owns every path.

    results/<name>/
        events.jsonl     the journal: one event a line, each written through to the disk
        manifest.json    what the run was started with: settings, data, model, versions
        study.journal    Optuna's study, with the prompts that the space cannot make again
        vectors/         soft prompts' vectors, by fingerprint
        stages/          the outcome of each finished stage
        winner/          the export: prompt, vectors, adapter, card
        result.json      the outcome
        report.md        the outcome to read
        test.jsonl       the test split, written when the verdict has opened it

A file is written as a temporary one, flushed to the disk and renamed, so that a reader, or a run
that was killed, never meets half of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from autoprompt.errors import ResultsError
from autoprompt.events import Event

try:
    import fcntl
except ImportError:  # Windows: the folder is not guarded against a second run
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunFolder", "differences", "read_journal", "repair_tail", "write_bytes", "write_json", "write_text"]


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a whole file of text, in UTF-8, or nothing of it."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, whole or not at all. NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def repair_tail(path: Path) -> None:
    """Cut off a last line that a killed writer left without its end, so that none is glued to it."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        keep = size
        while keep:
            step = min(keep, 4096)
            file.seek(keep - step)
            found = file.read(step).rfind(b"\n")
            if found >= 0:
                keep = keep - step + found + 1
                break
            keep -= step
        if keep < size:
            file.truncate(keep)
            file.flush()
            os.fsync(file.fileno())


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a journal in their order; a torn last line is passed over.

    Raises ResultsError when the file is missing or a line before the last is not JSON.
    """
    try:
        opened = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise ResultsError(f"There is no journal {path}. Is this the folder of a run?") from None
    except OSError as error:
        raise ResultsError(f"The journal {path} cannot be read ({error.strerror}).") from None
    with opened as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if not isinstance(event, dict) or "event" not in event:
                raise ResultsError(f"{path}, line {number} is not an event. Was the file edited?")
            yield event


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two nested mappings, as `key: old -> new`."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {_short(before)} -> {_short(after)}")
    return found


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


class RunFolder:
    """One run's folder, held by one process at a time; a context manager.

    Listens to events: calling it writes one to the journal, through to the disk.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.path = root / name
        self.name = name
        self._lock: int | None = None
        self._journal: int | None = None

    journal = property(lambda self: self.path / "events.jsonl")
    manifest = property(lambda self: self.path / "manifest.json")
    study = property(lambda self: self.path / "study.journal")
    vectors = property(lambda self: self.path / "vectors")
    winner = property(lambda self: self.path / "winner")
    tuning = property(lambda self: self.path / "tuning")
    result = property(lambda self: self.path / "result.json")
    report = property(lambda self: self.path / "report.md")
    test_rows = property(lambda self: self.path / "test.jsonl")
    scores = property(lambda self: self.path.parent / "scores.sqlite")  # the engine's memory, for all runs here

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ResultsError(
                f"The results folder {self.path} cannot be written ({error.strerror}). "
                'Give another one: --results FOLDER, or results = "..." in the space file.'
            ) from None
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._lock)
                raise ResultsError(
                    f"Another process is running in {self.path}. Wait for it, or give this run another --name."
                ) from None
        try:
            repair_tail(self.journal)
            self._journal = os.open(self.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            os.close(self._lock)
            raise ResultsError(f"The journal {self.journal} cannot be written ({error.strerror}).") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in (self._journal, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._journal = self._lock = None

    def __call__(self, event: Event) -> None:
        if self._journal is None:
            raise ResultsError(f"The run folder {self.path} is not open.")
        record = {"at": round(time.time(), 3), **event.record()}
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        while line:  # a nearly full disk takes a part
            line = line[os.write(self._journal, line) :]
        os.fsync(self._journal)

    def claim(self, manifest: Mapping[str, Any]) -> bool:
        """Make the folder this run's: True when it resumes a run that was started with the same.

        Raises ResultsError, with what differs, when the folder belongs to another run.
        """
        if not self.manifest.exists():
            write_json(self.manifest, manifest)
            return False
        old = self.read_json(self.manifest)
        if not isinstance(old, dict):
            raise ResultsError(f"{self.manifest} cannot be read back. Move the folder away and start again.")
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
            raise ResultsError(f"{path} cannot be read back ({error}). Move the folder away and start again.") from None

    def stage(self, name: str) -> Any | None:
        """The stored outcome of a finished stage, or None."""
        path = self.path / "stages" / f"{name}.json"
        return self.read_json(path) if path.exists() else None

    def finish_stage(self, name: str, outcome: object) -> None:
        """Store a stage's outcome; from now on a resumed run takes it from here."""
        if dataclasses.is_dataclass(outcome) and not isinstance(outcome, type):
            outcome = dataclasses.asdict(outcome)
        write_json(self.path / "stages" / f"{name}.json", outcome)

    def openings(self) -> int:
        """How many times the locked test split was opened in this folder."""
        with contextlib.suppress(ResultsError):
            return sum(event["event"] == "TestOpened" for event in read_journal(self.journal))
        return 0
