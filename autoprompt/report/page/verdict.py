"""The evidence for the verdict: the two prompts, the intervals, simpler ways, classes and answers."""

from __future__ import annotations

from collections import Counter
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
    number_of,
    pvalue,
    score,
    section,
    share,
    signed,
    span,
    table,
)
from autoprompt.report.page.story import Record, Story
from autoprompt.report.page.strips import Band, Row, bar, difference, dumbbell, strips

__all__ = ["tone_of", "verdict_sections"]

_CLASSES, _MORE_CLASSES = 30, 400


def verdict_sections(story: Story) -> list[str]:
    """The sections on the verdict, in the order in which they are read."""
    return [_texts(story), _interval(story), _baselines(story), _classes(story), _answers(story)]


def _texts(story: Story) -> str:
    leader, base = story.leader, story.baseline
    if leader is None:
        return ""
    title = "The winner beside your prompt" if story.winner else "The best so far beside your prompt"
    about = f"Trial {count(leader['number'])}, {esc(leader['kind'], 40)}."
    if base is None:
        return section("prompts", title, note(about), block(leader["text"]))
    if leader["text"] == base["text"]:
        same = "Its text is your own." + (" What differs are its vectors." if leader["kind"] == "soft" else "")
        return section("prompts", title, note(f"{about} {same}"), block(base["text"]))
    name = "Winner" if story.winner else f"Trial {count(leader['number'])}"
    hint = f"{about} <del>Struck out</del>: only in yours. <ins>Underlined</ins>: only in the other."
    return section("prompts", title, note(hint), beside(base["text"], leader["text"], ("Your prompt", name)))


def tone_of(story: Story, low: float, high: float) -> str:
    """Whether an interval lies on one side of zero: "good", "bad", or neither."""
    if not (finite(low) and finite(high)):
        return "0"
    worst, best = sorted((story.sign * low, story.sign * high))
    return "good" if worst > 0 else "bad" if best < 0 else "0"


def _interval(story: Story) -> str:
    verdict, detail = story.verdict, story.detail
    if verdict is None or story.gain is None:
        return ""
    low, high = verdict["interval"]
    rows = [difference("winner − your prompt", story.gain, (low, high), tone_of(story, low, high))]
    rival: Mapping[str, Any] = detail["rival"] if detail else {}
    if rival:
        ends = rival["interval"]
        rows.append(difference(f"winner − {rival['name']}", rival["difference"], ends, tone_of(story, *ends)))
    if (tuned := story.difference("both - base")) is not None:
        rows.append(difference("fine-tuned winner − your prompt", tuned[0], tuned[1:], tone_of(story, *tuned[1:])))
    seen = abs(detail["detectable"]) if detail else None
    band = Band(-seen, seen, f"less than {score(seen)} cannot be shown") if seen is not None and finite(seen) else None
    less = "" if story.maximize else ", less is better"
    said = f"95 % intervals of differences on the locked test. Winner minus your prompt: {span((low, high))}."
    picture = strips(said, f"difference in {story.metric} on the locked test{less}", rows, band=band)
    lines = [f"Winner minus your prompt: <strong>{signed(story.gain)}</strong>, 95 % interval {span((low, high))}."]
    if detail:
        lines.append(f"Exact test ({esc(detail['test'], 60)}): {pvalue(detail['p'])}, two-sided.")
        many = f"{count(story.tests)} test examples" if story.tests is not None else "the test examples"
        lines.append(
            f"The smallest difference that {many} can show is {score(detail['detectable'])}: the shaded range."
        )
    if rival:
        lines.append(
            f"Strongest baseline: {esc(rival['name'], 80)}, {score(rival['value'])} on the test; the winner minus it: "
            f"{signed(rival['difference'])}, {pvalue(rival['p'])}."
        )
    return section("interval", "How sure that is", figure(picture, items(lines)), _also(detail), _openings(story))


def _also(detail: Record | None) -> str:
    """Other metrics of winner and user's prompt, which nothing was chosen by."""
    found: Mapping[str, Any] = (detail or {}).get("also") or {}
    rows = [
        (esc(name, 60), score(pair[0]), score(pair[1]), signed(pair[1] - pair[0]))
        for name, pair in list(found.items())[:20]
        if isinstance(pair, Sequence) and len(pair) == 2 and all(map(finite, pair))
    ]
    head = ("metric", "your prompt", "winner", "difference")
    return table(head, rows, "Other metrics on the locked test; nothing was chosen by them") if rows else ""


def _openings(story: Story) -> str:
    """Who read the locked test; twice for one reason is told aloud."""
    found = story.all("TestOpened")
    if not found:
        return ""
    times = Counter(event["reason"] for event in found)
    lines = ", ".join(
        f"{esc(reason, 120)}" + (f" ({n} times)" if n > 1 else "") for reason, n in list(times.items())[:20]
    )
    again = max(times.values()) > 1
    warn = (
        " <strong>It was opened again for the same purpose: its numbers are a little too good.</strong>"
        if again
        else ""
    )
    return note(
        f"The locked test was opened {number_of(len(found), 'time')}: {lines}.{warn}",
        "warn" if again else "quiet",
    )


def _baselines(story: Story) -> str:
    found = list({b["name"]: b for b in story.all("BaselineScored")}.values())
    if not found:
        return ""
    known = [Row(b["name"], b["value"], note=score(b["value"])) for b in found]
    values = {c["number"]: c["value"] for c in story.confirmed}
    if story.baseline:
        value = values.get(story.baseline["number"], story.baseline["value"])
        known.append(Row("your prompt", value, note=score(value), tone="1"))
    if story.leader:
        value = values.get(story.leader["number"], story.leader["value"])
        known.append(Row("winner" if story.winner else "best so far", value, note=score(value), tone="2"))
    known = [row for row in known if finite(row.value)]
    known.sort(key=lambda row: -story.sign * (row.value or 0.0))
    picture = strips("Baselines, your prompt and the winner on dev.", f"{story.metric} on dev", known, bars=True)
    texts = [details(esc(b["name"], 80), block(b["text"], 3_000)) for b in found[:12] if b.get("text")]
    said = (
        "What a search must beat, made without one. Dev is where the winner was chosen: its bar is a little too long."
    )
    return section("baselines", "Against simpler ways", figure(picture, note(said), *texts))


def _classes(story: Story) -> str:
    classes: Mapping[str, Record] = story.detail["classes"] if story.detail else {}
    if not classes:
        return ""
    order = sorted(classes, key=lambda label: classes[label]["winner"] if finite(classes[label]["winner"]) else 2.0)
    rows = [_class(label, classes[label], at == 0) for at, label in enumerate(order[:_MORE_CLASSES])]
    head = ("class", "your prompt", "winner", "points", "from → to", "examples")
    first = table(head, rows[:_CLASSES], "Share that is right, by class")
    more = details(f"{len(rows) - _CLASSES} more classes", table(head, rows[_CLASSES:], "More classes"))
    worst = classes[order[0]]
    said = (
        f"Worst class: <strong>{esc(order[0], 80)}</strong>, {share(worst['winner'])} right with the winner, "
        f"{share(worst['baseline'])} with your prompt. The worst stand first."
    )
    return section("classes", "Class by class", note(said, ""), first, more if len(rows) > _CLASSES else "")


def _class(label: str, found: Record, worst: bool) -> Sequence[str]:
    before, after = found["baseline"], found["winner"]
    change = after - before if finite(before) and finite(after) else None
    tone = "0" if not change else "good" if change > 0 else "bad"
    name = esc(label, 60) + (' <span class="tag">worst</span>' if worst else "")
    moved = signed(100 * change, 0) if change is not None else "–"
    return name, share(before), share(after), moved, dumbbell(before, after, tone), count(found["examples"])


def _answers(story: Story) -> str:
    if story.detail is None:
        return ""
    ledger: Mapping[str, Any] = story.detail["ledger"]
    total = sum(n for name, n in ledger.items() if name != "truncated")  # those are among the others as well
    tones = {"right": "good", "wrong": "bad"}
    rows = [
        (
            esc(name, 60),
            count(n),
            share(n / total if total else None, 1),
            bar(n / total if total else 0.0, tones.get(name, "1")),
        )
        for name, n in list(ledger.items())[:20]
    ]
    errors: Mapping[str, Any] = story.detail["calibration"]
    said = "Expected calibration error (how far stated probabilities are from what is right): " + ", ".join(
        f"{'your prompt' if who == 'baseline' else esc(who, 40)} {score(value)}"
        for who, value in list(errors.items())[:6]
    )
    return section(
        "answers",
        "The winner's answers",
        table(("answer", "examples", "share", ""), rows, "Ledger of answers on the locked test"),
        note("Truncated inputs and answers are counted among the others as well." if ledger.get("truncated") else ""),
        note(said + ".") if errors else "",
    )
