"""Encoder-decoder models: each distinct context is encoded once, its choices are decoded from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from autoprompt.engine.request import Row, embedded, padded
from autoprompt.models import LanguageModel

__all__ = ["log_probabilities"]


def log_probabilities(model: LanguageModel, rows: Sequence[Row]) -> Tensor:
    """Summed log-probability of each row's choice (R,), float32, with a gradient where one is on."""
    device = model.device
    keys = [(row.context, id(row.vectors)) for row in rows]
    distinct = dict(zip(keys, rows, strict=True))
    order = {key: at for at, key in enumerate(distinct)}
    ids, mask = padded([row.context for row in distinct.values()], device)
    encoder = model.network.get_encoder()
    inputs = embedded(model, ids, [row.vectors for row in distinct.values()])
    encoded = encoder(**inputs, attention_mask=mask).last_hidden_state
    index = torch.tensor([order[key] for key in keys], device=device)
    start = model.network.config.decoder_start_token_id
    written, written_mask = padded([(start, *row.choice[:-1]) for row in rows], device)
    outputs = model.network(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded[index]),
        attention_mask=mask[index],
        decoder_input_ids=written,
        decoder_attention_mask=written_mask,
        use_cache=False,
    )
    wanted, present = padded([row.choice for row in rows], device)
    scores = outputs.logits.float().log_softmax(-1).gather(2, wanted[..., None])[..., 0]
    summed: Tensor = (scores * present).sum(1)
    return summed
