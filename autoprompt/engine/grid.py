"""A grid of causal requests, read as a tree: each beginning once, each choice behind its context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from autoprompt.engine import causal
from autoprompt.engine.attention import Chain
from autoprompt.engine.batches import Budget
from autoprompt.engine.causal import Leaf, Segment, Vectors
from autoprompt.engine.request import Ids, Request
from autoprompt.engine.tree import LabelTree, Trunk, grow, label_tree
from autoprompt.models import LanguageModel

__all__ = ["Grid", "Hanging"]

_SAVING = {"cpu": 8, "cuda": 64}  # tokens that a shared beginning must spare to repay its own pass

Hanging = tuple[Trunk, Chain | None]  # a trunk, and the chain of the trunks before it


@dataclass(eq=False)
class Grid:
    """Requests as distinct contexts, each with all choices that any request has behind it.

    places: for each request its context's number and its choices' numbers there.
    """

    contexts: list[Ids]
    trees: list[LabelTree]
    places: list[tuple[int, list[int] | None]]
    vectors: Vectors
    saving: int

    @classmethod
    def of(cls, requests: Sequence[Request], model: LanguageModel) -> Grid:
        """The grid of requests; the vectors of all of them become one table (K, H)."""
        bases: dict[bytes, int] = {}
        tables: list[NDArray[np.float32]] = []
        known: dict[int, int] = {}  # arrays already seen, by id
        numbers: dict[Ids, int] = {}
        choices: list[dict[Ids, int]] = []
        wanted: list[tuple[int, tuple[Ids, ...]]] = []
        for request in requests:
            context = request.context
            if request.vectors is not None:
                if id(request.vectors) not in known:
                    table = np.ascontiguousarray(request.vectors, dtype=np.float32)
                    base = bases.setdefault(table.tobytes(), sum(map(len, tables)))
                    if base == sum(map(len, tables)):
                        tables.append(table)
                    known[id(request.vectors)] = base
                shift = known[id(request.vectors)]
                context = tuple(i - shift if i < 0 else i for i in context) if shift else context
            number = numbers.setdefault(context, len(numbers))
            if number == len(choices):
                choices.append({})
            for choice in request.choices:
                choices[number].setdefault(choice, len(choices[number]))
            wanted.append((number, request.choices))
        places = [
            (number, None if tuple(choices[number]) == given else [choices[number][choice] for choice in given])
            for number, given in wanted
        ]
        rows = torch.from_numpy(np.concatenate(tables)).to(model.device) if tables else None
        saving = _SAVING.get(model.device.type, 64)
        return cls(list(numbers), [label_tree(tuple(c)) for c in choices], places, Vectors(rows), saving)

    def score(self, model: LanguageModel, budget: Budget, count: Callable[[int], None]) -> list[NDArray[np.float64]]:
        """The log-probabilities (C,) of each request's choices; `count` is told of the tokens read."""
        scored: list[NDArray[np.float64]] = [np.empty(0)] * len(self.contexts)

        def forward(batch: list[tuple[int, Leaf]]) -> None:
            values = causal.label_scores(model, [leaf for _, leaf in batch], self.vectors).double().cpu().numpy()
            count(sum(leaf.tokens for _, leaf in batch))
            for (at, leaf), row in zip(batch, values, strict=True):
                scored[at] = row[: len(leaf.tree.choices)]

        for group in self.read(model, budget, count):
            leaves = [
                (at, Leaf(self.contexts[at][trunk.end :], chain, self.trees[at]))
                for trunk, chain in group
                for at in sorted(trunk.leaves, key=lambda at: len(self.contexts[at]))
            ]
            budget.run(leaves, lambda member: (1, member[1].tokens), forward)
            del group, leaves  # their chains are freed before the next group is read
        return [scored[number] if chosen is None else scored[number][chosen] for number, chosen in self.places]

    def read(self, model: LanguageModel, budget: Budget, count: Callable[[int], None]) -> Iterator[list[Hanging]]:
        """Trunks that have been read, with their chains, in groups; each is given back before the next is read.

        Depth first, so that few chains are alive at a time: as many as the budget's bytes hold, or
        one path.
        """
        root = grow(self.contexts, self.saving)
        yield [(root, None)]
        waiting: list[list[Hanging]] = [[(child, None) for child in root.children]]
        per_token = _bytes_per_token(model)
        while waiting:
            pending = waiting.pop()
            if not pending:
                continue
            alive = {id(c): c.bytes for hanging in [*waiting, pending] for _, c in hanging if c is not None}
            group = _that_fit(pending, budget.kept_bytes - sum(alive.values()), per_token)
            chains: list[Chain] = []

            def forward(batch: list[Hanging], chains: list[Chain] = chains) -> None:
                segments = [Segment(self.contexts[t.example][t.start : t.end], chain) for t, chain in batch]
                chains += causal.read_trunks(model, segments, self.vectors)
                count(sum(trunk.length for trunk, _ in batch))

            budget.run(group, lambda hanging: (1, hanging[0].length), forward)
            waiting.append(pending[len(group) :])
            found: list[Hanging] = [(trunk, chain) for (trunk, _), chain in zip(group, chains, strict=True)]
            yield found
            waiting.append([(child, chain) for trunk, chain in found for child in trunk.children])
            del group, pending, chains, found  # what nothing hangs on any more is freed

    def with_saving(self, saving: int) -> Grid:
        """The same grid, whose trunks spare at least `saving` tokens."""
        return replace(self, saving=saving)


def _that_fit(pending: Sequence[Hanging], room: int, per_token: int) -> list[Hanging]:
    """The first few whose chains fit into `room` bytes, at least one."""
    group: list[Hanging] = []
    for trunk, chain in pending:
        room -= trunk.end * per_token
        if group and room < 0:
            break
        group.append((trunk, chain))
    return group


def _bytes_per_token(model: LanguageModel) -> int:
    """Keys and values of one token, over all layers."""
    config = model.network.config.get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    grouped = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * config.num_hidden_layers * grouped * width * model.dtype.itemsize)
