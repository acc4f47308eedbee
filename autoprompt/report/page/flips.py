"""The examples on which winner and user's prompt do not agree, with filter and search."""

from __future__ import annotations

from collections.abc import Mapping

from autoprompt.report.page.markup import count, esc, note, section, signed
from autoprompt.report.page.story import Record, Story

__all__ = ["flips_section"]

_MOST = 400  # examples on the page
_BYTES = 900_000  # of the page that they may take
_FIELD = 1_500  # characters of a field
_TURNS = {"gained": "gained", "lost": "lost", "other": "both wrong"}


def flips_section(story: Story) -> str:
    """The list. Without a script all of it is there, and the controls are not."""
    event = story.latest("ExamplesFlipped")
    if event is None:
        return ""
    shown, size = [], 0
    for example in event["examples"][:_MOST]:
        line = _flip(example)
        size += len(line.encode())
        if size > _BYTES:
            break
        shown.append((example, line))
    counts = {turn: sum(e["turn"] == turn for e, _ in shown) for turn in _TURNS}
    gained, lost = event["gained"], event["lost"]
    said = f"Against your prompt the winner gains {count(gained)} test examples and loses {count(lost)}."
    if not shown:
        return section("flips", "What changed its answer", note(said))
    said += " The most telling first."
    left = len(event["examples"]) - len(shown)
    more = note(f"{left} more are in events.jsonl.") if left else ""
    labels = sorted({str(e["label"]) for e, _ in shown})[:200]
    entries = "".join(line for _, line in shown)
    return section(
        "flips",
        "What changed its answer",
        note(said),
        _controls(counts, labels),
        f'<ol class="flips" id="flip-list">{entries}</ol>'
        '<button type="button" id="flip-more" hidden>show more</button>',
        more,
    )


def _controls(counts: Mapping[str, int], labels: list[str]) -> str:
    total = sum(counts.values())
    turns = [("", "all", total), *((turn, name, counts[turn]) for turn, name in _TURNS.items())]
    buttons = "".join(
        f'<button type="button" data-turn="{turn}" aria-pressed="{"false" if turn else "true"}">{name} {n}</button>'
        for turn, name, n in turns
        if n or not turn
    )
    options = "".join(f'<option value="{esc(label)}">{esc(label, 60)}</option>' for label in labels)
    return (
        '<div class="controls" id="flip-controls" role="group" aria-label="Filter the examples" hidden>'
        f'<div class="buttons">{buttons}</div>'
        f'<label>label <select id="flip-label"><option value="">every label</option>{options}</select></label>'
        '<label>search <input id="flip-search" type="search" autocomplete="off" spellcheck="false" '
        'placeholder="words in the example"></label>'
        '<p class="quiet" id="flip-count" role="status" aria-live="polite"></p></div>'
    )


def _flip(example: Record) -> str:
    turn = example["turn"] if example["turn"] in _TURNS else "other"
    fields = example["fields"]
    named = len(fields) > 1
    inputs = "".join(
        f'<div class="text" dir="auto">{f"<b>{esc(key, 60)}</b> " if named else ""}{esc(value, _FIELD)}</div>'
        for key, value in list(fields.items())[:20]
    )
    return (
        f'<li class="flip {turn}" data-turn="{turn}" data-label="{esc(example["label"])}">'
        f'<p><span class="turn">{_TURNS[turn]}</span> '
        f'<span class="quiet">example {esc(example["number"], 60)}</span></p>{inputs}'
        f'<p class="small">label: <b>{esc(example["label"], 80)}</b> · before: {esc(example["before"], 80)} → '
        f"after: {esc(example['after'], 80)} · probability of the right label {signed(example['shift'], 2)}</p></li>"
    )
