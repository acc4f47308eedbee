"""What a run's events say, gathered: the facts that the page is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from autoprompt.events import UNBOUNDED
from autoprompt.report.page.markup import finite

__all__ = ["KINDS", "Record", "Story"]

Record = Mapping[str, Any]

KINDS = ("baseline", "discrete", "soft")


class Story:
    """The events of one run, whatever there is of them.

    All is told by what a journal may lack as well: it may be of a run that goes on, that was resumed many times,
    or of a version that knew fewer events.
    """

    def __init__(self, events: Iterable[Record]) -> None:
        self.seen: dict[str, list[Record]] = {}
        self.stage, self.stale, self.final = "", False, False
        self.last: Record = {}
        for event in events:
            self.seen.setdefault(event["event"], []).append(event)
            self.last = event
            match event["event"]:
                case "RunStarted":
                    self.stale, self.final, self.stage = "VerdictReached" in self.seen, False, ""
                case "StageStarted":
                    self.stage = str(event["stage"])
                case "VerdictReached":
                    self.stale = False
                case "RunFinished":
                    self.final = True

    def all(self, name: str) -> list[Record]:
        """All events of a kind, in their order."""
        return self.seen.get(name, [])

    def latest(self, name: str) -> Record | None:
        """The last event of a kind."""
        found = self.seen.get(name)
        return found[-1] if found else None

    @cached_property
    def started(self) -> Record:
        return self.latest("RunStarted") or {}

    @property
    def name(self) -> str:
        return str(self.started.get("name", "a run"))

    @property
    def metric(self) -> str:
        return str(self.started.get("metric", "score"))

    @property
    def maximize(self) -> bool:
        return bool(self.started.get("maximize", True))

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.maximize else -1

    @property
    def asked(self) -> int | None:
        """The trials that were asked for; None where something else ends the search."""
        trials = self.started.get("trials", UNBOUNDED)
        return int(trials) if trials < UNBOUNDED else None

    @cached_property
    def trials(self) -> list[Record]:
        """Each once, in the order in which they were told first."""
        return list({t["number"]: t for t in self.all("TrialFinished")}.values())

    @cached_property
    def by_number(self) -> dict[int, Record]:
        return {t["number"]: t for t in self.trials}

    @cached_property
    def whole(self) -> list[Record]:
        """The trials that saw all of dev: scores of fewer examples do not compare."""
        return [t for t in self.trials if not t.get("dropped")]

    @cached_property
    def failed(self) -> list[Record]:
        return list({t["number"]: t for t in self.all("TrialFailed")}.values())

    @cached_property
    def findings(self) -> list[Record]:
        """What the doctor found, each once."""
        return list({(f["check"], f["message"]): f for f in self.all("Finding")}.values())

    @cached_property
    def confirmed(self) -> list[Record]:
        """The finalists, the best first."""
        return sorted({c["number"]: c for c in self.all("Confirmed")}.values(), key=self.rank)

    @cached_property
    def baseline(self) -> Record | None:
        """The trial of the user's own prompt."""
        return next((t for t in self.trials if t["kind"] == "baseline"), None)

    @cached_property
    def winner(self) -> Record | None:
        return self.latest("WinnerChosen")

    @cached_property
    def leader(self) -> Record | None:
        """The winner; before there is one, the best trial so far."""
        return self.winner or min(self.whole, key=self.rank, default=None)

    @cached_property
    def verdict(self) -> Record | None:
        return self.latest("VerdictReached")

    @cached_property
    def detail(self) -> Record | None:
        return self.latest("VerdictDetailed")

    @cached_property
    def kept(self) -> bool:
        """Whether the winner is the user's own prompt."""
        return self.winner is not None and self.winner["kind"] == "baseline"

    @property
    def tests(self) -> int | None:
        """Examples of the locked test."""
        data = self.latest("DataRead")
        return data["test"] if data else None

    def rank(self, score: Record) -> tuple[bool, float, float, int]:
        """The study's order: by the metric, ties by the margin, then the earlier trial; what is no number last."""
        value, margin = score["value"], score.get("margin", 0.0)
        return not finite(value), -self.sign * value if finite(value) else 0.0, -margin, score["number"]

    def better(self, value: float, than: float) -> bool:
        return self.sign * value > self.sign * than

    @cached_property
    def gain(self) -> float | None:
        """Winner minus the user's prompt on the locked test, in the metric's own direction."""
        if self.verdict is None:
            return None
        return float(self.verdict["winner_test"] - self.verdict["baseline_test"])

    @cached_property
    def evaluations(self) -> int:
        """Pairs of a prompt and an example that the search scored."""
        return sum(t["examples"] for t in self.trials)

    @cached_property
    def stages(self) -> dict[str, dict[str, float]]:
        """By stage its seconds, tokens, and kilowatt-hours where a device told them, over all processes."""
        found: dict[str, dict[str, float]] = {}
        for event in self.all("StageFinished"):
            sums = found.setdefault(str(event["stage"]), {"seconds": 0.0, "tokens": 0.0})
            for key in ("seconds", "tokens", "kwh"):
                if event.get(key) is not None:
                    sums[key] = sums.get(key, 0.0) + event[key]
        return found

    @cached_property
    def lineage(self) -> set[int]:
        """The numbers of the winner and all its ancestors."""
        leader = self.leader
        queue, met = [leader["number"]] if leader else [], set[int]()
        while queue:
            trial = self.by_number.get(queue.pop())
            if trial is not None and trial["number"] not in met:
                met.add(trial["number"])
                queue += trial.get("parents", ())
        return met

    @cached_property
    def branches(self) -> dict[str, list[Record]]:
        """The trials by the branch of the search that made them."""
        found: dict[str, list[Record]] = {}
        for trial in self.trials:
            if trial.get("branch"):
                found.setdefault(str(trial["branch"]), []).append(trial)
        return found

    @cached_property
    def curves(self) -> dict[str, list[tuple[int, float, Record]]]:
        """The best so far by kind, each time it improved: evaluations spent in all, value, trial."""
        found: dict[str, list[tuple[int, float, Record]]] = {}
        spent = 0
        for trial in self.trials:
            spent += trial["examples"]
            if trial.get("dropped") or not finite(trial["value"]):
                continue
            line = found.setdefault(str(trial["kind"]), [])
            if not line or self.better(trial["value"], line[-1][1]):
                line.append((spent, trial["value"], trial))
        return found

    def difference(self, name: str) -> Sequence[float] | None:
        """A difference of two cells of the 2 x 2 of prompt and fine-tuning: value, low, high."""
        compared = self.latest("PartsCompared")
        found: Sequence[float] | None = compared["differences"].get(name) if compared else None
        return found
