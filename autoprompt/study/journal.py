"""The journal file of a study: Optuna's own format, written so that neither a kill nor a full disk harms it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from autoprompt.errors import ResultsError
from autoprompt.results.files import mended, telling

try:
    import fcntl
except ImportError:  # Windows: several processes there need another storage
    fcntl = None  # type: ignore[assignment]

__all__ = ["Journal"]


class Journal(BaseJournalBackend):
    """A journal file that several processes of one machine may share.

    Each append holds a kernel lock on a file beside it, which is freed with the process that holds
    it: a killed one blocks nobody. Under the lock a torn last line is cut off first, and a line that
    the system refuses in the middle is taken back. shared: each line reaches the disk before its
    writer goes on; else `sync` brings them there: a process that is killed loses none of what it
    wrote, and what a machine loses that goes down, at most the batch that was not committed yet, is
    asked and scored again.

    Raises ResultsError when the file cannot be read or written, or holds a line that is no record.
    """

    def __init__(self, path: Path, shared: bool = False) -> None:
        self._path, self._shared = path, shared
        self._offset = self._read = 0  # what was read: bytes and records
        self._file = self._lock = -1
        with telling(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            with self._held():
                mended(self._file)

    def __del__(self) -> None:
        for file in (self._file, self._lock):
            if file >= 0:
                os.close(file)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        if fcntl is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The records from a number on: those behind what was read so far, or all."""
        if log_number_from != self._read:
            self._offset = self._read = 0
        if os.fstat(self._file).st_size <= self._offset:
            return
        with telling(self._path, "read"), self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):  # another process is writing it, or was killed
                    return
                self._offset += len(line)
                self._read += 1
                if self._read > log_number_from:
                    yield self._record(line)

    def _record(self, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or "op_code" not in record:
            raise ResultsError(
                f"{self._path}, line {self._read} is not a record of a study. Was the file edited, or is the disk "
                "broken? Put back a copy of it, or give the run another --name."
            )
        return record

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with telling(self._path), self._held():
            size = mended(self._file)
            try:
                while lines:  # a nearly full disk takes a part
                    lines = lines[os.write(self._file, lines) :]
            except BaseException:  # also Ctrl-C: half a line stays in no case
                with contextlib.suppress(OSError):  # what stays is cut off before the next line
                    os.ftruncate(self._file, size)
                raise
            if self._shared:
                os.fsync(self._file)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        with telling(self._path):
            os.fsync(self._file)
