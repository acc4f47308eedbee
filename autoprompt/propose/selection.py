"""Examples chosen from many by how alike their texts are, the classes taking turns."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoprompt.data import Example
from autoprompt.retrieval import vectorizer

__all__ = ["covering", "in_class_turns", "likeness", "spread", "typical"]

Floats = NDArray[np.float64]


def likeness(examples: Sequence[Example]) -> Floats:
    """The cosine of all pairs of texts (N, N), by TF-IDF of pieces of words."""
    # a dot keeps texts without any letter from leaving nothing to compare
    texts = ["\n".join([*(text for _, text in example.key), " ."]) for example in examples]
    rows = vectorizer().fit_transform(texts)
    return np.asarray((rows @ rows.T).toarray(), dtype=np.float64)


def in_class_turns(order: Sequence[int], labels: Sequence[str], generator: random.Random | None = None) -> list[int]:
    """The places in their order, but the classes take turns: in a drawn order, or as they come in `order`."""
    by_label: dict[str, list[int]] = {}
    for at in order:
        by_label.setdefault(labels[at], []).append(at)
    turns = list(by_label) if generator is None else generator.sample(sorted(by_label), len(by_label))
    found: list[int] = []
    while len(found) < len(order):
        found += [by_label[label].pop(0) for label in turns if by_label[label]]
    return found


def typical(alike: Floats, labels: Sequence[str]) -> list[int]:
    """All places, those first that are most like the others of their class and least like other classes'."""
    names = np.array(labels)
    own = names[:, None] == names[None]
    inside = (alike * own).sum(1) / own.sum(1)
    outside = (alike * ~own).sum(1) / np.maximum(1, (~own).sum(1))
    return [int(at) for at in (outside - inside).argsort(kind="stable")]


def spread(alike: Floats, labels: Sequence[str], count: int, generator: random.Random) -> list[int]:
    """Up to `count` places, each the farthest from those chosen before (k-center, Gonzalez 1985); the first
    is the one that is most like all."""
    found: list[int] = []
    for allowed in _turns(labels, count, generator):
        left = [at for at in allowed if at not in found]
        nearest = alike[:, found].max(1) if found else -alike.mean(1)
        found.append(min(left, key=lambda at: (nearest[at], at)))
    return found


def covering(alike: Floats, labels: Sequence[str], count: int, generator: random.Random) -> list[int]:
    """Up to `count` places such that every text is like one of them: facility location, greedily, which is
    at least 1 - 1/e of the best sum of cosines (Nemhauser et al. 1978) where classes are free."""
    found: list[int] = []
    reached = np.zeros(len(alike))
    for allowed in _turns(labels, count, generator):
        left = [at for at in allowed if at not in found]
        gains = np.maximum(alike[:, left], reached[:, None]).sum(0)
        found.append(left[int(gains.argmax())])
        reached = np.maximum(reached, alike[:, found[-1]])
    return found


def _turns(labels: Sequence[str], count: int, generator: random.Random) -> list[list[int]]:
    """For each of `count` choices the places of the class whose turn it is."""
    places: dict[str, list[int]] = {}
    for at, label in enumerate(labels):
        places.setdefault(label, []).append(at)
    order = in_class_turns(range(len(labels)), labels, generator)
    return [places[labels[at]] for at in order[:count]]
