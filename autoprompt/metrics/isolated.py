"""Metrics of the user's own, each in a process of its own: what hangs or dies there fails one call and not the run."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from autoprompt.errors import MetricError
from autoprompt.metrics.base import Metric, Outcome, an_example, judged
from autoprompt.metrics.process import Process
from autoprompt.metrics.returned import ARGUMENTS, Judged
from autoprompt.metrics.wire import Frame, frame, outcome_out, returned_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Isolated", "Worker", "readable"]

_START = 60.0  # seconds that a process may take at least to start and to load the user's file
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Isolated(Metric):
    """A metric whose `function` is a `Worker`, and its `stand_in` the same one, where the user's metric has one."""

    def judge(self, outcomes: Sequence[Outcome]) -> list[Judged]:
        """What each outcome's is; those that are not known yet are asked for in one go."""
        found: list[Judged] = self.function(outcomes)
        return found

    def _stood_in(self, outcome: Outcome) -> NDArray[np.float64]:
        [found] = self.function([outcome], proxy=True)
        return an_example(self.name, found)


class Worker:
    """A function of the user's, called in a process that stays up and is started again when it died.

    wanted: what the process is to load. place: how errors name where that is from. seconds: how
    long one call may take. What was returned for an outcome is known for as long as that lives.
    """

    def __init__(self, wanted: Mapping[str, Any], place: str, seconds: float) -> None:
        self._wanted, self._place, self._seconds = dict(wanted), place, seconds
        self._called = ""
        self._process: Process | None = None
        self._lock = threading.Lock()
        self._asks: tuple[str, ...] = ()
        self._known: dict[tuple[int, bool], tuple[weakref.ref[Outcome], Judged]] = {}

    def load(self) -> dict[str, Any]:
        """What the process says of what it loaded: "name", "maximize", "arguments", "proxy" (whether it has
        one) and "worst"; or "kind", where that is no metric,
        and the "names" of those that are there.

        Raises MetricError when it raised, took too long or died.
        """
        if self._process is not None:
            self._process.end()
        self._process = Process(self._place)
        [(said, _)] = self._process.ask([frame(self._wanted)], 1, max(_START, self._seconds))
        if "raised" in said:
            raise MetricError(f"{self._place} {_raised(said)}{self._process.printed()}")
        if not {"name", "maximize"} <= said.keys():
            return {"kind": readable(said.get("kind")), "names": [readable(name) for name in said.get("names", ())]}
        self._called = readable(said["name"])[:_LONGEST_NAME]
        self._process.called = f"The metric {self._called!r}"
        told, worst = said.get("arguments", ()), said.get("worst")
        self._asks = tuple(name for name in ARGUMENTS if name in told)
        return {
            "name": self._called,
            "maximize": said["maximize"] is True,
            "arguments": self._asks,
            "proxy": said.get("proxy") is True,
            "worst": float(worst) if isinstance(worst, int | float) else None,
        }

    def __call__(self, outcomes: Sequence[Outcome], proxy: bool = False) -> list[Judged]:
        """What the function, or its proxy, returned for each outcome, checked. Raises MetricError."""
        with self._lock:
            new = {id(o): o for o in outcomes if not self._knows(o, proxy)}
            for outcome, found in zip(new.values(), self._asked(list(new.values()), proxy), strict=True):
                self._remember(outcome, proxy, found)
            return [self._known[id(outcome), proxy][1] for outcome in outcomes]

    def close(self) -> None:
        """End the process; the next call starts another."""
        with self._lock:
            if self._process is not None:
                self._process.end()
                self._process = None

    def _knows(self, outcome: Outcome, proxy: bool) -> bool:
        known = self._known.get((id(outcome), proxy))
        return known is not None and known[0]() is outcome

    def _remember(self, outcome: Outcome, proxy: bool, found: Judged) -> None:
        found.values.flags.writeable = False
        known, place = self._known, (id(outcome), proxy)
        self._known[place] = (weakref.ref(outcome, lambda _: known.pop(place, None)), found)

    def _asked(self, outcomes: Sequence[Outcome], proxy: bool) -> list[Judged]:
        if not outcomes:
            return []
        most = max(1, max(len(outcome.targets) for outcome in outcomes))
        known = self._process
        process = self._running()
        try:
            answers = process.ask(self._frames(outcomes, proxy), len(outcomes), self._seconds, most)
        except MetricError:
            if process is not known or not process.died:
                raise
            # it may have been killed before it was asked: one that this kills too is to blame by itself
            self.load()
            process = self._running()
            answers = process.ask(self._frames(outcomes, proxy), len(outcomes), self._seconds, most)
        return [self._values(answer, len(o.targets), process) for answer, o in zip(answers, outcomes, strict=True)]

    def _frames(self, outcomes: Sequence[Outcome], proxy: bool) -> Iterator[bytes]:
        return (outcome_out(outcome, self._asks, proxy) for outcome in outcomes)

    def _running(self) -> Process:
        """The process, a new one where there is none or it died."""
        if self._process is None or not self._process.lives:
            self.load()
        return cast("Process", self._process)

    def _values(self, answer: Frame, size: int, process: Process) -> Judged:
        """What an answer says. Raises MetricError where it says that the function raised, or breaks the contract."""
        if "raised" in answer[0]:
            raise MetricError(f"The metric {self._called!r} {_raised(answer[0])}{process.printed()}")
        try:
            returned = returned_in(answer, size)
        except (KeyError, TypeError, ValueError):
            raise MetricError(f"The process of the metric {self._called!r} answered what cannot be read.") from None
        return judged(self._called, replace(returned, wrong=readable(returned.wrong)), size)


def readable(said: object) -> str:
    """A text that the user's process sent, without what would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(said))


def _raised(said: Mapping[str, Any]) -> str:
    line = f" (line {said['line']})" if isinstance(said.get("line"), int) and said["line"] > 0 else ""
    text = ": " + readable(said["text"]) if said.get("text") else ""
    return f"raised {readable(said['raised'])}{text}{line}."
