"""What mattered in the search: how much of the prompts' success each choice explains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from autoprompt.report.page.markup import count, esc, figure, finite, note, score, section, share, signed, table
from autoprompt.report.page.story import Record, Story
from autoprompt.report.page.strips import Row, strips

__all__ = ["explained", "importance_section"]

_CHOICES: Mapping[str, Callable[[Record], str]] = {
    "branch of the search": lambda t: str(t.get("branch") or "?"),
    "operator": lambda t: str(t.get("operator") or t.get("branch") or "?"),
    "kind: text or vectors": lambda t: str(t["kind"]),
    "generation (made of others or not)": lambda t: "of others" if t.get("parents") else "from the space",
}
_NAMES = {"demonstrations": "how many demonstrations", "draw": "which demonstrations", "order": "their order",
          "selection": "how they are chosen", "answer": "how options are shown", "chat": "turns"}  # fmt: skip
_SHOWN = 14  # rows of the picture


def explained(values: Sequence[float], groups: Sequence[str]) -> float | None:
    """The share of the values' variance that the groups explain, from 0 to 1; None where it cannot be told.

    Omega squared of a one-way analysis of variance (Hays 1963), which does not grow by the mere number of groups.
    """
    found: dict[str, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        found.setdefault(group, []).append(value)
    size, sets = len(values), len(found)
    if sets < 2 or size - sets < 2:
        return None
    total = _spread(values)
    within = sum(_spread(group) for group in found.values())
    noise = within / (size - sets)
    if not total:
        return None
    return min(1.0, max(0.0, (total - within - (sets - 1) * noise) / (total + noise)))


def _spread(values: Sequence[float]) -> float:
    """The sum of squared distances from the mean."""
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)


def importance_section(story: Story) -> str:
    """The picture of what mattered, and each branch with what it did."""
    picture, said = _choices(story)
    parts = _parts(story)
    return section("importance", "What mattered", figure(picture, note(said)), parts, _branches(story))


def _choices(story: Story) -> tuple[str, str]:
    """Over all prompts but the user's own; by the gain in bounded margins, which also those dropped early have."""
    trials = [t for t in story.trials if t["kind"] != "baseline"]
    by_gain = any(t.get("gain") for t in trials)
    key = "gain" if by_gain else "value"
    trials = [t for t in (trials if by_gain else [t for t in trials if not t.get("dropped")]) if finite(t.get(key))]
    values = [t[key] for t in trials]
    rows = []
    for name, of in _CHOICES.items():
        part = explained(values, [of(t) for t in trials])
        if part is not None:
            rows.append(Row(name, part, note=share(part)))
    rows += _parameters([t for t in trials if t.get("params")], key)
    rows.sort(key=lambda row: -(row.value or 0.0))
    rows = rows[:_SHOWN]
    measure = "advantage over your prompt" if by_gain else "score"
    picture = strips(
        "Share of variance explained: " + ", ".join(f"{row.label} {row.note}" for row in rows),
        f"share of the variance of the {measure}",
        rows,
        bars=True,
    )
    return picture, (
        f"How much of the difference between {count(len(trials))} prompts goes with each choice, by itself (omega "
        "squared; choices overlap, so the shares do not add up)."
    )


def _parameters(trials: Sequence[Record], key: str) -> list[Row]:
    """What each parameter of the space explains, among the prompts that have it."""
    rows = []
    for name in sorted({str(name) for t in trials for name in t["params"]}):
        having = [t for t in trials if name in t["params"]]
        part = explained([t[key] for t in having], [str(t["params"][name]) for t in having])
        if part is not None:
            label = f"word of {name.removeprefix('words.')}" if name.startswith("words.") else name
            rows.append(Row(f"space: {_NAMES.get(label, label)}", part, note=share(part)))
    return rows


def _parts(story: Story) -> str:
    """What the winner's parts earned, by their kind."""
    event = story.latest("GainExplained")
    if event is None:
        return ""
    sums: dict[str, float] = {}
    for part in event["parts"]:
        sums[str(part["kind"])] = sums.get(str(part["kind"]), 0.0) + part["value"]
    if len(sums) < 2:
        return ""
    rows = [Row(kind, value, note=signed(value), tone="good" if value > 0 else "bad") for kind, value in sums.items()]
    rows.sort(key=lambda row: -(row.value or 0.0))
    picture = strips("What the winner's parts earned, by their kind.", f"earned, in {story.metric}", rows, bars=True)
    return figure(picture, note("What the kinds of parts earned in the winner (Shapley values, summed)."))


def _branches(story: Story) -> str:
    if not story.branches:
        return ""
    total = story.evaluations or 1
    rows = []
    for branch, found in list(story.branches.items())[:40]:
        whole = [t for t in found if not t.get("dropped")]
        best = min(whole, key=story.rank, default=None)
        used = sum(t["examples"] for t in found)
        line = "yes" if any(t["number"] in story.lineage for t in found) else ""
        rows.append(
            (
                esc(branch, 40), count(len(found)), count(len(found) - len(whole)), share(used / total),
                score(best["value"] if best else None), line,
            )
        )  # fmt: skip
    head = ("branch", "prompts", "dropped", "evaluations", "best", "winner's line")
    return "<h3>What each branch of the search did</h3>" + table(head, rows, "Branches of the search")
