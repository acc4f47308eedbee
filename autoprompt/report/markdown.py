"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autoprompt.errors import ResultsError
from autoprompt.report.doctor import doctor_sections
from autoprompt.report.explained import explained_sections
from autoprompt.report.finetune import finetune_sections
from autoprompt.report.numbers import energy
from autoprompt.report.rows import brief
from autoprompt.report.search import search_sections
from autoprompt.report.verdict import flips_section, verdict_sections
from autoprompt.wording import fenced

__all__ = ["DAMAGED", "damaged", "write_report"]

Record = Mapping[str, Any]


# what an event that was edited, or is of another version, makes of the arithmetic here
DAMAGED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_LONGEST = 1_000  # characters of a sentence, a reason, a name
# besides "text", what is shortened or fenced by those who show it, and made inert there
_WHOLE = {"ExamplesFlipped": "examples", "GainExplained": "parts"}


def write_report(events: Iterable[Record]) -> str:
    """The report of a journal's events; of an unfinished run it tells what there is so far.

    No text of an event acts in it as Markdown. Raises ResultsError when an event lacks something, or holds
    what it cannot.
    """
    seen: dict[str, list[Record]] = {}
    stale = False
    for event in events:
        try:
            seen.setdefault(event["event"], []).append(_inert(event))
        except DAMAGED as error:
            raise ResultsError(damaged(error)) from None
        if event["event"] in {"RunStarted", "VerdictReached"}:
            stale = event["event"] == "RunStarted" and "VerdictReached" in seen
    try:
        return _written(seen, stale)
    except DAMAGED as error:
        raise ResultsError(damaged(error)) from None


def damaged(error: Exception) -> str:
    """What is said of a journal whose events make no sense."""
    return (
        f"The journal has an event that cannot be told ({type(error).__name__}: {str(error)[:200]}). "
        "Was it edited, or written by another version?"
    )


def _inert(event: Record) -> Record:
    """The event with every text made inert, but for what its sections make inert by themselves."""
    whole = {"text", _WHOLE.get(event["event"])}
    return {name: value if name in whole else _inert_value(value) for name, value in event.items()}


def _inert_value(value: Any) -> Any:
    if isinstance(value, str):
        return brief(value, _LONGEST)
    if isinstance(value, Mapping):
        return {brief(name, _LONGEST): _inert_value(inner) for name, inner in value.items()}
    return [_inert_value(inner) for inner in value] if isinstance(value, list | tuple) else value


def _written(seen: Mapping[str, list[Record]], stale: bool) -> str:
    if not seen:
        return "Nothing has happened here yet.\n"
    started = seen.get("RunStarted", [{"name": "?", "metric": "?", "seed": "?", "maximize": True}])[0]
    maximize = bool(started["maximize"])
    parts = [
        f"# {started['name']}",
        _verdict(seen, stale),
        _table(seen),
        *verdict_sections(seen),
        *search_sections(seen, maximize),
        _winner(seen),
        *explained_sections(seen, maximize),
        flips_section(seen),
        *doctor_sections(seen, maximize),
        *finetune_sections(seen),
        _failures(seen),
        _run(seen, started),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(seen: Mapping[str, list[Record]], stale: bool) -> str:
    openings = len(seen.get("TestOpened", []))
    times = "once" if openings == 1 else f"{openings} times (each time is an event in events.jsonl)"
    opened = f"\n\nThe locked test split was opened {times}." if openings else ""
    if "VerdictReached" not in seen:
        return "The run is not finished: there is no verdict yet." + opened
    newer = "\n\nThe run has gone on since this verdict: what follows may be newer than it." if stale else ""
    return f"**{seen['VerdictReached'][-1]['sentence']}**" + newer + opened


def _table(seen: Mapping[str, list[Record]]) -> str:
    if "VerdictReached" not in seen:
        return ""
    verdict = seen["VerdictReached"][-1]
    rows = [("your prompt", verdict["baseline_test"]), ("winner", verdict["winner_test"])]
    if verdict["tuned_test"] is not None:
        rows.append(("winner + fine-tuning", verdict["tuned_test"]))
    low, high = verdict["interval"]
    lines = ["| | locked test |", "| --- | --- |", *(f"| {name} | {value:.4f} |" for name, value in rows)]
    return "\n".join(lines) + f"\n\nWinner minus your prompt: {low:+.4f} to {high:+.4f} (95 % paired interval)."


def _winner(seen: Mapping[str, list[Record]]) -> str:
    if "WinnerChosen" not in seen:
        return ""
    winner = seen["WinnerChosen"][-1]
    return f"## The winner\n\nTrial {winner['number']}, {winner['kind']}.\n\n{fenced(winner['text'])}"


def _failures(seen: Mapping[str, list[Record]]) -> str:
    failed = list({t["number"]: t for t in seen.get("TrialFailed", [])}.values())
    if not failed:
        return ""
    lines = [f"- trial {t['number']} ({t['kind']}): {t['reason']}" for t in failed[:20]]
    more = [f"- … and {len(failed) - 20} more in events.jsonl"] if len(failed) > 20 else []
    title = "1 failed trial" if len(failed) == 1 else f"{len(failed)} failed trials"
    return f"## {title}\n\n" + "\n".join(lines + more)


def _run(seen: Mapping[str, list[Record]], started: Record) -> str:
    lines = [f"- metric {started['metric']}, seed {started['seed']}"]
    for event in seen.get("ModelLoaded", [])[-1:]:
        lines.append(
            f"- model {event['name']} ({event['family']}, {event['parameters'] / 1e6:.1f} M parameters, "
            f"{event['device']}, {event['dtype']})"
        )
    for event in seen.get("DataRead", [])[-1:]:
        lines.append(
            f"- {event['train']} training, {event['dev']} dev and {event['test']} test examples, "
            f"{len(event['labels'])} labels, {event['duplicates_removed']} duplicates removed"
        )
    lines += [f"- {e['stage']}: {_cost(e)}" for e in seen.get("StageFinished", [])]
    lines += [f"- {e['message']}" for e in seen.get("Notice", [])]
    return "## The run\n\n" + "\n".join(lines)


def _cost(stage: Record) -> str:
    power = "" if stage.get("kwh") is None else f", {energy(stage['kwh'])}"
    return f"{stage['seconds']:.0f} s, {stage['tokens']:,} tokens{power}"
