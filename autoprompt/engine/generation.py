"""Texts written on from contexts: beginnings shared, each row with its own cache, rows that ended leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.engine.batches import Budget
from autoprompt.engine.causal import Segment, hidden_states, logits_of, pack_of
from autoprompt.engine.grid import Count, Grid
from autoprompt.engine.pack import Buffers, Pack, Span, hang
from autoprompt.engine.request import Ids, Request, embedded
from autoprompt.engine.walk import bytes_per_token, leaves_of, walk
from autoprompt.models import LanguageModel
from autoprompt.soft import seed_of

__all__ = ["Writing", "write", "write_plainly"]


@dataclass(frozen=True)
class Writing:
    """new_tokens: the most to write. temperature: 0 takes the likeliest token, else the distribution
    is divided by it and drawn from. seed: of the draws. ends: ids that end a text; they are not part of it.
    """

    new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    ends: frozenset[int] = frozenset()

    def draws(self, number: int) -> NDArray[np.float64]:
        """Uniform numbers of text `number`, one a token: no batch or order changes them."""
        return np.random.default_rng(seed_of(self.seed, "generate", number)).random(self.new_tokens)

    def chosen(self, logits: Tensor, draws: NDArray[np.float64]) -> Tensor:
        """The next token of each row (B,), from logits (B, V); draws (B,) in [0, 1)."""
        if self.temperature == 0:
            return logits.argmax(-1)
        shares = (logits.double() / self.temperature).softmax(-1).cumsum(-1)
        at = torch.from_numpy(draws).to(shares)[:, None] * shares[:, -1:]
        return torch.searchsorted(shares, at, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def write(
    requests: Sequence[Request], model: LanguageModel, budget: Budget, count: Count, writing: Writing
) -> list[Ids]:
    """What a causal model writes behind each request's context, in packed passes."""
    greedy = writing.temperature == 0
    # equal contexts are written on once, unless each has draws of its own
    grid = Grid.of([Request(r.context, vectors=r.vectors, choices=(), tail=() if greedy else (n,))
                    for n, r in enumerate(requests)], model)  # fmt: skip
    written: list[Ids] = [()] * len(grid.contexts)
    numbers = [tail[0] if tail else 0 for tail in grid.tails]

    def forward(batch: list[tuple[int, Segment]]) -> None:
        segments, own = [segment for _, segment in batch], [numbers[at] for at, _ in batch]
        texts = _Rows(model, segments, grid.vectors, writing, own).run(budget.tokens, count)
        for (at, _), text in zip(batch, texts, strict=True):
            written[at] = text

    room = budget.kept_bytes // bytes_per_token(model)  # tokens that all rows' caches may hold
    for group in walk(grid, model, budget, count):
        rows = [(at, Segment(ids, chain)) for at, ids, chain in leaves_of(grid, group)]
        for batch in _that_fit(rows, room, writing.new_tokens):
            budget.run(batch, lambda member: (1, 1), forward)
            del batch
        del group, rows
    return [written[number] for number, _ in grid.places]


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
        self.draws = np.stack([writing.draws(n) for n in numbers]) if writing.temperature else None
        self.alive = np.arange(len(segments))  # the rows' numbers
        self.texts: list[list[int]] = [[] for _ in segments]
        self.depths = np.array([segment.start + len(segment.ids) for segment in segments])

    def run(self, most_tokens: int, count: Count) -> list[Ids]:
        """Write all texts; contexts are read at most so many tokens at a time."""
        hidden, buffers = self._read(most_tokens)
        count(sum(len(segment.ids) for segment in self.segments))
        for step in range(self.writing.new_tokens):
            logits = logits_of(self.model, hidden)
            draws = np.empty(0) if self.draws is None else self.draws[self.alive, step]
            tokens = self.writing.chosen(logits, draws).cpu().numpy()
            ended = np.isin(tokens, list(self.writing.ends))
            for row, token in zip(self.alive[~ended].tolist(), tokens[~ended].tolist(), strict=True):
                self.texts[row].append(token)
            if ended.all() or step == self.writing.new_tokens - 1:
                break
            if ended.any():
                self.alive, tokens = self.alive[~ended], tokens[~ended]
                buffers.keep(torch.from_numpy(np.flatnonzero(~ended)).to(self.model.device))
            hidden = self._step(buffers, tokens, step)
            count(len(tokens))
        return [tuple(text) for text in self.texts]

    def _read(self, most_tokens: int) -> tuple[Tensor, Buffers]:
        """The hidden state of each context's last token (B, H), and the rows' caches."""
        lengths = np.array([len(segment.ids) for segment in self.segments])
        width = int(lengths.max())
        room = width + self.writing.new_tokens
        layers: dict[int, tuple[Tensor, Tensor]] = {}
        hidden = []
        size = max(1, most_tokens // width)
        for first in range(0, len(lengths), size):
            part = slice(first, first + size)
            pack, ids = pack_of(self.model, self.segments[part], keep=True)
            found = hidden_states(self.model, pack, ids, self.vectors)
            stops = np.cumsum(lengths[part])
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

    def _step(self, buffers: Buffers, tokens: NDArray[np.int64], step: int) -> Tensor:
        buffers.step()
        spans: list[Span] = []
        for at, row in enumerate(self.alive.tolist()):
            hang(spans, at, at + 1, self.segments[row].chain)
        pack = Pack(self.depths[self.alive] + step, (), spans, buffers=buffers)
        return hidden_states(self.model, pack, tokens, self.vectors)


def write_plainly(
    requests: Sequence[Request], model: LanguageModel, budget: Budget, count: Count, writing: Writing
) -> list[Ids]:
    """The same through transformers' own `generate`, for models that packed passes do not fit.

    Contexts of one length go together, so that no row is padded.
    """
    written: list[Ids] = [()] * len(requests)

    def forward(batch: list[int]) -> None:
        texts = _generated(model, [requests[n] for n in batch], writing, np.stack([writing.draws(n) for n in batch]))
        for number, text in zip(batch, texts, strict=True):
            written[number] = text
            count(len(requests[number].context) + len(text))

    alike: dict[tuple[int, bool], list[int]] = {}
    for number, request in enumerate(requests):
        alike.setdefault((len(request.context), request.vectors is not None), []).append(number)
    for members in alike.values():
        budget.run(members, lambda number: (1, len(requests[number].context) + writing.new_tokens), forward)
    return written


def _generated(
    model: LanguageModel, requests: Sequence[Request], writing: Writing, draws: NDArray[np.float64]
) -> list[Ids]:
    """Texts behind contexts of one length; draws (B, new_tokens)."""
    ids = torch.tensor([request.context for request in requests], device=model.device)
    rows = [None if r.vectors is None else torch.from_numpy(r.vectors) for r in requests]
    found = model.network.generate(
        **embedded(model, ids, rows),
        attention_mask=torch.ones_like(ids),
        max_new_tokens=writing.new_tokens,
        do_sample=False,
        eos_token_id=sorted(writing.ends) or None,
        pad_token_id=0,
        logits_processor=[_Chooser(writing, draws)],
    ).tolist()
    # generate gives back the prompt only where it was given as ids; an encoder-decoder's start token leads
    start = 1 if model.family == "seq2seq" else ids.shape[1] if rows[0] is None else 0
    texts = [text[start:] for text in found]
    cuts = [next((n for n, token in enumerate(text) if token in writing.ends), len(text)) for text in texts]
    return [tuple(text[:cut]) for text, cut in zip(texts, cuts, strict=True)]


class _Chooser:
    """For `generate`: leaves only the token that each row's draw chooses."""

    def __init__(self, writing: Writing, draws: NDArray[np.float64]) -> None:
        self.writing, self.draws, self.step = writing, draws, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        tokens = self.writing.chosen(scores.float(), self.draws[:, self.step])
        self.step += 1
        return torch.full_like(scores, float("-inf")).scatter(1, tokens[:, None], 0.0)
