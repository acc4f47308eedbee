"""How much goes into a pass: a budget of tokens, halved when memory runs out and grown back later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel

__all__ = ["TOKENS", "Budget", "budget_for", "bytes_of_a_token", "out_of_memory"]

_T = TypeVar("_T")
TOKENS, _KEPT_BYTES = 2048, 2**28  # of one pass, and of keys and values between passes, on a CPU
_MOST_TOKENS = 2**16  # of one pass on a GPU, whatever its memory
_GROW_AFTER = 32  # passes that went well, before a budget that was halved is tried twice as large


class Budget:
    """The most tokens of one pass, and the most bytes of keys and values kept between passes."""

    def __init__(self, tokens: int, kept_bytes: int, device: torch.device) -> None:
        self.tokens, self.ceiling, self.kept_bytes = tokens, tokens, kept_bytes
        self._device = device
        self._well = 0

    def halve(self) -> None:
        """After memory ran out."""
        self.tokens, self._well = max(1, self.tokens // 2), 0
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def went_well(self) -> None:
        self._well += 1
        if self._well >= _GROW_AFTER and self.tokens < self.ceiling:
            self.tokens, self._well = min(self.ceiling, 2 * self.tokens), 0

    def run(
        self,
        members: Sequence[_T],
        size: Callable[[_T], tuple[int, int]],
        forward: Callable[[list[_T]], None],
        packed: bool = False,
    ) -> None:
        """Call `forward` on all members in order, as many at a time as the budget holds.

        size: how many rows a member has, and how many tokens each; a batch counts as its rows
        times its longest one, or, packed, as its tokens. Raises ModelError when one member alone
        does not fit into memory.
        """
        waiting = list(members)
        while waiting:
            for batch in self._batches(waiting, size, packed):
                try:
                    forward(batch)
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                    if len(batch) == 1:
                        raise ModelError(
                            f"One request of {size(batch[0])[1]} tokens does not fit into the memory of "
                            f"{self._device}. Use shorter prompts, a smaller model or [model] dtype."
                        ) from None
                    self.halve()
                    break
                waiting = waiting[len(batch) :]
                tokens = self.tokens
                self.went_well()
                if self.tokens != tokens:
                    break

    def _batches(
        self, members: Sequence[_T], size: Callable[[_T], tuple[int, int]], packed: bool
    ) -> Iterator[list[_T]]:
        batch: list[_T] = []
        rows = widest = tokens = 0
        for member in members:
            more, wide = size(member)
            then = tokens + more * wide if packed else (rows + more) * max(widest, wide)
            if batch and then > self.tokens:
                yield batch
                batch, rows, widest, tokens = [], 0, 0, 0
            batch.append(member)
            rows, widest, tokens = rows + more, max(widest, wide), tokens + more * wide
        if batch:
            yield batch


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says so, on any device."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def budget_for(model: LanguageModel, batch_tokens: int | None = None) -> Budget:
    """On a GPU a quarter of the memory that is free for a pass, and one for what is kept between passes;
    on a CPU what pays. batch_tokens overrides the tokens of a pass."""
    tokens, kept = TOKENS, _KEPT_BYTES
    if model.device.type == "cuda":
        kept = torch.cuda.mem_get_info(model.device)[0] // 4
        tokens = max(TOKENS, min(_MOST_TOKENS, kept // bytes_of_a_token(model)))
    return Budget(batch_tokens or tokens, kept, model.device)


def bytes_of_a_token(model: LanguageModel) -> int:
    """What a layer holds of one token at a time, with room to spare."""
    config = model.network.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return int((24 * config.hidden_size + 4 * inner) * model.dtype.itemsize)
