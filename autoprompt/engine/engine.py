"""The plan of a grid of requests: what is read once, what goes into a batch, what if memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoprompt.engine import causal, masked, seq2seq
from autoprompt.engine.request import Request, Row
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel
from autoprompt.models.base import common_length

__all__ = ["Engine", "choice_log_probabilities", "plain_log_probabilities", "reads_trees"]

_PLAIN: dict[str, Callable[[LanguageModel, Sequence[Row]], Tensor]] = {
    "causal": causal.log_probabilities,
    "seq2seq": seq2seq.log_probabilities,
    "masked": masked.log_probabilities,
}
_SMALLEST_PREFIX = 8  # a shorter shared beginning does not repay its own pass
_PREFIX_SHARE = 8  # a batch may hold this many times its budget in cached prefix tokens
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.25}


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
        return causal.shared_log_probabilities(model, requests, 0, [], vectors)
    rows = [Row(r.context, choice, r.tail, vectors) for r in requests for choice in r.choices]
    return plain_log_probabilities(model, rows).reshape(len(requests), -1)


@torch.no_grad()
def reads_trees(model: LanguageModel, requests: Sequence[Request], prefix: int = 0) -> bool:
    """Whether all choices of a context can be read in one pass: tried once against the plain path.

    prefix: how many leading ids the requests share, to be read once too.
    """
    if model.family != "causal" or _slides(model, requests):
        return False
    requests = requests[:2]
    plain = causal.log_probabilities(model, [row for request in requests for row in request.rows()])
    reason = "its scores differ from the plain path's"
    try:
        shared = causal.shared_log_probabilities(model, requests, prefix, _prefix(model, requests[0], prefix))
        given = torch.cat([row[: len(r.choices)] for row, r in zip(shared, requests, strict=True)])
        if torch.allclose(given, plain, atol=_TOLERANCE[model.dtype], rtol=0):
            return True
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError, NotImplementedError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    logging.getLogger("autoprompt").warning("%s cannot share prefixes (%s); the plain path is used", model.name, reason)
    return False


def _slides(model: LanguageModel, requests: Sequence[Request]) -> bool:
    """Whether an attention window cuts some of the requests: a tree's mask would look past it."""
    sliding = getattr(model.network.config, "sliding_window", None)
    return sliding is not None and max(len(r.context) + sum(map(len, r.choices)) for r in requests) >= sliding > 0


def _prefix(model: LanguageModel, request: Request, prefix: int) -> causal.Cache:
    if not prefix:
        return []
    vectors = None if request.vectors is None else torch.from_numpy(request.vectors)
    return causal.prefix_cache(model, request.context[:prefix], vectors)


class Engine:
    """Scores token requests on one model.

    batch_tokens: the most tokens of one forward pass, padding included; halved when memory runs
    out. share: whether causal models may read all choices of a context at once and reuse prefixes;
    the results are the same within 1e-4.

    >>> from autoprompt.models import load_model
    >>> engine = Engine(load_model("builtin"))
    >>> [scores] = engine.score([Request(context=(0, 5, 6), choices=((7,), (8, 9)))])
    >>> scores.shape
    (2,)
    """

    def __init__(self, model: LanguageModel, batch_tokens: int | None = None, share: bool = True) -> None:
        self.model = model
        self.batch_tokens = batch_tokens or (16384 if model.device.type == "cuda" else 2048)
        self._counted = [0]
        self._share = share and model.family == "causal"
        self._exact: dict[bool, bool] = {}  # whether trees are, with a prefix and without

    @property
    def tokens(self) -> int:
        """Tokens that went through the model, and through those of engines made by `on`."""
        return self._counted[0]

    def count(self, tokens: int) -> None:
        """Add tokens that went through the model elsewhere, as in training."""
        self._counted[0] += tokens

    def on(self, model: LanguageModel) -> Engine:
        """An engine for another model, such as a trained copy, that counts its tokens here."""
        engine = Engine(model, self.batch_tokens)
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
        found: list[NDArray[np.float64] | None] = [None] * len(requests)
        groups: dict[tuple[str, int], list[int]] = {}
        for at, request in enumerate(unique):
            groups.setdefault((request.group, id(request.vectors)), []).append(at)
        scored: list[NDArray[np.float64]] = [np.empty(0)] * len(unique)
        plain: list[int] = []
        for members in groups.values():
            if not self._score_trees([unique[i] for i in members], members, scored):
                plain += members
        for soft in (False, True):  # not mixed: a batch with vectors is read as embeddings
            self._score_plain(unique, [i for i in plain if (unique[i].vectors is not None) == soft], scored)
        for places, scores in zip(distinct.values(), scored, strict=True):
            if not np.isfinite(scores).all():
                raise ModelError(
                    f"The model {self.model.name!r} returned NaN or infinite log-probabilities "
                    f'in {str(self.model.dtype).removeprefix("torch.")}. Try [model] dtype = "float32".'
                )
            for place in places:
                found[place] = scores
        return [scores for scores in found if scores is not None]

    # -- plain: rows in batches of like length ---------------------------------------------

    def _score_plain(self, requests: Sequence[Request], members: list[int], scored: list[NDArray[np.float64]]) -> None:
        members = sorted(members, key=lambda i: len(requests[i].context))

        def width(i: int) -> tuple[int, int]:
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

        self._in_batches(members, width, 0, forward)

    # -- trees: all choices in one pass, over what a group begins with --------------------

    def _score_trees(self, group: list[Request], members: list[int], scored: list[NDArray[np.float64]]) -> bool:
        """Score a group over its shared prefix, if it pays to share; False when that is not exact."""
        if not self._share or _slides(self.model, group):
            return False
        prefix = min(common_length([r.context for r in group]), min(len(r.context) for r in group) - 1)
        if len(group) < 2 or prefix < _SMALLEST_PREFIX:
            prefix = 0
        try:
            if bool(prefix) not in self._exact:
                self._exact[bool(prefix)] = reads_trees(self.model, group, prefix)
            if not self._exact[bool(prefix)]:
                return False
            cache = _prefix(self.model, group[0], prefix)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            return False
        self.count(prefix)
        order = sorted(range(len(group)), key=lambda i: len(group[i].context))

        def width(i: int) -> tuple[int, int]:
            return 1, len(group[i].context) - prefix + sum(len(c) - 1 for c in group[i].choices)

        def forward(batch: list[int]) -> None:
            values = causal.shared_log_probabilities(self.model, [group[i] for i in batch], prefix, cache)
            self.count(sum(width(i)[1] for i in batch))
            for i, row in zip(batch, values.double().cpu().numpy(), strict=True):
                scored[members[i]] = row[: len(group[i].choices)]

        self._in_batches(order, width, prefix, forward)
        return True

    # -- batches -------------------------------------------------------------------------

    def _in_batches(
        self,
        members: Sequence[int],
        width: Callable[[int], tuple[int, int]],
        prefix: int,
        forward: Callable[[list[int]], None],
    ) -> None:
        """Run `forward` over all members, in batches within the budget; halve it when memory runs out."""
        waiting = list(members)
        while waiting:
            for batch in self._batches(waiting, width, prefix):
                try:
                    forward(batch)
                except RuntimeError as error:
                    if not _out_of_memory(error):
                        raise
                    if len(batch) == 1:
                        raise ModelError(
                            f"One request of {width(batch[0])[1] + prefix} tokens does not fit into the memory of "
                            f"{self.model.device}. Use shorter prompts, a smaller model or [model] dtype."
                        ) from None
                    self.batch_tokens = max(1, self.batch_tokens // 2)
                    if self.model.device.type == "cuda":
                        torch.cuda.empty_cache()
                    break
                waiting = waiting[len(batch) :]

    def _batches(
        self, members: Sequence[int], width: Callable[[int], tuple[int, int]], prefix: int
    ) -> Iterator[list[int]]:
        batch: list[int] = []
        rows = widest = 0
        for member in members:
            more_rows, wide = width(member)
            rows_then, widest_then = rows + more_rows, max(widest, wide)
            full = rows_then * widest_then > self.batch_tokens or rows_then * prefix > _PREFIX_SHARE * self.batch_tokens
            if batch and full:
                yield batch
                batch, rows_then, widest_then = [], more_rows, wide
            batch.append(member)
            rows, widest = rows_then, widest_then
        if batch:
            yield batch


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
