"""Attention of packed rows: each row sees the chain of beginnings it hangs on, and its own tokens.

Attention over a shared beginning is computed once for all rows behind it, as one large product,
and joined with each row's own part by their log-sum-exp (as in "Hydragen", Juravsky et al. 2024,
section 3.1). It is registered with transformers under a name of its own, so every model that takes
its attention from there can be read this way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from autoprompt.engine.pack import Buffers, Pack

__all__ = ["attending", "only_rows", "reading"]

NAME = "autoprompt_packed"
_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

_reading: list[Pack] = []


@contextmanager
def attending(name: str, *configs: Any) -> Iterator[None]:
    """While open, networks of these configurations use the attention registered under a name."""
    before = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation = name
    try:
        yield
    finally:
        for config, found in zip(configs, before, strict=True):
            config._attn_implementation = found


@contextmanager
def reading(network: Any, pack: Pack) -> Iterator[None]:
    """While open, the network's attention is that of the pack."""
    _reading.append(pack)
    try:
        with attending(NAME, network.config):
            yield
    finally:
        _reading.pop()


@contextmanager
def only_rows(body: torch.nn.Module, rows: Tensor) -> Iterator[None]:
    """While open, a network's head sees only these tokens (R,) of what its body found (1, T, H)."""

    def chosen(module: torch.nn.Module, given: Any, outputs: Any) -> Any:
        outputs["last_hidden_state"] = outputs["last_hidden_state"][:, rows]
        return outputs

    handle = body.register_forward_hook(chosen)
    try:
        yield
    finally:
        handle.remove()


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of query (1, H, T, D) over the pack's chains and own tokens; (1, T, H, D)."""
    strange = [name for name in ("s_aux", "position_bias", "head_mask") if others.get(name) is not None]
    if strange or attention_mask is not None or query.shape[0] != 1:
        raise NotImplementedError(f"attention with {', '.join(strange) or 'a mask of its own'}")
    if sliding_window is None and _windowed(module):
        raise NotImplementedError("attention whose window is known to its mask alone")
    pack, layer = _reading[-1], getattr(module, "layer_idx", 0)
    if pack.keep:
        pack.kept[layer] = (key, value)
    how = (scaling, softcap, dropout if module.training else 0.0)
    own, norm = _own(pack, layer, query, key, value, sliding_window, how)
    for at, span in enumerate(pack.spans):
        part = query[:, :, span.start : span.stop]
        mask = pack.chain_mask(at, sliding_window, query.dtype, query.device)
        before, before_norm = _with_norm(part, *span.chain.layers[layer], mask, False, how)
        # softmax over both parts: weights exp(lse), normalized
        weight = torch.sigmoid(before_norm - norm[:, :, span.start : span.stop])[..., None].to(own.dtype)
        own[:, :, span.start : span.stop].lerp_(before, weight)
    return own.transpose(1, 2), None


def _windowed(module: Any) -> bool:
    """Whether the configuration gives this layer a window, which the layer did not pass on."""
    config = getattr(module, "config", None)
    if getattr(config, "sliding_window", None) is None or getattr(config, "use_sliding_window", True) is False:
        return False
    kinds = getattr(config, "layer_types", None)
    return not kinds or kinds[module.layer_idx] == "sliding_attention"


AttentionInterface.register(NAME, _attend)

_How = tuple[float | None, float | None, float]  # scaling, softcap, dropout


def _own(
    pack: Pack, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, how: _How
) -> tuple[Tensor, Tensor]:
    """Each row over its own tokens: (1, H, T, D), and log-sum-exp (1, H, T)."""
    if pack.buffers is not None:
        return _grown(pack.buffers, layer, query, key, value, window, how)
    heads = query.shape[1]
    outputs, norms = [], []
    for block in pack.blocks:
        shape = (block.rows, block.width)
        if pack.whole:
            q, k, v = (x[0].reshape(x.shape[1], *shape, -1).transpose(0, 1) for x in (query, key, value))
        else:
            q, k, v = (_rows(x, block.index, shape) for x in (query, key, value))
        mask = block.mask(window, query.dtype)
        causal = mask is None and not block.both
        if pack.spans:
            out, norm = _with_norm(q, k, v, mask, causal, how)
            norms.append(norm.transpose(1, 2).reshape(-1, heads))
        else:
            out = _plain(q, k, v, mask, causal, how)
        outputs.append(out.transpose(1, 2).reshape(-1, heads, out.shape[-1]))
    flat = outputs[0] if len(outputs) == 1 else torch.cat(outputs)  # (B * L, H, D)
    norm = norms[0] if len(norms) == 1 else torch.cat(norms) if norms else flat
    if not pack.whole:
        flat = flat.index_select(0, pack.back)
        norm = norm.index_select(0, pack.back) if pack.spans else norm
    return flat.transpose(0, 1)[None], (norm.T[None] if pack.spans else norm)


def _rows(packed: Tensor, index: Tensor, shape: tuple[int, int]) -> Tensor:
    """(1, H, T, D) to (B, H, L, D)."""
    rows = packed[0].transpose(0, 1).index_select(0, index)
    return rows.reshape(*shape, *rows.shape[1:]).transpose(1, 2)


def _grown(
    buffers: Buffers, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, how: _How
) -> tuple[Tensor, Tensor]:
    """One new token a row, written to the buffers and read with what they hold."""
    keys, values = buffers.layers[layer]
    at = buffers.filled - 1
    keys[:, :, at] = key[0].transpose(0, 1)
    values[:, :, at] = value[0].transpose(0, 1)
    mask = buffers.mask(window, query.dtype)
    q = query[0].transpose(0, 1)[:, :, None]  # (B, H, 1, D)
    out, norm = _with_norm(q, keys[:, :, : at + 1], values[:, :, : at + 1], mask, False, how)
    return out[:, :, 0].transpose(0, 1)[None], norm[:, :, 0].T[None]


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, how: _How) -> Tensor:
    """(B, H, L, D), with a gradient where one is on."""
    scaling, softcap, dropout = how
    if softcap is not None:
        return _by_hand(q, k, v, mask, causal, how)[0]
    grouped = q.shape[1] != k.shape[1]
    if grouped and mask is not None and q.device.type != "cpu":
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        grouped = False
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scaling, enable_gqa=grouped
    )


def _with_norm(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, how: _How) -> tuple[Tensor, Tensor]:
    """(B, H, L, D) and the log-sum-exp of each query's scores (B, H, L)."""
    scaling, softcap, _ = how
    if q.device.type == "cpu" and softcap is None and q.shape[-1] == v.shape[-1]:
        out, norm = _CPU(q, k, v, 0.0, causal, attn_mask=mask, scale=scaling)
        return out, norm
    return _by_hand(q, k, v, mask, causal, how)


def _by_hand(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, how: _How) -> tuple[Tensor, Tensor]:
    """The same as plain products, where no kernel gives the log-sum-exp."""
    scaling, softcap, _ = how
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = torch.matmul(q, k.transpose(-1, -2)).float() * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, torch.finfo(torch.float32).min)
    if mask is not None:
        scores = scores + mask
    norm = scores.logsumexp(-1)
    return torch.matmul((scores - norm[..., None]).exp().to(v.dtype), v), norm
