"""What the locked test says beside the verdict, from its events: how sure, class by class, answers, flips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoprompt.report.numbers import count, finite, pvalue, score, share, signed, span
from autoprompt.report.rows import brief, items, section, table

__all__ = ["flips_section", "verdict_sections"]

Record = Mapping[str, Any]
Seen = Mapping[str, list[Record]]

_CLASSES, _FLIPS = 30, 10
_TEXT, _LABEL = 160, 60  # characters of an example and of a label
_TURNS = {"gained": "Gained", "lost": "Lost"}


def verdict_sections(seen: Seen) -> list[str]:
    """The sections on the verdict's details; an empty one is left out by the caller."""
    if "VerdictDetailed" not in seen:
        return []
    detail = seen["VerdictDetailed"][-1]
    return [_certainty(detail, seen), _classes(detail["classes"]), _answers(detail)]


def _certainty(detail: Record, seen: Seen) -> str:
    many = f"{count(seen['DataRead'][-1]['test'])} test examples" if seen.get("DataRead") else "the test examples"
    lines = [
        f"exact test of winner against your prompt: {pvalue(detail['p'])}, two-sided ({detail['test']})",
        f"the smallest difference that {many} can show: {score(detail['detectable'])}",
    ]
    if rival := detail["rival"]:
        lines.append(
            f"strongest baseline: {rival['name']}, {score(rival['value'], 4)}; the winner minus it: "
            f"{signed(rival['difference'])} ({span(rival['interval'])}, 95 % paired interval, {pvalue(rival['p'])})"
        )
    return section("How sure that is", items(lines))


def _classes(classes: Mapping[str, Record]) -> str:
    order = sorted(classes, key=lambda label: classes[label]["winner"] if finite(classes[label]["winner"]) else 2.0)
    rows = [
        (label, count(found["examples"]), share(found["baseline"]), share(found["winner"]), _points(found))
        for label, found in ((label, classes[label]) for label in order[:_CLASSES])
    ]
    more = f"… and {len(order) - _CLASSES} more classes in events.jsonl" if len(order) > _CLASSES else ""
    head = ("class", "examples", "right with your prompt", "with the winner", "points")
    return section("Class by class, the worst first", table(head, rows), more)


def _points(found: Record) -> str:
    before, after = found["baseline"], found["winner"]
    return signed(100 * (after - before), 0) if finite(before) and finite(after) else "–"


def _answers(detail: Record) -> str:
    ledger: Mapping[str, Any] = detail["ledger"]
    total = sum(number for name, number in ledger.items() if name != "truncated")  # those are among the others as well
    rows = [(name, count(number), share(number / total if total else None, 1)) for name, number in ledger.items()]
    errors = ", ".join(
        f"{'your prompt' if who == 'baseline' else who} {score(value)}" for who, value in detail["calibration"].items()
    )
    return section(
        "The winner's answers",
        table(("answer", "examples", "share"), rows),
        "Truncated inputs and answers are counted among the others as well." if ledger.get("truncated") else "",
        f"Expected calibration error (how far stated probabilities are from what is right): {errors}."
        if errors
        else "",
    )


def flips_section(seen: Seen) -> str:
    """The first examples gained and lost, one line each. Their texts are not inert in the event."""
    if "ExamplesFlipped" not in seen:
        return ""
    event = seen["ExamplesFlipped"][-1]
    parts = [
        f"Against your prompt the winner gains {count(event['gained'])} test examples and loses {count(event['lost'])}."
    ]
    for turn, title in _TURNS.items():
        found = [example for example in event["examples"] if example["turn"] == turn]
        if found:
            parts += [f"{title}, the most telling first:", items(map(_flip, found[:_FLIPS]))]
            parts += _more(found)
    return section("What changed its answer", *parts)


def _more(found: Sequence[Record]) -> list[str]:
    return [f"… and {len(found) - _FLIPS} more in events.jsonl"] if len(found) > _FLIPS else []


def _flip(example: Record) -> str:
    fields: Mapping[str, Any] = example["fields"]
    text = (
        "; ".join(f"{key}: {value}" for key, value in fields.items())
        if len(fields) > 1
        else next(iter(fields.values()), "")
    )
    label, before, after = (brief(example[key], _LABEL) for key in ("label", "before", "after"))
    return (
        f"example {brief(example['number'], _LABEL)} ({label}; before {before}, now {after}; P of the right label "
        f"{signed(example['shift'], 2)}): {brief(text, _TEXT)}"
    )
