"""Texts written on from contexts: beginnings shared, each row with its own cache, rows that ended leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.engine.batches import Budget
from autoprompt.engine.causal import Leaf, Segment, hidden_states, logits_of, pack_of, scores_of
from autoprompt.engine.choosing import Hand, Text, Writing
from autoprompt.engine.grid import Count, Grid
from autoprompt.engine.pack import Buffers, Chain, Pack, Span, hang
from autoprompt.engine.request import Ids, Request, embedded
from autoprompt.engine.tree import label_tree
from autoprompt.engine.walk import bytes_per_token, leaves_of, walk
from autoprompt.models import LanguageModel

__all__ = ["write", "write_plainly"]


def write(
    requests: Sequence[Request], model: LanguageModel, budget: Budget, count: Count, writing: Writing
) -> list[Text]:
    """What a causal model writes behind each request's context, in packed passes."""
    alike = writing.temperature == 0 and writing.follow is None and writing.told is None
    # equal contexts are written on once, unless each one counts: for its draws, or what follows it
    grid = Grid.of([Request(r.context, vectors=r.vectors, choices=r.choices if writing.weigh else (),
                            tail=() if alike else (n,)) for n, r in enumerate(requests)], model)  # fmt: skip
    written = [Text()] * len(grid.contexts)
    numbers = [tail[0] if tail else 0 for tail in grid.tails]

    def forward(batch: list[tuple[int, Segment]]) -> None:
        segments, own = [segment for _, segment in batch], [numbers[at] for at, _ in batch]
        texts = _Rows(model, segments, grid.vectors, writing, own).run(budget.tokens, count)
        for (at, _), text in zip(batch, texts, strict=True):
            written[at] = text

    room = budget.kept_bytes // bytes_per_token(model)  # tokens that all rows' caches may hold
    for group in walk(grid, model, budget, count):
        rows = [(at, _row(ids, chain, grid.choices[at])) for at, ids, chain in leaves_of(grid, group)]
        for batch in _that_fit(rows, room, writing.new_tokens):
            budget.run(batch, lambda member: (1, 1), forward)
            del batch
        del group, rows
    return [_with_own(written[number], chosen) for number, chosen in grid.places]


def _row(ids: Ids, chain: Chain | None, choices: tuple[Ids, ...]) -> Segment:
    return Leaf(ids, chain, label_tree(choices)) if choices else Segment(ids, chain)


def _with_own(text: Text, chosen: Sequence[int] | None) -> Text:
    """The text with the scores of one request's choices, where its context has those of others too."""
    return text if chosen is None or not text.scores else replace(text, scores=tuple(text.scores[c] for c in chosen))


def _that_fit(rows: Sequence[tuple[int, Segment]], room: int, new_tokens: int) -> Iterator[list[tuple[int, Segment]]]:
    """Rows in batches whose caches, as wide as the widest, hold at most `room` tokens."""
    batch: list[tuple[int, Segment]] = []
    widest = 0
    for row in rows:
        wide = max(widest, len(row[1].ids))
        if batch and (len(batch) + 1) * (wide + new_tokens) > room:
            yield batch
            batch, wide = [], len(row[1].ids)
        batch.append(row)
        widest = wide
    if batch:
        yield batch


class _Rows:
    """Texts that are being written, one a row."""

    def __init__(
        self,
        model: LanguageModel,
        segments: Sequence[Segment],
        vectors: Tensor | None,
        writing: Writing,
        numbers: Sequence[int],
    ) -> None:
        self.model, self.vectors, self.writing = model, vectors, writing
        self.segments = list(segments)
        self.hand = Hand(writing, numbers)
        self.alive = np.arange(len(segments))  # the rows' numbers
        self.depths = np.array([segment.start + len(segment.ids) for segment in segments])

    def run(self, most_tokens: int, count: Count) -> list[Text]:
        """Write all texts; contexts are read at most so many tokens at a time."""
        hidden, buffers = self._read(most_tokens)
        count(sum(segment.tokens for segment in self.segments))
        for step in range(self.writing.new_tokens):
            tokens, over = self.hand.next(self.alive, logits_of(self.model, hidden))
            if over.all() or step == self.writing.new_tokens - 1:
                break
            if over.any():
                self.alive, tokens = self.alive[~over], tokens[~over]
                buffers.keep(torch.from_numpy(np.flatnonzero(~over)).to(self.model.device))
            hidden = self._step(buffers, tokens, step)
            count(len(tokens))
        return self.hand.texts()

    def _read(self, most_tokens: int) -> tuple[Tensor, Buffers]:
        """The hidden state of each context's last token (B, H), and the rows' caches."""
        lengths = np.array([len(segment.ids) for segment in self.segments])
        width = int(lengths.max())
        room = width + self.writing.new_tokens
        layers: dict[int, tuple[Tensor, Tensor]] = {}
        hidden = []
        size = max(1, most_tokens // max(segment.tokens for segment in self.segments))
        for first in range(0, len(lengths), size):
            part = slice(first, first + size)
            pack, ids = pack_of(self.model, self.segments[part], keep=True)
            found = hidden_states(self.model, pack, ids, self.vectors)
            whole = np.array([segment.tokens for segment in self.segments[part]])
            stops = np.cumsum(whole) - whole + lengths[part]  # behind each context, before its choices
            self._weigh(part, found)
            hidden.append(found[torch.from_numpy(stops - 1).to(found.device)])
            # flush right: the last column of each row is its last token
            index = np.maximum(stops[:, None] - width + np.arange(width)[None], 0)
            where = torch.from_numpy(index.reshape(-1)).to(found.device)
            for layer, kept in pack.kept.items():
                if layer not in layers:
                    k, v = (x.new_empty(len(lengths), x.shape[1], room, x.shape[3]) for x in kept)
                    layers[layer] = (k, v)
                for buffer, packed in zip(layers[layer], kept, strict=True):
                    rows = packed[0].index_select(1, where).reshape(packed.shape[1], *index.shape, -1)
                    buffer[part, :, :width] = rows.transpose(0, 1)
        return torch.cat(hidden), Buffers(layers, width - lengths, width)

    def _weigh(self, part: slice, hidden: Tensor) -> None:
        """Score the choices of rows that have any, from the pass that read their contexts."""
        segments = self.segments[part]
        if any(isinstance(segment, Leaf) for segment in segments):
            scores = scores_of(self.model, segments, hidden).double().cpu().tolist()
            for at, (segment, row) in enumerate(zip(segments, scores, strict=True), part.start):
                if isinstance(segment, Leaf):
                    self.hand.scores[at] = tuple(row[: len(segment.tree.choices)])

    def _step(self, buffers: Buffers, tokens: NDArray[np.int64], step: int) -> Tensor:
        buffers.step()
        spans: list[Span] = []
        for at, row in enumerate(self.alive.tolist()):
            hang(spans, at, at + 1, self.segments[row].chain)
        pack = Pack(self.depths[self.alive] + step, (), spans, buffers=buffers)
        return hidden_states(self.model, pack, tokens, self.vectors)


def write_plainly(
    requests: Sequence[Request], model: LanguageModel, budget: Budget, count: Count, writing: Writing
) -> list[Text]:
    """The same through transformers' own `generate`, for models that packed passes do not fit.

    Contexts of one length go together, so that no row is padded.
    """
    written = [Text()] * len(requests)

    def forward(batch: list[int]) -> None:
        hand = Hand(writing, batch)
        _generate(model, [requests[n] for n in batch], hand)
        for number, text in zip(batch, hand.texts(), strict=True):
            written[number] = text
            count(len(requests[number].context) + len(text.ids))

    alike: dict[tuple[int, bool], list[int]] = {}
    for number, request in enumerate(requests):
        alike.setdefault((len(request.context), request.vectors is not None), []).append(number)
    for members in alike.values():
        budget.run(members, lambda number: (1, len(requests[number].context) + writing.new_tokens), forward)
    return written


def _generate(model: LanguageModel, requests: Sequence[Request], hand: Hand) -> None:
    """Have texts written behind contexts of one length."""
    ids = torch.tensor([request.context for request in requests], device=model.device)
    rows = [None if r.vectors is None else torch.from_numpy(r.vectors) for r in requests]
    chooser = _Chooser(hand, len(requests))
    model.network.generate(
        **embedded(model, ids, rows),
        attention_mask=torch.ones_like(ids),
        max_new_tokens=hand.writing.new_tokens,
        do_sample=False,
        eos_token_id=sorted(hand.writing.ends) or None,
        pad_token_id=0,
        logits_processor=[chooser],
        stopping_criteria=[chooser.over],
    )


class _Chooser:
    """For `generate`: leaves only the token that is written next; a row that is over goes on with token 0."""

    def __init__(self, hand: Hand, rows: int) -> None:
        self.hand = hand
        self.alive = np.arange(rows)
        self.rows = rows

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        tokens = np.zeros(self.rows, dtype=np.int64)
        if len(self.alive):
            rows = torch.from_numpy(self.alive).to(scores.device)
            tokens[self.alive], over = self.hand.next(self.alive, scores[rows].float())
            self.alive = self.alive[~over]
        at = torch.from_numpy(tokens).to(scores.device)[:, None]
        return torch.full_like(scores, float("-inf")).scatter(1, at, 0.0)

    def over(self, input_ids: Tensor, scores: Tensor, **given: object) -> Tensor:
        """Which rows are over (B,)."""
        done = np.ones(self.rows, dtype=bool)
        done[self.alive] = False
        return torch.from_numpy(done).to(input_ids.device)
