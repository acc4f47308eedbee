"""Masked models: choices of n tokens are read from n masks, one pass for all of the same length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autoprompt.engine.request import Row, embedded, padded
from autoprompt.models import LanguageModel

__all__ = ["log_probabilities"]


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
