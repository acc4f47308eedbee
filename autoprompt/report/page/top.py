"""The top of the page: is it better, by how much, and what to do now."""

from __future__ import annotations

from autoprompt.report.page.markup import count, esc, items, score, signed, span
from autoprompt.report.page.story import Record, Story

__all__ = ["OUTCOMES", "hero"]

OUTCOMES = {
    "improved": ("good", "Better"),
    "no improvement": ("same", "No real improvement"),
    "worse": ("bad", "Worse"),
}


def hero(story: Story) -> str:
    """The verdict in one sentence, the numbers, and what to do now."""
    tone, word = _outcome(story)
    verdict = story.verdict
    sentence = esc(verdict["sentence"], 700) if verdict else _unfinished(story)
    numbers = _tested(story, verdict) if verdict else _so_far(story)
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd><dd class=small>{below}</dd></div>" for name, value, below in numbers
    )
    where = f"locked test, {esc(story.metric, 40)}" if verdict else f"dev so far, {esc(story.metric, 40)}"
    less = "" if story.maximize else " (less is better)"
    return (
        f'<header class="hero {tone}" id="top"><p class="kicker"><span class="badge">{word}</span> '
        f"{esc(story.name, 80)}</p><h1>{sentence}</h1>"
        f'<dl class="numbers" aria-label="{where}">{cells}</dl><p class="small">{where}{less}</p>'
        f"<h2>What to do now</h2>{items(_now(story), 'now')}</header>"
    )


def _outcome(story: Story) -> tuple[str, str]:
    if story.verdict is None:
        return "open", "No verdict yet"
    return OUTCOMES.get(story.verdict["outcome"], ("same", esc(story.verdict["outcome"], 40)))


def _unfinished(story: Story) -> str:
    if not story.last:
        return "Nothing has happened here yet."
    at = f"in the stage {esc(story.stage, 40)}" if story.stage else "in its beginning"
    return f"The run is not finished: it was {at} at its last event, and there is no verdict yet."


def _tested(story: Story, verdict: Record) -> list[tuple[str, str, str]]:
    base, won, tuned = verdict["baseline_test"], verdict["winner_test"], verdict["tuned_test"]
    found = [("your prompt", score(base), ""), ("winner", score(won), signed(won - base))]
    if tuned is not None:
        return [*found, ("winner, fine-tuned", score(tuned), signed(tuned - base))]
    return [*found, ("difference", signed(won - base), span(verdict["interval"]))]


def _so_far(story: Story) -> list[tuple[str, str, str]]:
    base = story.baseline["value"] if story.baseline else None
    best = story.leader["value"] if story.leader else None
    gain = signed(best - base) if base is not None and best is not None else ""
    of = f" of {count(story.asked)}" if story.asked else ""
    done = len(story.by_number.keys() | {t["number"] for t in story.failed})
    return [("your prompt", score(base), ""), ("best so far", score(best), gain), ("trials", count(done), of)]


def _now(story: Story) -> list[str]:
    """What to do, in sentences."""
    verdict = story.verdict
    if verdict is None:
        return ["Nothing: if the run has stopped, the same command goes on from its last finished trial."]
    outcome = verdict["outcome"]
    if outcome == "improved":
        found = [
            "<strong>Use the winner.</strong> It lies in the folder <code>winner</code> of this run: "
            "<code>autoprompt predict winner FILE</code>."
        ]
    elif outcome == "worse":
        found = [
            "<strong>Keep your prompt.</strong> What looked better in the search is worse on data that it never saw."
        ]
    else:
        found = ["<strong>Keep your prompt.</strong> Nothing here shows that another one is really better."]
    found += _weights(story, outcome == "improved")
    problems = sum(f["level"] == "problem" for f in story.findings)
    if problems:
        found.append(
            f'First look at <a href="#doctor">what the doctor found</a>: {problems} can make these numbers wrong.'
        )
    if story.stale:
        found.append("The run has gone on since this verdict: what follows may be newer than it.")
    return [*found, 'Then: <a href="#next">what to try next</a>.']


def _weights(story: Story, improved: bool) -> list[str]:
    """What to do with the fine-tuned weights."""
    added, both = story.difference("both - prompt"), story.difference("both - base")
    if not added or not both:
        return []
    if not improved:
        certain = min(story.sign * end for end in both[1:]) > 0
        gain = f"{signed(both[0])}, {span(both[1:])}"
        return (
            [f"Or use the winner with its fine-tuned weights: together they beat your prompt ({gain})."]
            if certain
            else []
        )
    worst, best = sorted(story.sign * end for end in added[1:])
    if worst > 0:
        return ["Use it with the fine-tuned weights: they certainly add to the prompt."]
    return ["Leave the fine-tuned weights: they are worse than the prompt alone."] if best < 0 else []
