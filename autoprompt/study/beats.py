"""Signs of life of the workers of a study.

Each worker writes a number that grows, and what batch it is on; the others see whether it has moved
within a grace period by their own clocks, so no clock is compared across machines.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from autoprompt.errors import AutopromptError
from autoprompt.study.sharing import Roll, Shared

__all__ = ["Beats"]

_GONE = -1  # the count of a worker that has left


class Beats:
    """Beats in a thread, and watches the others; a context manager.

    clock: seconds, monotonic.
    """

    def __init__(self, roll: Roll, shared: Shared, clock: Callable[[], float] = time.monotonic) -> None:
        self._roll, self._shared, self._clock = roll, shared, clock
        self._lock, self._leaving = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._batch: int | None = None
        self._count = 0
        self._seen: dict[int, tuple[int, int | None, float]] = {}  # by worker: count, batch, when it last moved
        self.halt = ""  # why the main process ended the search, as last seen

    def __enter__(self) -> Beats:
        if self._shared.worker == 0:
            self._roll.write("halt", "")
        self.look()
        self._count = max(self._seen.get(self._shared.worker, (0, None, 0.0))[0], 0)
        self._beat()
        self._thread = threading.Thread(target=self._run, name="beats", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        try:
            self._roll.write(self._key, [_GONE, None])
        except AutopromptError:
            return  # the others will see it by the beats that do not come

    @property
    def _key(self) -> str:
        return f"beat:{self._shared.worker}"

    def _run(self) -> None:
        while not self._leaving.wait(self._shared.beat):
            try:
                self._beat()
                self.look()
            except AutopromptError:
                continue  # the storage was away for long; the search itself will say so

    def _beat(self) -> None:
        with self._lock:
            self._count += 1
            self._roll.write(self._key, [self._count, self._batch])

    def busy(self, batch: int | None) -> None:
        """From now on this worker is on a batch."""
        if batch != self._batch:
            self._batch = batch
            self._beat()

    def look(self) -> None:
        """Read the others' beats, and whether the search is to end."""
        notes, now = self._roll.read(), self._clock()
        with self._lock:
            self.halt = str(notes.get("halt", ""))
            for key, value in notes.items():
                if key.startswith("beat:"):
                    self._saw(int(key[5:]), value, now)

    def _saw(self, worker: int, value: list[Any], now: float) -> None:
        count, batch = value
        before = self._seen.get(worker)
        moved = now if before is None or before[0] != count else before[2]
        self._seen[worker] = (count, batch, moved)

    def lives(self, worker: int) -> bool:
        """Whether a worker has given a sign of life lately; of one never heard of, the time begins now."""
        with self._lock:
            now = self._clock()
            count, _, moved = self._seen.setdefault(worker, (0, None, now))
            return count != _GONE and now - moved <= self._shared.grace

    def others_on(self, batch: int, owner: int | None = None) -> list[int]:
        """The live workers, but this one, that are on a batch: its owner, and who took it over."""
        with self._lock:
            on = {worker for worker, (_, at, _) in self._seen.items() if at == batch}
        on |= set() if owner is None else {owner}
        return sorted(worker for worker in on if worker != self._shared.worker and self.lives(worker))
