"""One set of examples dealt to splits: by shares or folds, class by class, and group by group where there are any."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from autoprompt.data.examples import Example, Key
from autoprompt.data.locked import SPLITS
from autoprompt.data.options import Target
from autoprompt.data.targets import single_labels
from autoprompt.errors import DataError

__all__ = ["by_folds", "by_shares", "strata_of"]

Parts = dict[str, list[Example]]

_BINS = 5  # of numbers, by quantiles
_TRIES = 16  # orders in which groups are dealt, of which the best is kept


def strata_of(examples: Sequence[Example], target: Target) -> dict[Key, str]:
    """What each example is balanced by: its class, the rarest of its labels, its fifth among the numbers."""
    if target == "label":
        return {e.key: e.label for e in examples}
    if target == "labels":
        counts = Counter(label for e in examples for label in single_labels(e.label))
        return {e.key: min(single_labels(e.label), key=lambda one: (counts[one], one), default="") for e in examples}
    if target == "option":
        counts = Counter(e.label for e in examples)
        return {e.key: e.label if counts[e.label] >= len(SPLITS) else "" for e in examples}
    if target == "number":
        values = sorted(float(e.label) for e in examples)
        first: dict[float, int] = {}
        for rank, value in enumerate(values):
            first.setdefault(value, rank)  # equal numbers stand in one bin
        bins = max(1, min(_BINS, len(values) // _BINS))
        return {e.key: str(first[float(e.label)] * bins // len(values)) for e in examples}
    return {e.key: "" for e in examples}


def by_shares(
    examples: Sequence[Example],
    shares: Mapping[str, float],
    strata: Mapping[Key, str],
    groups: Mapping[Key, str] | None,
    seed: int,
) -> Parts:
    """The examples of each split. shares: of train and of the others, which need not add up to 1.

    Each stratum is shuffled by itself and dealt by the shares, at least one example each. Groups are dealt whole.
    Raises DataError when groups are too few or too large.
    """
    if groups is not None:
        return _dealt_groups(examples, shares, strata, groups, seed)
    parts: Parts = {name: [] for name in shares}
    others, total = [name for name in shares if name != "train"], sum(shares.values())
    for stratum, members in _by_stratum(examples, strata):
        random.Random(f"{seed} split {stratum}").shuffle(members)
        counts = [max(1, round(len(members) * shares[name] / total)) for name in others]
        if sum(counts) >= len(members):
            counts = [(len(members) - 1) // len(others)] * len(others)
        for name, count in zip(others, counts, strict=True):
            parts[name] += members[:count]
            members = members[count:]
        parts["train"] += members
    return parts


def by_folds(
    examples: Sequence[Example],
    folds: int,
    fold: int,
    strata: Mapping[Key, str],
    groups: Mapping[Key, str] | None,
    seed: int,
) -> Parts:
    """Test is the fold-th of `folds` equal parts, counted from 1, dev the next one, train the rest.

    The parts are the same whatever `fold` is, so that the tests of all folds are all of the examples. Raises DataError
    when there are fewer examples or groups than folds.
    """
    if len(examples) < folds:
        raise DataError(f"[data] folds is {folds}, and there are only {len(examples)} different examples. Give fewer.")
    names = [str(number) for number in range(1, folds + 1)]
    if groups is not None:
        parts = _dealt_groups(examples, dict.fromkeys(names, 1.0), strata, groups, seed)
    else:
        parts, at = {name: [] for name in names}, 0
        for stratum, members in _by_stratum(examples, strata):
            random.Random(f"{seed} fold {stratum}").shuffle(members)
            for example in members:
                parts[names[at % folds]].append(example)
                at += 1  # goes on with the next stratum, so that the folds are of one size
    test, dev = str(fold), str(fold % folds + 1)
    train = [example for name in names if name not in (test, dev) for example in parts[name]]
    return {"train": train, "dev": parts[dev], "test": parts[test]}


def _by_stratum(examples: Sequence[Example], strata: Mapping[Key, str]) -> list[tuple[str, list[Example]]]:
    found: dict[str, list[Example]] = {}
    for example in examples:
        found.setdefault(strata[example.key], []).append(example)
    return sorted(found.items())


# -- groups --------------------------------------------------------------------------------------


def _dealt_groups(
    examples: Sequence[Example],
    shares: Mapping[str, float],
    strata: Mapping[Key, str],
    groups: Mapping[Key, str],
    seed: int,
) -> Parts:
    """Whole groups, the largest first, each to the split that lacks most of what it holds, class by class.

    That is the greedy rule of longest processing time (Graham 1969), with the classes as machines' loads. It is done
    for some orders of groups of one size; kept is the outcome whose classes stand in most splits, then the one
    that is nearest to the shares.
    """
    members: dict[str, list[Example]] = {}
    for example in examples:
        members.setdefault(groups[example.key], []).append(example)
    _check_groups(members, shares, len(examples))
    held = {name: Counter(strata[e.key] for e in found) for name, found in members.items()}
    whole, total = Counter(strata[e.key] for e in examples), sum(shares.values())
    wanted = {name: {s: count * share / total for s, count in whole.items()} for name, share in shares.items()}
    tries = [_dealt(held, wanted, whole, random.Random(f"{seed} groups {number}")) for number in range(_TRIES)]
    best = min(tries, key=lambda split: _badness(split, held, wanted, whole))
    return {name: [e for group in best[name] for e in members[group]] for name in shares}


def _check_groups(members: Mapping[str, Sequence[Example]], shares: Mapping[str, float], count: int) -> None:
    if len(members) < len(shares):
        raise DataError(
            f"[data] group has {len(members)} different values; {len(shares)} splits need at least as many groups."
        )
    most = math.ceil(count * max(shares.values()) / sum(shares.values()))
    name, largest = max(members.items(), key=lambda item: (len(item[1]), item[0]))
    if len(largest) > most:
        raise DataError(
            f"The group {name!r} has {len(largest)} of {count} examples, and the largest split is to have {most}. "
            "Give [data] shares (or folds) that have room for it, or another group."
        )


def _dealt(
    held: Mapping[str, Mapping[str, int]],
    wanted: Mapping[str, Mapping[str, float]],
    whole: Mapping[str, int],
    generator: random.Random,
) -> dict[str, list[str]]:
    """The groups of each split. held: examples by group and stratum; wanted: by split and stratum."""
    order = sorted(held)
    generator.shuffle(order)
    order.sort(key=lambda group: -sum(held[group].values()))
    found: dict[str, list[str]] = {name: [] for name in wanted}
    lacking = {name: dict(counts) for name, counts in wanted.items()}
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        empty = [name for name in wanted if not found[name]]
        open_to = empty if len(empty) >= left else list(wanted)  # the last groups go where there is none yet
        name = max(open_to, key=lambda one: sum(n * lacking[one][s] / whole[s] for s, n in held[group].items()))
        found[name].append(group)
        for stratum, count in held[group].items():
            lacking[name][stratum] -= count
    return found


def _badness(
    split: Mapping[str, Sequence[str]],
    held: Mapping[str, Mapping[str, int]],
    wanted: Mapping[str, Mapping[str, float]],
    whole: Mapping[str, int],
) -> tuple[int, float]:
    """How many classes a split lacks, and how far the counts are from those wanted."""
    absent, far = 0, 0.0
    for name, groups in split.items():
        counts = Counter[str]()
        for group in groups:
            counts.update(held[group])
        absent += sum(not counts[stratum] for stratum in whole)
        far += sum((counts[s] - wanted[name][s]) ** 2 / count for s, count in whole.items())
        far += (sum(counts.values()) - sum(wanted[name].values())) ** 2 / sum(whole.values())
    return absent, far
