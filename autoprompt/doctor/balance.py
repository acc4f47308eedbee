"""Whether there are enough examples of each label, and what so many can show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from autoprompt.data import Splits
from autoprompt.doctor.finding import fine, number_of, percent, problem, quoted, warning
from autoprompt.doctor.power import examples_for, smallest_difference
from autoprompt.events import Finding

__all__ = ["examine_balance", "examine_size", "label_counts"]

_FEW = 5  # examples of a label in a split
_UNEVEN = 10  # times that the largest label may be as large as the smallest
_MOST = 0.8  # share of the largest label
_COARSE, _BLIND = 0.1, 0.25  # differences on test
_WISHED = 0.05
_NAMED = 5

Counts = Mapping[str, Mapping[str, int]]


def label_counts(splits: Splits) -> Counts:
    """By split and label, how many examples there are; of test the numbers alone are known."""
    train, dev = (Counter(example.label for example in part) for part in (splits.train, splits.dev))
    tested = splits.test.counted(lambda examples: [sum(e.label == name for e in examples) for name in splits.labels])
    return {
        "train": {label: train[label] for label in splits.labels},
        "dev": {label: dev[label] for label in splits.labels},
        "test": dict(zip(splits.labels, tested, strict=True)),
    }


def examine_balance(splits: Splits) -> list[Finding]:
    """How the labels are shared out: lone, missing, rare and dominant ones, and names that differ in case alone."""
    counts = label_counts(splits)
    totals = Counter({label: sum(part[label] for part in counts.values()) for label in splits.labels})
    if len(totals) < 2:
        return [
            problem(
                "imbalance",
                "There is only one label, so that every prompt is always right. Name the column of the classes as "
                "[data] label, or add examples of another one.",
                counts=counts,
            )
        ]
    found = [*_twins(totals), *_scarce(counts), *_uneven(totals)]
    if found:
        return [Finding(f.check, f.level, f.message, {**f.details, "counts": counts}) for f in found]
    least, most = min(totals.values()), max(totals.values())
    whole = sum(totals.values())
    return [
        fine(
            "imbalance",
            f"{len(totals)} labels, the smallest with {percent(least, whole)} of the examples and the largest with "
            f"{percent(most, whole)}; each has at least {_FEW} in every split.",
            counts=counts,
        )
    ]


def _twins(totals: Mapping[str, int]) -> list[Finding]:
    groups: dict[str, list[str]] = {}
    for label in totals:
        groups.setdefault(" ".join(label.casefold().replace("_", " ").replace("-", " ").split()), []).append(label)
    twins = [group for group in groups.values() if len(group) > 1]
    if not twins:
        return []
    pair = " and ".join(f"{quoted(label)} ({totals[label]:,})" for label in twins[0])
    return [
        problem(
            "imbalance",
            f"{number_of(len(twins), 'label is', 'labels are')} written in more than one way: {pair} count as "
            "different answers. Write them in one way.",
            twins=twins,
        )
    ]


def _scarce(counts: Counts) -> list[Finding]:
    found = []
    missing = {split: [label for label, count in part.items() if not count] for split, part in counts.items()}
    few = {split: [label for label, count in part.items() if 0 < count < _FEW] for split, part in counts.items()}
    if any(missing.values()):
        split = next(split for split in missing if missing[split])
        told = "; ".join(f"{split} has none of {_named(labels)}" for split, labels in missing.items() if labels)
        meant = "so that nothing is known of how well it is answered" if split != "train" else "so that none is shown"
        found.append(warning("imbalance", f"A label is missing: {told}, {meant}. Add examples.", missing=missing))
    if any(few.values()):
        told = "; ".join(f"in {split} {_named(labels)}" for split, labels in few.items() if labels)
        message = (
            f"Labels with fewer than {_FEW} examples: {told}. What is said of these is luck: add some, or merge labels."
        )
        found.append(warning("imbalance", message, few=few))
    return found


def _named(labels: list[str]) -> str:
    shown = ", ".join(map(quoted, labels[:_NAMED]))
    return shown if len(labels) <= _NAMED else f"{shown} and {len(labels) - _NAMED} more"


def _uneven(totals: Counter[str]) -> list[Finding]:
    whole, ((label, most), *_, (rarest, least)) = sum(totals.values()), totals.most_common()
    if most < _MOST * whole and most <= _UNEVEN * max(least, 1):
        return []
    means = "accuracy hardly sees the rare ones"
    if most >= _MOST * whole:
        means = f"whoever always answers {quoted(label)} has an accuracy of {most / whole:.2f}"
    return [
        warning(
            "imbalance",
            f"The labels are uneven: {quoted(label)} has {percent(most, whole)} of the examples, {quoted(rarest)} "
            f'{percent(least, whole)}, so that {means}. metric = "macro_f1" counts every label the same.',
            largest=label,
            share=most / whole,
        )
    ]


def examine_size(splits: Splits, discordant: float = 0.2) -> list[Finding]:
    """The smallest difference that test (and dev) can show; `discordant` as in `smallest_difference`."""
    test, dev = (smallest_difference(len(part), discordant) for part in (splits.test, splits.dev))
    details = {
        "train": len(splits.train),
        "dev": len(splits.dev),
        "test": len(splits.test),
        "detectable": test if math.isfinite(test) else None,
        "detectable_dev": dev if math.isfinite(dev) else None,
        "discordant": discordant,
    }
    size = number_of(len(splits.test), "test example")
    if not math.isfinite(test):
        return [problem("size", f"{size} can show no difference at all. Add test examples.", **details)]
    message = (
        f"With {size} the smallest difference that can be shown is {100 * test:.1f} points (exact paired test, "
        f"two-sided 5 %, 80 % power, assumed that the two prompts disagree in being right on {percent(discordant)})."
    )
    if test <= _COARSE:
        return [fine("size", message, **details)]
    wanted = 10 * math.ceil(examples_for(_WISHED, discordant) / 10)
    message += f" To show {100 * _WISHED:.0f} points takes about {wanted:,}."
    return [(problem if test > _BLIND else warning)("size", message, **details)]
