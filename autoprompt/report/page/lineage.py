"""How the winner came about: a tree of the trials that it was made of, each with what changed in it."""

from __future__ import annotations

from autoprompt.report.page.diff import inside
from autoprompt.report.page.markup import count, details, esc, note, score, section, signed
from autoprompt.report.page.story import Record, Story

__all__ = ["lineage_section"]

_MOST, _DEPTH = 40, 5


def lineage_section(story: Story) -> str:
    """The tree from the winner down to prompts that were made of none."""
    leader = story.leader
    if leader is None or not story.by_number.get(leader["number"], {}).get("parents"):
        return ""
    told: set[int] = set()
    tree = _line(story, leader["number"], told, 0)
    left = len(story.lineage) - len(told)
    said = "The newest first; below it its first parent, further parents to the right. Open one to see what changed."
    more = note(f"{left} more ancestors are in events.jsonl.") if left > 0 else ""
    title = "How the winner came about" if story.winner else "How the best so far came about"
    return section("lineage", title, note(said), f'<ol class="tree">{tree}</ol>', more)


def _line(story: Story, number: int, told: set[int], depth: int) -> str:
    """A trial, its first parent, that one's first parent and so on; other parents in lines of their own."""
    line: list[Record] = []
    trial = story.by_number.get(number)
    while trial is not None and trial["number"] not in told and len(told) < _MOST:
        told.add(trial["number"])
        line.append(trial)
        first = next(iter(trial.get("parents", ())), None)
        trial = None if first is None else story.by_number.get(first)
    parts = [f"<li>{_node(story, one)}{_aside(story, one, told, depth)}</li>" for one in line]
    if trial is not None and trial["number"] in told:
        parts.append(f'<li class="quiet">and on from trial {count(trial["number"])}</li>')
    return "".join(parts)


def _aside(story: Story, trial: Record, told: set[int], depth: int) -> str:
    """The further parents of a trial, as far as they were not told yet."""
    others = dict.fromkeys(list(trial.get("parents", ()))[1:]) if depth < _DEPTH else {}
    lines = "".join(_line(story, n, told, depth + 1) for n in others if n in story.by_number and n not in told)
    return f'<ol class="tree">{lines}</ol>' if lines else ""


def _node(story: Story, trial: Record) -> str:
    parents = list(trial.get("parents", ()))
    made = esc(trial.get("operator") or trial.get("branch") or trial["kind"], 60)
    of = f" of {', '.join(f'trial {count(n)}' for n in parents[:6])}" if parents else ""
    few = f" on {count(trial['examples'])} examples" if trial.get("dropped") else ""
    gain = f", {signed(trial['gain'])} in margins" if trial.get("gain") else ""
    title = f"<strong>trial {count(trial['number'])}</strong>: {made}{of}; {score(trial['value'])}{few}{gain}"
    parent = next((story.by_number[n] for n in parents if n in story.by_number), story.baseline)
    if parent is None or parent is trial:
        return title
    if parent["text"] == trial["text"]:
        return f'{title} <span class="quiet">(the text of trial {count(parent["number"])})</span>'
    against = "your prompt" if parent is story.baseline else f"trial {count(parent['number'])}"
    return details(title, note(f"Against {against}:") + inside(parent["text"], trial["text"]))
