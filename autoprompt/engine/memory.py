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
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autoprompt.store import TROUBLE, Store, guarded, identity, is_damage, set_aside

if TYPE_CHECKING:
    from autoprompt.engine.request import Ids, Request

__all__ = ["ScoreMemory"]

_AT_HAND = 500_000  # the most scores kept in this process: some 130 MB with four labels
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
            except TROUBLE as error:
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
            except TROUBLE as error:
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
        except TROUBLE as error:
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
            except TROUBLE as error:
                self._lose(error)
        return len(self._front)

    def close(self) -> None:
        """Tell the file what was used, and let go of it."""
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(*TROUBLE):  # only the order of forgetting is lost
                store.touch(self._used)
            store.close()

    def __enter__(self) -> ScoreMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- when the file fails ---------------------------------------------------------------

    def _opened(self, path: Path, trouble: str = "") -> Store | None:
        """The file at `path`, a new one where that is in trouble; None, with a warning, where none can be had."""
        try:
            with guarded(path):
                opened: Store | str = trouble or Store.open(path, self.limit)
                if isinstance(opened, str):
                    self._replaced = True
                    aside = set_aside(path)
                    logging.getLogger("autoprompt").warning(
                        "The memory of scores %s %s; it is now %s, and a new one was begun.", path, opened, aside
                    )
                    opened = Store.open(path, self.limit)
        except TROUBLE as error:
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
        if not is_damage(error) or self._replaced:
            _done_without(path, str(error))
            return
        self._replaced = True
        trouble = f"is damaged ({error})" if store.identity == identity(path) else ""  # else another process did it
        self._store = self._opened(path, trouble)
        if values:
            self.put({key: np.frombuffer(value, _FLOATS) for key, value in values.items()})


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
