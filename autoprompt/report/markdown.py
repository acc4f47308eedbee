"""The report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["write_report"]

Record = Mapping[str, Any]


def write_report(events: Iterable[Record]) -> str:
    """The report of a journal's events; of an unfinished run it tells what there is so far."""
    seen: dict[str, list[Record]] = {}
    for event in events:
        seen.setdefault(event["event"], []).append(event)
    started = seen.get("RunStarted", [{"name": "?", "metric": "?", "seed": "?", "maximize": True}])[0]
    parts = [
        f"# {started['name']}",
        _verdict(seen),
        _table(seen),
        _best_of_each_kind(seen, bool(started["maximize"])),
        _winner(seen),
        _failures(seen),
        _run(seen, started),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(seen: Mapping[str, list[Record]]) -> str:
    openings = len(seen.get("TestOpened", []))
    times = "once" if openings == 1 else f"{openings} times (each time is an event in events.jsonl)"
    opened = f"\n\nThe locked test split was opened {times}." if openings else ""
    if "VerdictReached" not in seen:
        return "The run is not finished: there is no verdict yet." + opened
    return f"**{seen['VerdictReached'][-1]['sentence']}**" + opened


def _table(seen: Mapping[str, list[Record]]) -> str:
    if "VerdictReached" not in seen:
        return ""
    verdict = seen["VerdictReached"][-1]
    rows = [("your prompt", verdict["baseline_test"]), ("winner", verdict["winner_test"])]
    if verdict["tuned_test"] is not None:
        rows.append(("winner + fine-tuning", verdict["tuned_test"]))
    low, high = verdict["interval"]
    lines = ["| | locked test |", "| --- | --- |", *(f"| {name} | {value:.4f} |" for name, value in rows)]
    return (
        "\n".join(lines) + f"\n\nWinner minus your prompt: {low:+.4f} to {high:+.4f} (95 % paired bootstrap interval)."
    )


def _best_of_each_kind(seen: Mapping[str, list[Record]], maximize: bool) -> str:
    trials = _trials(seen)
    confirmed = {event["number"]: event for event in seen.get("Confirmed", [])}
    lines = [
        "## The best of each kind",
        "",
        "| kind | trials | best in the search | all of dev | trial |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind in ("baseline", "discrete", "soft"):
        found = [t for t in trials if t["kind"] == kind]
        if found:
            known = [t for t in found if t["number"] in confirmed]
            scores = confirmed if known else {t["number"]: t for t in found}
            best = min(known or found, key=lambda t: _rank(scores[t["number"]], maximize))
            on_dev = f"{confirmed[best['number']]['value']:.4f}" if known else "–"
            lines.append(f"| {kind} | {len(found)} | {best['value']:.4f} | {on_dev} | {best['number']} |")
    return "\n".join(lines) if trials else ""


def _rank(score: Record, maximize: bool) -> tuple[float, float, int]:
    """The study's order: by the metric, ties by the margin, then the earlier trial."""
    return (-1 if maximize else 1) * score["value"], -score["margin"], score["number"]


def _trials(seen: Mapping[str, list[Record]]) -> list[Record]:
    """Finished trials, each once: a trial told before a kill may be told of again."""
    return list({t["number"]: t for t in seen.get("TrialFinished", [])}.values())


def _winner(seen: Mapping[str, list[Record]]) -> str:
    if "WinnerChosen" not in seen:
        return ""
    winner = seen["WinnerChosen"][-1]
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", winner["text"])), default=0))
    return f"## The winner\n\nTrial {winner['number']}, {winner['kind']}.\n\n{fence}text\n{winner['text']}\n{fence}"


def _failures(seen: Mapping[str, list[Record]]) -> str:
    failed = list({t["number"]: t for t in seen.get("TrialFailed", [])}.values())
    if not failed:
        return ""
    lines = [f"- trial {t['number']} ({t['kind']}): {' '.join(str(t['reason']).split())}" for t in failed[:20]]
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
    lines += [f"- {e['stage']}: {e['seconds']:.0f} s, {e['tokens']:,} tokens" for e in seen.get("StageFinished", [])]
    lines += [f"- {e['message']}" for e in seen.get("Notice", [])]
    return "## The run\n\n" + "\n".join(lines)
