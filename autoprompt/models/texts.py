"""A text as one vector, by the model that is at hand: what the surrogate knows texts by."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprompt.models.base import Ids, LanguageModel
from autoprompt.models.encoder import EncoderModel
from autoprompt.soft import Array

__all__ = ["text_vectors"]

_TOKENS = 2048  # of a batch, padding counted


def text_vectors(model: LanguageModel, texts: Sequence[str]) -> Array:
    """The model's own embedding of each text (N, H), float32; of an empty text, zeros.

    Of a sentence encoder its unit vectors. Of the others the mean of the last hidden state over the
    text's tokens, of the network without its head; of an encoder-decoder, of the encoder. Special
    tokens are read and not counted: in causal models the first one's state is far greater than all
    others (Xiao et al. 2024). A text that is longer than the window is cut at its end. A network that
    cannot be read without its head gives the mean of its input embeddings.

    The same texts in the same order give the same numbers to the last bit.

    >>> from autoprompt.models import load_model
    >>> model = load_model("builtin")
    >>> text_vectors(model, ["Which topic?", ""]).shape == (2, model.embeddings.shape[1])
    True
    """
    before, after = model.specials
    room = None if model.window is None else max(0, model.window - len(before) - len(after))
    own = [ids[:room] for ids in model.ids(list(texts), special=False)]
    distinct = sorted({ids for ids in own if ids}, key=lambda ids: (len(ids), ids))
    found = dict(zip(distinct, _read(model, distinct), strict=True))
    nothing = np.zeros(len(found[distinct[0]]) if distinct else _width(model), np.float32)
    return np.array([found.get(ids, nothing) for ids in own], dtype=np.float32).reshape(len(own), len(nothing))


def _width(model: LanguageModel) -> int:
    width: int = model.embeddings.shape[1]
    if isinstance(model, EncoderModel):
        return int(model.layout.head(torch.zeros(1, width, device=model.device)).shape[1])
    return width


@torch.inference_mode()
def _read(model: LanguageModel, texts: Sequence[Ids]) -> list[Array]:
    """The vector of each text; if the network cannot be read without its head, all by input embeddings."""
    if not texts:
        return []
    reason = "it returns NaN or infinite numbers"
    try:
        rows = [_vectors(model, batch) for batch in _batches(model, texts)]
        if all(np.isfinite(row).all() for row in rows):
            return list(np.concatenate(rows))
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, TypeError, ValueError, RuntimeError, LookupError, NotImplementedError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    logging.getLogger("autoprompt").warning(
        "the hidden states of %s cannot be read (%s); texts are known by their input embeddings", model.name, reason
    )
    return [model.embeddings[list(ids)].mean(0) for ids in texts]


def _batches(model: LanguageModel, texts: Sequence[Ids]) -> Iterator[list[Ids]]:
    """Texts, sorted by length, in batches of about as many tokens."""
    framing = sum(map(len, model.specials))
    batch: list[Ids] = []
    for ids in texts:
        if batch and (len(batch) + 1) * (len(ids) + framing) > _TOKENS:
            yield batch
            batch = []
        batch.append(ids)
    yield batch


def _vectors(model: LanguageModel, texts: Sequence[Ids]) -> Array:
    """The vectors (B, H) of texts, read as one batch, padded right."""
    before, after = model.specials
    width = len(before) + max(map(len, texts)) + len(after)
    ids = torch.zeros((len(texts), width), dtype=torch.long)
    mask, own = torch.zeros_like(ids), torch.zeros_like(ids)
    for at, text in enumerate(texts):
        framed = before + text + after
        ids[at, : len(framed)] = torch.tensor(framed)
        mask[at, : len(framed)] = 1
        own[at, len(before) : len(before) + len(text)] = 1
    ids, mask, own = (tensor.to(model.device) for tensor in (ids, mask, own))
    hidden: Tensor = _body(model)(input_ids=ids, attention_mask=mask).last_hidden_state
    if isinstance(model, EncoderModel):
        found = model.sentences(hidden, mask)
    else:
        counted = own[..., None]
        found = hidden.float().masked_fill(counted == 0, 0.0).sum(1) / counted.sum(1)
    return np.asarray(found.float().cpu().numpy(), dtype=np.float32)


def _body(model: LanguageModel) -> Any:
    """The network without its head; of an encoder-decoder, the encoder."""
    if model.family == "seq2seq":
        return model.network.get_encoder()
    return model.network if model.family == "encoder" else model.network.base_model
