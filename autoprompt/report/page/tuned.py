"""Fine-tuning: the 2 x 2 of prompt and weights, the epochs, added examples, another task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoprompt.report.page.charts import Chart, Point, Series, plot
from autoprompt.report.page.markup import (
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
    span,
    table,
)
from autoprompt.report.page.story import Record, Story
from autoprompt.report.page.strips import difference, strips
from autoprompt.report.page.verdict import tone_of

__all__ = ["tuning_sections"]

_DIFFERENCES = {
    "prompt - base": "the winner, without fine-tuning",
    "tuning - base": "fine-tuning, from your prompt",
    "both - base": "both together",
    "both - prompt": "fine-tuning, on top of the winner",
    "both - tuning": "starting from the winner, not from your prompt",
}


def tuning_sections(story: Story) -> list[str]:
    """The section on fine-tuning, where there was any."""
    return [section("tuning", "Fine-tuning", _parts(story), _epochs(story), _added(story), _second(story))]


def _parts(story: Story) -> str:
    event = story.latest("PartsCompared")
    if event is None:
        return ""
    cells: Mapping[str, Any] = event["cells"]
    square = table(
        ("locked test", "as it was", "fine-tuned"),
        [
            ("your prompt", score(cells.get("base")), score(cells.get("tuning"))),
            ("the winner", score(cells.get("prompt")), score(cells.get("both"))),
        ],
        "Prompt and fine-tuning",
    )
    rows = [
        difference(name, ends[0], ends[1:], tone_of(story, *ends[1:]))
        for key, name in _DIFFERENCES.items()
        if (ends := event["differences"].get(key))
    ]
    said = "; ".join(f"{row.label} {row.note}" for row in rows)
    picture = strips(
        f"What each part was worth, with 95 % intervals: {said}.",
        f"difference in {story.metric} on the locked test",
        rows,
    )
    return note(esc(event["sentence"], 600), "lead") + figure(picture, square)


def _epochs(story: Story) -> str:
    runs: dict[str, dict[int, Record]] = {}
    for event in story.all("EpochFinished"):
        runs.setdefault(str(event.get("start", "winner")), {})[event["epoch"]] = event
    if not runs:
        return ""
    starts = list(runs.items())[:4]
    dev = [
        _line(f"from {start}", at, [(n, found[n]["dev"]) for n in sorted(found)], f"{story.metric} on dev")
        for at, (start, found) in enumerate(starts)
    ]
    loss = [
        _line(f"from {start}", at, [(n, found[n]["loss"]) for n in sorted(found)], "loss")
        for at, (start, found) in enumerate(starts)
    ]
    pictures = [
        plot(Chart(f"{name} by epoch of fine-tuning.", "epoch", name, series, whole_x=True))
        for name, series in ((f"{story.metric} on dev", dev), ("training loss", loss))
    ]
    rows = [
        (f"{count(n)}, from {esc(start, 40)}", score(found[n]["dev"], 4), score(found[n]["loss"], 4))
        for start, found in starts
        for n in sorted(found)[:100]
    ]
    charts = "".join(f'<div class="chart">{picture}</div>' for picture in pictures if picture)
    inner = table(("epoch", "dev", "training loss"), rows, "Epochs")
    return f'<h3>Epochs</h3><div class="charts">{charts}</div>{details("Epochs as a table", inner)}'


def _line(name: str, tone: int, values: Sequence[tuple[int, float | None]], what: str) -> Series:
    points = [Point(n, v, f"epoch {n}: {what} {score(v, 4)}") for n, v in values if v is not None and finite(v)]
    return Series(name, str(tone), points, "line")


def _added(story: Story) -> str:
    lines = []
    for event in {e["source"]: e for e in story.all("ExamplesAdded")}.values():
        counts: Mapping[str, Any] = event["counts"]
        refused = ", ".join(
            f"{count(n)} {esc(str(why).replace('_', ' '), 60)}" for why, n in counts["refused"].items() if n
        )
        if event["source"] == "unlabelled":
            what = f"{count(event['kept'])} of {count(counts['read'])} unlabelled texts, with the winner's labels"
            if counts["threshold"] is not None:
                right = share(counts["dev_accuracy"])
                what += f" of P ≥ {score(counts['threshold'])} ({right} of such labels are right on dev)"
        else:
            what = f"{count(event['kept'])} of {count(counts.get('asked'))} examples that the model was asked to write"
        lines.append(f"{what}." + (f" Left out: {refused}." if refused else ""))
    return "<h3>Examples added to training</h3>" + items(lines) if lines else ""


def _second(story: Story) -> str:
    event = story.latest("SecondTask")
    if event is None:
        return ""
    low, high = event["interval"]
    said = "lost" if high < 0 else "gained" if low > 0 else "is not certain to have lost or gained"
    return "<h3>The other task</h3>" + note(
        f"On the {count(event['examples'])} examples of {esc(event['file'], 120)} the accuracy was "
        f"{score(event['before'])} before fine-tuning and is {score(event['after'])} after it: the model {said} there "
        f"({span((low, high))}, 95 % paired interval).",
        "",
    )
