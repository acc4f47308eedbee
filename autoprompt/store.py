"""Bytes by key in a bounded file that processes share: SQLite in WAL mode, each value with a checksum.

What `write` has returned from survives kill -9. All that can go wrong with the file is sqlite3.Error,
OSError or one of the kinds in `TROUBLE`; `is_damage` tells a damaged file from one that cannot be used.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from zlib import crc32

try:
    import fcntl
except ImportError:  # Windows: two processes that set a damaged file aside at once are not guarded
    fcntl = None  # type: ignore[assignment]

__all__ = ["TROUBLE", "Store", "guarded", "identity", "is_damage", "set_aside"]

_SCHEMA = 0x5C0BE001  # the last three digits count the versions
_TABLES = (
    "CREATE TABLE scores (key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE state (rows INTEGER NOT NULL, clock INTEGER NOT NULL)",
    "INSERT INTO state VALUES (0, 0)",
    f"PRAGMA user_version = {_SCHEMA}",
)
TROUBLE = (sqlite3.Error, OSError, OverflowError, UnicodeDecodeError)  # the last two only from damaged files
_STATE = "SELECT CAST(total(rows) AS INTEGER), CAST(total(clock) AS INTEGER) FROM state"
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # the last: the tables are not ours
_PATIENCE = 5.0  # seconds to wait for another process's transaction
_CHUNK = 500  # keys a query


class Store:
    """The file. All but `close` may raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, path: Path, limit: int) -> None:
        self.identity = identity(path)
        self._connection = connection
        self._limit = limit
        self._broken: list[bytes] = []  # keys whose values do not match their checksum

    @classmethod
    def open(cls, path: Path, limit: int) -> Store | str:
        """The file, made where there is none; or what is wrong with it. Raises OSError, sqlite3.Error."""
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        connection.text_factory = bytes  # a damaged value may pass for a text, which need not be UTF-8
        try:
            version = _prepared(connection)
        except TROUBLE as error:
            connection.close()
            if not is_damage(error):
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


def is_damage(error: Exception) -> bool:
    """Whether an error means that the file is damaged, not that it cannot be used."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _DAMAGE or isinstance(error, OverflowError | UnicodeDecodeError)  # the low byte is the kind


def identity(path: Path) -> tuple[int, int] | None:
    """Tells a file from one that took its name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, in place of one that was before."""
    aside = path.with_name(path.name + ".old")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
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
