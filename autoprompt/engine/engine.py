"""The door of the engine: what was asked before, what goes which way, and what holds for the answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from autoprompt.engine.batches import budget_for, bytes_of_a_token, out_of_memory
from autoprompt.engine.causal import OUTPUT_NUMBERS
from autoprompt.engine.choosing import Text, Writing
from autoprompt.engine.encoder import Embedder
from autoprompt.engine.generation import write, write_plainly
from autoprompt.engine.grid import Grid
from autoprompt.engine.linear import blocked_weights
from autoprompt.engine.memory import ScoreMemory
from autoprompt.engine.other import Checked
from autoprompt.engine.paths import packed_scores, plain_log_probabilities, reads_trees
from autoprompt.engine.request import Ids, Request, Row
from autoprompt.engine.writing import Writer, ends_of
from autoprompt.engine.written import WritingRules, Written
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel
from autoprompt.models.encoder import EncoderModel

__all__ = ["Engine"]


def _go_on() -> None:
    """Nothing ends the work."""


def _not_finite(scored: Sequence[NDArray[np.float64]]) -> list[int]:
    """Which scores hold NaN or infinity."""
    if not scored or np.isfinite(np.concatenate(scored)).all():  # as ever: looked at in one go
        return []
    return [at for at, scores in enumerate(scored) if not np.isfinite(scores).all()]


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


class Engine:
    """Scores token requests on one model.

    batch_tokens: the most tokens of one pass; halved when memory runs out, and grown back later.
    share: whether what requests have in common may be read once, as `reads_trees` finds out; the
    results are the same within 1e-4. check is called after each pass and may raise what ends the
    work. memory: what was scored before, in this run or another. other: an engine of another make
    that scores in place of this one.

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
        self.budget = budget_for(model, batch_tokens)
        self.check: Callable[[], None] = _go_on
        self._counted = [0]
        self._share = share
        self._turn = _turn(model)
        self._writer: Writer | None = None
        self._embedder = Embedder(model, self.budget, self.count) if isinstance(model, EncoderModel) else None

    @property
    def batch_tokens(self) -> int:
        """The most tokens of one pass, as things are."""
        return self.budget.tokens

    @property
    def budget_bytes(self) -> int:
        """What a call may need beside the model's weights: keys and values that are kept, and one pass."""
        one_pass = self.budget.ceiling * bytes_of_a_token(self.model)
        return self.budget.kept_bytes + one_pass + 4 * 4 * OUTPUT_NUMBERS

    @property
    def tokens(self) -> int:
        """Tokens that went through the model, and through those of engines made by `on`."""
        return self._counted[0]

    def count(self, tokens: int) -> None:
        """Add tokens that went through the model, here or elsewhere, as in training."""
        self._counted[0] += tokens
        self.check()

    def on(self, model: LanguageModel) -> Engine:
        """An engine for another model, such as a trained copy, that counts its tokens here; it has
        no memory, and scores by itself."""
        engine = Engine(model, self.budget.ceiling, self._share)
        engine._counted, engine.check = self._counted, self.check
        return engine

    def score(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        """log P(choice | context), natural, summed over the choice's tokens: one (C,) a request.

        For a sentence encoder, the cosine of context and choice. Equal requests are computed once,
        and what the memory holds not at all. Raises ModelError when the model returns NaN, or when
        a single request does not fit into memory.
        """
        found = self.attempt(requests)
        if bad := _not_finite(found):
            others = f" and of {len(bad) - 1} others" if len(bad) > 1 else ""
            raise ModelError(self.not_finite(f"of request {bad[0]} of {len(found)}{others}"))
        return found

    def not_finite(self, whose: str) -> str:
        """What to say of scores that are no numbers; `whose` they are: "of request 3"."""
        return (
            f"The model {self.model.name!r} returned NaN or infinite log-probabilities "
            f'in {str(self.model.dtype).removeprefix("torch.")}. Try [model] dtype = "float32". '
            f"Such are the scores {whose}."
        )

    @torch.inference_mode()
    def attempt(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        """As `score`, but what the model returned NaN for by itself is given back so, and all else is remembered.

        Raises ModelError when a single request does not fit into memory.
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
        """The scores of distinct requests, from the memory where it has them; it keeps finite ones alone."""
        if self.memory is None:
            return self._checked(requests)
        keys = [self.memory.key(request) for request in requests]
        known = self.memory.get(keys)
        new = [at for at, scores in enumerate(known) if scores is None]
        fresh = dict(zip(new, self._checked([requests[at] for at in new]), strict=True))
        self.memory.put({keys[at]: scores for at, scores in fresh.items()})
        return [fresh[at] if scores is None else scores for at, scores in enumerate(known)]

    def _checked(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        """Scores, and NaN only where a request by itself has it.

        In a packed pass a row does not see its neighbours, but zero times NaN is NaN: what is not finite is
        scored again in rows of its own.
        """
        scored = self._scored(requests) if requests else []
        bad = _not_finite(scored)
        if bad and self._share and self._embedder is None and self.other is None:
            for at, scores in zip(bad, self._plain([requests[at] for at in bad]), strict=True):
                scored[at] = scores
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
        own = ends_of(self.model)
        writing = Writing(new_tokens, temperature, seed, own if ends is None else frozenset(ends))
        return [text.ids for text in self._texts(requests, writing)]

    @torch.inference_mode()
    def write(self, requests: Sequence[Request], rules: WritingRules) -> list[tuple[Written, ...]]:
        """What the model writes on from each request's context: `rules.samples` texts a request; choices are not read.

        A text is a function of the model, the request and the rules, whatever else is asked with it.
        Equal requests are written once, and what the memory holds not at all. Raises ModelError for
        a model that cannot write or has no tokens for the form, for a context that fills its window,
        when it returns NaN, when a single request does not fit into memory, and when the form needs a
        package that is not installed; ConfigError for a form that is not understood.
        """
        return self._own_writer.write(requests, rules, self.memory)

    @torch.inference_mode()
    def write_and_score(
        self, requests: Sequence[Request], rules: WritingRules
    ) -> list[tuple[Written | None, NDArray[np.float64] | None]]:
        """A text and the choices' log-probabilities (C,) of each request, whose context is read once for both.

        The numbers are those of `write` and `score`, within 1e-4. None stands for what was not found so, and which
        `write` or `score` has to be asked for: where the memory has one of the two, where several texts a request are
        wanted, where something follows the answer, where the model is not read in packed passes, and where it returned
        NaN. Raises as `write` does, but for NaN.
        """
        plain = self.model.family == "causal" and self.other is None and rules.samples == 1
        if not plain or rules.tokens < 1 or not all(request.choices and not request.tail for request in requests):
            return [(None, None)] * len(requests)
        return self._own_writer.weighed(requests, rules, self.memory)

    @property
    def _own_writer(self) -> Writer:
        if self._writer is None:
            self._writer = Writer(self.model, self._texts, self.not_finite)
        return self._writer

    def _texts(self, requests: Sequence[Request], writing: Writing, packed: bool = True) -> list[Text]:
        """What is written on from each request; `packed` allows packed passes."""
        if not requests or writing.new_tokens < 1:
            return [Text()] * len(requests)
        if packed and self.model.family == "causal" and self._trees(requests, writing.new_tokens):
            with blocked_weights(self.model.network):
                return write(requests, self.model, self.budget, self.count, writing)
        return write_plainly(requests, self.model, self.budget, self.count, writing)

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
        packed = self._packed(requests) if self._trees(requests) else None
        return self._plain(requests) if packed is None else packed

    def _packed(self, requests: Sequence[Request]) -> list[NDArray[np.float64]] | None:
        """Scores in packed passes; None where memory runs out even for the smallest, with what is kept beside it."""
        try:
            return packed_scores(Grid.of(requests, self.model), self.model, self.budget, self.count)
        except (ModelError, RuntimeError, MemoryError) as error:
            if not isinstance(error, ModelError) and not out_of_memory(error):
                raise
        return None

    def _plain(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        """Scores of whole rows."""
        scored: list[NDArray[np.float64]] = [np.empty(0)] * len(requests)
        kinds: dict[tuple[bool, bool], list[int]] = {}
        for i, request in enumerate(requests):  # not mixed: a batch with vectors is read as embeddings
            kinds.setdefault((request.vectors is not None, _length(request) > self._turn), []).append(i)
        for members in kinds.values():
            self._score_plain(requests, members, scored)
        return scored

    def _trees(self, requests: Sequence[Request], new_tokens: int = 0) -> bool:
        """Whether the requests, which may grow, are read as a tree."""
        if not self._share or max(map(_length, requests)) + new_tokens > self._turn:
            return False
        try:
            return reads_trees(self.model, requests)
        except (ModelError, RuntimeError, MemoryError) as error:  # memory ran out: tried again at the next call
            if not isinstance(error, ModelError) and not out_of_memory(error):
                raise
            return False

    def _score_plain(self, requests: Sequence[Request], members: list[int], scored: list[NDArray[np.float64]]) -> None:
        """Whole rows, in batches of like length; where memory is short, the choices of a request part."""
        rows: list[tuple[int, int, Row]] = []
        for i in sorted(members, key=lambda i: len(requests[i].context)):
            scored[i] = np.empty(len(requests[i].choices))
            rows += [(i, c, row) for c, row in enumerate(requests[i].rows())]

        def forward(batch: list[tuple[int, int, Row]]) -> None:
            values = plain_log_probabilities(self.model, [row for _, _, row in batch]).double().cpu().numpy()
            self.count(sum(len(row.context) + len(row.choice) + len(row.tail) for _, _, row in batch))
            for (i, c, _), value in zip(batch, values.tolist(), strict=True):
                scored[i][c] = value

        self.budget.run(rows, lambda member: (1, _length(requests[member[0]])), forward)
