"""One pass: rows of tokens packed behind each other, and what each token sees.

All tokens of a pass lie in one row (1, T), so that no linear layer sees padding. For their own part
of attention, rows of like length form padded blocks; what many rows share hangs before them as a
chain of keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Block", "Buffers", "Chain", "Pack", "Span", "added", "blocks_of", "hang"]

_WASTE = 1.15  # a block of rows may hold this many times its tokens, padding included


@dataclass(frozen=True, eq=False)
class Chain:
    """Keys and values of a beginning by layer, each (1, heads, P, D)."""

    layers: dict[int, tuple[Tensor, Tensor]]
    length: int

    @property
    def bytes(self) -> int:
        return sum(k.nbytes + v.nbytes for k, v in self.layers.values())


@dataclass(frozen=True, eq=False)
class Span:
    """Packed tokens `start` to `stop` hang on a chain."""

    start: int
    stop: int
    chain: Chain


def hang(spans: list[Span], start: int, stop: int, chain: Chain | None) -> None:
    """Add tokens behind those of `spans` that hang on a chain, if on any."""
    if spans and spans[-1].chain is chain:
        spans[-1] = Span(spans[-1].start, stop, chain)
    elif chain is not None:
        spans.append(Span(start, stop, chain))


def added(seen: NDArray[np.bool_] | Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What is added to scores: 0 where a token is seen, and the lowest number of the dtype elsewhere."""
    seen = torch.as_tensor(seen, device=device)
    return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)


class Block:
    """Rows of like length, padded to (B, L) for their own part of attention.

    places: where in the pack each row starts; lengths (B,); depths: each row's positions; visible:
    for rows that are not simply causal, what their tokens see (n, n). both: every token sees every
    other one of its row (bidirectional models).
    """

    def __init__(
        self,
        places: Sequence[int],
        depths: Sequence[NDArray[np.int64]],
        visible: Sequence[NDArray[np.bool_] | None],
        device: torch.device,
        both: bool = False,
    ) -> None:
        lengths = np.array([len(row) for row in depths])
        self.rows, self.width = len(lengths), int(lengths.max())
        self.both, self.device = both, device
        self._lengths, self._depths, self._visible = lengths, depths, visible
        self._masks: dict[tuple[int | None, torch.dtype], Tensor | None] = {}
        columns = np.arange(self.width)[None]
        self.real: NDArray[np.bool_] = columns < lengths[:, None]  # (B, L)
        index = np.where(self.real, np.asarray(places)[:, None] + columns, 0)
        self.at: NDArray[np.int64] = index[self.real]  # places of its tokens in the pack
        self.index = torch.from_numpy(index.reshape(-1)).to(device)

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores (B, 1, L, L); None where plain causal or full attention is right."""
        if window is not None and max(int(row.max() - row.min()) for row in self._depths) < window:
            window = None
        if (window, dtype) not in self._masks:
            self._masks[window, dtype] = self._made(window, dtype)
        return self._masks[window, dtype]

    def _made(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        full = self.both and bool(self.real.all())
        causal = not self.both and all(v is None for v in self._visible)
        if window is None and (full or causal):
            return None
        if self.both:
            seen = np.broadcast_to(self.real[:, None, :], (self.rows, self.width, self.width)).copy()
        else:
            seen = np.broadcast_to(np.tri(self.width, dtype=bool), (self.rows, self.width, self.width)).copy()
            for at, (visible, length) in enumerate(zip(self._visible, self._lengths, strict=True)):
                if visible is not None:
                    seen[at, length - len(visible) : length, length - len(visible) : length] = visible
        if window is not None:
            for at, row in enumerate(self._depths):
                near = np.abs(row[:, None] - row[None, :]) < window
                seen[at, : len(row), : len(row)] &= near
        return added(seen[:, None], self.device, dtype)


@dataclass(eq=False)
class Buffers:
    """Keys and values of rows that grow by a token a step, flush right: (B, heads, room, D) a layer.

    starts (B,): where each row's own tokens begin. filled: columns in use.
    """

    layers: dict[int, tuple[Tensor, Tensor]]
    starts: NDArray[np.int64]
    filled: int
    _masks: dict[tuple[int | None, torch.dtype], Tensor | None] = field(default_factory=dict)

    def step(self) -> None:
        """Make room for the next token of each row."""
        self.filled += 1
        self._masks = {}

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if (window, dtype) not in self._masks:
            first = self.starts
            if window is not None:
                first = np.maximum(first, self.filled - window)
            made = None
            if first.any():
                seen = np.arange(self.filled)[None] >= first[:, None]
                made = added(seen[:, None, None], next(iter(self.layers.values()))[0].device, dtype)
            self._masks[window, dtype] = made
        return self._masks[window, dtype]

    def keep(self, rows: Tensor) -> None:
        """Let go of all rows but these."""
        self.layers = {layer: (k[rows], v[rows]) for layer, (k, v) in self.layers.items()}
        self.starts = self.starts[rows.cpu().numpy()]
        self._masks = {}


class Pack:
    """One pass: packed tokens in blocks of rows, with the chains that spans of them hang on.

    positions (T,): each token's place in its sequence. kept: the keys and values of this pass by
    layer, where asked for.
    """

    def __init__(
        self,
        positions: NDArray[np.int64],
        blocks: Sequence[Block],
        spans: Sequence[Span],
        keep: bool = False,
        buffers: Buffers | None = None,
    ) -> None:
        self.positions, self.blocks, self.spans, self.keep, self.buffers = positions, blocks, spans, keep, buffers
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}
        self.whole = False
        if buffers is None:
            device = blocks[0].device
            # from the blocks' padded tokens, one block behind the other, back to the pack's order
            starts = np.cumsum([0, *(b.real.size for b in blocks[:-1])])
            padded = np.concatenate([n + np.flatnonzero(b.real) for n, b in zip(starts, blocks, strict=True)])
            back = np.zeros(len(positions), np.int64)  # tokens of no row get any value
            back[np.concatenate([b.at for b in blocks])] = padded
            self.back = torch.from_numpy(back).to(device)
            self.whole = len(blocks) == 1 and np.array_equal(back, np.arange(len(back))) and bool(blocks[0].real.all())
        self._windows: dict[tuple[int, int, torch.dtype], Tensor | None] = {}

    def chain_mask(self, at: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """What a window adds to the scores of span `at` over its chain (1, 1, t, P), or None."""
        span = self.spans[at]
        if window is None or int(self.positions[span.start : span.stop].max()) < window:
            return None
        key = (at, window, dtype)
        if key not in self._windows:
            depths = self.positions[span.start : span.stop]
            near = depths[:, None] - np.arange(span.chain.length)[None] < window
            self._windows[key] = added(near[None, None], device, dtype)
        return self._windows[key]


def blocks_of(
    places: Sequence[int],
    depths: Sequence[NDArray[np.int64]],
    visible: Sequence[NDArray[np.bool_] | None],
    device: torch.device,
    both: bool = False,
) -> list[Block]:
    """Rows sorted by length into blocks with little padding."""
    order = sorted(range(len(depths)), key=lambda i: len(depths[i]))
    groups: list[list[int]] = []
    tokens = 0
    for i in order:
        tokens += len(depths[i])
        if not groups or len(depths[i]) * (len(groups[-1]) + 1) > _WASTE * tokens:
            groups.append([])
            tokens = len(depths[i])
        groups[-1].append(i)
    return [
        Block([places[i] for i in g], [depths[i] for i in g], [visible[i] for i in g], device, both) for g in groups
    ]
