"""Causal models: rows one by one (the reference), and trees of contexts and choices in packed passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.engine.attention import reading
from autoprompt.engine.linear import rounded
from autoprompt.engine.pack import Chain, Pack, Span, blocks_of, hang
from autoprompt.engine.request import Ids, Row, embedded, padded
from autoprompt.engine.tree import LabelTree
from autoprompt.models import LanguageModel

__all__ = [
    "OUTPUT_NUMBERS",
    "Leaf",
    "Segment",
    "hidden_states",
    "label_scores",
    "log_probabilities",
    "logits_of",
    "pack_of",
    "read_trunks",
    "scores_of",
]

OUTPUT_NUMBERS = 2**22  # logits at a time: on a CPU they stay in its cache


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


# -- packed passes ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Segment:
    """Tokens of a beginning that go on from `chain`, to be kept."""

    ids: Ids
    chain: Chain | None

    @property
    def start(self) -> int:
        return 0 if self.chain is None else self.chain.length

    @property
    def tokens(self) -> int:
        """All that it has in a pass."""
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Leaf(Segment):
    """The last tokens of a context, with the tree of its choices."""

    tree: LabelTree

    @property
    def tokens(self) -> int:
        return len(self.ids) + len(self.tree.ids)


def pack_of(model: LanguageModel, segments: Sequence[Segment], keep: bool = False) -> tuple[Pack, NDArray[np.int64]]:
    """Segments on the same chain behind each other in one pass; their ids (T,)."""
    ids: list[int] = []
    depths: list[NDArray[np.int64]] = []
    visible: list[NDArray[np.bool_] | None] = []
    places: list[int] = []
    spans: list[Span] = []
    for segment in segments:
        places.append(len(ids))
        ids += segment.ids
        count = len(segment.ids)
        if isinstance(segment, Leaf) and segment.tree.ids:
            ids += segment.tree.ids
            depth = np.concatenate([np.arange(count), count + np.asarray(segment.tree.depths)])
            visible.append(segment.tree.visible)
        else:
            depth = np.arange(count)
            visible.append(None)
        depths.append(segment.start + depth)
        hang(spans, places[-1], len(ids), segment.chain)
    blocks = blocks_of(places, depths, visible, model.device)
    spare = rounded(len(ids)) - len(ids)
    positions = np.concatenate([*depths, np.zeros(spare, np.int64)])
    return Pack(positions, blocks, spans, keep), np.asarray(ids + [max(ids)] * spare, dtype=np.int64)


def hidden_states(model: LanguageModel, pack: Pack, ids: NDArray[np.int64], vectors: Tensor | None) -> Tensor:
    """The last hidden states (T, H) of a pass; id -1-k stands for row k of `vectors` (K, H)."""
    device = model.device
    body = model.network.base_model
    with reading(model.network, pack):
        outputs = body(
            **embedded(model, torch.from_numpy(ids)[None].to(device), [vectors if ids.min() < 0 else None]),
            position_ids=torch.from_numpy(pack.positions)[None].to(device),
            use_cache=False,
        )
    found: Tensor = outputs.last_hidden_state[0]
    return found


def read_trunks(model: LanguageModel, segments: Sequence[Segment], vectors: Tensor | None) -> list[Chain]:
    """The chains of beginnings, each with all that it goes on from."""
    pack, ids = pack_of(model, segments, keep=True)
    hidden_states(model, pack, ids, vectors)
    chains = []
    start = 0
    for segment in segments:
        stop = start + len(segment.ids)
        layers = {}
        for layer, (keys, values) in pack.kept.items():
            new = keys[:, :, start:stop], values[:, :, start:stop]
            if segment.chain is None:
                layers[layer] = (new[0].contiguous(), new[1].contiguous())
            else:
                old = segment.chain.layers[layer]
                layers[layer] = (torch.cat([old[0], new[0]], 2), torch.cat([old[1], new[1]], 2))
        chains.append(Chain(layers, segment.start + len(segment.ids)))
        start = stop
    return chains


def label_scores(model: LanguageModel, leaves: Sequence[Leaf], vectors: Tensor | None) -> Tensor:
    """Summed log-probabilities (B, C) of the choices of leaves; float32, with a gradient where one is on.

    Only the tokens that something follows go through the output matrix. Rows with fewer choices
    are filled with zeros.
    """
    pack, ids = pack_of(model, leaves)
    return scores_of(model, leaves, hidden_states(model, pack, ids, vectors))


def scores_of(model: LanguageModel, segments: Sequence[Segment], hidden: Tensor) -> Tensor:
    """The same from the last hidden states of a pass that had these segments, of which one at least is a leaf.

    Rows of those that are none are zeros.
    """
    device = model.device
    rows: list[int] = []  # packed tokens that predict
    entries: list[tuple[int, int, int, int]] = []  # which of these rows, token, leaf, choice
    start = 0
    most = 0
    for b, leaf in enumerate(segments):
        if isinstance(leaf, Leaf):
            first, last = len(rows), start + len(leaf.ids) - 1
            rows += range(last, last + leaf.tree.places)
            entries += [
                (first + place, token, b, c) for c, choice in enumerate(leaf.tree.choices) for place, token in choice
            ]
            most = max(most, len(leaf.tree.choices))
        start += leaf.tokens
    table = np.array(sorted(entries), dtype=np.int64).T.copy()
    at, wanted, leaf_of, choice_of = (torch.from_numpy(column).to(device) for column in table)
    scores = _picked(model, hidden[torch.tensor(rows, device=device)], at, wanted).to(_sum_dtype(device))
    summed = torch.zeros(len(segments), most, device=device, dtype=scores.dtype)
    return summed.index_put((leaf_of, choice_of), scores, accumulate=True).float()


def _picked(model: LanguageModel, hidden: Tensor, at: Tensor, wanted: Tensor) -> Tensor:
    """log P(wanted token | row `at`) (E,), the rows (R, H) a few at a time; `at` is sorted."""
    size = max(64, OUTPUT_NUMBERS // model.network.get_output_embeddings().weight.shape[0] // 64 * 64)
    found = []
    bounds = torch.searchsorted(at, torch.arange(0, len(hidden) + size, size, device=at.device)).tolist()
    for n, start in enumerate(range(0, len(hidden), size)):
        scores = logits_of(model, hidden[start : start + size]).log_softmax(-1)
        part = slice(bounds[n], bounds[n + 1])
        found.append(scores[at[part] - start, wanted[part]])
    return torch.cat(found)


def logits_of(model: LanguageModel, hidden: Tensor) -> Tensor:
    """Logits (R, V) of hidden states (R, H), float32."""
    head: Any = model.network.get_output_embeddings()
    count = len(hidden)
    if rounded(count) > count:
        hidden = torch.nn.functional.pad(hidden, (0, 0, 0, rounded(count) - count))
    logits: Tensor = head(hidden)[:count].float()
    config = model.network.config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0  # Cohere
    divisor = getattr(config, "logits_scaling", None) or 1.0  # Granite
    if scale != divisor:
        logits = logits * scale / divisor
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma
    return logits if cap is None else torch.tanh(logits / cap) * cap
