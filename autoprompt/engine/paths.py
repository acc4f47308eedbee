"""The two ways of each family: plain, row by row, and packed; tried against each other before the second is used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.engine import causal, encoder, masked, seq2seq, walk
from autoprompt.engine.batches import TOKENS, Budget, out_of_memory
from autoprompt.engine.causal import Leaf
from autoprompt.engine.grid import Count, Grid
from autoprompt.engine.linear import blocked_weights
from autoprompt.engine.other import TOLERANCE
from autoprompt.engine.request import Request, Row
from autoprompt.engine.tree import label_tree
from autoprompt.models import LanguageModel

__all__ = ["choice_log_probabilities", "packed_scores", "plain_log_probabilities", "reads_trees"]

_PLAIN: dict[str, Callable[[LanguageModel, Sequence[Row]], Tensor]] = {
    "causal": causal.log_probabilities,
    "seq2seq": seq2seq.log_probabilities,
    "masked": masked.log_probabilities,
    "encoder": encoder.cosines,
}
_PACKED: dict[str, Callable[[Grid, LanguageModel, Budget, Count], list[NDArray[np.float64]]]] = {
    "causal": walk.score,
    "seq2seq": seq2seq.score,
    "masked": masked.score,
}
_tried: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # networks, and whether they can be read packed


def plain_log_probabilities(model: LanguageModel, rows: Sequence[Row]) -> Tensor:
    """log P(choice | context) of each row (R,), read whole, in one batch, with a gradient where one is on.

    Of a sentence encoder, the cosine of context and choice.
    """
    return _PLAIN[model.family](model, rows)


def choice_log_probabilities(
    model: LanguageModel, requests: Sequence[Request], vectors: Tensor | None = None, tree: bool = False
) -> Tensor:
    """log P(choice | context) of all choices (B, C) of requests with C choices each, in one batch.

    With a gradient where one is on; vectors: those of all requests, which take one too. tree: read
    each context once with all its choices, which `reads_trees` allows.
    """
    if tree:
        leaves = [Leaf(request.context, None, label_tree(request.choices)) for request in requests]
        return causal.label_scores(model, leaves, vectors)
    rows = [Row(r.context, choice, r.tail, vectors) for r in requests for choice in r.choices]
    return plain_log_probabilities(model, rows).reshape(len(requests), -1)


def packed_scores(grid: Grid, model: LanguageModel, budget: Budget, count: Count) -> list[NDArray[np.float64]]:
    """The log-probabilities (C,) of each request's choices, what the grid shares read once."""
    with blocked_weights(model.network):
        return grid.answers(_PACKED[model.family](grid, model, budget, count))


@torch.no_grad()
def reads_trees(model: LanguageModel, requests: Sequence[Request]) -> bool:
    """Whether a model can be read in packed passes, its choices as trees: tried once against the plain path.

    The trial's tokens are drawn from the requests; it has beginnings that are shared, and choices
    of several tokens.
    """
    if model.network in _tried:
        return _tried[model.network]
    reason = _not_covered(model)
    if not reason:
        trial = _trial(model, requests)
        plain = plain_log_probabilities(model, [row for request in trial for row in request.rows()])
        try:
            budget = Budget(TOKENS, 0, model.device)
            grid = Grid.of(trial, model).with_saving(4)
            found = np.concatenate(packed_scores(grid, model, budget, lambda tokens: None))
            if not plain.isfinite().all():
                return True  # the caller will say so
            if torch.allclose(torch.from_numpy(found).to(plain), plain, atol=TOLERANCE[model.dtype], rtol=0):
                _tried[model.network] = True
                return True
            reason = "its scores differ from the plain path's"
        except (AttributeError, TypeError, ValueError, RuntimeError, LookupError, NotImplementedError) as error:
            if out_of_memory(error):  # nothing is known then: it is tried again
                raise
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    _tried[model.network] = False
    logging.getLogger("autoprompt").warning("%s cannot share prefixes (%s); the plain path is used", model.name, reason)
    return False


def _not_covered(model: LanguageModel) -> str:
    """Why a model's configuration rules packed passes out, or nothing: a short trial would not show it."""
    config = model.network.config.get_text_config()
    if getattr(config, "attention_chunk_size", None):
        return "its attention is in chunks"
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    return f"it has layers of the kind {sorted(kinds)[0]}" if kinds else ""


def _trial(model: LanguageModel, requests: Sequence[Request]) -> list[Request]:
    """A small grid of tokens that occur in the requests, and others where those are few: two beginnings,
    one of which goes on."""
    seen = {i for r in requests[:2] for ids in (r.context, *r.choices) for i in ids if i >= 0}
    size = model.network.get_input_embeddings().weight.shape[0]
    seen.update(range(0, size, max(1, size // 40)) if len(seen) < 20 else ())
    drawn = np.random.default_rng(0).choice(sorted(seen), 40).tolist()
    first, second = tuple(drawn[:7]), tuple(drawn[7:18])
    choices = (tuple(drawn[18:19]), tuple(drawn[19:21]), (*drawn[19:20], *drawn[21:24]))
    items = [tuple(drawn[24:25]), tuple(drawn[25:30]), tuple(drawn[30:33])]
    contexts = [first + items[0], first + items[1], first + second + items[1], first + second + items[2], items[1]]
    tail = tuple(drawn[33:35]) if model.family == "masked" else ()
    return [Request(context, tuple(dict.fromkeys(choices)), tail) for context in contexts]
