"""After the win: why it wins, the shortest prompt that does as well, what shakes it, and other models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoprompt.report.page.diff import beside
from autoprompt.report.page.markup import (
    block,
    count,
    details,
    esc,
    figure,
    finite,
    items,
    note,
    score,
    section,
    share,
    signed,
    span,
    table,
)
from autoprompt.report.page.story import Story
from autoprompt.report.page.strips import Row, strips

__all__ = ["reason_sections"]

_PARTS, _ROWS, _MODELS = 40, 120, 60
_SHADES = 6


def reason_sections(story: Story) -> list[str]:
    """The sections on the winner."""
    return [_why(story), _short(story), _robust(story), _transfer(story)]


def _why(story: Story) -> str:
    event = story.latest("GainExplained")
    if event is None:
        return ""
    parts = sorted(event["parts"], key=lambda p: -abs(p["value"]) if finite(p["value"]) else 0.0)[:_PARTS]
    rows = [
        Row(str(p["part"]), p["value"], p["low"], p["high"], signed(p["value"]), "good" if p["value"] > 0 else "bad")
        for p in parts
    ]
    on = f"on {count(event['examples'])} examples of {esc(event['split'], 40)}"
    picture = strips(
        f"What each part of the winner earned. {event['sentence']}", f"earned, in {story.metric}", rows, bars=True
    )
    said = (
        f"All parts together: {signed(event['total'])} {on}. A bar is a part's Shapley value, its mean worth over all "
        "orders of adding the parts; the line is its 95 % interval."
    )
    cells = [
        (esc(p["part"], 60), signed(p["value"]), share(p["share"]), signed(p["alone"]), signed(p["last"]))
        for p in parts
    ]
    head = ("part", "earned", "of the gain", "added alone", "lost when taken back")
    texts = "".join(details(esc(p["part"], 60), block(p["text"], 2_000)) for p in parts if p.get("text"))
    return section(
        "why", "Why it wins", note(esc(event["sentence"], 600), "lead"), figure(picture, note(said)),
        table(head, cells, "What each part earned"), details("The parts in full", texts),
    )  # fmt: skip


def _short(story: Story) -> str:
    event = story.latest("PromptShortened")
    if event is None:
        return ""
    name, title = "shortest", "The shortest prompt that does as well"
    sentence = note(esc(event["sentence"], 600), "lead")
    if not event["dropped"]:
        return section(name, title, sentence)
    (long, short), (before, after) = event["tokens"], event["value"]
    saved = share((long - short) / long if long else None)
    rows = [
        ("winner", score(long, 0), score(before)),
        ("shortest equivalent", score(short, 0), score(after)),
        (
            "difference",
            f"{signed(short - long, 0)} ({saved} saved)",
            f"{signed(after - before)}, {span(event['interval'])}",
        ),
    ]
    head = ("", "tokens of a call", "score on dev")
    dropped = ", ".join(esc(part, 60) for part in event["dropped"][:40])
    margin = f"Not worse than the winner by more than {score(event['margin'])} on dev, with 95 % confidence."
    text = beside(story.winner["text"], event["text"], ("Winner", "Shortest")) if story.winner else ""
    return section(
        name, title, sentence, table(head, rows, "The winner and its shortest equivalent"),
        note(f"Left out: {dropped}. {margin}"), details("The short prompt beside the winner", text),
    )  # fmt: skip


def _robust(story: Story) -> str:
    event = story.latest("RobustnessMeasured")
    if event is None:
        return ""
    found = list(event["rows"])[:_ROWS]
    worst = sorted(found, key=lambda r: story.sign * r["value"] if finite(r["value"]) else 0.0)
    tones = {id(row): "bad" for row in worst[:1]}
    rows = [
        Row(f"{r['kind']}: {r['change']}", r["value"], note=score(r["value"]), tone=tones.get(id(r), "0"))
        for r in worst[:12]
    ]
    picture = strips(
        f"The score under changes that should not matter, the worst first. Unchanged: {score(event['value'])}.",
        f"{story.metric} on dev; the line is the winner unchanged",
        rows,
        zero=event["value"],
    )
    base = event["baseline_worst"]
    facts = [
        ("unchanged", score(event["value"])), ("mean over the changes", score(event["mean"])),
        ("worst", score(event["worst"])), ("worst of your prompt, changed so", score(base)),
    ]  # fmt: skip
    cells = [
        (esc(r["kind"], 60), esc(r["change"], 200), score(r["value"]), signed(r["value"] - event["value"]))
        for r in found
    ]
    every = table(("kind", "change", "score", "difference"), cells, "All changes")
    return section(
        "robust", "Under changes that should not matter", note(esc(event["sentence"], 600), "lead"),
        figure(picture, table(("the winner", "score on dev"), facts, "Robustness")),
        details(f"All {len(found)} changes", every),
    )  # fmt: skip


def _transfer(story: Story) -> str:
    event = story.latest("PromptsTransferred")
    if event is None or not event["rows"]:
        return ""
    rows = list(event["rows"])[:_MODELS]
    names = list(dict.fromkeys(str(name) for row in rows for name in row["values"]))[:12]
    values = [v for row in rows for v in row["values"].values() if finite(v)]
    ends = (min(values), max(values)) if values else (0.0, 1.0)
    cells = [[esc(row["model"], 60), *(_shaded(row["values"], name, ends, story) for name in names)] for row in rows]
    said = "Scores on dev of each model with each prompt; the stronger the shade, the better."
    left = [
        f"{esc(row['model'], 60)}: {esc(name, 60)} is left out ({esc(reason, 200)})"
        for row in rows
        for name, reason in list(dict(row.get("left_out") or {}).items())[:12]
    ]
    head = ["model", *(esc(name, 40) for name in names)]
    return section(
        "transfer", "On other models", table(head, cells, "Transfer of the top prompts"),
        note(said), items(left[:40]),
    )  # fmt: skip


def _shaded(values: Mapping[str, Any], name: str, ends: Sequence[float], story: Story) -> str:
    value = values.get(name)
    if value is None or not finite(value):
        return "–"
    low, high = ends
    part = (value - low) / ((high - low) or 1.0)
    shade = round((part if story.maximize else 1 - part) * (_SHADES - 1))
    best = max((story.sign * v for v in values.values() if finite(v)), default=None)
    mark = " <span class=tag>best</span>" if story.sign * value == best and len(values) > 1 else ""
    return f'<span class="shade h{shade}">{score(value)}</span>{mark}'
