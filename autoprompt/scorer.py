"""Prompts × examples → scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from autoprompt.answer import ByLikeness, ByText, number_text
from autoprompt.data import Example
from autoprompt.engine import Checked, Engine, Request, ScoreMemory
from autoprompt.errors import ModelError
from autoprompt.metrics import Metric, Outcome
from autoprompt.models import Encoding, LanguageModel
from autoprompt.models.base import common_length
from autoprompt.prompt import Prompt
from autoprompt.written import Wrote, answered_encodings, texts_and_likelihoods, texts_written

__all__ = ["Score", "Scorer", "preview"]

Floats = NDArray[np.float64]
_Key = tuple[tuple[str, str], ...]  # an input's fields
_TIE = 0.1  # of a text's margin, what the right text's likelihood can make


@dataclass(frozen=True)
class Score:
    """What a prompt is worth on some examples.

    value: the metric over all of them. outcome: targets and probabilities (N, C). margins (N,):
    log-likelihood of the right label minus that of the best other one, after normalization and
    calibration; of numbers 1/2 minus the squared error, in units of the range squared; of texts the metric's own
    view of each example, in which how likely the right text is breaks ties. losses (N,): -log P(right label), natural;
    of numbers that squared error, of texts the mean over the right text's tokens. cut (N,): whether what was written
    ran out of tokens.
    """

    value: float
    outcome: Outcome
    margins: Floats
    losses: Floats
    cut: NDArray[np.bool_]

    @property
    def margin(self) -> float:
        return float(self.margins.mean())

    @property
    def loss(self) -> float:
        return float(self.losses.mean())


class Scorer:
    """Scores prompts on one model under one metric.

    A score is a function of (model, prompt, example): batches, order and neighbours do not change
    it beyond 1e-4 in any label log-probability (float32). What was scored once is remembered; memory
    keeps it beyond this process. other: an engine of another make.

    >>> from autoprompt.metrics.builtin import accuracy
    >>> from autoprompt.models import load_model
    >>> from autoprompt.data import Example
    >>> scorer = Scorer(load_model("builtin"), accuracy)
    >>> prompt = Prompt("{{ text }}\\nTopic: {{ label }}", {"s": "sports", "m": "money"})
    >>> examples = [Example(0, {"text": "The match ended two to one."}, "s")]
    >>> [score] = scorer.score([prompt], examples)
    >>> 0.0 <= score.value <= 1.0
    True
    """

    def __init__(
        self,
        model: LanguageModel,
        metric: Metric,
        batch_tokens: int | None = None,
        memory: ScoreMemory | None = None,
        other: Checked | None = None,
    ) -> None:
        self.model = model
        self.engine = Engine(model, batch_tokens, memory=memory, other=other)
        self.metric = metric.with_engine(self.engine)
        self.truncated: set[object] = set()  # inputs that had to be shortened, by their fields
        self._known: dict[str, dict[_Key, tuple[Floats, int]]] = {}  # by fingerprint: likelihoods, and tokens
        self._wrote: dict[str, dict[_Key, Wrote]] = {}
        # of right texts: the mean log P of a token, and the tokens read
        self._likely: dict[str, dict[tuple[_Key, str], tuple[float, int]]] = {}

    @property
    def tokens(self) -> int:
        """Tokens that went through the model so far."""
        return self.engine.tokens

    def score(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[Score]:
        """Score every prompt on every example, all in one grid.

        Raises PromptError when a prompt cannot show an example, ModelError when the model fails.
        """
        self.read(prompts, examples)
        return [self._score(prompt, examples) for prompt in prompts]

    def read(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> None:
        """Do all of `score` that takes the model, so that it is remembered. Raises as `score` does."""
        failed = self._fill(prompts, examples)
        if failed:
            raise ModelError(self._failure(failed, examples))

    def losses(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[Floats]:
        """The losses (N,) of each prompt as `score` has them, all in one grid.

        Where answers are written, none is: the loss is that of the right texts. Raises as `score` does.
        """
        texts = [prompt for prompt in prompts if prompt.answer.kind == "text"]
        others = [prompt for prompt in prompts if prompt.answer.kind != "text"]
        failed = self._judge(others, examples) + self._weigh(texts, examples)
        if failed:
            raise ModelError(self._failure(failed, examples))
        return [
            self._text_losses(prompt, examples)
            if prompt.answer.kind == "text"
            else self._score(prompt, examples).losses
            for prompt in prompts
        ]

    def log_likelihoods(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[Floats]:
        """For each prompt the label log-likelihoods (N, C), normalized, divided by the temperature and
        calibrated as it says; -inf where an input has fewer options."""
        self.read(prompts, examples)
        return [self._calibrated(prompt, examples) for prompt in prompts]

    def unscored(self, prompt: Prompt, examples: Sequence[Example]) -> list[int]:
        """Score a prompt, and say at which places of `examples` the model returns NaN; the others are remembered.

        Raises as `score` does, also when the model returns NaN for an input without content, which
        calibration needs.
        """
        failed = set(self._fill([prompt], examples))
        if prompt.calibration == "content_free":
            empty = [_key(fields) for fields in prompt.content_free()]
            if failed & set(empty):
                raise ModelError(self._failure([key for key in empty if key in failed], ()))
        return [at for at, example in enumerate(examples) if example.key in failed]

    def _fill(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[_Key]:
        """Score what is not known yet, all in one grid; gives back the inputs for which the model returned NaN."""
        failed = self._judge([prompt for prompt in prompts if prompt.answer.kind != "text"], examples)
        texts = [prompt for prompt in prompts if prompt.answer.kind == "text"]
        for prompt in texts:
            self._write_and_weigh(prompt, examples)
        unread = self._weigh(texts, examples)
        for prompt in texts:
            self._write(prompt, [example for example in examples if example.key not in unread])
        return failed + unread

    def _judge(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[_Key]:
        """`_fill` for prompts whose candidate answers are known."""
        wanted: dict[str, tuple[Prompt, dict[_Key, dict[str, str]]]] = {}
        for prompt in prompts:
            known = self._known.setdefault(prompt.fingerprint, {})
            inputs = [dict(example.fields) for example in examples]
            for fields in inputs + (prompt.content_free() if prompt.calibration == "content_free" else []):
                key = _key(fields)
                if key not in known:
                    wanted.setdefault(prompt.fingerprint, (prompt, {}))[1][key] = fields
        requests: list[Request] = []
        for prompt, missing in wanted.values():
            requests += self._requests(prompt, list(missing.values()))
        scored = self.engine.attempt(requests)
        answers = zip(requests, scored, strict=True)
        whole = not scored or bool(np.isfinite(np.concatenate(scored)).all())
        failed: list[_Key] = []
        for prompt, missing in wanted.values():
            for key, (request, scores) in zip(missing, answers, strict=False):
                if whole or np.isfinite(scores).all():
                    length = len(request.context) + len(request.tail) + sum(map(len, request.choices))
                    self._known[prompt.fingerprint][key] = (self._likelihoods(prompt, request, scores), length)
                else:
                    failed.append(key)
        return failed

    def _write_and_weigh(self, prompt: Prompt, examples: Sequence[Example]) -> None:
        """Both for examples of which neither is known, each read once where that can be; `_weigh` and `_write` see to
        the others."""
        wrote = self._wrote.setdefault(prompt.fingerprint, {})
        likely = self._likely.setdefault(prompt.fingerprint, {})
        new = {e.key: e for e in examples if e.label and e.key not in wrote and (e.key, e.label) not in likely}
        asked = self.encode(prompt, [dict(e.fields) for e in new.values()])
        answered, _ = answered_encodings(self.model, prompt, list(new.values()), _count(prompt))
        # an input that is too long is cut to another length where room for the right text is all that is needed
        same = [
            (example, whole)
            for example, read, whole in zip(new.values(), asked, answered, strict=True)
            if read.context == whole.context
        ]
        found = texts_and_likelihoods(self.engine, prompt, [whole for _, whole in same], _vectors(prompt))
        for (example, whole), (text, likelihood) in zip(same, found, strict=True):
            if text is not None:
                wrote[example.key] = text
            if likelihood is not None:
                length = len(whole.choices[0])
                likely[example.key, example.label] = likelihood / length, len(whole.context) + length

    def _weigh(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[_Key]:
        """How likely the right texts are, for prompts whose answers are written; gives back as `_fill`."""
        wanted: list[tuple[Prompt, _Key, str]] = []
        requests: list[Request] = []
        for prompt in prompts:
            known = self._likely.setdefault(prompt.fingerprint, {})
            new = {(e.key, e.label): e for e in examples if e.label and (e.key, e.label) not in known}
            encodings, shortened = answered_encodings(self.model, prompt, list(new.values()), _count(prompt))
            self.truncated |= {list(new)[at][0] for at in shortened}
            vectors = _vectors(prompt)
            requests += [Request(e.context, e.choices, e.tail, vectors) for e in encodings]
            wanted += [(prompt, *key) for key in new]
        failed: list[_Key] = []
        for (prompt, key, label), request, scores in zip(wanted, requests, self.engine.attempt(requests), strict=True):
            if np.isfinite(scores).all():
                length = len(request.choices[0])
                mean = float(scores[0]) / max(1, length)
                self._likely[prompt.fingerprint][key, label] = mean, len(request.context) + length
            else:
                failed.append(key)
        return failed

    def _write(self, prompt: Prompt, examples: Sequence[Example]) -> None:
        """What is written for inputs, where it is not known yet."""
        wrote = self._wrote.setdefault(prompt.fingerprint, {})
        missing = {e.key: dict(e.fields) for e in examples if e.key not in wrote}
        if missing:
            texts = texts_written(self.engine, prompt, self.encode(prompt, list(missing.values())), _vectors(prompt))
            wrote |= zip(missing, texts, strict=True)

    def _failure(self, failed: Sequence[_Key], examples: Sequence[Example]) -> str:
        """What to say of inputs without finite numbers; it names the first."""
        numbers = {example.key: example.number for example in examples}
        first = failed[0]
        what = f"example {numbers[first]}" if first in numbers else "the input without content"
        others = f" and of {len(failed) - 1} others" if len(failed) > 1 else ""
        return self.engine.not_finite(f"of {what} ({preview(dict(first))!r}){others}")

    def _likelihoods(self, prompt: Prompt, request: Request, scores: Floats) -> Floats:
        """A request's label log-likelihoods (C,); a sentence encoder's cosine is no sum over tokens."""
        if prompt.normalize and self.model.family != "encoder":
            scores = scores / np.array([len(choice) for choice in request.choices])
        if isinstance(prompt.answer, ByLikeness):
            return scores  # a cosine is the answer itself
        scores = scores / (prompt.temperature or self.model.temperature)
        lacking = len(prompt.label_words) - len(scores)  # options that this input does not have
        return np.concatenate([scores, np.full(lacking, -np.inf)]) if lacking else scores

    def _requests(self, prompt: Prompt, inputs: Sequence[dict[str, str]]) -> list[Request]:
        vectors = _vectors(prompt)
        encodings = self.encode(prompt, inputs)
        return [Request(e.context, e.choices, e.tail, vectors) for e in encodings]

    def encode(self, prompt: Prompt, inputs: Sequence[dict[str, str]]) -> list[Encoding]:
        """The token ids of inputs under a prompt; inputs too long for the model are shortened.

        Raises PromptError when the prompt cannot show one, ModelError when the tokenizer breaks on one.
        """
        room = prompt.answer.tokens if isinstance(prompt.answer, ByText) else 0
        try:
            encodings, shortened = self.model.encode_fitting(
                prompt.render, inputs, prompt.cut_fields, _count(prompt), room
            )
        except BaseException as error:  # a tokenizer in Rust that panics raises no Exception
            if type(error).__name__ != "PanicException":
                raise
            raise ModelError(f"The tokenizer of {self.model.name!r} broke on a text: {error}.") from None
        self.truncated |= {tuple(sorted(inputs[i].items())) for i in shortened}
        return encodings

    def _calibrated(self, prompt: Prompt, examples: Sequence[Example]) -> Floats:
        """Log-likelihoods (N, C), divided by those of content-free inputs if the prompt says so."""
        known = self._known[prompt.fingerprint]
        rows = np.stack([known[example.key][0] for example in examples])
        if prompt.calibration == "none":
            return rows
        empty = [known[_key(fields)][0] for fields in prompt.content_free()]
        # Zhao et al. 2021: W = diag(p_cf)^-1 with p_cf the mean over the content-free inputs
        prior = np.mean([_softmax(row[None])[0] for row in empty], axis=0)
        calibrated: Floats = rows - np.log(np.maximum(prior, 1e-12))
        return calibrated

    def _score(self, prompt: Prompt, examples: Sequence[Example]) -> Score:
        kind = prompt.answer.kind
        if kind == "text":
            return self._of_texts(prompt, examples)
        if kind in ("number", "likeness"):
            return self._of_numbers(prompt, examples)
        likelihoods = self._calibrated(prompt, examples)
        outcome = _outcome(examples, _softmax(likelihoods), prompt.labels)
        gold = np.array([prompt.labels.index(e.label) for e in examples])
        rows = np.arange(len(gold))
        others = likelihoods.copy()
        others[rows, gold] = -np.inf
        losses = -np.log(np.maximum(outcome.probabilities[rows, gold], 1e-12))
        margins = likelihoods[rows, gold] - others.max(1)
        return Score(self.metric(outcome), outcome, margins, losses, np.zeros(len(gold), dtype=np.bool_))

    def _of_numbers(self, prompt: Prompt, examples: Sequence[Example]) -> Score:
        how, rows = prompt.answer, self._calibrated(prompt, examples)
        if isinstance(how, ByLikeness):
            probabilities, labels = np.empty((len(examples), 0)), tuple[str, ...]()
            low, high = how.low, how.high
            told = low + (high - low) * rows[:, 0]
        else:
            probabilities, labels = _softmax(rows), prompt.labels
            values = np.array([float(label) for label in labels])
            low, high = float(values.min()), float(values.max())
            told = probabilities @ values
        outcome = _outcome(examples, probabilities, labels, tuple(map(number_text, told.tolist())))
        targets = np.array([float(e.label) for e in examples])
        losses = ((told - targets) / ((high - low) or 1.0)) ** 2
        return Score(self.metric(outcome), outcome, 0.5 - losses, losses, np.zeros(len(told), dtype=np.bool_))

    def _of_texts(self, prompt: Prompt, examples: Sequence[Example]) -> Score:
        wrote = [self._wrote[prompt.fingerprint][example.key] for example in examples]
        outcome = _outcome(examples, np.empty((len(examples), 0)), (), tuple(one.answer for one in wrote))
        losses = self._text_losses(prompt, examples)
        margins = self.metric.proxy(outcome) - 0.5 + _TIE * np.exp(-losses)
        return Score(self.metric(outcome), outcome, margins, losses, np.array([not one.ended for one in wrote]))

    def _text_losses(self, prompt: Prompt, examples: Sequence[Example]) -> Floats:
        """0 for examples without a right text."""
        likely = self._likely[prompt.fingerprint]
        return -np.array([likely.get((e.key, e.label), (0.0, 0))[0] for e in examples], dtype=np.float64)

    def work(self, prompt: Prompt, examples: Sequence[Example], losses: bool = False) -> int:
        """Tokens that scoring examples takes which were scored, what the first two begin with counted once.

        losses: that `losses` takes. What was remembered counts too: the number depends on the prompt and the examples
        alone.
        """
        first = [encoding.context for encoding in self.encode(prompt, [dict(e.fields) for e in examples[:2]])]
        shared = (len(examples) - 1) * common_length(first)
        if not isinstance(prompt.answer, ByText):
            known = self._known[prompt.fingerprint]
            return sum(known[example.key][1] for example in examples) - shared
        if losses:
            likely = self._likely[prompt.fingerprint]
            return sum(likely.get((e.key, e.label), (0.0, 0))[1] for e in examples) - shared
        wrote = self._wrote[prompt.fingerprint]
        return sum(wrote[example.key].length for example in examples) - shared

    def forget(self, prompt: Prompt) -> None:
        """Let go of what this process remembers of a prompt; the engine's memory may still have it."""
        for known in (self._known, self._wrote, self._likely):
            known.pop(prompt.fingerprint, None)

    def using(self, model: LanguageModel) -> Scorer:
        """A scorer of another model, with the same metric and its own memory; tokens count together."""
        other = Scorer(model, self.metric)
        other.engine = self.engine.on(model)
        return other


def preview(fields: Mapping[str, str]) -> str:
    """How an input begins, in 60 characters at most, on one line and without what would steer a terminal."""
    text = " ".join(" / ".join(text[:99] for text in fields.values()).split())
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= 60 else text[:57] + "..."


def _outcome(
    examples: Sequence[Example],
    probabilities: Floats,
    labels: tuple[str, ...],
    answers: tuple[str | None, ...] | None = None,
) -> Outcome:
    """What was answered, beside what is right; references and rows alone where an example has them."""
    references = tuple(e.references for e in examples) if any(e.references for e in examples) else ()
    return Outcome(tuple(e.label for e in examples), probabilities, labels, answers, references, _Rows(examples))


class _Rows(Sequence[Mapping[str, str]]):
    """The columns of examples, put together only for a metric that asks."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, at: int) -> Mapping[str, str]: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Mapping[str, str]]: ...
    def __getitem__(self, at: int | slice) -> Mapping[str, str] | Sequence[Mapping[str, str]]:
        if isinstance(at, slice):
            return _Rows(self._examples[at])
        return {**self._examples[at].fields, **self._examples[at].aside}


def _vectors(prompt: Prompt) -> NDArray[np.float32] | None:
    return None if prompt.soft is None else np.ascontiguousarray(prompt.soft.vectors, dtype=np.float32)


def _count(prompt: Prompt) -> int:
    return 0 if prompt.soft is None else len(prompt.soft.vectors)


def _key(fields: Mapping[str, str]) -> _Key:
    return tuple(sorted(fields.items()))


def _softmax(rows: Floats) -> Floats:
    shifted = np.exp(rows - rows.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))
