"""What the model's own embeddings say of a label: logistic regression on them, its penalty chosen out of fold.

A linear probe (Alain & Bengio 2017): what a classifier without any prompt makes of the same model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from autoprompt.data import Example
from autoprompt.engine import Request
from autoprompt.models import text_vectors
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.soft import seed_of

__all__ = ["MOST", "Embeddings", "Floats", "Probe", "cross_fitted", "softmax"]

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

MOST = 2000  # examples of a split that are embedded
_LONGEST = 8000  # characters of a text that are
_AXES = 256  # principal components that the regression reads
_FOLDS = 5
_PENALTIES = (3.0, 0.3, 0.03, 0.003, 0.0003)  # on squared weights, for rows of a mean squared length of 1
_STEPS, _STILL = 300, 1e-9


def softmax(rows: Floats) -> Floats:
    """Each row's exponentials over their sum."""
    shifted = np.exp(rows - rows.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


class Embeddings:
    """The model's own embedding of examples; each list of them is read once.

    A sentence encoder reads them under the prompt, with the prefixes that it may want; of the other
    families it is the mean of the last hidden states over the text alone. tokens: those read.
    """

    def __init__(self, scorer: Scorer, prompt: Prompt) -> None:
        self._scorer, self._prompt = scorer, prompt
        self._known: dict[tuple[object, ...], Floats] = {}
        self.tokens = 0

    def of(self, examples: Sequence[Example]) -> Floats:
        """Vectors (N, D)."""
        key = tuple(example.key for example in examples)
        if key not in self._known:
            rows = self._under_the_prompt(examples) if self._scorer.model.family == "encoder" else self._plain(examples)
            self._known[key] = np.nan_to_num(rows, posinf=0.0, neginf=0.0)
        return self._known[key]

    def _under_the_prompt(self, examples: Sequence[Example]) -> Floats:
        encodings = self._scorer.encode(self._prompt, [dict(example.fields) for example in examples])
        own = None if self._prompt.soft is None else np.ascontiguousarray(self._prompt.soft.vectors, dtype=np.float32)
        self.tokens += sum(len(encoding.context) for encoding in encodings)
        return self._scorer.engine.embed([Request(e.context, e.choices, e.tail, own) for e in encodings]).astype(float)

    def _plain(self, examples: Sequence[Example]) -> Floats:
        texts = ["\n".join(text for _, text in example.key)[:_LONGEST] for example in examples]
        model = self._scorer.model
        framing, room = sum(map(len, model.specials)), model.window or np.inf
        read = sum(min(len(ids) + framing, room) for ids in set(model.ids(texts, special=False)))
        self.tokens += int(read)
        vectors = text_vectors(model, texts).astype(float)
        self._scorer.engine.count(int(read))
        return vectors


@dataclass(frozen=True)
class _Frame:
    """Coordinates in which the rows' sum of squares is diagonal.

    Each number of an embedding is standardized first: in language models a few of them are far greater
    than all others (Timkey & van Schijndel 2021). squares (A,): the sum of squares along each axis.
    """

    mean: Floats
    axes: Floats
    squares: Floats

    @classmethod
    def of(cls, rows: Floats) -> Self:
        mean, deviation = rows.mean(0), rows.std(0)
        scale = np.where(deviation > 1e-8 * (1 + np.abs(mean)), deviation, np.inf)
        centred = (rows - mean) / scale
        if len(rows) <= rows.shape[1]:  # by the smaller of the two square matrices
            squares, sides = np.linalg.eigh(centred @ centred.T)
        else:
            squares, sides = np.linalg.eigh(centred.T @ centred)
        keep = np.flatnonzero(squares > 1e-9 * max(float(squares[-1]), 1e-12))[::-1][:_AXES]
        squares, sides = squares[keep], sides[:, keep]
        axes = centred.T @ (sides / np.sqrt(squares)) if len(rows) <= rows.shape[1] else sides
        spread = float(squares.sum()) / len(rows) or 1.0
        return cls(mean, axes / scale[:, None] / np.sqrt(spread), squares / spread)

    def coordinates(self, rows: Floats) -> Floats:
        """(N, A); 0 is the mean."""
        return np.asarray((rows - self.mean) @ self.axes)


@dataclass(frozen=True)
class Probe:
    """A fitted regression; made by `Probe.of`. weights (A, C) and biases (C,) are on the frame's axes."""

    frame: _Frame
    weights: Floats
    biases: Floats

    @classmethod
    def of(cls, rows: Floats, gold: Places, classes: int, seed: int) -> Self:
        """Fitted on embeddings (N, D) and the numbers of their classes (N,)."""
        penalty, _ = cross_fitted(rows, gold, classes, seed)
        frame = _Frame.of(rows)
        weights, biases = _fitted(frame.coordinates(rows), gold, classes, frame.squares, [penalty])[0]
        return cls(frame, weights, biases)

    def probabilities(self, rows: Floats) -> Floats:
        """(N, C) of embeddings (N, D)."""
        return softmax(self.frame.coordinates(rows) @ self.weights + self.biases)


def cross_fitted(rows: Floats, gold: Places, classes: int, seed: int) -> tuple[float, Floats]:
    """The best penalty, and under it the probabilities (N, C) of each row by a probe that was not fitted on it.

    The best is that with the least log loss out of fold. A class that no other fold has gets a
    probability of about 0 there. A single row gets equal ones.
    """
    if len(rows) < 2:
        return _PENALTIES[0], np.full((len(rows), classes), 1 / classes)
    frame = _Frame.of(rows)  # knows no labels, so that it may see all folds
    places, fold = frame.coordinates(rows), _folds(gold, seed)
    found = np.zeros((len(_PENALTIES), len(rows), classes))
    for number in range(int(fold.max()) + 1):
        out = fold == number
        for at, (weights, biases) in enumerate(
            _fitted(places[~out], gold[~out], classes, frame.squares, _PENALTIES, len(rows))
        ):
            found[at, out] = softmax(places[out] @ weights + biases)
    losses = [-np.log(np.maximum(one[np.arange(len(gold)), gold], 1e-6)).mean() for one in found]
    best = int(np.argmin(losses))
    return _PENALTIES[best], found[best]


def _folds(gold: Places, seed: int) -> Places:
    """The fold (N,) of each row: every class is dealt in a shuffled order, one after the other."""
    order: list[int] = []
    for label in sorted(set(gold.tolist())):
        members = np.flatnonzero(gold == label).tolist()
        order += random.Random(seed_of(seed, "fold", label)).sample(members, len(members))
    fold = np.empty(len(gold), dtype=np.int64)
    fold[order] = np.arange(len(gold)) % min(_FOLDS, len(gold))
    return fold


def _fitted(
    places: Floats, gold: Places, classes: int, squares: Floats, penalties: Sequence[float], count: int = 0
) -> list[tuple[Floats, Floats]]:
    """Multinomial logistic regression for each penalty, from the strongest on: weights (A, C) and biases (C,).

    The Hessian is at most half the rows' sum of squares, whatever the weights (Böhning 1992), which is
    diagonal here: each step divides the gradient by it. Rows that are a part of `count` ones have a smaller
    sum. Steps are accelerated (Nesterov 1983), anew where they go uphill (O'Donoghue & Candès 2015). A class
    without a row has no say: its bias is far below all others.
    """
    present = np.unique(gold)
    design = np.concatenate([places, np.ones((len(places), 1))], axis=1)
    target = (gold[:, None] == present[None]).astype(float)
    bound = np.append(squares, max(count, len(places)))[:, None] / 2
    solution, results = np.zeros((design.shape[1], len(present))), []
    for penalty in penalties:
        ridge = np.append(np.full(len(squares), penalty), 0.0)[:, None]
        solution = _descended(design, target, bound + ridge, ridge, solution)
        whole = np.zeros((design.shape[1], classes))
        whole[-1] = solution[-1].min(initial=0.0) - 30.0
        whole[:, present] = solution
        results.append((whole[:-1], whole[-1]))
    return results


def _descended(design: Floats, target: Floats, bound: Floats, ridge: Floats, start: Floats) -> Floats:
    """Where the penalized loss is least, from `start`."""
    last, ahead, pace = start, start, 1.0
    for _ in range(_STEPS):
        slope = design.T @ (softmax(design @ ahead) - target) + ridge * ahead
        new = ahead - slope / bound
        if float((slope**2 / bound).sum()) < _STILL * len(design):
            return new
        if float((slope * (new - last)).sum()) > 0:
            pace = 1.0
        faster = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        last, ahead, pace = new, new + (pace - 1) / faster * (new - last), faster
    return last
