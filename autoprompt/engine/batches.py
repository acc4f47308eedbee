"""How much goes into a pass: a budget of tokens, halved when memory runs out and grown back later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel

__all__ = ["TOKENS", "Budget", "budget_for", "bytes_of_a_token", "out_of_memory"]

_T = TypeVar("_T")
TOKENS, _KEPT_BYTES = 2048, 2**28  # of one pass, and of keys and values between passes, on a CPU
_MOST_TOKENS = 2**16  # of one pass on a GPU, whatever its memory
_GROW_AFTER = 32  # passes that went well, before a budget that was halved is tried twice as large
_GROW_AT_LAST = 2048  # such passes, where it failed again and again
_SIGNS = (
    "can't allocate memory",  # torch's own allocator on a CPU
    "not enough memory",  # the same on Windows
    "out of memory",  # CUDA, HIP and MPS
    "ALLOC_FAILED",  # cuBLAS and its like
)


class Budget:
    """The most tokens of one pass, and the most bytes of keys and values kept between passes.

    When memory runs out, the tokens are halved and the pass is repeated in halves. After 32 passes that
    went well they are doubled again; after twice as many, where they have been too many a second time, and so on.
    """

    def __init__(self, tokens: int, kept_bytes: int, device: torch.device) -> None:
        self.tokens, self.ceiling, self.kept_bytes = tokens, tokens, kept_bytes
        self._device = device
        self._well = 0
        self._failed: dict[int, int] = {}  # tokens of a pass, and how often memory ran out at so many

    def halve(self) -> None:
        """After memory ran out."""
        self._failed[self.tokens] = self._failed.get(self.tokens, 0) + 1
        self.tokens, self._well = max(1, self.tokens // 2), 0
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def went_well(self) -> None:
        """After a pass; those that went well in a row let the budget grow back."""
        self._well += 1
        more = min(self.ceiling, 2 * self.tokens)
        failures = max((count for tokens, count in self._failed.items() if tokens <= more), default=1)
        if self.tokens < self.ceiling and self._well >= min(_GROW_AT_LAST, _GROW_AFTER * 2 ** (failures - 1)):
            self.tokens, self._well = more, 0

    def run(
        self,
        members: Sequence[_T],
        size: Callable[[_T], tuple[int, int]],
        forward: Callable[[list[_T]], None],
        packed: bool = False,
    ) -> None:
        """Call `forward` on all members in order, as many at a time as the budget holds.

        size: how many rows a member has, and how many tokens each; a batch counts as its rows
        times its longest one, or, packed, as its tokens. A pass for which memory runs out is repeated in
        halves, so `forward` must leave nothing behind when it raises. Raises ModelError when one
        member alone does not fit into memory.
        """
        at, halves = 0, list[list[_T]]()  # halves: of passes that failed, the next one last
        while halves or at < len(members):
            batch = halves.pop() if halves else self._first(members, at, size, packed)
            if self._fitted(batch, forward):
                at += len(batch)
                self.went_well()
                continue
            if len(batch) == 1:
                raise ModelError(
                    f"One request of {size(batch[0])[1]} tokens does not fit into the memory of "
                    f"{self._device}. Use shorter prompts, a smaller model or [model] dtype."
                )
            self.halve()
            middle = (len(batch) + 1) // 2
            halves += [batch[middle:], batch[:middle]]

    @staticmethod
    def _fitted(batch: list[_T], forward: Callable[[list[_T]], None]) -> bool:
        """Run a pass; False when memory ran out. What it held is freed with the error, before this returns."""
        try:
            forward(batch)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return False
        return True

    def _first(self, members: Sequence[_T], at: int, size: Callable[[_T], tuple[int, int]], packed: bool) -> list[_T]:
        """The members from `at` on that go into one pass, at least one."""
        rows = widest = tokens = 0
        for stop in range(at, len(members)):
            more, wide = size(members[stop])
            rows, widest, tokens = rows + more, max(widest, wide), tokens + more * wide
            if stop > at and (tokens if packed else rows * widest) > self.tokens:
                return list(members[at:stop])
        return list(members[at:])


def out_of_memory(error: Exception) -> bool:
    """Whether an error says so, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


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
