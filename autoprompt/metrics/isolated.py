"""Metrics of the user's own, each in a process of its own: what hangs or dies there fails one call and not the run."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from autoprompt.errors import MetricError
from autoprompt.metrics.base import Metric, Outcome, judged
from autoprompt.metrics.process import Process
from autoprompt.metrics.wire import Frame, frame, outcome_out, returned_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Isolated", "Worker", "readable"]

_START = 60.0  # seconds that a process may take at least to start and to load the user's file
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Isolated(Metric):
    """A metric whose `function` is a `Worker`."""

    def each(self, outcomes: Sequence[Outcome]) -> list[NDArray[np.float64]]:
        """The `values` of each outcome; those that are not known yet are asked for in one go."""
        found: list[NDArray[np.float64]] = self.function(outcomes)
        return found


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
        self._known: dict[int, tuple[weakref.ref[Outcome], NDArray[np.float64]]] = {}

    def load(self) -> dict[str, Any]:
        """What the process says of what it loaded: "name" and "maximize"; or "kind", where that is no metric,
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
        return {"name": self._called, "maximize": said["maximize"] is True}

    def __call__(self, outcomes: Sequence[Outcome]) -> list[NDArray[np.float64]]:
        """What the function returned for each outcome, checked, (N,) or (). Raises MetricError."""
        with self._lock:
            new = {id(o): o for o in outcomes if not (id(o) in self._known and self._known[id(o)][0]() is o)}
            for outcome, values in zip(new.values(), self._asked(list(new.values())), strict=True):
                self._remember(outcome, values)
            return [self._known[id(outcome)][1] for outcome in outcomes]

    def _remember(self, outcome: Outcome, values: NDArray[np.float64]) -> None:
        values.flags.writeable = False
        known, place = self._known, id(outcome)
        self._known[place] = (weakref.ref(outcome, lambda _: known.pop(place, None)), values)

    def _asked(self, outcomes: Sequence[Outcome]) -> list[NDArray[np.float64]]:
        if not outcomes:
            return []
        process = self._running()
        most = max(1, max(len(outcome.targets) for outcome in outcomes))
        answers = process.ask(map(outcome_out, outcomes), len(outcomes), self._seconds, most)
        return [self._values(answer, len(o.targets), process) for answer, o in zip(answers, outcomes, strict=True)]

    def _running(self) -> Process:
        """The process, a new one where there is none or it died."""
        if self._process is None or not self._process.lives:
            self.load()
        return cast("Process", self._process)

    def _values(self, answer: Frame, size: int, process: Process) -> NDArray[np.float64]:
        """An answer's numbers. Raises MetricError where it says that the function raised, or breaks the contract."""
        if "raised" in answer[0]:
            raise MetricError(f"The metric {self._called!r} {_raised(answer[0])}{process.printed()}")
        try:
            returned = returned_in(answer, size)
        except (KeyError, TypeError, ValueError):
            raise MetricError(f"The process of the metric {self._called!r} answered what cannot be read.") from None
        return judged(self._called, returned, size)


def readable(said: object) -> str:
    """A text that the user's process sent, without what would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(said))


def _raised(said: Mapping[str, Any]) -> str:
    line = f" (line {said['line']})" if isinstance(said.get("line"), int) and said["line"] > 0 else ""
    text = ": " + readable(said["text"]) if said.get("text") else ""
    return f"raised {readable(said['raised'])}{text}{line}."
