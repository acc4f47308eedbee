"""The door of the engine: what was asked before, what goes which way, and what holds for the answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.engine import causal, masked, seq2seq
from autoprompt.engine.batches import Budget, out_of_memory
from autoprompt.engine.causal import Leaf, Vectors
from autoprompt.engine.grid import Grid
from autoprompt.engine.request import Ids, Request, Row
from autoprompt.engine.tree import label_tree
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel

__all__ = ["Engine", "choice_log_probabilities", "plain_log_probabilities", "reads_trees"]

_PLAIN: dict[str, Callable[[LanguageModel, Sequence[Row]], Tensor]] = {
    "causal": causal.log_probabilities,
    "seq2seq": seq2seq.log_probabilities,
    "masked": masked.log_probabilities,
}
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.25}
_TOKENS = {"cpu": 2048, "cuda": 16384}  # of one pass
_KEPT_BYTES = {"cpu": 2**28, "cuda": 2**32}  # of keys and values between passes


def plain_log_probabilities(model: LanguageModel, rows: Sequence[Row]) -> Tensor:
    """log P(choice | context) of each row (R,), read whole, in one batch, with a gradient where one is on."""
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
        return causal.label_scores(model, leaves, Vectors(vectors))
    rows = [Row(r.context, choice, r.tail, vectors) for r in requests for choice in r.choices]
    return plain_log_probabilities(model, rows).reshape(len(requests), -1)


@torch.no_grad()
def reads_trees(model: LanguageModel, requests: Sequence[Request]) -> bool:
    """Whether a causal model can be read in packed passes over trees: tried once against the plain path.

    The trial's tokens are drawn from the requests; it has beginnings that are shared, and choices
    of several tokens.
    """
    if model.family != "causal" or (reason := _not_covered(model)):
        if model.family == "causal":
            _plain_from_now_on(model, reason)
        return False
    trial = _trial(requests)
    plain = causal.log_probabilities(model, [row for request in trial for row in request.rows()])
    reason = "its scores differ from the plain path's"
    try:
        budget = Budget(_TOKENS["cpu"], _KEPT_BYTES["cpu"], model.device)
        found = Grid.of(trial, model).with_saving(4).score(model, budget, lambda tokens: None)
        given = torch.from_numpy(np.concatenate(found)).to(plain)
        if torch.allclose(given, plain, atol=_TOLERANCE[model.dtype], rtol=0):
            return True
        if not plain.isfinite().all():
            return True  # the caller will say so
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError, KeyError, NotImplementedError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    _plain_from_now_on(model, reason)
    return False


def _plain_from_now_on(model: LanguageModel, reason: str) -> None:
    logging.getLogger("autoprompt").warning("%s cannot share prefixes (%s); the plain path is used", model.name, reason)


def _not_covered(model: LanguageModel) -> str:
    """Why a model's configuration rules packed passes out, or nothing: a short trial would not show it."""
    config = model.network.config.get_text_config()
    if getattr(config, "attention_chunk_size", None):
        return "its attention is in chunks"
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    return f"it has layers of the kind {sorted(kinds)[0]}" if kinds else ""


def _trial(requests: Sequence[Request]) -> list[Request]:
    """A small grid of tokens that occur in the requests: two beginnings, one of which goes on."""
    seen = [i for r in requests[:2] for ids in (r.context, *r.choices) for i in ids if i >= 0]
    drawn = np.random.default_rng(0).choice(np.unique(seen), 40).tolist()
    first, second = tuple(drawn[:7]), tuple(drawn[7:18])
    choices = (tuple(drawn[18:19]), tuple(drawn[19:21]), (*drawn[19:20], *drawn[21:24]))
    items = [tuple(drawn[24:25]), tuple(drawn[25:30]), tuple(drawn[30:33])]
    contexts = [first + items[0], first + items[1], first + second + items[1], first + second + items[2], items[1]]
    return [Request(context, tuple(dict.fromkeys(choices))) for context in contexts]


class Engine:
    """Scores token requests on one model.

    batch_tokens: the most tokens of one pass; halved when memory runs out, and grown back later.
    share: whether causal models may be read as trees, each shared beginning once and all choices
    of a context at once; the results are the same within 1e-4.

    >>> from autoprompt.models import load_model
    >>> engine = Engine(load_model("builtin"))
    >>> [scores] = engine.score([Request(context=(0, 5, 6), choices=((7,), (8, 9)))])
    >>> scores.shape
    (2,)
    """

    def __init__(self, model: LanguageModel, batch_tokens: int | None = None, share: bool = True) -> None:
        self.model = model
        kind = model.device.type
        self.budget = Budget(batch_tokens or _TOKENS.get(kind, 4096), _KEPT_BYTES.get(kind, 2**30), model.device)
        self._counted = [0]
        self._share = share and model.family == "causal"
        self._exact: bool | None = None  # whether trees are; not yet tried

    @property
    def batch_tokens(self) -> int:
        """The most tokens of one pass, as things are."""
        return self.budget.tokens

    @property
    def tokens(self) -> int:
        """Tokens that went through the model, and through those of engines made by `on`."""
        return self._counted[0]

    def count(self, tokens: int) -> None:
        """Add tokens that went through the model elsewhere, as in training."""
        self._counted[0] += tokens

    def on(self, model: LanguageModel) -> Engine:
        """An engine for another model, such as a trained copy, that counts its tokens here."""
        engine = Engine(model, self.budget.ceiling, self._share)
        engine._counted = self._counted
        return engine

    @torch.inference_mode()
    def score(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        """log P(choice | context), natural, summed over the choice's tokens: one (C,) a request.

        Equal requests are computed once. Raises ModelError when the model returns NaN, or when
        a single request does not fit into memory.
        """
        distinct: dict[tuple[object, ...], list[int]] = {}
        for at, request in enumerate(requests):
            distinct.setdefault(request.identity, []).append(at)
        unique = [requests[places[0]] for places in distinct.values()]
        scored = self._scored(unique) if unique else []
        found: list[NDArray[np.float64]] = [np.empty(0)] * len(requests)
        for places, scores in zip(distinct.values(), scored, strict=True):
            if not np.isfinite(scores).all():
                raise ModelError(
                    f"The model {self.model.name!r} returned NaN or infinite log-probabilities "
                    f'in {str(self.model.dtype).removeprefix("torch.")}. Try [model] dtype = "float32".'
                )
            for place in places:
                found[place] = scores
        return found

    def _scored(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        if self._trees(requests):
            return Grid.of(requests, self.model).score(self.model, self.budget, self.count)
        scored: list[NDArray[np.float64]] = [np.empty(0)] * len(requests)
        for soft in (False, True):  # not mixed: a batch with vectors is read as embeddings
            self._score_plain(requests, [i for i, r in enumerate(requests) if (r.vectors is not None) == soft], scored)
        return scored

    def _trees(self, requests: Sequence[Request]) -> bool:
        """Whether the requests are read as a tree."""
        if not self._share:
            return False
        if self._exact is None:
            try:
                self._exact = reads_trees(self.model, requests)
            except (ModelError, RuntimeError) as error:  # memory ran out: tried again at the next call
                if isinstance(error, RuntimeError) and not out_of_memory(error):
                    raise
                return False
        return self._exact

    def _score_plain(self, requests: Sequence[Request], members: list[int], scored: list[NDArray[np.float64]]) -> None:
        """Whole rows, in batches of like length."""

        def size(i: int) -> tuple[int, int]:
            request = requests[i]
            return len(request.choices), len(request.context) + max(map(len, request.choices)) + len(request.tail)

        def forward(batch: list[int]) -> None:
            rows = [row for i in batch for row in requests[i].rows()]
            values = plain_log_probabilities(self.model, rows).double().cpu().numpy()
            self.count(sum(len(row.context) + len(row.choice) + len(row.tail) for row in rows))
            start = 0
            for i in batch:
                scored[i] = values[start : start + len(requests[i].choices)]
                start += len(requests[i].choices)

        self.budget.run(sorted(members, key=lambda i: len(requests[i].context)), size, forward)
