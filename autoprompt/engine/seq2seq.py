"""Encoder-decoder models: each distinct context is encoded once, its choices are decoded from it as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface
from transformers.modeling_outputs import BaseModelOutput

from autoprompt.engine.attention import attending
from autoprompt.engine.batches import Budget
from autoprompt.engine.grid import Count, Grid
from autoprompt.engine.pack import added
from autoprompt.engine.request import Row, embedded, padded
from autoprompt.engine.tree import LabelTree
from autoprompt.models import LanguageModel

__all__ = ["log_probabilities", "score"]

_NAME = "autoprompt_tree"


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


# -- choices as a tree in the decoder ----------------------------------------------------------


def score(grid: Grid, model: LanguageModel, budget: Budget, count: Count) -> list[NDArray[np.float64]]:
    """The log-probabilities of the choices behind each context; equal trees are decoded together."""
    scored: list[NDArray[np.float64]] = [np.empty(0)] * len(grid.contexts)
    trees = grid.trees

    def forward(batch: list[int]) -> None:
        tree = trees[batch[0]]
        ids, mask = padded([grid.contexts[at] for at in batch], model.device)
        soft = grid.vectors if bool((ids < 0).any()) else None
        whole = None if bool(mask.all()) else mask
        encoded = model.network.get_encoder()(
            **embedded(model, ids, [soft] * len(batch)), attention_mask=whole
        ).last_hidden_state
        logs = _decoded(model, encoded, mask, tree).log_softmax(-1)  # (B, places, V)
        for c, choice in enumerate(tree.choices):
            places, tokens = zip(*choice, strict=True)
            values = logs[:, list(places), list(tokens)].double().sum(1).cpu().numpy()
            for at, value in zip(batch, values, strict=True):
                scored[at][c] = value
        count(sum(len(grid.contexts[at]) + tree.places for at in batch))

    by_tree: dict[int, list[int]] = {}
    for at, tree in enumerate(trees):
        scored[at] = np.empty(len(tree.choices))
        by_tree.setdefault(id(tree), []).append(at)
    for members in by_tree.values():
        members.sort(key=lambda at: len(grid.contexts[at]))
        budget.run(members, lambda at: (1, len(grid.contexts[at]) + trees[at].places), forward)
    return scored


def _decoded(model: LanguageModel, encoded: Tensor, mask: Tensor, tree: LabelTree) -> Tensor:
    """Logits (B, places, V), float32, of the start token and a tree behind it, for each encoded context."""
    network, device = model.network, encoded.device
    ids = torch.tensor([[network.config.decoder_start_token_id, *tree.ids]], device=device)
    depths = torch.tensor([0, *(1 + depth for depth in tree.depths)], device=device)
    visible = np.ones((tree.places, tree.places), dtype=bool)
    visible[0, 1:] = False
    visible[1:, 1:] = tree.visible
    unseen = added(visible, device, encoded.dtype)[None, None]
    cross = None if bool(mask.all()) else added(mask == 1, device, encoded.dtype)[:, None, None]
    with _decoding(network, _Decoding(depths, unseen, cross)):
        outputs = network(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            decoder_input_ids=ids.expand(len(encoded), -1),
            use_cache=False,
        )
    logits: Tensor = outputs.logits.float()
    return logits


@dataclass(eq=False)
class _Decoding:
    """A tree in the decoder: depths (n,), what its tokens do not see (1, 1, n, n), and what of the
    contexts is padding (B, 1, 1, T). bias: of relative positions, from the layer that has it."""

    depths: Tensor
    unseen: Tensor
    cross: Tensor | None
    bias: Tensor | None = None


_active: list[_Decoding] = []


@contextmanager
def _decoding(network: Any, decoding: _Decoding) -> Iterator[None]:
    """While open, the decoder's tokens see each other as the tree says."""
    positions = getattr(network.get_decoder(), "embed_positions", None)
    handle = None if positions is None else positions.register_forward_hook(_at_depths)
    _active.append(decoding)
    try:
        with attending(_NAME, network.config, network.get_decoder().config):
            yield
    finally:
        _active.pop()
        if handle is not None:
            handle.remove()


def _at_depths(module: Any, given: Any, found: Tensor) -> Tensor:
    """Learned positions (as BART's) by depth in the tree instead of by order."""
    return torch.nn.functional.embedding(_active[-1].depths + module.offset, module.weight)[None]


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of the tree's tokens (B, H, n, D) over themselves or over the contexts; (B, n, H, D)."""
    decoding = _active[-1]
    if not module.is_causal:
        mask = decoding.cross
    else:
        if getattr(module, "has_relative_attention_bias", False):
            decoding.bias = _relative(module, decoding.depths)
        mask = decoding.unseen if decoding.bias is None else decoding.unseen + decoding.bias
    found = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, dropout_p=dropout if module.training else 0.0
    )
    return found.transpose(1, 2), None


def _relative(module: Any, depths: Tensor) -> Tensor:
    """T5's bias of relative positions (1, H, n, n), by depth in the tree."""
    distances = depths[None, :] - depths[:, None]
    try:
        buckets = module._relative_position_bucket(
            distances,
            bidirectional=False,
            num_buckets=module.relative_attention_num_buckets,
            max_distance=module.relative_attention_max_distance,
        )
    except TypeError:  # UMT5 takes the settings from itself
        buckets = module._relative_position_bucket(distances)
    bias: Tensor = module.relative_attention_bias(buckets).permute(2, 0, 1)[None]
    return bias


AttentionInterface.register(_NAME, _attend)
