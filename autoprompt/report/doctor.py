"""What the doctor found, and what a search had to beat, from their events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprompt.report.numbers import finite, number_of, score
from autoprompt.report.rows import brief, items, section, table

__all__ = ["doctor_sections"]

Record = Mapping[str, Any]
Seen = Mapping[str, list[Record]]

_LEVELS = ("problem", "warning")  # the worst first
_FINDINGS, _BASELINES = 40, 20


def doctor_sections(seen: Seen, maximize: bool) -> list[str]:
    """The sections on the doctor; an empty one is left out by the caller."""
    return [_findings(seen), _baselines(seen, maximize)]


def _findings(seen: Seen) -> str:
    found = list({(f["check"], f["message"]): f for f in seen.get("Finding", [])}.values())
    if not found:
        return ""
    bad = [f for level in _LEVELS for f in found if f["level"] == level]
    lines = [f"{f['level']} ({f['check']}): {f['message']}" for f in bad[:_FINDINGS]]
    if len(bad) > _FINDINGS:
        lines.append(f"… and {len(bad) - _FINDINGS} more in events.jsonl")
    fine = len(found) - len(bad)
    rest = (
        f"{number_of(fine, 'check')} more found nothing wrong." if bad else f"Nothing, in {number_of(fine, 'check')}."
    )
    return section("What the doctor found", items(lines), rest if fine else "")


def _baselines(seen: Seen, maximize: bool) -> str:
    found = list({b["name"]: b for b in seen.get("BaselineScored", [])}.values())
    if not found:
        return ""
    rows = [(b["name"], b["value"], brief(b.get("text", ""), 160)) for b in found[:_BASELINES]]
    own = [e for e in seen.get("TrialFinished", []) + seen.get("Confirmed", []) if e["kind"] == "baseline"]
    rows += [("your prompt", e["value"], "") for e in own[-1:]]
    rows += [("the winner", e["value"], "") for e in seen.get("WinnerChosen", [])[-1:]]
    rows.sort(key=lambda row: (-row[1] if maximize else row[1]) if finite(row[1]) else float("inf"))
    return section(
        "Baselines to beat",
        "Made without a search, and scored on dev, where the winner was chosen: its own score there is a little too "
        "good.",
        table(("baseline", "dev", ""), [(name, score(value, 4), text) for name, value, text in rows]),
    )
