"""The next token of each row: the likeliest or drawn, among those its form allows, until its text ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.engine.request import Ids
from autoprompt.soft import seed_of

__all__ = ["Follower", "Hand", "Text", "Writing"]


class Follower(Protocol):
    """Goes along with one text while it is written."""

    def allowed(self, width: int) -> NDArray[np.bool_] | None:
        """Which of `width` tokens may come next; None: all."""

    def add(self, token: int) -> bool:
        """Take in the next token, which ends no text by itself; True when the text is over with it."""


@dataclass(frozen=True)
class Text:
    """ids: what was written, without what ended it. ended: whether anything did. finite: False where it broke
    off at logits that are no numbers. scores: of the request's choices, where `Writing.weigh` asked for them and the
    context was read in a packed pass."""

    ids: Ids = ()
    ended: bool = False
    finite: bool = True
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Writing:
    """new_tokens: the most to write. temperature: 0 takes the likeliest token, else the distribution
    is divided by it and drawn from. ends: ids that end a text; they are not part of it. seed: of the
    draws, with each text's number; or `seeds`, one a text. follow: makes what goes along with a
    text, from its number. told: is given each batch's texts, with their numbers, as soon as they stand.
    weigh: score the requests' choices too, in the pass that reads their contexts.
    """

    new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    ends: frozenset[int] = frozenset()
    seeds: tuple[int, ...] = ()
    follow: Callable[[int], Follower] | None = None
    told: Callable[[Sequence[int], Sequence[Text]], None] | None = None
    weigh: bool = False

    def draws(self, number: int) -> NDArray[np.float64]:
        """Uniform numbers of text `number`, one a token: no batch or order changes them."""
        seed = self.seeds[number] if self.seeds else seed_of(self.seed, "generate", number)
        return np.random.default_rng(seed).random(self.new_tokens)

    def chosen(self, logits: Tensor, draws: NDArray[np.float64]) -> Tensor:
        """The next token of each row (B,), from logits (B, V); draws (B,) in [0, 1)."""
        if self.temperature == 0:
            return logits.argmax(-1)
        shares = (logits.double() / self.temperature).softmax(-1).cumsum(-1)
        at = torch.from_numpy(draws).to(shares)[:, None] * shares[:, -1:]
        return torch.searchsorted(shares, at, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


class Hand:
    """Writes the texts of a batch, a token a step. numbers: the texts', for their draws and followers."""

    def __init__(self, writing: Writing, numbers: Sequence[int]) -> None:
        self.writing = writing
        self.step = 0
        self.scores: list[tuple[float, ...]] = [()] * len(numbers)
        self._numbers = numbers
        self._ids: list[list[int]] = [[] for _ in numbers]
        self._ended = np.zeros(len(numbers), dtype=bool)
        self._finite = np.ones(len(numbers), dtype=bool)
        self._draws = np.stack([writing.draws(n) for n in numbers]) if writing.temperature else None
        self._followers = None if writing.follow is None else [writing.follow(n) for n in numbers]

    def next(self, rows: NDArray[np.int64], logits: Tensor) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The next token of rows (B,) from their logits (B, V), and whose text is over; each is written down."""
        logits, stuck = self._masked(rows, logits)
        draws = np.empty(0) if self._draws is None else self._draws[rows, self.step]
        chosen = self.writing.chosen(logits, draws)
        tokens = chosen.cpu().numpy()
        # a row with NaN anywhere shows it here: argmax and amax take it for the greatest
        greatest = logits.amax(-1) if self.writing.temperature else logits.gather(1, chosen[:, None])[:, 0]
        finite = torch.isfinite(greatest).cpu().numpy()
        ended = np.isin(tokens, list(self.writing.ends)) & finite & ~stuck
        over = ended | ~finite | stuck
        for at in np.flatnonzero(~over).tolist():
            row, token = int(rows[at]), int(tokens[at])
            self._ids[row].append(token)
            if self._followers is not None:
                over[at] = ended[at] = self._followers[row].add(token)
        self._finite[rows], self._ended[rows] = finite, ended
        self.step += 1
        return tokens, over

    def _masked(self, rows: NDArray[np.int64], logits: Tensor) -> tuple[Tensor, NDArray[np.bool_]]:
        """The logits, -inf where a row's form does not allow the token; and the rows that it allows none."""
        width = logits.shape[-1]
        followers = [] if self._followers is None else [self._followers[row] for row in rows.tolist()]
        allowed = [follower.allowed(width) for follower in followers]
        if all(found is None for found in allowed):
            return logits, np.zeros(len(rows), dtype=bool)
        seen = np.stack([np.ones(width, dtype=bool) if found is None else found for found in allowed])
        stuck = np.asarray(~seen.any(1))
        seen[stuck] = True
        return logits.masked_fill(~torch.from_numpy(seen).to(logits.device), float("-inf")), stuck

    def texts(self) -> list[Text]:
        """What was written, in the order of `numbers`; it is told."""
        states = zip(self._ids, self._ended.tolist(), self._finite.tolist(), self.scores, strict=True)
        found = [Text(tuple(ids), ended, finite, scores) for ids, ended, finite, scores in states]
        if self.writing.told is not None:
            self.writing.told(self._numbers, found)
        return found
