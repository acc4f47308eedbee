"""How much goes into a pass: a budget of tokens, halved when memory runs out and grown back later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from autoprompt.errors import ModelError

__all__ = ["Budget", "out_of_memory"]

_T = TypeVar("_T")
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
