"""The tree of a causal grid, walked depth first: beginnings are read and kept, leaves are scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from autoprompt.engine import causal
from autoprompt.engine.batches import Budget
from autoprompt.engine.causal import Leaf, Segment
from autoprompt.engine.grid import Count, Grid
from autoprompt.engine.pack import Chain
from autoprompt.engine.request import Ids
from autoprompt.engine.tree import Trunk, grow
from autoprompt.models import LanguageModel

__all__ = ["Hanging", "bytes_per_token", "leaves_of", "score", "walk"]

_SAVING = {"cpu": 8, "cuda": 64}  # tokens that a shared beginning must spare to repay its own pass

Hanging = tuple[Trunk, Chain | None]  # a trunk, and the chain up to its end


def score(grid: Grid, model: LanguageModel, budget: Budget, count: Count) -> list[NDArray[np.float64]]:
    """The log-probabilities of the choices behind each context."""
    scored: list[NDArray[np.float64]] = [np.empty(0)] * len(grid.contexts)

    def forward(batch: list[tuple[int, Leaf]]) -> None:
        values = causal.label_scores(model, [leaf for _, leaf in batch], grid.vectors).double().cpu().numpy()
        count(sum(leaf.tokens for _, leaf in batch))
        for (at, leaf), row in zip(batch, values, strict=True):
            scored[at] = row[: len(leaf.tree.choices)]

    for group in walk(grid, model, budget, count):
        leaves = [(at, Leaf(ids, chain, grid.trees[at])) for at, ids, chain in leaves_of(grid, group)]
        budget.run(leaves, lambda member: (1, member[1].tokens), forward, packed=True)
        del group, leaves  # their chains are freed before the next group is read
    return scored


def leaves_of(grid: Grid, group: Sequence[Hanging]) -> Iterator[tuple[int, Ids, Chain | None]]:
    """The contexts that end at trunks: number, own last ids, and chain; those of a trunk by their length."""
    for trunk, chain in group:
        for at in sorted(trunk.leaves, key=lambda at: len(grid.contexts[at])):
            yield at, grid.contexts[at][trunk.end :], chain


def walk(grid: Grid, model: LanguageModel, budget: Budget, count: Count) -> Iterator[list[Hanging]]:
    """Trunks that have been read, with their chains, in groups; each is given back before the next is read.

    Depth first, so that few chains are alive at a time: as many as the budget's bytes hold, or
    one path.
    """
    root = grow(grid.contexts, grid.saving or _SAVING.get(model.device.type, 64))
    yield [(root, None)]
    waiting: list[list[Hanging]] = [[(child, None) for child in root.children]]
    per_token = bytes_per_token(model)
    while waiting:
        pending = waiting.pop()
        if not pending:
            continue
        alive = {id(c): c.bytes for hanging in [*waiting, pending] for _, c in hanging if c is not None}
        group = _that_fit(pending, budget.kept_bytes - sum(alive.values()), per_token)
        chains: list[Chain] = []

        def forward(batch: list[Hanging], chains: list[Chain] = chains) -> None:
            segments = [Segment(grid.contexts[t.example][t.start : t.end], chain) for t, chain in batch]
            chains += causal.read_trunks(model, segments, grid.vectors)
            count(sum(trunk.length for trunk, _ in batch))

        budget.run(group, lambda hanging: (1, hanging[0].length), forward, packed=True)
        waiting.append(pending[len(group) :])
        found: list[Hanging] = [(trunk, chain) for (trunk, _), chain in zip(group, chains, strict=True)]
        yield found
        waiting.append([(child, chain) for trunk, chain in found for child in trunk.children])
        del group, pending, chains, found  # what nothing hangs on any more is freed


def _that_fit(pending: Sequence[Hanging], room: int, per_token: int) -> list[Hanging]:
    """The first few whose chains fit into `room` bytes, at least one."""
    group: list[Hanging] = []
    for trunk, chain in pending:
        room -= trunk.end * per_token
        if group and room < 0:
            break
        group.append((trunk, chain))
    return group


def bytes_per_token(model: LanguageModel) -> int:
    """Keys and values of one token, over all layers."""
    config = model.network.config.get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    grouped = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * config.num_hidden_layers * grouped * width * model.dtype.itemsize)
