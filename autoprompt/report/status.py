"""Where a run stands, in a few lines, from its journal alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from autoprompt.errors import ResultsError
from autoprompt.events import UNBOUNDED
from autoprompt.report.markdown import DAMAGED, damaged
from autoprompt.wording import plain

__all__ = ["write_status"]

_BEST = {True: max, False: min}


def write_status(journal: Iterable[Mapping[str, Any]], running: bool) -> str:
    """A run in a few lines. running: whether a process holds its folder. Raises ResultsError as `write_report`.

    >>> started = {"event": "RunStarted", "at": 0.0, "up": 0.0, "name": "topics", "metric": "accuracy",
    ...            "maximize": True, "trials": 40}
    >>> print(write_status([started], running=False).splitlines()[0])
    topics: stopped in its beginning; the same command goes on
    """
    try:
        return _written(_seen(journal), running)
    except DAMAGED as error:
        raise ResultsError(damaged(error)) from None


def _written(seen: _Seen, running: bool) -> str:
    started = seen.started
    if not started:
        return "Nothing has happened here yet.\n"
    lines = [f"{plain(started['name'])}: {_state(seen, running)}"]
    of = f" of {started['trials']}" if started["trials"] < UNBOUNDED else ""
    lines.append(f"trials: {len(seen.trials)}{of}, {seen.dropped} dropped early, {seen.failed} failed")
    for kind, value in seen.best.items():
        lines.append(f"best {plain(kind)}: {plain(started['metric'])} {value:.4f} on dev")
    if seen.plan:
        stages = ", ".join(f"{stage} {value:.0f} s" for stage, value in seen.plan["seconds"].items())
        lines.append(f"planned: {stages}")
    if seen.last.get("event") != "RunFinished" and running and seen.plan:
        left = seen.plan["ends"] - (seen.last["up"] - seen.plan["up"])
        lines.append(f"left by the plan: about {max(0, left) / 60:.0f} min at the last event")
    lines.append(f"last event: {seen.last['event']}, {datetime.fromtimestamp(seen.last['at']):%Y-%m-%d %H:%M:%S}")
    lines += [plain(notice) for notice in seen.notices[-3:]]
    if seen.verdict:
        lines.append(plain(seen.verdict["sentence"]))
    return "\n".join(lines) + "\n"


class _Seen:
    """What a journal says, as far as a status needs it."""

    def __init__(self) -> None:
        self.started: Mapping[str, Any] = {}
        self.plan: Mapping[str, Any] = {}
        self.verdict: Mapping[str, Any] = {}
        self.last: Mapping[str, Any] = {}
        self.stage, self.dropped, self.failed = "", 0, 0
        self.trials: set[int] = set()
        self.best: dict[str, float] = {}
        self.notices: list[str] = []


def _seen(journal: Iterable[Mapping[str, Any]]) -> _Seen:
    seen = _Seen()
    for event in journal:
        seen.last = event
        match event["event"]:
            case "RunStarted":
                seen.started, seen.plan, seen.notices, seen.stage = event, {}, [], ""
            case "PlanMade":
                seen.plan = event
            case "StageStarted":
                seen.stage = event["stage"]
            case "TrialFinished":
                seen.trials.add(event["number"])
                seen.dropped += event["dropped"]
                if not event["dropped"]:
                    better = _BEST[seen.started.get("maximize", True)]
                    seen.best[event["kind"]] = better(event["value"], seen.best.get(event["kind"], event["value"]))
            case "TrialFailed":
                seen.trials.add(event["number"])
                seen.failed += 1
            case "Notice":
                seen.notices.append(f"note: {event['message']}")
            case "VerdictReached":
                seen.verdict = event
    return seen


def _state(seen: _Seen, running: bool) -> str:
    if seen.last["event"] in {"RunFinished", "Notice"} and seen.verdict:
        return "finished"
    stage = f"in the stage {seen.stage!r}" if seen.stage else "in its beginning"
    return f"running, {stage}" if running else f"stopped {stage}; the same command goes on"
