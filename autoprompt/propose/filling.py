"""Gaps in texts, filled by a model that was trained to: with sentinels (T5) or with masks (BERT).

A gap stands in several texts at once, the same prompt around several examples, and is filled with
what is likeliest in all of them together: the mean over the texts of log P(filling | text), which
is the objective of Gao et al. 2021 (LM-BFF, section 5.2, equation 5) divided by their number.
"""

from __future__ import annotations

import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from autoprompt.engine import Engine
from autoprompt.engine.request import Ids
from autoprompt.models import LanguageModel
from autoprompt.propose.beam import Beam
from autoprompt.propose.reading import mask_distributions
from autoprompt.propose.writing import loops

__all__ = ["Filler", "Filling", "Gap", "MaskFiller", "SentinelFiller", "fills"]

Parts = tuple[str, ...]  # a text, split at its gaps
_DRAWN = 10  # the likeliest words that one is drawn from
_BARRED = ("{", "}", "<", ">", "\n", "\t", "\ufffd")  # what no filling may hold


@dataclass(frozen=True)
class Filling:
    """One text for each gap. score: the mean log-probability of its tokens, over all texts."""

    texts: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class Gap:
    """What to fill. texts: each split at its gaps, as many in each. longest: tokens in one gap; a model
    with masks writes exactly so many. barred: words, in lower case, that were there before."""

    texts: Sequence[Parts]
    longest: int
    barred: frozenset[str] = frozenset()


def fills(model: LanguageModel) -> bool:
    """Whether a model was trained to fill gaps."""
    return model.family == "masked" or (model.family == "seq2seq" and len(_sentinels(model)) > 1)


def _sentinels(model: LanguageModel) -> list[int]:
    """The ids of T5's sentinels, in their order."""
    vocabulary = model.tokenizer.get_vocab()
    found: list[int] = []
    while (at := vocabulary.get(f"<extra_id_{len(found)}>")) is not None:
        found.append(int(at))
    return found


def _readable(model: LanguageModel) -> list[tuple[int, str]]:
    """The tokens that are no special ones, with their texts."""
    special = {*model.tokenizer.all_special_ids, *_sentinels(model)}
    size = min(len(model.tokenizer), model.network.get_input_embeddings().weight.shape[0])
    texts = ((at, str(model.tokenizer.decode([at]))) for at in range(size) if at not in special)
    return [(at, text) for at, text in texts if text and not any(mark in text for mark in _BARRED)]


class Filler(ABC):
    """Fills gaps with one model."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def model(self) -> LanguageModel:
        return self.engine.model

    @abstractmethod
    def fill(self, gap: Gap, count: int, budget: int, seed: int | None) -> tuple[list[Filling], int]:
        """Up to `count` fillings, the likeliest first, and the tokens that were read, at most `budget`.

        Texts too long for the model are left out. seed: None takes what is likeliest; else words are
        drawn, where the model fills by words.
        """

    def _fits(self, row: Ids) -> bool:
        return len(row) <= (self.model.window or len(row))


class MaskFiller(Filler):
    """A masked model: one gap of so many masks, filled one at a time, the surest first."""

    def fill(self, gap: Gap, count: int, budget: int, seed: int | None) -> tuple[list[Filling], int]:
        """One filling, of whole words: the likeliest, or for a seed each word drawn from the likeliest ten."""
        rows, starts = self._rows(gap)
        steps = gap.longest * sum(map(len, rows))
        allowed = [at for at, word in self._words.items() if word.casefold() not in gap.barred]
        if count < 1 or not rows or steps > budget or len(allowed) < gap.longest:
            return [], 0
        generator = None if seed is None else random.Random(seed)
        left = list(range(gap.longest))
        words: dict[int, str] = {}
        used: list[int] = []
        score = 0.0
        ids = torch.tensor(allowed)
        while left:
            logs = mask_distributions(self.engine, rows, [[start + at for at in left] for start in starts])
            joint = logs.view(len(rows), len(left), -1).mean(0)[:, ids.to(logs.device)].cpu()
            joint[:, used] = float("-inf")  # no word twice
            place = int(joint.max(1).values.argmax())
            chosen = self._chosen(joint[place], generator)
            used.append(chosen)
            at = left.pop(place)
            token = allowed[chosen]
            words[at] = self._words[token]
            score += float(joint[place, chosen])
            rows = [(*row[: s + at], token, *row[s + at + 1 :]) for row, s in zip(rows, starts, strict=True)]
        text = " ".join(words[at] for at in sorted(words))
        return [Filling((text,), score / gap.longest)], steps

    @staticmethod
    def _chosen(logs: Tensor, generator: random.Random | None) -> int:
        if generator is None:
            return int(logs.argmax())
        values, at = logs.topk(min(_DRAWN, len(logs)))
        shares = values.double().softmax(0).tolist()
        return int(at[generator.choices(range(len(shares)), shares)[0]])

    def _rows(self, gap: Gap) -> tuple[list[Ids], list[int]]:
        """The texts that fit the window, with masks in the gap, and where these begin."""
        before, after = self.model.specials
        masks = (int(self.model.tokenizer.mask_token_id),) * gap.longest
        # a space before the gap belongs to the first word in it
        heads = self.model.ids([head.rstrip(" ") for head, _ in gap.texts], special=False)
        tails = self.model.ids([tail for _, tail in gap.texts], special=False)
        rows = [before + head + masks + tail + after for head, tail in zip(heads, tails, strict=True)]
        fitting = [at for at, row in enumerate(rows) if self._fits(row)]
        return [rows[at] for at in fitting], [len(before) + len(heads[at]) for at in fitting]

    @cached_property
    def _words(self) -> dict[int, str]:
        """The tokens that begin a word and are one by themselves, with the words."""
        [anchor] = self.model.ids(["a"], special=False)
        decode = self.model.tokenizer.decode
        lead = str(decode(list(anchor))) + " "
        found = {at: text.strip() for at, text in _readable(self.model) if text.strip().isalpha()}
        return {at: word for at, word in found.items() if str(decode([*anchor, at])) == lead + word}


class SentinelFiller(Filler):
    """An encoder-decoder with sentinels: all gaps in one text that the decoder writes, by a beam search
    whose scores are those of all texts together."""

    width = 16

    def fill(self, gap: Gap, count: int, budget: int, seed: int | None) -> tuple[list[Filling], int]:
        """The likeliest texts of the beam; nothing is drawn."""
        sentinels = _sentinels(self.model)
        gaps = len(gap.texts[0]) - 1
        if count < 1 or gaps < 1 or len(sentinels) <= gaps:
            return [], 0
        rows = [row for parts in gap.texts if self._fits(row := self._row(parts, sentinels))]
        if not rows or sum(map(len, rows)) > budget:
            return [], 0
        beam = Beam(self.engine, rows, sentinels[: gaps + 1], gap.longest, self._allowed)
        beam.run(self.width, budget)
        self.engine.count(beam.tokens)
        found: dict[tuple[str, ...], Filling] = {}
        for ids, score in sorted(beam.finished, key=lambda one: -one[1]):
            texts = self._texts(ids, sentinels[: gaps + 1])
            if any(texts) and not any(loops(text) or any(mark in text for mark in _BARRED) for text in texts):
                found.setdefault(texts, Filling(texts, score / len(ids)))
        return list(found.values())[:count], beam.tokens

    def _row(self, parts: Parts, sentinels: Sequence[int]) -> Ids:
        before, after = self.model.specials
        pieces = self.model.ids(parts, special=False)
        inner = [i for piece, sentinel in zip(pieces, sentinels, strict=False) for i in (*piece, sentinel)]
        return (*before, *inner[: -1 if len(inner) else None], *after)

    def _texts(self, ids: Ids, sentinels: Sequence[int]) -> tuple[str, ...]:
        """The text of each gap."""
        stops = [-1, *(ids.index(sentinel) for sentinel in sentinels[1:])]
        gaps = [list(ids[first + 1 : last]) for first, last in itertools.pairwise(stops)]
        return tuple(str(self.model.tokenizer.decode(gap)).strip() if gap else "" for gap in gaps)

    @cached_property
    def _allowed(self) -> Tensor:
        """Which tokens a filling may hold, as log-weights (V,): 0 or -inf."""
        size = self.model.network.get_output_embeddings().weight.shape[0]
        weights = torch.full((size,), float("-inf"), device=self.model.device)
        weights[torch.tensor([at for at, _ in _readable(self.model)], device=self.model.device)] = 0.0
        return weights
