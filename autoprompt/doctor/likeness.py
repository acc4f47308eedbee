"""Which of many texts are nearly the same: MinHash signatures in bands, every find checked on the texts.

Two texts are as alike as the Jaccard index of their sets of character runs (shingles) says. The smallest
value that a random order gives to a set is the same for two sets with just that probability (MinHash, Broder
1997), so two alike texts agree in a whole band of such values much more often than two others (locality
sensitive hashing; Leskovec, Rajaraman & Ullman 2020, section 3.4). Only those are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprompt.soft import seed_of

__all__ = ["ALIKE", "Pairs", "Sketch", "jaccard"]

ALIKE = 0.8  # Jaccard index from which on two texts are nearly the same

_RUN = 5  # characters of a shingle
_BANDS, _ROWS = 20, 6  # a pair with index s is found with probability 1 - (1 - s^6)^20: 0.998 at 0.8, 0.27 at 0.5
_SURE = 0.15  # four deviations of an index estimated from 120 values: 4 sqrt(0.8 * 0.2 / 120)
_KEPT = 3  # pairs of a text with others before it: a thousand alike texts are not to make a million pairs
_AT_ONCE = 2**17  # characters
_PAIRS_AT_ONCE = 2**11
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio

Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Pairs:
    """Pairs of alike texts: their places, first < second, and their Jaccard indices, all (P,)."""

    first: Places
    second: Places
    index: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.first.tolist(), self.second.tolist(), strict=True)

    def __getitem__(self, which: NDArray[np.bool_]) -> Pairs:
        """Some of the pairs, by a mask (P,)."""
        return Pairs(self.first[which], self.second[which], self.index[which])


@dataclass(frozen=True)
class Sketch:
    """Inputs of one or more fields, and their signatures (N, 120).

    Two inputs are as alike as their least alike fields, so that two questions to one long text are two inputs.

    >>> sketch = Sketch.of([("Where is my parcel, please?",), ("where is my parcel please",), ("Charged twice.",)])
    >>> list(sketch.pairs())
    [(0, 1)]
    """

    texts: tuple[tuple[str, ...], ...]
    signatures: NDArray[np.uint32]

    @classmethod
    def of(cls, inputs: Sequence[Sequence[str]]) -> Sketch:
        texts = tuple(tuple(map(_bare, fields)) for fields in inputs)
        return cls(texts, _signatures(["\0".join(fields) for fields in texts]))

    def __len__(self) -> int:
        return len(self.texts)

    def joined(self, other: Sketch) -> Sketch:
        """Both, one behind the other."""
        return Sketch(self.texts + other.texts, np.concatenate([self.signatures, other.signatures]))

    def pairs(self, alike: float = ALIKE) -> Pairs:
        """The pairs whose index is at least `alike`; of a text that is like many before it, with the three likest."""
        return self._checked(_within(self.signatures), alike)

    def across(self, other: Sketch, alike: float = ALIKE) -> Pairs:
        """The same of pairs with the first here and the second, by its place there, in another sketch."""
        both = self.joined(other)
        pairs = both._checked(_across(both.signatures, len(self)), alike)
        return Pairs(pairs.first, pairs.second - len(self), pairs.index)

    def _checked(self, found: Places, alike: float) -> Pairs:
        """Of candidates (2, P) the likest of each second text by their signatures, and of these the alike."""
        none = np.zeros(0)
        likely = np.concatenate(
            [none, *((self.signatures[a] == self.signatures[b]).mean(1) for a, b in _chunks(found))]
        )
        found, likely = found[:, likely >= alike - _SURE], likely[likely >= alike - _SURE]
        order = np.lexsort((found[0], -likely, found[1]))
        begins = np.searchsorted(found[1][order], found[1][order])
        found = found[:, np.sort(order[np.arange(len(order)) - begins < _KEPT])]
        exact = np.concatenate([none, *(self._index(a, b) for a, b in _chunks(found))])
        return Pairs(found[0], found[1], exact)[exact >= alike]

    def _index(self, first: Places, second: Places) -> NDArray[np.float64]:
        pairs = [(self.texts[a], self.texts[b]) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
        fields = range(len(pairs[0][0]))
        by_field = [jaccard([a[f] for a, _ in pairs], [b[f] for _, b in pairs]) for f in fields]
        return np.asarray(np.min(by_field, axis=0))


def jaccard(first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
    """The Jaccard indices (N,) of the shingles of two lists of texts, one by one. N is at most 65,536."""
    keys = [_owned(texts) for texts in (first, second)]
    both = np.sort(np.concatenate(keys))
    shared = both[1:][both[1:] == both[:-1]]
    sizes = [np.bincount((k >> np.uint64(48)).astype(np.int64), minlength=len(first)) for k in (*keys, shared)]
    return np.asarray(sizes[2] / np.maximum(sizes[0] + sizes[1] - sizes[2], 1))


def _owned(texts: Sequence[str]) -> Hashes:
    """Each text's different shingles: its place in 16 bits, and 48 of their hash."""
    hashes, starts = _shingles(texts)
    owners = np.repeat(np.arange(len(texts), dtype=np.uint64), np.diff(np.append(starts, len(hashes))))
    keys: Hashes = np.sort(owners << np.uint64(48) | hashes >> np.uint64(16))
    return np.asarray(keys[np.append(True, keys[1:] != keys[:-1])])  # np.unique takes ten times as long


def _bare(text: str) -> str:
    """The text without case and punctuation; where nothing else is in it, without case and spaces."""
    folded = text.casefold()
    return " ".join(re.sub(r"\W+", " ", folded).split()) or " ".join(folded.split())


def _shingles(texts: Sequence[str]) -> tuple[Hashes, Places]:
    """Hashes of all shingles of all texts, and where each text's begin; a text has at least one."""
    padded = [f" {text} ".ljust(_RUN, "\0") for text in texts]
    lengths = np.array([len(text) for text in padded], dtype=np.int64)
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    inside = np.ones(len(codes), dtype=bool)
    ends = np.cumsum(lengths)
    inside[(ends[:, None] - np.arange(1, _RUN)).ravel()] = False  # these would run into the next text
    hashes = codes[: 1 - _RUN].copy()
    for shift in range(1, _RUN):
        hashes = hashes * _ODD + codes[shift : len(codes) - _RUN + 1 + shift]
    counts = lengths - _RUN + 1
    return _mixed(hashes[inside[: 1 - _RUN]]), np.cumsum(counts) - counts


def _mixed(values: Hashes) -> Hashes:
    """The finalizer of SplitMix64 (Steele, Lea & Flood 2014): every bit depends on every bit."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


def _signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """The smallest value of each text's shingles under 120 orders a x + b mod 2^32, (N, 120)."""
    generator = np.random.default_rng(seed_of("likeness", "orders"))
    factors, offsets = generator.integers(0, 2**32, (2, _BANDS * _ROWS), dtype=np.uint32)
    factors |= np.uint32(1)
    signatures = np.empty((len(texts), _BANDS * _ROWS), dtype=np.uint32)
    for start, end in _runs(texts):
        hashes, starts = _shingles(texts[start:end])
        short = (hashes >> np.uint64(32)).astype(np.uint32)
        for order, (factor, offset) in enumerate(zip(factors, offsets, strict=True)):
            signatures[start:end, order] = np.minimum.reduceat(short * factor + offset, starts)
    return signatures


def _runs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Texts in runs that fit into a processor's cache."""
    start = size = 0
    for end, text in enumerate(texts, 1):
        size += len(text)
        if size >= _AT_ONCE or end == len(texts):
            yield start, end
            start, size = end, 0


def _buckets(signatures: NDArray[np.uint32]) -> Iterator[tuple[Places, Places]]:
    """For each band the texts sorted by its values, those that agree in their own order, and for each the place in
    that order where those that agree with it begin; all (N,)."""
    for band in range(_BANDS):
        key = np.zeros(len(signatures), dtype=np.uint64)
        for row in range(band * _ROWS, (band + 1) * _ROWS):
            key = _mixed(key * _ODD + signatures[:, row])
        order = np.argsort(key, kind="stable")
        yield order, np.searchsorted(key[order], key[order])


def _within(signatures: NDArray[np.uint32]) -> Places:
    """Pairs (2, P) that agree in a band, each once, in order: of each text, with the last before it and the first."""
    found = []
    for order, begins in _buckets(signatures):
        at = np.arange(len(order))
        for step in range(1, _KEPT + 1):
            near = at - step >= begins
            found.append((order[at[near] - step], order[near]))
        later = begins < at
        found.append((order[begins[later]], order[later]))
    return _once(found, len(signatures))


def _across(signatures: NDArray[np.uint32], size: int) -> Places:
    """The same of pairs of one of the first `size` texts and one of the others: with the first of those."""
    found = []
    for order, begins in _buckets(signatures):
        for step in range(_KEPT):
            other = np.minimum(begins + step, len(order) - 1)
            near = (begins[other] == begins) & (order[other] < size) & (order >= size)
            found.append((order[other[near]], order[near]))
    return _once(found, len(signatures))


def _once(found: Sequence[tuple[Places, Places]], size: int) -> Places:
    codes = np.sort(np.concatenate([first * size + second for first, second in found]))
    codes = codes[np.append(True, codes[1:] != codes[:-1])[: len(codes)]]
    return np.stack([codes // max(1, size), codes % max(1, size)])


def _chunks(pairs: Places) -> Iterator[tuple[Places, Places]]:
    for at in range(0, pairs.shape[1], _PAIRS_AT_ONCE):
        yield pairs[0, at : at + _PAIRS_AT_ONCE], pairs[1, at : at + _PAIRS_AT_ONCE]
