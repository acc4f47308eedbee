"""Which inputs were seen before, or nearly: what keeps held-out texts and repetitions out of new examples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from autoprompt.data import Example, folded
from autoprompt.prompt import Prompt

__all__ = ["Seen", "shown_by"]

_RUN = 5  # words
_LIKE = 4, 5  # two texts are nearly the same beyond this Jaccard index, 4/5
# scripts without spaces: each sign counts as a word
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


class Seen:
    """Inputs, to be asked whether another one is among them, or nearly.

    "duplicate" is equal up to case and spaces; "near_duplicate" has runs of five words in common: the
    Jaccard index of both sets of runs is above 4/5 (shingles, Broder 1997). A text of fewer words is one
    run. A text is compared with those only that share one of its first runs in sorted order, which none
    that is so like it can avoid (prefix filter, Chaudhuri et al. 2006).

    >>> seen = Seen([Example(0, {"text": "Where is my parcel?"}, "shipping")])
    >>> seen.like({"text": "where is  my PARCEL?"}), seen.like({"text": "Where is my parcel!"})
    ('duplicate', 'near_duplicate')
    """

    def __init__(self, examples: Iterable[Example] = ()) -> None:
        self._exact: set[tuple[tuple[str, str], ...]] = set()
        self._runs: list[frozenset[str]] = []
        self._by_run: dict[str, list[int]] = {}
        for example in examples:
            self.add(example.fields)

    def add(self, fields: Mapping[str, str]) -> None:
        self._exact.add(folded(fields))
        runs = _runs(fields)
        for run in _prefix(runs):
            self._by_run.setdefault(run, []).append(len(self._runs))
        self._runs.append(runs)

    def like(self, fields: Mapping[str, str]) -> Literal["", "duplicate", "near_duplicate"]:
        """How an input is like one that was added."""
        if folded(fields) in self._exact:
            return "duplicate"
        runs = _runs(fields)
        part, whole = _LIKE
        near = dict.fromkeys(at for run in _prefix(runs) for at in self._by_run.get(run, ()))
        for other in map(self._runs.__getitem__, near):
            shared = len(runs & other)
            if whole * shared > part * (len(runs) + len(other) - shared):
                return "near_duplicate"
        return ""


def _runs(fields: Mapping[str, str]) -> frozenset[str]:
    """All runs of words, fields one behind the other; none where there is no word."""
    words = [word for name in sorted(fields) for word in ("|", *_WORD.findall(fields[name].casefold()))][1:]
    if not any(word != "|" for word in words):
        return frozenset()
    ends = range(min(_RUN, len(words)), len(words) + 1)
    return frozenset(" ".join(words[max(0, end - _RUN) : end]) for end in ends)


def _prefix(runs: frozenset[str]) -> list[str]:
    """The first runs in sorted order: two sets with more than 4/5 in common both have one of them."""
    part, whole = _LIKE
    return sorted(runs)[: len(runs) - -(-part * len(runs) // whole) + 1]


def shown_by(prompt: Prompt) -> list[Example]:
    """What a prompt shows as demonstrations, or may show."""
    shown = [*prompt.demonstrations, *(prompt.retrieval.pool if prompt.retrieval else ())]
    return [Example(at, one.fields, one.label) for at, one in enumerate(shown)]
