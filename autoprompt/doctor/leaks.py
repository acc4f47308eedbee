"""Labels that can be read off the input: the label's own name in it, or a word that gives it away."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

from autoprompt.data import Example, Splits
from autoprompt.doctor.finding import fine, number_of, percent, problem, quoted, warning
from autoprompt.doctor.words import exact_tail, holm, words_of
from autoprompt.events import Finding

__all__ = ["Mark", "examine_giveaways", "examine_leaks"]

_MOST = 20_000  # examples that are looked at: of splits in random order, the first
_SUPPORT, _FEWEST = 0.05, 3  # the part of a label's examples that a word must be in, and their number
_PRECISION, _TIMES, _LUCK = 0.95, 10, 0.001
_LARGE, _NEARLY_ALL = 0.5, 0.9  # parts of a label's examples
_WORTH = 0.2  # part of all labels, or of all examples, beyond which that is no trait of a few labels
_TOLD = 10


@dataclass(frozen=True)
class Mark:
    """A word (or two in a row) that goes with a label.

    share: of the label's examples that have it. others: of all other examples. precision: of the examples that
    have it, those with the label. p: of Fisher's exact test, adjusted for all that were tried (Holm).
    """

    word: str
    label: str
    share: float
    others: float
    precision: float
    p: float

    @property
    def tells(self) -> bool:
        """Whether it all but settles the label, far beyond luck and beyond how common the label is."""
        return self.precision >= _PRECISION and self.share >= _TIMES * self.others and self.p <= _LUCK


def examine_leaks(splits: Splits, words: Mapping[str, str] | None = None) -> list[Finding]:
    """How often a label's name, or its label word, stands in its inputs, against the others. Reads train and dev.

    words: the label words of the user's prompt, by label.
    """
    examples = _looked_at(splits)
    labels, texts = [example.label for example in examples], _Texts(examples)
    counts = Counter(labels)
    marks = [m for c in splits.labels for m in _names(c, (words or {}).get(c, ""), labels, counts[c], texts)]
    marks = _adjusted(marks, len(marks))
    marks.sort(key=lambda m: (-m.share * m.tells, -m.share, m.label, m.word))
    large = {mark.label: mark for mark in reversed(marks) if mark.tells and mark.share >= _LARGE}
    details = {"names": [asdict(mark) for mark in marks[:_TOLD] if mark.share or mark.others]}
    if not large:
        least = "" if not marks or not marks[0].share else f"; most often {_told(marks[0])}"
        return [fine("leak", f"No label's name gives its inputs away{least}.", **details)]
    first = max(large.values(), key=lambda mark: (mark.share, mark.word))
    named = number_of(len(large), "label stands by name in its", "labels stand by name in their")
    message = f"{named} own inputs: {_told(first)}. "
    advice = "If the answer was written into the input, take it out: a score with it says nothing."
    level = _level(list(large.values()), counts, _LARGE)
    return [level("leak", message + advice, **details)]


def examine_giveaways(splits: Splits) -> list[Finding]:
    """Words, and pairs of words, that are in many inputs of one label and in next to no other. Reads train and dev.

    A word tells where at least 5 % of the label's inputs have it, ten times the share of the others, where 95 % of
    the inputs that have it are of the label, and where luck does so in one of 1,000 data sets at most.
    """
    examples = _looked_at(splits)
    marks = _telling(examples)
    best: dict[str, Mark] = {}
    for mark in marks:
        best.setdefault(mark.label, mark)
    large = [mark for mark in best.values() if mark.share >= _LARGE]
    details = {"words": [asdict(mark) for mark in marks[:_TOLD]], "examples": len(examples)}
    if not large:
        told = f"; the most telling is {_told(marks[0])}" if marks else ""
        return [fine("giveaway", f"No single word gives a label away{told}.", **details)]
    return [
        _level(large, Counter(example.label for example in examples), _NEARLY_ALL)(
            "giveaway",
            f"{number_of(len(large), 'label is', 'labels are')} given away by a single word: {_told(large[0])}. "
            "Look at such inputs: where the word is no part of the task (a prefix, an id, a signature), take it out.",
            **details,
        )
    ]


def _level(large: Sequence[Mark], counts: Counter[str], whole: float) -> Callable[..., Finding]:
    """How bad it is that these labels, each with one mark, can be read off; whole: the part of the examples whose
    labels nearly all can be, beyond which the score says nothing."""
    everything = counts.total()
    if sum(counts[mark.label] for mark in large if mark.share >= _NEARLY_ALL) >= whole * everything:
        return problem
    part = max(len(large) / len(counts), sum(counts[mark.label] for mark in large) / everything)
    return warning if part >= _WORTH else fine


def _told(mark: Mark) -> str:
    return (
        f"{quoted(mark.word)} is in {percent(mark.share)} of the inputs of {quoted(mark.label)} "
        f"and in {percent(mark.others)} of the others"
    )


def _looked_at(splits: Splits) -> list[Example]:
    return [*splits.train, *splits.dev][:_MOST]


def _mark(word: str, label: str, hits: int, marked: int, members: int, everything: int) -> Mark:
    return Mark(
        word,
        label,
        share=hits / members if members else 0.0,
        others=(marked - hits) / max(1, everything - members),
        precision=hits / marked if marked else 0.0,
        p=exact_tail(hits, marked, members, everything),
    )


def _names(label: str, word: str, labels: Sequence[str], size: int, texts: _Texts) -> list[Mark]:
    """A mark for each way in which a label is named."""
    found = []
    for name in dict.fromkeys([label, word.strip()]):
        forms = {" ".join(words_of(name)), " ".join(words_of(re.sub("[-_]", " ", name)))} - {""}
        if forms:
            having = set().union(*(texts.having(form) for form in forms))
            hits = sum(labels[row] == label for row in having)
            found.append(_mark(name, label, hits, len(having), size, len(labels)))
    return found


class _Texts:
    """Inputs as one long text of their words, a line each, which takes one search for all."""

    def __init__(self, examples: Sequence[Example]) -> None:
        lines = [
            " ".join(["", *(w for text in e.fields.values() for w in (*words_of(text), "\t")), "\n"]) for e in examples
        ]
        self._whole = "".join(lines)
        self._starts = [0, *accumulate(map(len, lines))]

    def having(self, words: str) -> set[int]:
        """Which inputs hold these words, one behind the other in a field."""
        found: set[int] = set()
        at = self._whole.find(f" {words} ")
        while at >= 0:
            row = bisect_right(self._starts, at) - 1
            found.add(row)
            at = self._whole.find(f" {words} ", self._starts[row + 1])
        return found


def _telling(examples: Sequence[Example]) -> list[Mark]:
    """The words and pairs that tell, those of most of their label first; of equal ones the shorter."""
    sizes = Counter(example.label for example in examples)
    least = {label: max(_FEWEST, math.ceil(_SUPPORT * size)) for label, size in sizes.items()}
    labels = [example.label for example in examples]
    runs = [[words_of(text) for text in example.fields.values()] for example in examples]
    single = _table(labels, ([word for words in fields for word in words] for fields in runs))
    common = {word for word, of in single.items() if any(count >= least[label] for label, count in of.items())}
    double = _table(labels, (_neighbours(fields, common) for fields in runs))
    tried = [
        _Tried(word, label, count, of.total())
        for table in (single, double)
        for word, of in table.items()
        for label, count in of.items()
        if count >= least[label]
    ]
    able = [t for t in tried if t.hits >= _PRECISION * t.marked]
    marks = [_mark(t.word, t.label, t.hits, t.marked, sizes[t.label], len(examples)) for t in able]
    told = [mark for mark in _adjusted(marks, len(tried)) if mark.tells]
    return sorted(told, key=lambda m: (-m.share, -m.precision, len(m.word), m.word, m.label))


class _Tried(NamedTuple):
    word: str
    label: str
    hits: int
    marked: int


def _adjusted(marks: Sequence[Mark], tests: int) -> list[Mark]:
    adjusted = holm([mark.p for mark in marks], tests)
    return [replace(mark, p=float(p)) for mark, p in zip(marks, adjusted, strict=True)]


def _table(labels: Sequence[str], words: Iterable[Iterable[str]]) -> dict[str, Counter[str]]:
    """By word, how many examples of each label have it."""
    table: dict[str, Counter[str]] = {}
    for label, having in zip(labels, words, strict=True):
        for word in dict.fromkeys(having):
            table.setdefault(word, Counter())[label] += 1
    return table


def _neighbours(fields: Sequence[Sequence[str]], common: Container[str]) -> list[str]:
    """All pairs of common words, one behind the other. A pair is in no more examples than each of its words."""
    return [f"{a} {b}" for words in fields for a, b in pairwise(words) if a in common and b in common]
