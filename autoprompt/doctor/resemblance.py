"""Texts that are nearly the same: in a split, across splits, with another label.

Of the test split, counts are told and which train and dev rows are like a text of it, never a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprompt.data import Example, Splits, folded
from autoprompt.doctor.finding import fine, listed, number_of, percent, problem, quoted, warning
from autoprompt.doctor.likeness import Pairs, Sketch
from autoprompt.events import Finding

__all__ = ["examine_resemblance"]

_MANY, _SOME, _ODD = 0.05, 0.01, 0.005  # shares of a split, of a split, of train and dev


def examine_resemblance(splits: Splits) -> list[Finding]:
    """Texts that are not equal, but that have 4/5 of their runs of five characters in common (`likeness`)."""
    train, dev = _sketch(splits.train), _sketch(splits.dev)
    in_train = _Near.of(train.pairs(), splits.train, splits.train)
    in_dev = _Near.of(dev.pairs(), splits.dev, splits.dev)
    across = _Near.of(train.across(dev), splits.train, splits.dev)
    tested = splits.test.counted(lambda test: _counts(train.joined(dev), [*splits.train, *splits.dev], test))
    known, within, odd = tested[:3]
    like_test = np.array(tested[3:], dtype=np.int64)
    details = {
        "train": len({*in_train.pairs.first.tolist(), *in_train.pairs.second.tolist()}),
        "dev": len({*in_dev.pairs.first.tolist(), *in_dev.pairs.second.tolist()}),
        "test": within,
        "dev_in_train": len(np.unique(across.pairs.second)),
        "test_in_train_or_dev": known,
        "dev_rows_in_train": listed(splits.dev[at].number for at in across.pairs.second),
        "train_rows_in_test": listed(splits.train[at].number for at in like_test[like_test < len(train)]),
        "dev_rows_in_test": listed(splits.dev[at - len(train)].number for at in like_test[like_test >= len(train)]),
        "other_label": sum(len(near.contrary) for near in (in_train, in_dev, across)),
        "test_other_label": odd,
    }
    named = [("train", across, "dev"), ("train", in_train, "train"), ("dev", in_dev, "dev")]
    told = next((near.told(a, b, near.contrary) for a, near, b in named if len(near.contrary)), "")
    told = told or next((near.told(a, b, near.pairs) for a, near, b in named if len(near.pairs)), "")
    return _said(splits, details, told)


@dataclass(frozen=True)
class _Near:
    """Pairs of alike texts that are not equal but for case and spaces, which are told as duplicates."""

    pairs: Pairs
    first: Sequence[Example]
    second: Sequence[Example]

    @classmethod
    def of(cls, pairs: Pairs, first: Sequence[Example], second: Sequence[Example]) -> _Near:
        unequal = [folded(first[a].fields) != folded(second[b].fields) for a, b in pairs]
        return cls(pairs[np.array(unequal, dtype=bool)], first, second)

    @property
    def contrary(self) -> Pairs:
        """Those with two labels."""
        return self.pairs[np.array([self.first[a].label != self.second[b].label for a, b in self.pairs], dtype=bool)]

    def told(self, first: str, second: str, pairs: Pairs) -> str:
        """The likest of some pairs, as the end of a sentence; first, second: names of the splits."""
        best = int(np.argmax(pairs.index))
        one, two = self.first[int(pairs.first[best])], self.second[int(pairs.second[best])]
        return (
            f"; for instance {first} row {one.number} {quoted(one.fields)} and "
            f"{second} row {two.number} {quoted(two.fields)}"
        )


def _said(splits: Splits, details: dict[str, Any], told: str) -> list[Finding]:
    train, dev, test = len(splits.train), len(splits.dev), len(splits.test)
    near = details["train"] + details["dev"] + details["test"]
    known = details["test_in_train_or_dev"]
    seen = max(details["dev_in_train"] / dev, known / test)
    odd = max(details["other_label"] / (train + dev), details["test_other_label"] / test)
    if not near and not seen:
        return [fine("near duplicates", "No two texts are nearly the same.", **details)]
    message = (
        f"{number_of(near, 'text is', 'texts are')} nearly the same as another of the same split (train "
        f"{details['train']:,}, dev {details['dev']:,}, test {details['test']:,}); {details['dev_in_train']:,} of dev "
        f"and {known:,} of test ({percent(known, test)}) are like one of a split before{told}."
    )
    if odd:
        pairs = number_of(details["other_label"], "such pair has", "such pairs have")
        message += f" {pairs} two labels, and {details['test_other_label']:,} with test: look which is right."
    if seen >= _SOME:
        message += " What was seen is answered too well: take those that are like dev and test out of train."
    level = problem if seen >= _MANY else warning if seen >= _SOME or odd >= _ODD else fine
    return [level("near duplicates", message, **details)]


def _sketch(examples: Sequence[Example]) -> Sketch:
    return Sketch.of([[e.fields[name] for name in sorted(e.fields)] for e in examples])


def _counts(known: Sketch, rows: Sequence[Example], test: tuple[Example, ...]) -> list[int]:
    """How many test texts are like one of `rows`, like another test text, and like a row of another label; then the
    places of the rows that a test text is like."""
    tested = _sketch(test)
    across = _Near.of(known.across(tested), rows, test)
    within = _Near.of(tested.pairs(), test, test).pairs
    inside = {*within.first.tolist(), *within.second.tolist()}
    odd = len(np.unique(across.contrary.second))
    return [len(np.unique(across.pairs.second)), len(inside), odd, *np.unique(across.pairs.first).tolist()]
