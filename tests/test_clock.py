"""clock.py: a budget of seconds, an hour of the day, a signal."""

from __future__ import annotations

import math
import os
import signal
import threading
from datetime import datetime, timedelta

import pytest

from autoprompt import clock as clocks
from autoprompt.clock import Clock, never, parse_until, signals
from autoprompt.errors import ConfigError, Halted

NOW = datetime(2026, 11, 25, 22, 30)


class Time:
    """Both clocks of a machine, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.up, self.wall = 1000.0, NOW
        monkeypatch.setattr(clocks.time, "monotonic", lambda: self.up)
        monkeypatch.setattr(clocks, "datetime", self)

    def now(self) -> datetime:
        return self.wall

    def passes(self, seconds: float) -> None:
        self.up += seconds
        self.wall += timedelta(seconds=seconds)


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("07:00", datetime(2026, 11, 26, 7, 0)),
        ("23:05", datetime(2026, 11, 25, 23, 5)),
        ("22:30", datetime(2026, 11, 26, 22, 30)),
        (" 7:00 ", datetime(2026, 11, 26, 7, 0)),
        ("2026-11-27 01:30", datetime(2026, 11, 27, 1, 30)),
        ("2026-11-27T01:30:10", datetime(2026, 11, 27, 1, 30, 10)),
    ],
)
def test_an_end_is_a_time_of_day_or_a_date(text: str, expected: datetime) -> None:
    assert parse_until(text, NOW) == expected


@pytest.mark.parametrize("text", ["seven", "25:00", "07:60", "", "12", "2026-13-01 07:00"])
def test_another_end_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r'until is .*; give a time of day \("07:00"\), or a date with one'):
        parse_until(text, NOW)


def test_an_end_that_is_over_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"until is '2026-11-25 22:00', which is over; it is 2026-11-25 22:30 now"):
        parse_until("2026-11-25 22:00", NOW)


def test_what_earlier_processes_took_counts(moment: Time) -> None:
    clock = Clock(seconds=100, spent=60)
    assert clock.left == 40
    moment.passes(30)
    assert (clock.left, clock.gone, clock.total) == (10, 30, 40)


def test_without_a_limit_there_is_no_end(moment: Time) -> None:
    clock = Clock()
    moment.passes(1e9)
    assert clock.left == math.inf
    assert not clock.limited
    with clock.keeping(1e6, hard=True):
        assert clock.halt() == ""
        clock.check()


def test_a_wall_clock_that_is_set_back_prolongs_nothing(moment: Time) -> None:
    clock = Clock(until=NOW + timedelta(seconds=100))
    moment.passes(60)
    moment.wall -= timedelta(hours=1)
    assert clock.left == pytest.approx(40)


def test_the_hour_counts_where_the_machine_slept(moment: Time) -> None:
    clock = Clock(until=NOW + timedelta(seconds=100))
    moment.wall += timedelta(seconds=90)  # the monotonic clock stood still
    assert clock.left == pytest.approx(10)


def test_a_stage_leaves_what_is_kept_for_those_behind_it(moment: Time) -> None:
    clock = Clock(seconds=100)
    with clock.keeping(30, hard=True):
        moment.passes(69)
        assert clock.halt() == ""
        clock.check()
        moment.passes(1)
        assert clock.halt() == "what is left of the run's time is kept for what follows."
        with pytest.raises(Halted, match=r"kept for what follows\.$"):
            clock.check()
    assert clock.halt() == ""
    with clock.keeping(30):
        clock.check()  # what cannot be left in its middle goes on
        assert clock.halt()


def test_the_first_signal_asks_and_the_second_ends_also_where_a_library_swallows_it() -> None:
    clock, before = Clock(), signal.getsignal(signal.SIGTERM)
    with signals(clock):
        os.kill(os.getpid(), signal.SIGTERM)
        assert clock.halt() == "it was asked to stop (SIGTERM); once more stops at once."
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            clock.check()
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            clock.halt()
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with signals(Clock()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_never_never_comes() -> None:
    assert never() == ""
