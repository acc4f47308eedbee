"""Why the winner wins, from its events: its parts, the shortest that does as well, what shakes it, other models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprompt.report.numbers import count, finite, score, share, signed, span
from autoprompt.report.rows import brief, items, section, table
from autoprompt.wording import fenced

__all__ = ["explained_sections"]

Record = Mapping[str, Any]
Seen = Mapping[str, list[Record]]

_PARTS, _WORST, _MODELS, _PROMPTS = 40, 5, 30, 12
_NAME, _TEXT = 60, 100  # characters of a part's name and of its text


def explained_sections(seen: Seen, maximize: bool) -> list[str]:
    """The sections on the winner; an empty one is left out by the caller."""
    return [_why(seen), _shortest(seen), _robust(seen, maximize), _transfer(seen)]


def _why(seen: Seen) -> str:
    """The parts' texts are not inert in the event."""
    if "GainExplained" not in seen:
        return ""
    event = seen["GainExplained"][-1]
    parts = sorted(event["parts"], key=lambda part: -abs(part["value"]) if finite(part["value"]) else 0.0)
    rows = [
        (
            brief(p["part"], _NAME), signed(p["value"]), span((p["low"], p["high"])), share(p["share"]),
            signed(p["alone"]), signed(p["last"]), brief(p.get("text", ""), _TEXT),
        )
        for p in parts[:_PARTS]
    ]  # fmt: skip
    head = ("part", "earned", "95 % interval", "of the gain", "added alone", "lost when taken back", "text")
    return section(
        "Why it wins",
        event["sentence"],
        f"All parts together: {signed(event['total'])} on {count(event['examples'])} examples of {event['split']}. "
        "What a part earned is its Shapley value: its mean worth over all orders of adding the parts.",
        table(head, rows),
    )


def _shortest(seen: Seen) -> str:
    if "PromptShortened" not in seen:
        return ""
    event, title = seen["PromptShortened"][-1], "The shortest prompt that does as well"
    if not event["dropped"]:
        return section(title, event["sentence"])
    (long, short), (before, after) = event["tokens"], event["value"]
    rows = [
        ("winner", score(long, 0), score(before, 4)),
        ("shortest", score(short, 0), score(after, 4)),
        ("difference", signed(short - long, 0), f"{signed(after - before)} ({span(event['interval'])})"),
    ]
    return section(
        title,
        event["sentence"],
        table(("", "tokens of a call", "dev (95 % paired interval)"), rows),
        f"Left out: {', '.join(event['dropped'])}.",
        fenced(event["text"]),
    )


def _robust(seen: Seen, maximize: bool) -> str:
    if "RobustnessMeasured" not in seen:
        return ""
    event = seen["RobustnessMeasured"][-1]
    measured = [row for row in event["rows"] if finite(row["value"])]
    worst = sorted(measured, key=lambda row: row["value"] if maximize else -row["value"])[:_WORST]
    facts = [
        ("unchanged", event["value"]),
        ("mean over the changes", event["mean"]),
        ("worst", event["worst"]),
        ("worst of your prompt under the same", event["baseline_worst"]),
    ]
    changed = [
        (f"{row['kind']}: {row['change']}", score(row["value"], 4), signed(row["value"] - event["value"]))
        for row in worst
    ]
    return section(
        "Under changes that should not matter",
        event["sentence"],
        table(("the winner", "dev"), [(name, score(value, 4)) for name, value in facts]),
        f"The worst of {count(len(event['rows']))} changes:" if changed else "",
        table(("change", "dev", "difference"), changed),
    )


def _transfer(seen: Seen) -> str:
    if "PromptsTransferred" not in seen:
        return ""
    rows = seen["PromptsTransferred"][-1]["rows"][:_MODELS]
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))[:_PROMPTS]
    cells = [(row["model"], *(score(row["values"].get(name), 4) for name in names)) for row in rows]
    left = [
        f"{row['model']}: {name} is left out ({why})"
        for row in rows
        for name, why in (row.get("left_out") or {}).items()
    ]
    return section("On other models", table(("model", *names), cells), items(left[:_MODELS]))
