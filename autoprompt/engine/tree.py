"""The plan of a grid: contexts as a tree of shared beginnings, choices as a tree behind each context.

Every token that several sequences share at the same place is read once. Only token ids are known
here; nothing is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from autoprompt.engine.request import Ids

__all__ = ["LabelTree", "Trunk", "grow", "label_tree"]

_LONGEST_LEAF = 512  # a longer context behind its trunk is a trunk of its own, which needs no mask


@dataclass(eq=False)
class Trunk:
    """A beginning that many contexts share: the tokens `start` to `end` of each of them.

    example: one of these contexts. leaves: contexts that go on from here by themselves.
    """

    start: int
    end: int
    example: int
    leaves: list[int] = field(default_factory=list)
    children: list[Trunk] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Own tokens, without those of the trunk before it."""
        return self.end - self.start


def grow(contexts: Sequence[Ids], saving: int) -> Trunk:
    """The tree of contexts; its root is empty.

    A trunk is made where it spares at least `saving` tokens. The last token of a context always
    stays its own, since what follows it is wanted.
    """
    order, shared = _sorted_with_shared(contexts)
    root = Trunk(0, 0, 0)
    waiting = [(0, len(order), root)]
    while waiting:
        low, high, parent = waiting.pop()
        inner = shared[low + 1 : high]  # of each context with the one before it
        if len(inner) == 0 or (int(inner.max()) - parent.end) * len(inner) < saving:
            for at in order[low:high]:
                _add_leaf(parent, int(at), len(contexts[at]))
            continue
        depth = int(inner.min())
        end = min(depth, min(len(contexts[at]) for at in order[low:high]) - 1)
        node = parent
        if (end - parent.end) * len(inner) >= saving:
            node = Trunk(parent.end, end, int(order[low]))
            parent.children.append(node)
        cuts = [low, *(low + 1 + np.flatnonzero(inner == depth)).tolist(), high]
        waiting += [(a, b, node) for a, b in pairwise(cuts)]
    return root


def _add_leaf(parent: Trunk, at: int, length: int) -> None:
    if length - 1 - parent.end > _LONGEST_LEAF:
        parent.children.append(Trunk(parent.end, length - 1, at, [at]))
    else:
        parent.leaves.append(at)


def _sorted_with_shared(contexts: Sequence[Ids]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of the contexts (N,), and how many leading ids each shares with the one before it."""
    # as big-endian bytes, whose order is the ids': negative ids come behind, which does not matter
    keys = [np.asarray(context, dtype=">i4").tobytes() for context in contexts]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    shared = np.zeros(len(order), dtype=np.int64)
    before = np.frombuffer(keys[order[0]], dtype=np.int32)
    for n, at in enumerate(order[1:], 1):
        here = np.frombuffer(keys[at], dtype=np.int32)
        length = min(len(before), len(here))
        differs = before[:length] != here[:length]
        shared[n] = int(differs.argmax()) if differs.any() else length
        before = here
    return order, shared


@dataclass(frozen=True, eq=False)
class LabelTree:
    """The choices behind a context, shared beginnings once; tokens that nothing follows are left out.

    ids (n,), depths (n,) from 0 right behind the context, visible (n, n): which tokens a token
    sees, itself included. choices: for every token of every choice the place that predicts it, 0
    for the context's last token and 1 + i for token i of this tree, and its id.
    """

    ids: Ids
    depths: tuple[int, ...]
    visible: NDArray[np.bool_]
    choices: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def places(self) -> int:
        """How many tokens predict something."""
        return 1 + len(self.ids)


@lru_cache(maxsize=4096)
def label_tree(choices: tuple[Ids, ...]) -> LabelTree:
    """The tree of choices. Raises ValueError when there is none, or one has no tokens."""
    if not choices or not all(choices):
        raise ValueError("a request needs at least one choice, and each choice at least one token")
    numbers: dict[Ids, int] = {(): 0}  # beginnings, in the order they are met
    for choice in choices:
        for length in range(1, len(choice)):
            numbers.setdefault(choice[:length], len(numbers))
    inner = [beginning for beginning in numbers if beginning]
    visible = np.zeros((len(inner), len(inner)), dtype=bool)
    for at, beginning in enumerate(inner):
        for length in range(1, len(beginning) + 1):
            visible[at, numbers[beginning[:length]] - 1] = True
    return LabelTree(
        tuple(beginning[-1] for beginning in inner),
        tuple(len(beginning) - 1 for beginning in inner),
        visible,
        tuple(tuple((numbers[choice[:j]], token) for j, token in enumerate(choice)) for choice in choices),
    )
