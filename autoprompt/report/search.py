"""What the search did, from its events: each kind, each branch, the lineage of the winner, the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["search_sections"]

Record = Mapping[str, Any]
Seen = Mapping[str, list[Record]]


def search_sections(seen: Seen, maximize: bool) -> list[str]:
    """The sections on the search; an empty one is left out by the caller."""
    trials = list({t["number"]: t for t in seen.get("TrialFinished", [])}.values())  # each once
    confirmed = {event["number"]: event for event in seen.get("Confirmed", [])}
    return [
        _best_of_each_kind(trials, confirmed, maximize),
        _soft_against_discrete(trials, confirmed, maximize),
        _finalists(trials, confirmed, maximize),
        _front(confirmed, maximize),
        _branches(trials, maximize),
        _lineage(trials, seen),
    ]


def rank(score: Record, maximize: bool) -> tuple[float, float, int]:
    """The study's order: by the metric, ties by the margin, then the earlier trial."""
    return (-1 if maximize else 1) * score["value"], -score["margin"], score["number"]


def _whole(trials: Sequence[Record]) -> list[Record]:
    """Those that saw all examples: the others' scores are of fewer, and do not compare."""
    return [t for t in trials if not t.get("dropped")]


def _best_of_each_kind(trials: Sequence[Record], confirmed: Mapping[int, Record], maximize: bool) -> str:
    if not trials:
        return ""
    lines = [
        "## The best of each kind",
        "",
        "| kind | trials | dropped early | best in the search | all of dev | trial |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind in ("baseline", "discrete", "soft"):
        found = [t for t in trials if t["kind"] == kind]
        whole = _whole(found)
        known = [t for t in whole if t["number"] in confirmed]
        if not whole:
            if found:
                lines.append(f"| {kind} | {len(found)} | {len(found)} | – | – | – |")
            continue
        scores = confirmed if known else {t["number"]: t for t in whole}
        best = min(known or whole, key=lambda t: rank(scores[t["number"]], maximize))
        on_dev = f"{confirmed[best['number']]['value']:.4f}" if known else "–"
        dropped = len(found) - len(whole)
        lines.append(f"| {kind} | {len(found)} | {dropped} | {best['value']:.4f} | {on_dev} | {best['number']} |")
    return "\n".join(lines)


def _soft_against_discrete(trials: Sequence[Record], confirmed: Mapping[int, Record], maximize: bool) -> str:
    """Whether vectors, or text with vectors in its lineage, improved on the best prompt that is text alone."""
    by_number = {t["number"]: t for t in trials}
    text = [event for event in confirmed.values() if not _of_vectors(event["number"], by_number)]
    other = [event for event in confirmed.values() if _of_vectors(event["number"], by_number)]
    if not text or not other:
        return ""
    best, made = (min(group, key=lambda event: rank(event, maximize)) for group in (text, other))
    better = made["value"] > best["value"] if maximize else made["value"] < best["value"]
    origin = by_number[made["number"]].get("operator") or made["kind"]
    return (
        f"On all of dev the best prompt with vectors, or with text made of them (trial {made['number']}, {origin}), "
        f"scores {made['value']:.4f}, the best other one (trial {best['number']}) {best['value']:.4f}: vectors "
        f"{'improved on text' if better else 'did not improve on text'} here."
    )


def _of_vectors(number: int, by_number: Mapping[int, Record]) -> bool:
    """Whether a trial is a soft prompt, or one of its ancestors was."""
    queue, met = [number], set[int]()
    while queue:
        trial = by_number.get(queue.pop())
        if trial is None or trial["number"] in met:
            continue
        if trial["kind"] == "soft":
            return True
        met.add(trial["number"])
        queue += trial.get("parents", ())
    return False


def _finalists(trials: Sequence[Record], confirmed: Mapping[int, Record], maximize: bool) -> str:
    if not confirmed or all("evidence" not in event for event in confirmed.values()):
        return ""
    lines = [
        "## The finalists on all of dev",
        "",
        "The estimate is the score, shrunk toward the group's mean as far as the choice of examples explains the "
        "differences. The evidence is the log wealth of a bet that the prompt is better than yours; it is beyond luck "
        "where a search among equally good prompts would seldom show as much.",
        "",
        "| trial | from | score | estimate | evidence | beyond luck |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    branch = {t["number"]: t.get("branch", "") for t in trials}
    for event in sorted(confirmed.values(), key=lambda event: rank(event, maximize)):
        sure = "–" if event["kind"] == "baseline" else "yes" if event["certain"] else "no"
        lines.append(
            f"| {event['number']} | {branch.get(event['number'], '')} | {event['value']:.4f} | "
            f"{event['estimate']:.4f} | {event['evidence']:.1f} | {sure} |"
        )
    return "\n".join(lines)


def _front(confirmed: Mapping[int, Record], maximize: bool) -> str:
    """The Pareto front of score and rendered tokens, where both were objectives."""
    sized = [event for event in confirmed.values() if event.get("size")]
    if not sized:
        return ""
    front: list[Record] = []
    for event in sorted(sized, key=lambda event: (rank(event, maximize)[0], event["size"], event["number"])):
        if not front or event["size"] < front[-1]["size"]:
            front.append(event)
    lines = [
        "## Score against length",
        "",
        "To none of these is another finalist both as good and shorter. The winner is the shortest of those whose "
        'scores are within the tolerance of the best (with `promote = "certain"`, of those beyond luck).',
        "",
        "| trial | score | rendered tokens |",
        "| --- | --- | --- |",
        *(f"| {event['number']} | {event['value']:.4f} | {event['size']:.1f} |" for event in front),
    ]
    return "\n".join(lines)


def _branches(trials: Sequence[Record], maximize: bool) -> str:
    if not any(t.get("branch") for t in trials):
        return ""
    lines = [
        "## What each branch of the search did",
        "",
        "| branch | prompts | dropped early | example evaluations | best on all examples |",
        "| --- | --- | --- | --- | --- |",
    ]
    for branch in dict.fromkeys(t["branch"] for t in trials):
        found = [t for t in trials if t["branch"] == branch]
        whole = _whole(found)
        best = f"{min(whole, key=lambda t: rank(t, maximize))['value']:.4f}" if whole else "–"
        evaluations = sum(t["examples"] for t in found)
        lines.append(f"| {branch} | {len(found)} | {len(found) - len(whole)} | {evaluations:,} | {best} |")
    total = sum(t["examples"] for t in trials)
    full = len(trials) * max(t["examples"] for t in trials)
    lines += ["", f"{total:,} example evaluations, {total / full:.0%} of scoring every prompt on every example."]
    return "\n".join(lines)


def _lineage(trials: Sequence[Record], seen: Seen) -> str:
    """How the winner came about: its parents, and theirs."""
    if "WinnerChosen" not in seen:
        return ""
    by_number = {t["number"]: t for t in trials}
    lines: list[str] = []
    queue, told = [seen["WinnerChosen"][-1]["number"]], set[int]()
    while queue and len(lines) < 20:
        number = queue.pop(0)
        trial = by_number.get(number)
        if trial is None or number in told:
            continue
        told.add(number)
        parents = list(trial.get("parents", ()))
        made = trial.get("operator") or trial.get("branch") or trial["kind"]
        source = f" of {', '.join(f'trial {p}' for p in parents)}" if parents else ""
        gain = f"{trial.get('gain', 0.0):+.3f} over your prompt in bounded margins"
        few = f" on {trial['examples']} examples" if trial.get("dropped") else ""
        lines.append(f"- trial {number}: {made}{source}, {gain}{few}")
        queue += parents
    return "## How the winner came about\n\n" + "\n".join(lines) if len(lines) > 1 else ""
