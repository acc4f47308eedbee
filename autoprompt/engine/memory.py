"""What the engine has answered before: a bounded file of scores that runs share.

A request is known by a digest of the model and of all its numbers, so an answer is never taken for
another's. The file is an SQLite database in WAL mode: what `put` has returned from survives
kill -9, and several processes may use it at once. It is only a memory: a file that is damaged is
set aside, one that cannot be used is done without, and neither is ever an error.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from autoprompt.engine.request import Ids, Request

try:
    import fcntl
except ImportError:  # Windows: two processes that set a damaged file aside at once are not guarded
    fcntl = None  # type: ignore[assignment]

__all__ = ["ScoreMemory"]

_SCHEMA = 0x5C0BE001  # the last three digits count the versions
_TABLES = (
    "CREATE TABLE scores (key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE state (rows INTEGER NOT NULL, clock INTEGER NOT NULL)",
    "INSERT INTO state VALUES (0, 0)",
    f"PRAGMA user_version = {_SCHEMA}",
)
_TROUBLE = (sqlite3.Error, OSError, OverflowError, UnicodeDecodeError)  # the last two only from damaged files
_STATE = "SELECT CAST(total(rows) AS INTEGER), CAST(total(clock) AS INTEGER) FROM state"
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # the last: the tables are not ours
_PATIENCE = 5.0  # seconds to wait for another process's transaction
_AT_HAND = 500_000  # the most scores kept in this process: some 130 MB with four labels
_CHUNK = 500  # keys a query
_NOTES = 100_000  # the most keys whose use the file is not told yet
_SIZE = 16  # bytes of a key
_FLOATS = np.dtype("<f8")


class ScoreMemory:
    """Label log-probabilities by request, in a file that runs share and in front of it in this process.

    path: the file; None keeps all in this process. model: names the weights and the dtype, and is
    part of every key. limit: the most rows of the file; beyond it the least recently used tenth
    goes. For one thread at a time. When the file cannot be used, one warning says why, and from
    then on scores are remembered in this process only.
    """

    def __init__(self, path: Path | None, model: str, limit: int = 2_000_000) -> None:
        self.path = None if path is None else Path(path).absolute()
        self.limit = limit
        name = model.encode()
        self._model = blake2b(struct.pack("<q", len(name)) + name, digest_size=_SIZE)
        self._vectors: tuple[str, tuple[int, ...], bytes] | None = None  # those last seen, and their digest
        self._vectors_digest = bytes(_SIZE)
        self._front: dict[bytes, bytes] = {}  # the least recently used first
        self._used: set[bytes] = set()  # what was read since the file was told
        self._replaced = False
        self._store = None if self.path is None else self._opened(self.path)

    def key(self, request: Request) -> bytes:
        """16 bytes that are equal for requests with equal answers, and else differ.

        The length of every part goes in too, so an id cannot move from one part to the next unseen.
        """
        context = request.context
        digest = self._model.copy()
        digest.update(
            _head(request.choices, request.tail) + self._of_vectors(request.vectors) + _packer(len(context))(*context)
        )
        return digest.digest()

    def _of_vectors(self, vectors: NDArray[np.float32] | None) -> bytes:
        if vectors is None:
            return bytes(_SIZE)
        seen = (vectors.dtype.str, vectors.shape, vectors.tobytes())
        if seen != self._vectors:  # most requests in a row have the same ones: comparing is faster than hashing
            self._vectors_digest = blake2b(repr(seen[:2]).encode() + seen[2], digest_size=_SIZE).digest()
            self._vectors = seen
        return self._vectors_digest

    def get(self, keys: Sequence[bytes]) -> list[NDArray[np.float64] | None]:
        """For each key its log-probabilities (C,), which cannot be written to, or None."""
        front = self._front
        missing = [key for key in dict.fromkeys(keys) if key not in front]
        if missing and self._store is not None:
            try:
                front.update(self._store.read(missing))
            except _TROUBLE as error:
                self._lose(error)
        found: list[NDArray[np.float64] | None] = []
        hits = []
        for key in keys:
            value = front.pop(key, None)
            if value is None:
                found.append(None)
            else:
                front[key] = value  # now the last to go
                found.append(np.frombuffer(value, _FLOATS))
                hits.append(key)
        self._trim()
        self._note(hits)
        return found

    def _note(self, keys: Sequence[bytes]) -> None:
        """Keep in mind that keys were used; a read costs no write, many reads cost one."""
        if self._store is None:
            return
        self._used.update(keys)
        if len(self._used) > _NOTES:
            try:
                self._store.touch(self._used)
                self._used.clear()
            except _TROUBLE as error:
                self._lose(error)

    def put(self, found: Mapping[bytes, NDArray[np.float64]]) -> None:
        """Remember log-probabilities (C,) by key, in one transaction; those that are not finite are left out."""
        values = {
            key: np.asarray(row, _FLOATS).tobytes()
            for key, row in found.items()
            if len(row) and all(map(math.isfinite, row.tolist()))
        }
        for key, value in values.items():
            self._front.pop(key, None)
            self._front[key] = value
        self._trim()
        if not values or self._store is None:
            return
        try:
            if self._store.write(values, self._used):
                self._used.clear()
        except _TROUBLE as error:
            self._lose(error, values)

    def _trim(self) -> None:
        most = min(self.limit, _AT_HAND)
        if len(self._front) > most:
            for key in list(islice(self._front, len(self._front) - most + most // 10)):
                del self._front[key]

    def __len__(self) -> int:
        """How many requests are known: rows of the file, or in this process where there is no file."""
        if self._store is not None:
            try:
                return self._store.state()[0]
            except _TROUBLE as error:
                self._lose(error)
        return len(self._front)

    def close(self) -> None:
        """Tell the file what was used, and let go of it."""
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(*_TROUBLE):  # only the order of forgetting is lost
                store.touch(self._used)
            store.close()

    def __enter__(self) -> ScoreMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- when the file fails ---------------------------------------------------------------

    def _opened(self, path: Path, trouble: str = "") -> _Store | None:
        """The file at `path`, a new one where that is in trouble; None, with a warning, where none can be had."""
        try:
            with _guarded(path):
                opened: _Store | str = trouble or _Store.open(path, self.limit)
                if isinstance(opened, str):
                    self._replaced = True
                    aside = _set_aside(path)
                    logging.getLogger("autoprompt").warning(
                        "The memory of scores %s %s; it is now %s, and a new one was begun.", path, opened, aside
                    )
                    opened = _Store.open(path, self.limit)
        except _TROUBLE as error:
            opened = str(error)
        if isinstance(opened, str):
            _done_without(path, opened)
            return None
        return opened

    def _lose(self, error: Exception, values: Mapping[bytes, bytes] | None = None) -> None:
        """Go on without the file, or, where it was damaged, once with a new one, which gets `values`."""
        path, store, self._store = self.path, self._store, None
        self._used.clear()
        if path is None or store is None:
            return
        store.close()
        if not _is_damage(error) or self._replaced:
            _done_without(path, str(error))
            return
        self._replaced = True
        trouble = f"is damaged ({error})" if store.identity == _identity(path) else ""  # else another process did it
        self._store = self._opened(path, trouble)
        if values:
            self.put({key: np.frombuffer(value, _FLOATS) for key, value in values.items()})


class _Store:
    """The file. All but `close` may raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, path: Path, limit: int) -> None:
        self.identity = _identity(path)
        self._connection = connection
        self._limit = limit
        self._broken: list[bytes] = []  # keys whose values do not match their checksum

    @classmethod
    def open(cls, path: Path, limit: int) -> _Store | str:
        """The file, made where there is none; or what is wrong with it. Raises OSError, sqlite3.Error."""
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        connection.text_factory = bytes  # a damaged value may pass for a text, which need not be UTF-8
        try:
            version = _prepared(connection)
        except _TROUBLE as error:
            connection.close()
            if not _is_damage(error):
                raise
            return f"is damaged ({error})"
        if version != _SCHEMA:
            connection.close()
            return "was written by another version"
        return cls(connection, path, limit)

    def state(self) -> tuple[int, int]:
        """How many rows there are, and the clock: the number of the last transaction."""
        rows, clock = self._connection.execute(_STATE).fetchone()
        return rows, clock

    def read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that are there."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _CHUNK):
            part = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(part))
            for key, sealed in self._connection.execute(f"SELECT key, value FROM scores WHERE key IN ({marks})", part):
                if isinstance(sealed, bytes) and _seal(key, sealed[:-4]) == sealed:
                    found[key] = sealed[:-4]
                else:
                    self._broken.append(key)
        return found

    def write(self, values: Mapping[bytes, bytes], used: Collection[bytes]) -> bool:
        """Add rows; beyond the limit note what was `used`, forget the rest's oldest, and return True.

        A row that is there stays as it is, so that all processes are told the same.
        """
        with self._connection as database:  # commits, or takes all back
            database.execute("BEGIN IMMEDIATE")
            rows, clock = self.state()
            broken, self._broken = self._broken, []
            for key in broken:
                rows -= database.execute("DELETE FROM scores WHERE key = ?", (key,)).rowcount
            new = [(key, _seal(key, value), clock + 1) for key, value in values.items()]
            rows += database.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?, ?)", new).rowcount
            full = rows > self._limit
            if full:
                self._touch(used, clock + 1)
                spare = rows - self._limit + self._limit // 10
                database.execute(
                    "DELETE FROM scores WHERE key IN (SELECT key FROM scores ORDER BY used LIMIT ?)", (spare,)
                )
                rows = _number(database, "SELECT count(*) FROM scores")
            database.execute("UPDATE state SET rows = ?, clock = ?", (rows, clock + 1))
        return full

    def touch(self, used: Collection[bytes]) -> None:
        """Note that rows were used."""
        if used:
            with self._connection as database:
                database.execute("BEGIN IMMEDIATE")
                clock = self.state()[1] + 1
                self._touch(used, clock)
                database.execute("UPDATE state SET clock = ?", (clock,))

    def _touch(self, used: Collection[bytes], clock: int) -> None:
        rows = ((clock, key) for key in sorted(used))  # sorted: neighbours lie on one page
        self._connection.executemany("UPDATE scores SET used = ? WHERE key = ?", rows)

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def _prepared(connection: sqlite3.Connection) -> int:
    """Set a connection up, make the tables in an empty file, and return the schema's version."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # in WAL mode a killed process loses nothing
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA cache_size = -16384")
    version = _number(connection, "PRAGMA user_version")
    if version == 0:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if _number(connection, "SELECT count(*) FROM sqlite_master") == 0:
                for statement in _TABLES:
                    connection.execute(statement)
        version = _number(connection, "PRAGMA user_version")
    return version


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _seal(key: bytes, value: bytes) -> bytes:
    """A value with a checksum behind it, as SQLite has none: a flipped bit would be another score."""
    return value + crc32(key + value).to_bytes(4, "little")


@lru_cache(4096)
def _head(choices: tuple[Ids, ...], tail: Ids) -> bytes:
    """The choices and the tail, with the length of each in front."""
    numbers = [len(choices), len(tail), *map(len, choices), *(token for ids in (*choices, tail) for token in ids)]
    return struct.pack(f"<{len(numbers)}i", *numbers)


@lru_cache(4096)
def _packer(count: int) -> Callable[..., bytes]:
    """Makes bytes of `count` ids: a third of the time that an array takes."""
    return struct.Struct(f"<{count}i").pack


def _done_without(path: Path, reason: str) -> None:
    logging.getLogger("autoprompt").warning(
        "The memory of scores %s cannot be used (%s); only this process remembers its scores.", path, reason
    )


def _is_damage(error: Exception) -> bool:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _DAMAGE or isinstance(error, OverflowError | UnicodeDecodeError)  # the low byte is the kind


def _identity(path: Path) -> tuple[int, int] | None:
    """Tells a file from one that took its name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, in place of one that was before."""
    aside = path.with_name(path.name + ".old")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Let one process at a time open the files of a folder, so that no two set the same one aside."""
    if fcntl is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
