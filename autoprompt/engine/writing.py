"""Texts by rules: each one written once, from draws of its own, up to a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autoprompt.engine.choosing import Text, Writing
from autoprompt.engine.continuation import Detokenizer, StopWatch, cut
from autoprompt.engine.memory import ScoreMemory
from autoprompt.engine.request import Request
from autoprompt.engine.written import WritingRules, Written
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel
from autoprompt.soft import seed_of

__all__ = ["Writer", "ends_of"]


def ends_of(model: LanguageModel) -> frozenset[int]:
    """The ids that end a text. Raises ModelError for a model that cannot write."""
    if model.family not in ("causal", "seq2seq"):
        raise ModelError(f"The model {model.name!r} is {model.family}; only causal and seq2seq models write.")
    own = model.network.generation_config.eos_token_id
    return frozenset([] if own is None else [own] if isinstance(own, int) else own)


class Texts(Protocol):
    """What writes texts on from requests."""

    def __call__(self, requests: Sequence[Request], writing: Writing, packed: bool = True) -> list[Text]: ...


@dataclass(frozen=True, eq=False)
class _Task:
    """One text to be written: sample `sample` of `request`, of at most `tokens` tokens."""

    request: Request
    sample: int
    tokens: int
    places: list[tuple[int, int]]  # the texts it is: request and sample as they were asked for


class _Follower:
    """Ends a text at a stop string."""

    def __init__(self, watch: StopWatch) -> None:
        self._watch = watch

    def allowed(self, width: int) -> NDArray[np.bool_] | None:
        return None

    def add(self, token: int) -> bool:
        return self._watch.add(token)


class Writer:
    """Writes texts by rules, with `texts`, and what `memory` does not hold."""

    def __init__(
        self, model: LanguageModel, texts: Texts, memory: ScoreMemory | None, not_finite: Callable[[str], str]
    ) -> None:
        self._model, self._texts, self._memory, self._not_finite = model, texts, memory, not_finite
        self._ends = ends_of(model)
        self._detokenizer = Detokenizer(model)

    def write(self, requests: Sequence[Request], rules: WritingRules) -> list[tuple[Written, ...]]:
        """As `Engine.write`."""
        tasks = self._tasks(requests, rules)
        found = [[Written("", (), False)] * rules.samples for _ in requests]
        texts = self._written(tasks, rules)
        if bad := sorted({at for t, text in zip(tasks, texts, strict=True) if not text.finite for at, _ in t.places}):
            others = f" and of {len(bad) - 1} others" if len(bad) > 1 else ""
            raise ModelError(self._not_finite(f"of request {bad[0]} of {len(requests)}{others}"))
        for task, text in zip(tasks, texts, strict=True):
            whole = self._detokenizer.text(self._detokenizer.before(task.request.context), text.ids)
            short, stopped = cut(whole, rules.stop)
            for at, sample in task.places:
                found[at][sample] = Written(short, text.ids, text.ended or stopped)
        return [tuple(samples) for samples in found]

    def _tasks(self, requests: Sequence[Request], rules: WritingRules) -> list[_Task]:
        """The distinct texts; a greedy one stands for all samples."""
        tasks: dict[tuple[object, ...], _Task] = {}
        for at, request in enumerate(requests):
            read = Request(request.context, (), (), request.vectors)
            room = self._room(read, rules.tokens)
            for sample in range(rules.samples):
                own = sample if rules.temperature else 0
                task = tasks.setdefault((read.identity, own), _Task(read, own, room, []))
                task.places.append((at, sample))
        return list(tasks.values())

    def _room(self, request: Request, tokens: int) -> int:
        """How many tokens may be written: with the context no more than the model reads at once."""
        window, read = self._model.window, len(request.context)
        if self._model.family != "causal" or window is None:
            return tokens
        if read >= window:
            raise ModelError(
                f"A context of {read} tokens fills the {window} that the model {self._model.name!r} reads; it leaves "
                "no room to write. Use a shorter prompt."
            )
        return min(tokens, window - read)

    def _written(self, tasks: Sequence[_Task], rules: WritingRules) -> list[Text]:
        found: list[Text] = [Text()] * len(tasks)
        alike: dict[int, list[int]] = {}
        for at, task in enumerate(tasks):
            alike.setdefault(task.tokens, []).append(at)
        for tokens, members in alike.items():
            for at, text in zip(members, self._checked([tasks[at] for at in members], rules, tokens), strict=True):
                found[at] = text
        return found

    def _checked(self, tasks: Sequence[_Task], rules: WritingRules, tokens: int) -> list[Text]:
        """Texts; not finite only where a request by itself is: in a packed pass zero times NaN is NaN."""
        texts = self._texts([task.request for task in tasks], self._writing(tasks, rules, tokens))
        if bad := [at for at, text in enumerate(texts) if not text.finite]:
            alone = [tasks[at] for at in bad]
            again = self._texts([task.request for task in alone], self._writing(alone, rules, tokens), packed=False)
            for at, text in zip(bad, again, strict=True):
                texts[at] = text
        return texts

    def _writing(self, tasks: Sequence[_Task], rules: WritingRules, tokens: int) -> Writing:
        seeds = tuple(_seed(task, rules.seed) for task in tasks) if rules.temperature else ()

        def follow(number: int) -> _Follower:
            before = self._detokenizer.before(tasks[number].request.context)
            return _Follower(StopWatch(self._detokenizer, before, rules.stop))

        return Writing(
            tokens, rules.temperature, ends=self._ends | rules.ends, seeds=seeds, follow=follow if rules.stop else None
        )


def _seed(task: _Task, seed: int) -> int:
    """Of a text's draws: from the run's seed, what the model reads, and the sample's number."""
    context, _, _, vectors = task.request.identity
    digest = blake2b(repr(context).encode() + (vectors if isinstance(vectors, bytes) else b"")).hexdigest()
    return seed_of(seed, "write", digest, task.sample)
