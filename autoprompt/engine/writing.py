"""Texts by rules: each one written once, from draws of its own, in its form, up to a stop string."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autoprompt.engine.choosing import Follower, Text, Writing
from autoprompt.engine.continuation import Detokenizer, StopWatch, cut
from autoprompt.engine.forms import Guide, Vocabulary, forms_library
from autoprompt.engine.memory import ScoreMemory
from autoprompt.engine.request import Request
from autoprompt.engine.written import WritingRules, Written
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel
from autoprompt.soft import seed_of

__all__ = ["Writer", "ends_of"]

Scores = NDArray[np.float64]


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
    """One text to be written: sample `sample` of `request`, of at most `tokens` tokens; and the texts it is,
    by request and sample as they were asked for."""

    request: Request
    sample: int
    tokens: int
    places: list[tuple[int, int]]


class _Along(Follower):
    """Goes along with one text: its form, its stop strings, or both."""

    def __init__(self, guide: Guide | None, watch: StopWatch | None) -> None:
        self._guide, self._watch = guide, watch

    def allowed(self, width: int) -> NDArray[np.bool_] | None:
        return None if self._guide is None else self._guide.allowed(width)

    def add(self, token: int) -> bool:
        over = self._guide is not None and self._guide.add(token)
        return (self._watch is not None and self._watch.add(token)) or over


class Writer:
    """Writes texts by rules, with `texts`."""

    def __init__(self, model: LanguageModel, texts: Texts, not_finite: Callable[[str], str]) -> None:
        self._model, self._texts, self._not_finite = model, texts, not_finite
        self._ends = ends_of(model)
        self._detokenizer = Detokenizer(model)
        self._vocabulary = Vocabulary(model, self._detokenizer)

    def write(
        self, requests: Sequence[Request], rules: WritingRules, memory: ScoreMemory | None = None
    ) -> list[tuple[Written, ...]]:
        """As `Engine.write`; what `memory` holds is not written again."""
        if rules.form is not None:
            self._vocabulary.matcher(rules.form)  # what is wrong with it is said before anything is written
        found = [[Written("", (), False)] * rules.samples for _ in requests]
        tasks = self._tasks(requests, rules)
        texts = self._remembered(tasks, rules, memory)
        broken = {at for t, text in zip(tasks, texts, strict=True) if not text.finite for at, _ in t.places}
        if bad := sorted(broken):
            others = f" and of {len(bad) - 1} others" if len(bad) > 1 else ""
            raise ModelError(self._not_finite(f"of request {bad[0]} of {len(requests)}{others}"))
        for task, text in zip(tasks, texts, strict=True):
            written = self._finished(task, text, rules)
            for at, sample in task.places:
                found[at][sample] = written
        return [tuple(samples) for samples in found]

    def weighed(
        self, requests: Sequence[Request], rules: WritingRules, memory: ScoreMemory | None = None
    ) -> list[tuple[Written | None, Scores | None]]:
        """As `Engine.write_and_score`."""
        found: list[tuple[Written | None, Scores | None]] = [(None, None)] * len(requests)
        tasks = self._tasks(requests, rules, weigh=True)
        if memory is not None:  # what is known in part is read by itself
            known = zip(
                memory.get([self._key(task, rules, memory) for task in tasks]),
                memory.get([memory.key(task.request) for task in tasks]),
                strict=True,
            )
            tasks = [task for task, pair in zip(tasks, known, strict=True) if all(part is None for part in pair)]
        for task, text in zip(tasks, self._remembered(tasks, rules, memory), strict=True):
            if text.finite:
                scores = np.array(text.scores, dtype=np.float64)
                weighed = scores if len(scores) and np.isfinite(scores).all() else None
                for at, _ in task.places:
                    found[at] = self._finished(task, text, rules), weighed
        return found

    def _finished(self, task: _Task, text: Text, rules: WritingRules) -> Written:
        whole = self._detokenizer.text(self._detokenizer.before(task.request.context), text.ids)
        if rules.form is not None and not whole and not text.ended and len(text.ids) < task.tokens:
            raise ModelError(
                f"The tokens of the model {self._model.name!r} cannot begin a text of the form "
                f"{rules.form.kind} {str(rules.form.what)[:80]!r}. Use another form or another model."
            )
        short, stopped = cut(whole, rules.stop)
        return Written(short, text.ids, text.ended or stopped)

    def _tasks(self, requests: Sequence[Request], rules: WritingRules, weigh: bool = False) -> list[_Task]:
        """The distinct texts; a greedy one stands for all samples. weigh: with the choices that are scored along."""
        tasks: dict[tuple[object, ...], _Task] = {}
        for at, request in enumerate(requests):
            read = Request(request.context, request.choices if weigh else (), (), request.vectors)
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

    def _remembered(self, tasks: Sequence[_Task], rules: WritingRules, memory: ScoreMemory | None) -> list[Text]:
        """All texts, from the memory where it has them; each batch's are put there as soon as they stand."""
        if memory is None:
            return self._written(tasks, rules, None)
        keys = [self._key(task, rules, memory) for task in tasks]
        texts = [None if row is None else _text(row) for row in memory.get(keys)]
        new = [at for at, text in enumerate(texts) if text is None]

        def keep(numbers: Sequence[int], found: Sequence[Text]) -> None:
            rows: dict[bytes, Scores] = {}
            for number, text in zip(numbers, found, strict=True):
                if text.finite:
                    rows[keys[new[number]]] = _row(text)
                if text.scores and np.isfinite(text.scores).all():
                    rows[memory.key(tasks[new[number]].request)] = np.array(text.scores, dtype=np.float64)
            memory.put(rows)

        fresh = dict(zip(new, self._written([tasks[at] for at in new], rules, keep), strict=True))
        return [fresh[at] if text is None else text for at, text in enumerate(texts)]

    def _key(self, task: _Task, rules: WritingRules, memory: ScoreMemory) -> bytes:
        """16 bytes of all that a text hangs on. The seed and the sample do not count where nothing is drawn, nor
        the number of samples: each text has its own key."""
        seed = rules.seed if rules.temperature else 0
        known = asdict(replace(rules, tokens=task.tokens, samples=1, seed=seed))
        del known["ends"]  # they count with the model's own
        library = forms_library().get_version() if rules.form else ""
        what = json.dumps([known, task.sample, sorted(self._ends | rules.ends), library], sort_keys=True)
        read = replace(task.request, choices=())  # which change nothing of what is written
        return blake2b(memory.key(read) + what.encode(), digest_size=16, person=b"write").digest()

    def _written(self, tasks: Sequence[_Task], rules: WritingRules, keep: _Keep | None) -> list[Text]:
        """Texts in groups that have the same room."""
        found: list[Text] = [Text()] * len(tasks)
        alike: dict[int, list[int]] = {}
        for at, task in enumerate(tasks):
            alike.setdefault(task.tokens, []).append(at)
        for members in alike.values():
            for at, text in zip(members, self._checked(tasks, members, rules, keep), strict=True):
                found[at] = text
        return found

    def _checked(
        self, tasks: Sequence[_Task], members: Sequence[int], rules: WritingRules, keep: _Keep | None
    ) -> list[Text]:
        """Texts; not finite only where a request by itself is: in a packed pass zero times NaN is NaN."""
        texts = self._texts([tasks[at].request for at in members], self._writing(tasks, members, rules, keep))
        if bad := [at for at, text in zip(members, texts, strict=True) if not text.finite]:
            writing = self._writing(tasks, bad, rules, keep)
            again = dict(zip(bad, self._texts([tasks[at].request for at in bad], writing, packed=False), strict=True))
            texts = [again.get(at, text) for at, text in zip(members, texts, strict=True)]
        return texts

    def _writing(
        self, tasks: Sequence[_Task], members: Sequence[int], rules: WritingRules, keep: _Keep | None
    ) -> Writing:
        """How some of the tasks are written, which have the same room."""

        def told(numbers: Sequence[int], texts: Sequence[Text]) -> None:
            if keep is not None:
                keep([members[number] for number in numbers], texts)

        return Writing(
            tasks[members[0]].tokens,
            rules.temperature,
            ends=self._ends | rules.ends,
            seeds=tuple(_seed(tasks[at], rules.seed) for at in members) if rules.temperature else (),
            follow=partial(self._along, tasks, members, rules) if rules.stop or rules.form else None,
            told=told,
            weigh=bool(tasks[members[0]].request.choices),  # tasks have them where they are to be scored
        )

    def _along(self, tasks: Sequence[_Task], members: Sequence[int], rules: WritingRules, number: int) -> _Along:
        before = self._detokenizer.before(tasks[members[number]].request.context)
        guide = None if rules.form is None else Guide(self._vocabulary, rules.form, not before, self._ends | rules.ends)
        return _Along(guide, StopWatch(self._detokenizer, before, rules.stop) if rules.stop else None)


_Keep = Callable[[Sequence[int], Sequence[Text]], None]


def _seed(task: _Task, seed: int) -> int:
    """Of a text's draws: from the run's seed, what the model reads, and the sample's number."""
    context, _, _, vectors = task.request.identity
    digest = blake2b(repr(context).encode() + (vectors if isinstance(vectors, bytes) else b"")).hexdigest()
    return seed_of(seed, "write", digest, task.sample)


def _row(text: Text) -> NDArray[np.float64]:
    """A text as the memory keeps it: whether it ended, and its ids, which are exact."""
    return np.array([text.ended, *text.ids], dtype=np.float64)


def _text(row: NDArray[np.float64]) -> Text:
    return Text(tuple(map(int, row[1:].tolist())), bool(row[0]))
