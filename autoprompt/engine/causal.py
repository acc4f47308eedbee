"""Causal models: rows one by one (the reference), and all choices of many items over a shared prefix."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from autoprompt.engine.request import Ids, Request, Row, embedded, padded
from autoprompt.models import LanguageModel

__all__ = ["log_probabilities", "prefix_cache", "shared_log_probabilities"]

Cache = list[tuple[Tensor, Tensor]]


def log_probabilities(model: LanguageModel, rows: Sequence[Row]) -> Tensor:
    """Summed log-probability of each row's choice (R,), float32, with a gradient where one is on.

    The plain path: every row is read whole.
    """
    device = model.device
    ids, mask = padded([row.context + row.choice[:-1] for row in rows], device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    outputs = model.network(
        **embedded(model, ids, [row.vectors for row in rows]),
        attention_mask=mask,
        use_cache=False,
        **({"position_ids": positions} if _takes_positions(model) else {}),
    )
    at_row = [b for b, row in enumerate(rows) for _ in row.choice]
    at_token = [len(row.context) - 1 + j for row in rows for j in range(len(row.choice))]
    wanted = torch.tensor([token for row in rows for token in row.choice], device=device)
    logits = outputs.logits[torch.tensor(at_row, device=device), torch.tensor(at_token, device=device)].float()
    scores = logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0].to(_sum_dtype(device))
    summed: Tensor = scores.new_zeros(len(rows)).index_add(0, torch.tensor(at_row, device=device), scores)
    return summed.float()


def _sum_dtype(device: torch.device) -> torch.dtype:
    """Many tokens' log-probabilities are summed in float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _takes_positions(model: LanguageModel) -> bool:
    return not getattr(model.network.config, "is_hybrid", False) and "mamba" not in model.network.config.model_type


def prefix_cache(model: LanguageModel, prefix: Ids, vectors: Tensor | None) -> Cache:
    """Keys and values of every layer for a prefix, each (1, heads, P, D)."""
    ids = torch.tensor([prefix], device=model.device)
    cache = DynamicCache()
    model.network(**embedded(model, ids, [vectors]), **_past(model.network, cache), use_cache=True, logits_to_keep=1)
    layers: list[Any] = cache.layers
    return [(layer.keys, layer.values) for layer in layers]


def _past(network: Any, cache: DynamicCache) -> dict[str, DynamicCache]:
    """The cache by the name that the network takes it under: transformers renamed it in 5.24."""
    return {"cache" if "cache" in signature(type(network).forward).parameters else "past_key_values": cache}


def shared_log_probabilities(
    model: LanguageModel, requests: Sequence[Request], prefix: int, cache: Cache, trained: Tensor | None = None
) -> Tensor:
    """Summed log-probabilities (B, C) of all choices of requests that share their first `prefix` ids.

    trained: vectors (K, H), which may take a gradient, of the requests that have none of their own.

    Each row holds an item's own tokens and behind them its choices but for their last tokens. The
    choices see the prefix, the item and themselves, not each other; their positions all go on from
    the item's end. So each item is read once, whatever the number of choices.
    """
    device, dtype = model.device, model.dtype
    items = [request.context[prefix:] for request in requests]
    rows, parents, positions = zip(*map(_label_tree, items, [r.choices for r in requests]), strict=True)
    width = max(map(len, rows))
    # built in numpy: many small tensors would each wake torch's threads
    ids, places = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
    seen = np.zeros((len(rows), width, prefix + width), bool)
    seen[:, :, :prefix] = True
    seen[:, np.arange(width), prefix + np.arange(width)] = True
    for at, (row, visible, position) in enumerate(zip(rows, parents, positions, strict=True)):
        ids[at, : len(row)] = row
        places[at, : len(row)] = position
        seen[at, : len(row), prefix : prefix + len(row)] |= visible
    hidden_value = float(torch.finfo(dtype).min)
    mask = torch.from_numpy(np.where(seen, np.float32(0), np.float32(hidden_value))[:, None]).to(device, dtype)
    inputs = torch.from_numpy(ids).to(device)
    past = DynamicCache([(k.expand(len(rows), -1, -1, -1), v.expand(len(rows), -1, -1, -1)) for k, v in cache])
    vectors = [trained if r.vectors is None else torch.from_numpy(r.vectors) for r in requests]
    needed, where = _needed_rows(requests, items)
    body = model.network.base_model
    outputs = body(
        **embedded(model, inputs, vectors),
        attention_mask=mask,
        position_ids=torch.from_numpy(places + prefix).to(device),
        **_past(body, past),
        use_cache=True,
    )
    at_row, at_token = (torch.tensor(column, device=device) for column in zip(*needed, strict=True))
    hidden = outputs.last_hidden_state[at_row, at_token]
    scores = model.network.get_output_embeddings()(hidden).float().log_softmax(-1)
    source, wanted, request_of, choice_of = (torch.tensor(column, device=device) for column in zip(*where, strict=True))
    summed = torch.zeros(len(requests), max(len(r.choices) for r in requests), device=device, dtype=_sum_dtype(device))
    wanted_scores = scores[source, wanted].to(summed.dtype)
    return summed.index_put((request_of, choice_of), wanted_scores, accumulate=True).float()


def _label_tree(item: Ids, choices: Sequence[Ids]) -> tuple[Ids, NDArray[np.bool_], list[int]]:
    """Ids, visibility (T, T) and positions of an item with its choices' inner tokens behind it."""
    ids, positions = list(item), list(range(len(item)))
    total = len(item) + sum(len(choice) - 1 for choice in choices)
    visible = np.zeros((total, total), bool)
    visible[:, : len(item)] = True
    visible[: len(item), : len(item)] = np.tri(len(item), dtype=bool)
    for choice in choices:
        start, count = len(ids), len(choice) - 1
        ids += choice[:-1]
        positions += range(len(item), len(item) + count)
        visible[start : start + count, start : start + count] = np.tri(count, dtype=bool)
    return tuple(ids), visible, positions


def _needed_rows(
    requests: Sequence[Request], items: Sequence[Ids]
) -> tuple[list[tuple[int, int]], list[tuple[int, int, int, int]]]:
    """The (row, token) places that predict something, and for every token of every choice
    (index of its place, token id, request, choice)."""
    needed: list[tuple[int, int]] = []
    where: list[tuple[int, int, int, int]] = []
    for b, (request, item) in enumerate(zip(requests, items, strict=True)):
        first = len(needed)
        needed.append((b, len(item) - 1))
        start = len(item)
        for c, choice in enumerate(request.choices):
            where.append((first, choice[0], b, c))
            for j, token in enumerate(choice[1:]):
                where.append((len(needed), token, b, c))
                needed.append((b, start + j))
            start += len(choice) - 1
    return needed, where
