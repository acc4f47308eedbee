"""Masked models: choices of n tokens are read from n masks, one pass for all of the same length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.engine.attention import only_rows, reading
from autoprompt.engine.batches import Budget
from autoprompt.engine.grid import Count, Grid
from autoprompt.engine.pack import Pack, blocks_of
from autoprompt.engine.request import Ids, Row, embedded, padded
from autoprompt.models import LanguageModel

__all__ = ["log_probabilities", "score"]


def log_probabilities(model: LanguageModel, rows: Sequence[Row]) -> Tensor:
    """Summed log-probability of each row's choice (R,), float32, with a gradient where one is on.

    Each mask is read independently of the others, as in LM-BFF and PET.
    """
    device, mask_id = model.device, int(model.tokenizer.mask_token_id)
    keys = [(row.context, row.tail, len(row.choice), id(row.vectors)) for row in rows]
    distinct = dict(zip(keys, rows, strict=True))
    order = {key: at for at, key in enumerate(distinct)}
    ids, mask = padded([r.context + (mask_id,) * len(r.choice) + r.tail for r in distinct.values()], device)
    logits = model.network(
        **embedded(model, ids, [row.vectors for row in distinct.values()]), attention_mask=mask
    ).logits
    places = [
        (r, order[key], len(row.context) + j, t)
        for r, (key, row) in enumerate(zip(keys, rows, strict=True))
        for j, t in enumerate(row.choice)
    ]
    at, source, token, wanted = (torch.tensor(column, device=device) for column in zip(*places, strict=True))
    scores = logits[source, token].float().log_softmax(-1).gather(1, wanted[:, None])[:, 0]
    return torch.zeros(len(rows), device=device).index_add(0, at, scores)


# -- packed passes ---------------------------------------------------------------------------


def score(grid: Grid, model: LanguageModel, budget: Budget, count: Count) -> list[NDArray[np.float64]]:
    """The log-probabilities of the choices behind each context: one pass for each number of masks."""
    mask = int(model.tokenizer.mask_token_id)
    scored = [np.empty(len(choices)) for choices in grid.choices]
    # each pass: a context's number, how many masks, and its ids
    passes = [
        (at, masks, context + (mask,) * masks + tail)
        for at, (context, tail, choices) in enumerate(zip(grid.contexts, grid.tails, grid.choices, strict=True))
        for masks in sorted({len(choice) for choice in choices})
    ]

    def forward(batch: list[tuple[int, int, Ids]]) -> None:
        rows = [ids for _, _, ids in batch]
        starts = np.cumsum([0, *map(len, rows)])
        places = [
            start + len(grid.contexts[at]) + j
            for start, (at, masks, _) in zip(starts[:-1].tolist(), batch, strict=True)
            for j in range(masks)
        ]
        logs = _logits(model, rows, places, grid.vectors).float().log_softmax(-1)
        wanted: list[tuple[int, int, int, int]] = []  # row of logs, token, context, choice
        first = 0
        for at, masks, _ in batch:
            for c, choice in enumerate(grid.choices[at]):
                if len(choice) == masks:
                    wanted += [(first + j, token, at, c) for j, token in enumerate(choice)]
            first += masks
        table = torch.tensor(wanted, device=model.device)
        values = logs[table[:, 0], table[:, 1]].double().cpu().numpy()
        sums: dict[tuple[int, int], float] = {}
        for (_, _, at, c), value in zip(wanted, values.tolist(), strict=True):
            sums[at, c] = sums.get((at, c), 0.0) + value
        for (at, c), value in sums.items():
            scored[at][c] = value
        count(sum(map(len, rows)))

    passes.sort(key=lambda found: len(found[2]))
    budget.run(passes, lambda found: (1, len(found[2])), forward, packed=True)
    return scored


def _logits(model: LanguageModel, rows: Sequence[Ids], places: Sequence[int], vectors: Tensor | None) -> Tensor:
    """The logits (M, V) at `places` of rows packed behind each other."""
    device = model.device
    lengths = list(map(len, rows))
    starts = np.cumsum([0, *lengths])[:-1].tolist()
    depths = [np.arange(length) for length in lengths]
    pack = Pack(np.concatenate(depths), blocks_of(starts, depths, [None] * len(rows), device, both=True), ())
    ids = np.fromiter((i for row in rows for i in row), np.int64, sum(lengths))
    found = vectors if ids.min() < 0 else None
    positions = np.concatenate([_positions(model, np.asarray(row)) for row in rows])
    given: dict[str, Any] = {"position_ids": torch.from_numpy(positions)[None].to(device)}
    if getattr(model.network.config, "type_vocab_size", 0):
        given["token_type_ids"] = torch.zeros_like(given["position_ids"])
    with reading(model.network, pack), only_rows(model.network.base_model, torch.tensor(places, device=device)):
        outputs = model.network(**embedded(model, torch.from_numpy(ids)[None].to(device), [found]), **given)
    logits: Tensor = outputs.logits[0]
    return logits


def _positions(model: LanguageModel, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each token's position; RoBERTa counts from behind its padding id, and where it reads ids it skips that id."""
    embeddings: Any = getattr(model.network.base_model, "embeddings", None)
    if not hasattr(embeddings, "create_position_ids_from_input_ids"):
        return np.arange(len(ids))
    padding = int(embeddings.padding_idx)
    if ids.min() < 0:
        return padding + 1 + np.arange(len(ids))
    real = ids != padding
    return np.where(real, np.cumsum(real) + padding, padding)
