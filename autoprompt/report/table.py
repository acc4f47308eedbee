"""Several runs side by side, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autoprompt.errors import ResultsError
from autoprompt.report.markdown import DAMAGED, damaged
from autoprompt.wording import inline

__all__ = ["write_table"]

Record = Mapping[str, Any]


def write_table(runs: Mapping[str, Iterable[Record]]) -> str:
    """One row a run, by the names that they have in `runs`. Raises ResultsError as `write_report` does."""
    head = "| run | verdict | your prompt | winner | winner + fine-tuning | 95 % interval | trials | seconds |"
    lines = [head, "| --- | --- | --: | --: | --: | --- | --: | --: |"]
    for name, events in runs.items():
        try:
            lines.append("| " + " | ".join([inline(name), *_cells(events)]) + " |")
        except DAMAGED as error:
            raise ResultsError(f"{name}: {damaged(error)}") from None
    return "\n".join(lines) + "\n"


def _cells(events: Iterable[Record]) -> list[str]:
    verdict, trials, seconds = None, set(), 0.0
    for event in events:
        match event["event"]:
            case "VerdictReached":
                verdict = event
            case "TrialFinished" | "TrialFailed":
                trials.add(event["number"])
            case "StageFinished":
                seconds += event["seconds"]
    counted = [f"{len(trials):,}", f"{seconds:.0f}"]
    if verdict is None:
        return ["not finished", "", "", "", "", *counted]
    low, high = verdict["interval"]
    tuned = "" if verdict["tuned_test"] is None else f"{verdict['tuned_test']:.4f}"
    scores = [f"{verdict['baseline_test']:.4f}", f"{verdict['winner_test']:.4f}", tuned]
    return [inline(verdict["outcome"]), *scores, f"{low:+.4f} to {high:+.4f}", *counted]
