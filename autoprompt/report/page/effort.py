"""What to try next with the search and with fine-tuning: where the effort went, and whether it paid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from autoprompt.report.page.counsel import Advice, Rule
from autoprompt.report.page.markup import count, duration, esc, finite, share, signed, span
from autoprompt.report.page.story import Story

__all__ = ["EFFORT"]

_MUCH = 0.10  # share of the search that is worth a word
_END = 0.20  # what counts as the end of a search
_STALE = 0.50  # part of a search in which nothing got better


def _ended_early(story: Story) -> Iterator[Advice]:
    """A budget or a signal ended the search."""
    said = [str(e["message"]) for e in story.all("Notice") if str(e["message"]).startswith("The search ends after")]
    if not said:
        return
    still = (_last_gain(story) or 0.0) >= 1 - _END
    what = "Give it more time: <code>--extend --hours N</code> searches on from here"
    yield Advice(
        80 if still else 45, f"{what}{', and it was still getting better' if still else ''}.", esc(said[-1], 300)
    )


def _last_gain(story: Story) -> float | None:
    """At which part of the search the best of all kinds improved last."""
    best = list[tuple[int, float]]()
    for spent, value, _ in sorted((step for line in story.curves.values() for step in line), key=lambda step: step[0]):
        if not best or story.better(value, best[-1][1]):
            best.append((spent, value))
    return best[-1][0] / story.evaluations if len(best) > 1 and story.evaluations else None


def _rising(story: Story) -> Iterator[Advice]:
    """Where the learning curve stood at its end."""
    if story.winner is None or any(str(e["message"]).startswith("The search ends after") for e in story.all("Notice")):
        return
    at = _last_gain(story)
    if at is None:
        return
    if at >= 1 - _END:
        yield Advice(
            63,
            "Search on with <code>--extend</code>: it was still getting better.",
            f"The best prompt came at {share(at)} of the search.",
        )
    elif at <= 1 - _STALE and len(story.trials) >= 50:
        why = f"The best prompt came at {share(at)} of the search, and none after it was better."
        yield Advice(35, "More of the same pays little: widen the space before you search longer.", why)


def _dropped(story: Story) -> Iterator[Advice]:
    others = [t for t in story.trials if t["kind"] != "baseline"]
    whole = [t for t in others if not t.get("dropped")]
    outcome = story.verdict["outcome"] if story.verdict else ""
    if len(others) >= 20 and len(whole) < max(3, 0.05 * len(others)) and outcome != "improved":
        early = len(others) - len(whole)
        why = f"{count(early)} of {count(len(others))} were dropped early; {count(len(whole))} saw all of dev."
        yield Advice(52, "Let more prompts run to the end: raise <code>share</code> in <code>[study]</code>.", why)


def _idle_branches(story: Story) -> Iterator[Advice]:
    """Branches that took much and from which neither a finalist nor an ancestor of the winner came."""
    if story.winner is None or story.baseline is None or len(story.branches) < 3:
        return
    finalists = {c["number"] for c in story.confirmed}
    bar = story.baseline["value"]
    idle: list[tuple[str, float]] = []
    for branch, found in story.branches.items():
        useful = any(
            t["number"] in story.lineage or t["number"] in finalists
            or (not t.get("dropped") and finite(t["value"]) and story.better(t["value"], bar))
            for t in found
        )  # fmt: skip
        part = sum(t["examples"] for t in found) / (story.evaluations or 1)
        if branch != "baseline" and not useful and part >= _MUCH:
            idle.append((branch, part))
    if idle:
        names = ", ".join(f"{esc(branch, 40)} ({share(part)})" for branch, part in idle[:5])
        why = (
            f"They took that part of the evaluations, and no prompt of theirs that saw all of dev beat yours: {names}."
        )
        yield Advice(48, "Leave out branches that earned nothing: name the others in <code>branches</code>.", why)


def _strong_branches(story: Story) -> Iterator[Advice]:
    """A branch that made the winner with little."""
    if story.winner is None or story.kept:
        return
    made = story.by_number.get(story.winner["number"], {}).get("branch")
    found = story.branches.get(str(made), [])
    part = sum(t["examples"] for t in found) / (story.evaluations or 1)
    if made and len(story.branches) >= 3 and part <= _MUCH:
        why = f"It made the winner with {share(part)} of the evaluations."
        yield Advice(44, f"Give the branch {esc(made, 40)} more: fewer <code>branches</code> beside it.", why)


def _failed(story: Story) -> Iterator[Advice]:
    done = len(story.trials) + len(story.failed)
    if story.failed and len(story.failed) / done >= _MUCH:
        reason, times = Counter(str(t["reason"]) for t in story.failed).most_common(1)[0]
        why = f"{count(len(story.failed))} of {count(done)}; {count(times)} for this reason: {esc(reason, 300)}"
        yield Advice(78, "Mend what makes trials fail.", why)


def _tuning(story: Story) -> Iterator[Advice]:
    """Whether fine-tuning paid, and what from."""
    alone, added = story.difference("tuning - base"), story.difference("both - prompt")
    took = story.stages.get("finetune", {}).get("seconds", 0.0)
    if added is None:
        if story.verdict is not None and story.final and "EpochFinished" not in story.seen:
            yield Advice(
                28,
                'Let it fine-tune from the winner: <code>method = "auto"</code> in <code>[finetune]</code>.',
                "Nothing was trained in this run.",
            )
        return
    worst, best = sorted(story.sign * end for end in added[1:])
    said = f"On top of the winner it adds {signed(added[0])} ({span(added[1:])})"
    if worst > 0:
        yield Advice(59, "Train a little more: fine-tuning adds to the prompt.", f"{said}, in {duration(took)}.")
    elif best < 0:
        yield Advice(
            61,
            'Do not fine-tune here: <code>method = "none"</code> in <code>[finetune]</code>.',
            f"{said}, in {duration(took)}.",
        )
    else:
        yield Advice(
            38,
            "Fine-tuning does not certainly help: leave it out, or give it more training examples.",
            f"{said}, in {duration(took)}.",
        )
    own = story.difference("prompt - base")
    if (
        alone is not None
        and own is not None
        and min(story.sign * e for e in alone[1:]) > 0 >= min(story.sign * e for e in own[1:])
    ):
        yield Advice(
            68,
            "Fine-tune your own prompt: weights help here, and other words do not certainly.",
            f"From your prompt: {signed(alone[0])} ({span(alone[1:])}).",
        )


def _left_out(story: Story) -> Iterator[Advice]:
    """Examples that were left out."""
    left = {(e["split"], e["number"]) for e in story.all("ExampleQuarantined")}
    if left:
        yield Advice(
            42,
            "Look at the examples that were left out.",
            f"{count(len(left))} could not be scored, not even with your own prompt.",
        )


EFFORT: tuple[Rule, ...] = (
    _ended_early, _rising, _dropped, _idle_branches, _strong_branches, _failed, _tuning, _left_out,
)  # fmt: skip
