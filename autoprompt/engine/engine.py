"""The door of the engine: what was asked before, what goes which way, and what holds for the answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.engine import causal, masked, seq2seq, walk
from autoprompt.engine.batches import Budget, out_of_memory
from autoprompt.engine.causal import Leaf
from autoprompt.engine.encoder import Embedder
from autoprompt.engine.generation import Writing, write, write_plainly
from autoprompt.engine.grid import Count, Grid
from autoprompt.engine.linear import blocked_weights
from autoprompt.engine.memory import ScoreMemory
from autoprompt.engine.other import TOLERANCE, Checked
from autoprompt.engine.request import Ids, Request, Row, Vectors
from autoprompt.engine.tree import label_tree
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel
from autoprompt.models.encoder import EncoderModel

__all__ = ["Engine", "choice_log_probabilities", "plain_log_probabilities", "reads_trees"]

_PLAIN: dict[str, Callable[[LanguageModel, Sequence[Row]], Tensor]] = {
    "causal": causal.log_probabilities,
    "seq2seq": seq2seq.log_probabilities,
    "masked": masked.log_probabilities,
}
_FAST: dict[str, Callable[[Grid, LanguageModel, Budget, Count], list[NDArray[np.float64]]]] = {
    "causal": walk.score,
    "seq2seq": seq2seq.score,
    "masked": masked.score,
}
_tried: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # networks, and whether they can be read as trees
_TOKENS, _KEPT_BYTES = 2048, 2**28  # of one pass, and of keys and values between passes: what pays on a CPU
_MOST_TOKENS = 2**16  # of one pass on a GPU, whatever its memory


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
            budget = Budget(_TOKENS, _KEPT_BYTES, model.device)
            grid = Grid.of(trial, model).with_saving(4)
            with blocked_weights(model.network):
                scored = _FAST[model.family](grid, model, budget, lambda tokens: None)
            found = np.concatenate(grid.answers(scored))
            if not plain.isfinite().all():
                return True  # the caller will say so
            if torch.allclose(torch.from_numpy(found).to(plain), plain, atol=TOLERANCE[model.dtype], rtol=0):
                _tried[model.network] = True
                return True
            reason = "its scores differ from the plain path's"
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, TypeError, ValueError, RuntimeError, LookupError, NotImplementedError) as error:
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


def _budget(model: LanguageModel, batch_tokens: int | None) -> Budget:
    """On a GPU a quarter of the memory that is free for a pass, and one for what is kept between passes."""
    tokens, kept = _TOKENS, _KEPT_BYTES
    if model.device.type == "cuda":
        kept = torch.cuda.mem_get_info(model.device)[0] // 4
        tokens = max(_TOKENS, min(_MOST_TOKENS, kept // _bytes_of_a_token(model)))
    return Budget(batch_tokens or tokens, kept, model.device)


def _bytes_of_a_token(model: LanguageModel) -> int:
    """What a layer holds of one token at a time, with room to spare."""
    config = model.network.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return int((24 * config.hidden_size + 4 * inner) * model.dtype.itemsize)


def _length(request: Request) -> int:
    """Tokens of the longest row."""
    return len(request.context) + max(map(len, request.choices), default=0) + len(request.tail)


def _turn(model: LanguageModel) -> float:
    """Beyond this length a row turns the rotations of its whole batch into others ("longrope"), so that
    no batch may hold rows on both sides of it."""
    ropes = getattr(model.network.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [ropes, *(value for value in ropes.values() if isinstance(value, dict))]
    turns = [r["original_max_position_embeddings"] for r in kinds if r.get("rope_type") == "longrope"]
    return min(turns, default=float("inf"))


def _trial(model: LanguageModel, requests: Sequence[Request]) -> list[Request]:
    """A small grid of tokens that occur in the requests: two beginnings, one of which goes on."""
    seen = [i for r in requests[:2] for ids in (r.context, *r.choices) for i in ids if i >= 0]
    drawn = np.random.default_rng(0).choice(np.unique(seen), 40).tolist()
    first, second = tuple(drawn[:7]), tuple(drawn[7:18])
    choices = (tuple(drawn[18:19]), tuple(drawn[19:21]), (*drawn[19:20], *drawn[21:24]))
    items = [tuple(drawn[24:25]), tuple(drawn[25:30]), tuple(drawn[30:33])]
    contexts = [first + items[0], first + items[1], first + second + items[1], first + second + items[2], items[1]]
    tail = tuple(drawn[33:35]) if model.family == "masked" else ()
    return [Request(context, tuple(dict.fromkeys(choices)), tail) for context in contexts]


class Engine:
    """Scores token requests on one model.

    batch_tokens: the most tokens of one pass; halved when memory runs out, and grown back later.
    share: whether what requests have in common may be read once, as `reads_trees` finds out; the
    results are the same within 1e-4. memory: what was scored before, in this run or another. other: an
    engine of another make that scores in place of this one.

    >>> from autoprompt.models import load_model
    >>> engine = Engine(load_model("builtin"))
    >>> [scores] = engine.score([Request(context=(0, 5, 6), choices=((7,), (8, 9)))])
    >>> scores.shape
    (2,)
    """

    def __init__(
        self,
        model: LanguageModel,
        batch_tokens: int | None = None,
        share: bool = True,
        memory: ScoreMemory | None = None,
        other: Checked | None = None,
    ) -> None:
        self.model = model
        self.memory = memory
        self.other = other
        self.budget = _budget(model, batch_tokens)
        self._counted = [0]
        self._share = share
        self._turn = _turn(model)
        self._exact: bool | None = None  # whether trees are; not yet tried
        self._embedder = Embedder(model, self.budget, self.count) if isinstance(model, EncoderModel) else None

    @property
    def batch_tokens(self) -> int:
        """The most tokens of one pass, as things are."""
        return self.budget.tokens

    @property
    def budget_bytes(self) -> int:
        """What a call may need beside the model's weights: keys and values that are kept, and one pass."""
        one_pass = self.budget.ceiling * _bytes_of_a_token(self.model)
        return self.budget.kept_bytes + one_pass + 4 * 4 * causal.OUTPUT_NUMBERS

    @property
    def tokens(self) -> int:
        """Tokens that went through the model, and through those of engines made by `on`."""
        return self._counted[0]

    def count(self, tokens: int) -> None:
        """Add tokens that went through the model elsewhere, as in training."""
        self._counted[0] += tokens

    def on(self, model: LanguageModel) -> Engine:
        """An engine for another model, such as a trained copy, that counts its tokens here; it has
        no memory, and scores by itself."""
        engine = Engine(model, self.budget.ceiling, self._share)
        engine._counted = self._counted
        return engine

    @torch.inference_mode()
    def score(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        """log P(choice | context), natural, summed over the choice's tokens: one (C,) a request.

        For a sentence encoder, the cosine of context and choice. Equal requests are computed once,
        and what the memory holds not at all. Raises ModelError when the model returns NaN, or when
        a single request does not fit into memory.
        """
        distinct: dict[tuple[object, ...], list[int]] = {}
        for at, request in enumerate(requests):
            distinct.setdefault(request.identity, []).append(at)
        unique = [requests[places[0]] for places in distinct.values()]
        found: list[NDArray[np.float64]] = [np.empty(0)] * len(requests)
        for places, scores in zip(distinct.values(), self._remembered(unique), strict=True):
            for place in places:
                found[place] = scores
        return found

    def _remembered(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        """The scores of distinct requests, from the memory where it has them."""
        if self.memory is None:
            return self._checked(requests)
        keys = [self.memory.key(request) for request in requests]
        known = self.memory.get(keys)
        new = [at for at, scores in enumerate(known) if scores is None]
        fresh = dict(zip(new, self._checked([requests[at] for at in new]), strict=True))
        self.memory.put({keys[at]: scores for at, scores in fresh.items()})
        return [fresh[at] if scores is None else scores for at, scores in enumerate(known)]

    def _checked(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        scored = self._scored(requests) if requests else []
        if not all(np.isfinite(scores).all() for scores in scored):
            raise ModelError(
                f"The model {self.model.name!r} returned NaN or infinite log-probabilities "
                f'in {str(self.model.dtype).removeprefix("torch.")}. Try [model] dtype = "float32".'
            )
        return scored

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        ends: Collection[int] | None = None,
    ) -> list[Ids]:
        """The ids written on from each request's context, without what ends the text; choices are not read.

        new_tokens: the most a text may have. temperature: 0 takes the likeliest token each time;
        else tokens are drawn, from `seed` and the request's number alone. ends: ids that end a text;
        None takes the model's own. Raises ModelError for a masked model, which cannot write.
        """
        if self.model.family not in ("causal", "seq2seq"):
            raise ModelError(
                f"The model {self.model.name!r} is {self.model.family}; only causal and seq2seq models write."
            )
        if ends is None:
            own = self.model.network.generation_config.eos_token_id
            ends = [] if own is None else [own] if isinstance(own, int) else own
        writing = Writing(new_tokens, temperature, seed, frozenset(ends))
        if not requests or new_tokens < 1:
            return [()] * len(requests)
        if self.model.family == "causal" and self._trees(
            [replace(r, choices=r.choices or (r.context[-1:],)) for r in requests[:2]]
        ):
            with blocked_weights(self.model.network):
                return write(requests, self.model, self.budget, self.count, writing)
        return write_plainly(requests, self.model, self.count, writing)

    def embed(self, requests: Sequence[Request]) -> NDArray[np.float32]:
        """Unit vectors (N, D) of the requests' contexts. Raises ModelError where the model is no sentence encoder."""
        if self._embedder is None:
            raise ModelError(f"The model {self.model.name!r} is {self.model.family}; only sentence encoders embed.")
        return self._embedder.embed([(request.context, request.vectors) for request in requests])

    def _scored(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        if self._embedder is not None:
            return self._embedder.scores(requests)
        if self.other is not None:
            self.count(sum(map(_length, requests)))
            return self.other.score(requests, Engine(self.model, self.budget.ceiling, share=False).score)
        if self._trees(requests):
            grid = Grid.of(requests, self.model)
            with blocked_weights(self.model.network):
                return grid.answers(_FAST[self.model.family](grid, self.model, self.budget, self.count))
        scored: list[NDArray[np.float64]] = [np.empty(0)] * len(requests)
        kinds: dict[tuple[bool, bool], list[int]] = {}
        for i, request in enumerate(requests):  # not mixed: a batch with vectors is read as embeddings
            kinds.setdefault((request.vectors is not None, _length(request) > self._turn), []).append(i)
        for members in kinds.values():
            self._score_plain(requests, members, scored)
        return scored

    def _trees(self, requests: Sequence[Request]) -> bool:
        """Whether the requests are read as a tree."""
        if not self._share or max(map(_length, requests)) > self._turn:
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
            return len(requests[i].choices), _length(requests[i])

        def forward(batch: list[int]) -> None:
            rows = [row for i in batch for row in requests[i].rows()]
            values = plain_log_probabilities(self.model, rows).double().cpu().numpy()
            self.count(sum(len(row.context) + len(row.choice) + len(row.tail) for row in rows))
            start = 0
            for i in batch:
                scored[i] = values[start : start + len(requests[i].choices)]
                start += len(requests[i].choices)

        self.budget.run(sorted(members, key=lambda i: len(requests[i].context)), size, forward)
