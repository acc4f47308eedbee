"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from autoprompt.report.page.charts import Chart, Point, Series, plot
from autoprompt.report.page.document import document
from autoprompt.report.page.markup import (
    block,
    count,
    details,
    duration,
    esc,
    figure,
    finite,
    note,
    score,
    section,
    share,
    signed,
    span,
    table,
)
from autoprompt.report.page.search import thinned
from autoprompt.report.page.story import Record, Story
from autoprompt.report.page.strips import difference, strips
from autoprompt.report.page.top import OUTCOMES
from autoprompt.report.page.verdict import tone_of

__all__ = ["compared"]

_MOST = 40


def compared(runs: Mapping[str, Iterable[Record]], together: Mapping[str, str] | None = None) -> str:
    """The page of several runs, each under the name that it has in `runs`.

    together: "verdict" and "sentence" of what they come to as the folds of one cross-validation, which are not compared
    with each other.
    """
    stories = {name: Story(events) for name, events in list(runs.items())[:_MOST]}
    sections = [_table(stories), _differences(stories), _curves(stories), _winners(stories), _settings(stories)]
    better = sum(s.verdict is not None and s.verdict["outcome"] == "improved" for s in stories.values())
    sentence = together["sentence"] if together else f"{better} of {len(stories)} runs found a better prompt."
    lines = _of_folds(stories) if together else _of_runs(stories)
    if len(runs) > len(stories):
        lines.append(f"{len(runs) - len(stories)} more runs were given, and are not shown.")
    judged = sum(s.verdict is not None for s in stories.values())
    good = together["verdict"] == "improved" if together else better > 0
    tone = "good" if good else "open" if judged < len(stories) else "same"
    kicker = f"{len(stories)} folds of a cross-validation" if together else f"{len(stories)} runs side by side"
    head = f'<p class="kicker">{kicker}</p><h1>{esc(sentence, 400)}</h1>'
    notes = "".join(note(line, "") for line in lines)
    title = f"{len(stories)} {'folds' if together else 'runs compared'}"
    return document(title, f'<header class="hero {tone}" id="top">{head}{notes}</header>', sections)


def _of_folds(stories: Mapping[str, Story]) -> list[str]:
    return [
        f"Each of the {len(stories)} folds has a winner and a locked test of its own: the mean says what the search is "
        "worth on such data."
    ]


def _of_runs(stories: Mapping[str, Story]) -> list[str]:
    judged = {name: s for name, s in stories.items() if s.verdict is not None}
    if len({(s.metric, s.maximize) for s in stories.values() if s.started}) > 1:
        return ["They have different metrics: their scores do not compare with each other."]
    if len({s.tests for s in stories.values() if s.tests is not None}) > 1:
        return ["Their locked tests are of different sizes: scores on different examples compare only roughly."]
    lines = []
    if judged:
        sign = next(iter(judged.values())).sign
        best = max(judged, key=lambda name: _tested(judged[name], sign))
        verdict = judged[best].verdict
        if verdict is not None:
            value = score(verdict["winner_test"])
            lines.append(f"The best on the locked test: <strong>{esc(best, 80)}</strong>, {value}.")
        lines.append("The best of many runs looks a little better than it is, like the best of many prompts.")
    return lines


def _tested(story: Story, sign: int) -> float:
    value = story.verdict["winner_test"] if story.verdict else None
    return sign * value if value is not None and finite(value) else float("-inf")


def _table(stories: Mapping[str, Story]) -> str:
    rows = [_row(name, story) for name, story in stories.items()]
    head = ("run", "your prompt", "winner", "difference", "verdict", "fine-tuned", "trials", "tokens", "time")
    return section(
        "runs", "Side by side", table(head, rows, "Scores on the locked test; without a verdict, on dev so far")
    )


def _row(name: str, story: Story) -> Sequence[str]:
    spent = (
        count(len(story.trials) + len(story.failed)),
        count(sum(s["tokens"] for s in story.stages.values())),
        duration(sum(s["seconds"] for s in story.stages.values())),
    )
    verdict = story.verdict
    if verdict is None:
        base, best = (t["value"] if t else None for t in (story.baseline, story.leader))
        gain = signed(best - base) if finite(base) and finite(best) else "–"
        return esc(name, 60), score(base), score(best), gain, "none yet", "–", *spent
    tone, word = OUTCOMES.get(verdict["outcome"], ("same", esc(verdict["outcome"], 40)))
    gain = f"{signed(story.gain)} <span class=quiet>({span(verdict['interval'])})</span>"
    return (
        esc(name, 60), score(verdict["baseline_test"]), score(verdict["winner_test"]), gain,
        f'<span class="badge {tone}">{word}</span>', score(verdict["tuned_test"]), *spent,
    )  # fmt: skip


def _groups(stories: Mapping[str, Story]) -> dict[tuple[str, bool], dict[str, Story]]:
    """The runs by their metric."""
    found: dict[tuple[str, bool], dict[str, Story]] = {}
    for name, story in stories.items():
        found.setdefault((story.metric, story.maximize), {})[name] = story
    return found


def _differences(stories: Mapping[str, Story]) -> str:
    parts = []
    for (metric, maximize), group in _groups(stories).items():
        rows = [
            difference(name, story.gain, ends, tone_of(story, *ends))
            for name, story in group.items()
            if story.gain is not None and story.verdict is not None and (ends := story.verdict["interval"])
        ]
        less = "" if maximize else ", less is better"
        said = f"Winner minus your prompt in {metric}, with 95 % intervals: " + "; ".join(
            f"{r.label} {r.note}" for r in rows
        )
        parts.append(figure(strips(said, f"winner − your prompt, {metric}{less}", rows)) if rows else "")
    return section("differences", "Winner minus your prompt", *parts)


def _curves(stories: Mapping[str, Story]) -> str:
    parts = []
    for (metric, _), group in _groups(stories).items():
        found = [(name, steps, story.evaluations) for name, story in group.items() if (steps := _best(story))]
        for start in range(0, len(found), 4):
            series = [
                Series(name, str(at), thinned([*steps, Point(end, steps[-1].y)]), "step")
                for at, (name, steps, end) in enumerate(found[start : start + 4])
            ]
            best = "; ".join(f"{s.name} {score(s.points[-1].y)}" for s in series)
            chart = Chart(
                f"The best so far in each search: {best}.",
                "evaluations (prompts × examples)",
                f"{metric} on dev",
                series,
                x_from_zero=True,
            )
            parts.append(f'<div class="chart">{plot(chart)}</div>')
    inner = f'<div class="charts">{"".join(parts)}</div>' if parts else ""
    return section("curves", "How the searches went", inner)


def _best(story: Story) -> list[Point]:
    """The best so far of all kinds."""
    found: list[Point] = []
    for spent, value, trial in sorted((s for line in story.curves.values() for s in line), key=lambda step: step[0]):
        if not found or story.better(value, found[-1].y):
            found.append(Point(spent, value, f"{trial['kind']} trial {trial['number']}: {score(value, 4)}"))
    return found


def _winners(stories: Mapping[str, Story]) -> str:
    parts = [
        details(
            f"{esc(name, 60)}: {esc(leader['kind'], 40)}, {score(leader['value'])} on dev", block(leader["text"], 6_000)
        )
        for name, story in stories.items()
        if (leader := story.leader) is not None
    ]
    return section("winners", "The winners", *parts)


def _settings(stories: Mapping[str, Story]) -> str:
    rows = []
    for name, story in stories.items():
        model, data = story.latest("ModelLoaded") or {}, story.latest("DataRead") or {}
        sizes = " / ".join(count(data.get(split)) for split in ("train", "dev", "test"))
        dropped = len(story.trials) - len(story.whole)
        rows.append(
            (
                esc(name, 60), esc(model.get("name", "–"), 60), esc(model.get("device", "–"), 20), sizes,
                esc(story.metric, 40), esc(story.started.get("seed", "–"), 20),
                share(dropped / len(story.trials) if story.trials else None), count(story.evaluations),
            )
        )  # fmt: skip
    head = ("run", "model", "device", "train / dev / test", "metric", "seed", "dropped early", "evaluations")
    return section("settings", "What was run", table(head, rows, "Settings"))
