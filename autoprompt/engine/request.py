"""What the engine is asked, in token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoprompt.models import LanguageModel
from autoprompt.soft import Array

__all__ = ["Ids", "Request", "Row", "embedded", "padded"]

Ids = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Request:
    """One input and the choices that may follow it; scored as log P(choice | context).

    In `context` the id -1-k stands for row k of `vectors` (K, H). `tail` follows the choice, for
    models that fill masks.
    """

    context: Ids
    choices: tuple[Ids, ...]
    tail: Ids = ()
    vectors: Array | None = None

    def rows(self) -> list[Row]:
        vectors = None if self.vectors is None else torch.from_numpy(np.ascontiguousarray(self.vectors))
        return [Row(self.context, choice, self.tail, vectors) for choice in self.choices]

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for requests with equal answers."""
        return (self.context, self.choices, self.tail, None if self.vectors is None else self.vectors.tobytes())


@dataclass(frozen=True, eq=False)
class Row:
    """One input with one choice. `vectors` (K, H) may require a gradient."""

    context: Ids
    choice: Ids
    tail: Ids = ()
    vectors: Tensor | None = None


def padded(rows: Sequence[Ids], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (B, T), padded right with 0, and their mask (B, T): 1 where there is a token."""
    width = max(map(len, rows))
    ids = np.array([[*row, *(0,) * (width - len(row))] for row in rows], dtype=np.int64)
    mask = (np.arange(width)[None] < np.array([len(row) for row in rows])[:, None]).astype(np.int64)
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def embedded(model: LanguageModel, ids: Tensor, vectors: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """The model's input: `input_ids`, or `inputs_embeds` (B, T, H) when some ids stand for vectors.

    `vectors[b]` are those of row b.
    """
    if all(found is None for found in vectors):
        return {"input_ids": ids}
    table = model.network.get_input_embeddings()
    inputs: Tensor = table(ids.clamp(min=0))
    stacked = inputs.clone()
    for at, found in enumerate(vectors):
        if found is not None:
            places = (ids[at] < 0).nonzero()[:, 0]
            chosen = found.to(inputs.device, inputs.dtype)[-1 - ids[at, places]]
            stacked[at] = stacked[at].index_put((places,), chosen)
    return {"inputs_embeds": stacked}
