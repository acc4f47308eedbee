"""When a run has to end: a budget of seconds, an hour of the day, a signal."""

from __future__ import annotations

import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import FrameType

from autoprompt.errors import ConfigError, Halted

__all__ = ["Clock", "Halt", "never", "parse_until", "signals"]

Halt = Callable[[], str]  # why what is under way should end now, or nothing


def never() -> str:
    """A halt that does not come."""
    return ""


def parse_until(text: str, now: datetime | None = None) -> datetime:
    """A time of day ("07:00": the next one), or a date with a time ("2026-11-26 07:00"), in local time.

    Raises ConfigError when it is neither, or lies in the past.

    >>> parse_until("07:00", datetime(2026, 11, 25, 22, 30))
    datetime.datetime(2026, 11, 26, 7, 0)
    """
    now = now or datetime.now()
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}", text.strip()):
            hour, minute = map(int, text.split(":"))
            found = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            return found if found > now else found + timedelta(days=1)
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        allowed = 'a time of day ("07:00"), or a date with one ("2026-11-26 07:00")'
        raise ConfigError("The budget", [f"until is {text[:40]!r}; give {allowed}."]) from None
    if found.tzinfo is not None:
        found = found.astimezone().replace(tzinfo=None)
    if found <= now:
        raise ConfigError("The budget", [f"until is {text[:40]!r}, which is over; it is {now:%Y-%m-%d %H:%M} now."])
    return found


class Clock:
    """What is left of a run's time, and whether it was asked to stop.

    seconds: the budget, None where there is none; spent: what earlier processes of the run took of it.
    until: an end by the wall clock. Seconds are counted by the monotonic clock, so a wall clock that is set
    back prolongs nothing; that of `until` counts where it says that there is less left.

    reserve: seconds that what follows the present stage will take; `halt` and `check` end a stage when no more
    than that is left.
    """

    def __init__(self, seconds: float | None = None, spent: float = 0.0, until: datetime | None = None) -> None:
        self.began = time.monotonic()
        self.until = until
        self.reserve = 0.0
        self.stopped = ""
        self.killed = ""  # the name of the signal that ends all at once
        budget = math.inf if seconds is None else seconds - spent
        wall = math.inf if until is None else (until - datetime.now()).total_seconds()
        self.total = min(budget, wall)  # seconds that this process had when it began
        self._hard = False

    @property
    def limited(self) -> bool:
        return math.isfinite(self.total)

    @property
    def gone(self) -> float:
        """Seconds since this process began."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds until the end; infinity where there is none."""
        left = self.total - self.gone
        if self.until is not None:
            left = min(left, (self.until - datetime.now()).total_seconds())
        return left

    def stop(self, reason: str) -> None:
        """Ask for the end at the next good moment."""
        self.stopped = self.stopped or reason

    def halt(self, need: float = 0.0) -> str:
        """Why the present stage should end now, or nothing. need: seconds that its next step takes, if it takes any."""
        self._die()
        return self.stopped or self._over(need)

    def check(self) -> None:
        """Raise Halted where the deadline does not let the present step of the search go on."""
        self._die()
        if self._hard and (reason := self._over()):
            raise Halted(reason)

    def kill(self, name: str) -> None:
        """Raise KeyboardInterrupt now, and again at the next look at the clock if a library swallows it."""
        self.killed = name
        self._die()

    def _die(self) -> None:
        if self.killed:
            raise KeyboardInterrupt(self.killed)

    def _over(self, need: float = 0.0) -> str:
        over = self.left <= self.reserve + need
        return "what is left of the run's time is kept for what follows." if over else ""

    @contextmanager
    def keeping(self, reserve: float, hard: bool = False) -> Iterator[None]:
        """While open, the stage has all of the time but `reserve` seconds; hard: `check` may raise in its middle."""
        self.reserve, self._hard = reserve, hard
        try:
            yield
        finally:
            self.reserve, self._hard = 0.0, False


@contextmanager
def signals(clock: Clock) -> Iterator[None]:
    """While open, the first SIGINT or SIGTERM asks the clock to stop, and the second ends the process's work at once.

    The second raises KeyboardInterrupt, whose text is the name of the signal. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def heard(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if clock.stopped:
            clock.kill(name)
        clock.stop(f"it was asked to stop ({name}); once more stops at once.")

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
