"""A beam search for the text that is likeliest behind many contexts together (Gao et al. 2021, section 5.2)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from autoprompt.engine import Engine
from autoprompt.engine.request import Ids, padded

__all__ = ["Beam"]


class Beam:
    """Texts of the same length that grow by a token a step, each scored behind E contexts.

    finished: the ids behind the first sentinel, the last one at their end, and the sum over them of
    the mean log-probability over the contexts.
    """

    def __init__(
        self, engine: Engine, rows: Sequence[Ids], sentinels: Sequence[int], longest: int, allowed: Tensor
    ) -> None:
        self.network: Any = engine.model.network
        self.sentinels, self.longest, self.allowed = sentinels, longest, allowed
        self.texts: list[Ids] = [()]
        self.scores = [0.0]
        self.finished: list[tuple[Ids, float]] = []
        self.contexts, self.mask = padded(rows, engine.model.device)
        self.tokens = sum(map(len, rows))
        self._cache: Any = None
        # what transformers calls it changed within version 5
        known = inspect.signature(self.network.forward).parameters
        self._cache_name = "cache" if "cache" in known else "past_key_values"

    @torch.inference_mode()
    def run(self, width: int, budget: int) -> None:
        """Until no text can get better than the best `width` that are finished, or the budget is spent."""
        encoded = self.network.get_encoder()(input_ids=self.contexts, attention_mask=self.mask)[0]
        while self.texts:
            read = len(self.texts) * len(encoded) * (2 if self._cache is None else 1)
            if self.tokens + read > budget:
                break
            self.tokens += read
            self._grow(self._joint(encoded), width)

    def _joint(self, encoded: Tensor) -> Tensor:
        """For each text log P(next token), the mean over the contexts (W, V)."""
        many, device = len(self.texts), encoded.device
        start = self.network.config.decoder_start_token_id
        lasts = [(start, self.sentinels[0]) if not text else text[-1:] for text in self.texts]
        outputs = self.network(
            encoder_outputs=(encoded.repeat(many, 1, 1),),
            attention_mask=self.mask.repeat(many, 1),
            decoder_input_ids=torch.tensor(lasts, device=device).repeat_interleave(len(encoded), 0),
            use_cache=True,
            **{self._cache_name: self._cache},
        )
        self._cache = outputs[self._cache_name]
        logs: Tensor = outputs.logits[:, -1].float().log_softmax(-1)
        return logs.view(many, len(encoded), -1).mean(1)

    def _grow(self, joint: Tensor, width: int) -> None:
        size = joint.shape[1]
        totals = torch.tensor(self.scores, device=joint.device)[:, None] + joint
        totals = totals + torch.stack([self._weights(text) for text in self.texts])
        best = totals.view(-1).topk(min(2 * width, totals.numel()))
        grown: list[tuple[int, Ids, float]] = []
        for score, at in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if score == float("-inf"):
                break
            text = (*self.texts[at // size], at % size)
            if text[-1] == self.sentinels[-1]:
                self.finished.append((text, score))
            elif len(grown) < width:
                grown.append((at // size, text, score))
        done = sorted((score for _, score in self.finished), reverse=True)[:width]
        if len(done) == width and grown and grown[0][2] <= done[-1]:
            grown = []
        self.texts = [text for _, text, _ in grown]
        self.scores = [score for _, _, score in grown]
        if grown:
            count = len(self.mask)
            rows = [parent * count + number for parent, _, _ in grown for number in range(count)]
            self._cache.reorder_cache(torch.tensor(rows, device=joint.device))

    def _weights(self, text: Ids) -> Tensor:
        """What may follow a text, as log-weights (V,): tokens while its gap has room, and the next sentinel."""
        passed = sum(token in self.sentinels for token in text)
        since = next((n for n, token in enumerate(reversed(text)) if token in self.sentinels), len(text))
        weights = self.allowed.clone() if since < self.longest else torch.full_like(self.allowed, float("-inf"))
        weights[self.sentinels[passed + 1]] = 0.0
        return weights
