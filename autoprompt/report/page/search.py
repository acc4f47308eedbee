"""What the search did: learning curve, score against tokens, what mattered, the finalists."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from autoprompt.report.page.charts import Chart, Point, Series, plot
from autoprompt.report.page.importance import importance_section
from autoprompt.report.page.lineage import lineage_section
from autoprompt.report.page.markup import count, esc, figure, finite, note, score, section, share, signed, table
from autoprompt.report.page.story import KINDS, Record, Story

__all__ = ["TONES", "search_sections", "thinned"]

TONES = {"baseline": "1", "discrete": "0", "soft": "2"}
_DOTS = 500  # of one picture


def search_sections(story: Story) -> list[str]:
    """The sections on the search."""
    return [
        _curve(story),
        _front(story),
        importance_section(story),
        lineage_section(story),
        _finalists(story),
    ]


def thinned(points: Sequence[Point], most: int = _DOTS) -> list[Point]:
    """At most so many of them, evenly, with the first and the last."""
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(at * step)] for at in range(most)]


def _told(trial: Record) -> str:
    made = trial.get("operator") or trial.get("branch") or trial["kind"]
    return f"trial {trial['number']} ({made}): {score(trial['value'], 4)}"


def _curve(story: Story) -> str:
    curves = {kind: story.curves[kind] for kind in [*KINDS, *sorted(story.curves)] if kind in story.curves}
    if not curves:
        return ""
    end = story.evaluations
    series = []
    for kind, steps in curves.items():
        points = [Point(x, value, f"{_told(trial)} after {x:,} evaluations") for x, value, trial in steps]
        shown = thinned(points)
        last = Point(end, points[-1].y, f"best {kind}: {score(points[-1].y, 4)}")
        series.append(Series(kind, TONES.get(kind, "3"), [*shown, last], "step"))
    heights = [point.y for s in series for point in s.points]
    dots = [] if len(story.whole) < 2 else [_dots(story, heights)]
    best = ", ".join(f"{kind} {score(steps[-1][1])}" for kind, steps in curves.items())
    chart = Chart(
        f"The best so far by kind against evaluations. At the end: {best}.",
        "evaluations (prompts × examples)",
        f"{story.metric} on dev",
        [*dots, *series],
        heights,
        x_from_zero=True,
    )
    dropped = len(story.trials) - len(story.whole)
    full = len(story.trials) * max((t["examples"] for t in story.trials), default=0)
    saved = share(story.evaluations / full if full else None)
    said = (
        f"{count(len(story.trials))} prompts, {count(dropped)} of them dropped early; "
        f"{count(len(story.failed))} failed. {count(story.evaluations)} evaluations, {saved} of scoring every prompt "
        "on every example. A line steps where a prompt that saw all of dev was the best of its kind."
    )
    return section("curve", "How the search went", figure(plot(chart), note(said)))


def _dots(story: Story, heights: Sequence[float]) -> Series:
    """All prompts that saw all of dev, as far as they lie where the lines are."""
    spent, points = 0, []
    for trial in story.trials:
        spent += trial["examples"]
        if not trial.get("dropped") and finite(trial["value"]) and min(heights) <= trial["value"] <= max(heights):
            points.append(Point(spent, trial["value"], _told(trial)))
    return Series("each that saw all of dev", "faint", thinned(points))


def _measure(story: Story) -> tuple[str, str, Callable[[Record], float]]:
    """How long a prompt is: the name of that, what there is to say of it, and the length of a trial's prompt."""
    if any(t.get("size") for t in story.whole):
        return "rendered tokens of a call", "", lambda trial: float(trial.get("size") or math.nan)
    add = "With <code>tokens</code> among the <code>objectives</code> they are counted."
    short, winner = story.latest("PromptShortened"), story.winner
    if short and winner and winner["text"]:
        rate = short["tokens"][0] / len(winner["text"])
        said = f"Tokens are estimated by the prompts' lengths, from those of the winner. {add}"
        return "tokens of a call, estimated", said, lambda trial: len(trial["text"]) * rate
    return (
        "characters of the prompt",
        f"Tokens were not counted in this search. {add}",
        lambda trial: len(trial["text"]),
    )


def _front(story: Story) -> str:
    values = {c["number"]: c["value"] for c in story.confirmed}
    name, about, length_of = _measure(story)
    found = [
        (length, value, t)
        for t in story.whole
        if finite(length := length_of(t)) and finite(value := values.get(t["number"], t["value"]))
    ]
    if len(found) < 2:
        return ""
    front: list[tuple[float, float, Record]] = []
    for entry in sorted(found, key=lambda e: (e[0], -story.sign * e[1], e[2]["number"])):
        if not front or story.better(entry[1], front[-1][1]):
            front.append(entry)
    lengths = [length for length, *_ in found]
    chart = Chart(
        f"{story.metric} against length; {len(front)} prompts are on the front.",
        name,
        f"{story.metric} on dev",
        [Series("front", "front", [Point(x, y) for x, y, _ in front], "step", marks=False), *_clouds(found)],
        log=min(lengths) > 0 and max(lengths) > 20 * min(lengths),
    )
    rows = [(f"trial&nbsp;{count(t['number'])}", score(value), score(length, 0)) for length, value, t in front[-12:]]
    said = "To none of these is another prompt that saw all of dev both as good and shorter."
    beside = table(("on the front", "score", name.split()[0]), rows, "Prompts on the front")
    return section("front", "Score against tokens", figure(plot(chart), note(f"{said} {about}"), beside))


def _clouds(found: Sequence[tuple[float, float, Record]]) -> list[Series]:
    """Each prompt by its length and score, by kind."""
    kinds = [*KINDS, *sorted({str(t["kind"]) for *_, t in found} - set(KINDS))]
    clouds = {
        kind: [Point(x, y, f"{_told(t)}, length {x:.0f}") for x, y, t in found if t["kind"] == kind] for kind in kinds
    }
    return [Series(kind, TONES.get(kind, "3"), thinned(points)) for kind, points in clouds.items() if points]


def _finalists(story: Story) -> str:
    if not story.confirmed:
        return ""
    made = {t["number"]: t.get("branch") or t["kind"] for t in story.trials}
    rows = [
        (
            f"trial&nbsp;{count(c['number'])}",
            esc(made.get(c["number"], c["kind"]), 40),
            score(c["value"], 4),
            score(c.get("estimate"), 4),
            signed(c.get("evidence"), 1),
            "–" if c["kind"] == "baseline" else "yes" if c.get("certain") else "no",
        )
        for c in story.confirmed[:40]
    ]
    said = (
        "The estimate is the score shrunk toward the group's mean, as far as luck explains the differences. The "
        "evidence is the log wealth of a bet that the prompt is better than yours; beyond luck is what a search among "
        "equally good prompts would seldom show."
    )
    head = ("finalist", "from", "score", "estimate", "evidence", "beyond luck")
    return section("finalists", "The finalists on all of dev", table(head, rows, "Finalists"), note(said))
