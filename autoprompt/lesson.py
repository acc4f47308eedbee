"""What a prompt has to learn from examples: their labels, their numbers or their texts, with gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from autoprompt.answer import ByLikeness
from autoprompt.data import Example
from autoprompt.engine import Request, choice_log_probabilities, reads_trees
from autoprompt.errors import DataError, ModelError, PromptError
from autoprompt.models import Family, LanguageModel
from autoprompt.prompt import Prompt, Rendered

__all__ = [
    "LESSONS",
    "Lesson",
    "LikenessLesson",
    "NumberLesson",
    "OptionLesson",
    "TextLesson",
    "lesson_of",
    "micro_batches",
    "untaught",
]

_TARGET = "\ue0a3"  # a private-use character names the field that holds what is to be written


@dataclass(frozen=True, eq=False)
class Lesson:
    """A prompt on examples, ready to be read with gradients; made by `Lesson.of`.

    requests: one an example, in their order. gold: the number of each one's right choice. empty:
    the inputs without content that calibrate, or none. normalize: divide by the tokens of a choice.
    temperature: what log-likelihoods are divided by. vectors: those (K, H) of a soft prompt; what
    they hold when `loss` is called counts, so they can be changed in place. tree: whether the model
    reads a context once with all its choices.

    >>> from autoprompt.models import load_model
    >>> model = load_model("builtin")
    >>> prompt = Prompt("{{ text }}\\nTopic: {{ label }}", {"s": "sports", "m": "money"})
    >>> lesson = Lesson.of(model, prompt, [Example(0, {"text": "They won the match."}, "s")])
    >>> lesson.loss(model, [0]).item() > 0
    True
    """

    requests: tuple[Request, ...]
    gold: tuple[int, ...]
    empty: tuple[Request, ...]
    normalize: bool
    temperature: float
    vectors: Tensor | None
    tree: bool
    family: Family

    @classmethod
    def of(
        cls, model: LanguageModel, prompt: Prompt, examples: Sequence[Example], vectors: Tensor | None = None
    ) -> Self:
        """The lesson of `examples` under a prompt; inputs too long for the model are shortened as in scoring.

        vectors: what stands in the place of a soft prompt's vectors; they may require a gradient.
        Without them it is the vectors of the prompt itself. Raises PromptError when the prompt
        does not fit the model's window.
        """
        inputs = [dict(example.fields) for example in examples]
        gold = tuple(prompt.labels.index(example.label) for example in examples)
        return cls(**_read(model, prompt, inputs, vectors), gold=gold)

    def __len__(self) -> int:
        return len(self.requests)

    def size(self, at: int) -> int:
        """Tokens of a request with all its choices; a sentence encoder reads those apart, once for all."""
        return self._size(self.requests[at])

    def _size(self, request: Request) -> int:
        if self.family == "encoder":
            return len(request.context)
        if self.tree:
            return len(request.context) + sum(len(choice) - 1 for choice in request.choices)
        return sum(len(request.context) + len(choice) + len(request.tail) for choice in request.choices)

    def tokens(self, part: Sequence[int]) -> int:
        """Tokens that `loss` reads for some of the requests, with what calibrates and a sentence encoder's labels."""
        apart = sum(map(len, self.requests[0].choices)) if self.family == "encoder" else 0
        return sum(map(self._size, self.asked(part))) + apart

    def asked(self, part: Sequence[int]) -> list[Request]:
        """Some of the requests (B), and behind them those that calibrate (E)."""
        return [*(self.requests[i] for i in part), *self.empty]

    def log_likelihoods(self, model: LanguageModel, part: Sequence[int]) -> Tensor:
        """Label log-likelihoods (len(part), C) of some requests as `Scorer.log_likelihoods` has them.

        Normalized, divided by the temperature and calibrated (Zhao et al. 2021), read as one batch,
        with a gradient where one is on.
        """
        asked = self.asked(part)
        return self.predicted(choice_log_probabilities(model, asked, self.vectors, self.tree), asked)

    def predicted(self, scores: Tensor, asked: Sequence[Request]) -> Tensor:
        """Label log-likelihoods (B, C) of what the model says (B + E, C) to `asked`, see `log_likelihoods`."""
        if self.normalize:
            lengths = [[len(choice) for choice in request.choices] for request in asked]
            scores = scores / torch.tensor(lengths, device=scores.device)
        scores = scores / self.temperature
        if self.empty:
            prior = scores[len(asked) - len(self.empty) :].softmax(1).mean(0)
            scores = scores[: len(asked) - len(self.empty)] - prior.clamp(min=1e-12).log()
        return scores

    def judged(self, scores: Tensor, part: Sequence[int], smoothing: float = 0.0) -> Tensor:
        """-log P(right label) of each request (B,) from its label log-likelihoods (B, C).

        P is the prompt's prediction, among its label words (PET, Schick & Schütze 2021, equation 2,
        for one word a label). smoothing: the share of the target that all labels divide among them
        (Szegedy et al. 2016, section 7).
        """
        gold = torch.tensor([self.gold[i] for i in part], device=scores.device)
        return torch.nn.functional.cross_entropy(scores, gold, reduction="none", label_smoothing=smoothing)

    def loss(self, model: LanguageModel, part: Sequence[int]) -> Tensor:
        """What `judged` finds, summed over some of the requests."""
        return self.judged(self.log_likelihoods(model, part), part).sum()

    def micro_batches(self, part: Sequence[int], tokens: int = 4096) -> list[list[int]]:
        """Requests of like length together, at most `tokens` padded tokens each."""
        return micro_batches(part, self.size, tokens)


@dataclass(frozen=True, eq=False)
class NumberLesson(Lesson):
    """A number is to be told: the expectation of the labels' values under the prompt's predictions.

    LM-BFF (Gao et al. 2021, section 3.2), for any number of label words. values: what each label
    stands for (C). targets: the numbers of the examples. `gold` is empty.
    """

    values: tuple[float, ...]
    targets: tuple[float, ...]

    @classmethod
    def of(
        cls, model: LanguageModel, prompt: Prompt, examples: Sequence[Example], vectors: Tensor | None = None
    ) -> Self:
        """As `Lesson.of`; a label's value is the label as a number, or else its word.

        Raises DataError when an example's label is no number, PromptError when a value is none.
        """
        inputs = [dict(example.fields) for example in examples]
        values = [_number(label, word) for label, word in prompt.label_words.items()]
        for label, value in zip(prompt.labels, values, strict=True):
            if value is None:
                raise PromptError(
                    f"Neither the label {label!r} nor its word {prompt.label_words[label]!r} is a number, and a "
                    "number is to be learned. Give labels that are numbers."
                )
        targets = [_number(example.label) for example in examples]
        for example, target in zip(examples, targets, strict=True):
            if target is None:
                raise DataError(f"The label {example.label[:60]!r} is no number, and a number is to be learned.")
        return cls(
            **_read(model, prompt, inputs, vectors), gold=(),
            values=tuple(v for v in values if v is not None), targets=tuple(t for t in targets if t is not None),
        )  # fmt: skip

    def judged(self, scores: Tensor, part: Sequence[int], smoothing: float = 0.0) -> Tensor:
        """The squared error of each request (B,) from its label log-likelihoods (B, C)."""
        told = (scores.softmax(1) * torch.tensor(self.values, device=scores.device)).sum(1)  # a product would autocast
        return (told - torch.tensor([self.targets[i] for i in part], device=scores.device)) ** 2


@dataclass(frozen=True, eq=False)
class OptionLesson(Lesson):
    """One of the input's own options is right; inputs may have different numbers of them."""

    def log_likelihoods(self, model: LanguageModel, part: Sequence[int]) -> Tensor:
        """As `Lesson.log_likelihoods` (len(part), C), -inf where an input has fewer than C options."""
        asked = self.asked(part)
        width = max(len(request.choices) for request in self.requests)
        sizes = [len(request.choices) for request in asked]
        rows: list[Tensor] = [torch.empty(0)] * len(asked)
        for size in sorted(set(sizes)):
            members = [at for at, own in enumerate(sizes) if own == size]
            alike = [asked[at] for at in members]
            scores = self.predicted(choice_log_probabilities(model, alike, self.vectors, self.tree), alike)
            padded = torch.nn.functional.pad(scores, (0, width - size), value=-math.inf)
            for at, row in zip(members, padded, strict=True):
                rows[at] = row
        return torch.stack(rows)


@dataclass(frozen=True, eq=False)
class LikenessLesson(Lesson):
    """A cosine is to be told: the squared error of how alike two texts are (Reimers & Gurevych 2019, section 3).

    targets: the cosines of the examples, between 0 and 1 where the numbers are within the answer's range. `gold` is
    empty.
    """

    targets: tuple[float, ...]

    @classmethod
    def of(
        cls, model: LanguageModel, prompt: Prompt, examples: Sequence[Example], vectors: Tensor | None = None
    ) -> Self:
        """As `Lesson.of`. Raises PromptError when the prompt is not answered by likeness."""
        how = prompt.answer
        if not isinstance(how, ByLikeness):
            raise PromptError(f"The prompt is answered by {how.kind}, and a likeness is to be learned.")
        read = _read(model, prompt, [dict(example.fields) for example in examples], vectors)
        span = (how.high - how.low) or 1.0
        targets = tuple((float(example.label) - how.low) / span for example in examples)
        return cls(**{**read, "temperature": 1.0}, gold=(), targets=targets)

    def judged(self, scores: Tensor, part: Sequence[int], smoothing: float = 0.0) -> Tensor:
        """The squared error of each request (B,), in units of the range, from its cosines (B, 1)."""
        return (scores[:, 0] - torch.tensor([self.targets[i] for i in part], device=scores.device)) ** 2


@dataclass(frozen=True, eq=False)
class TextLesson(Lesson):
    """A text is to be written in the answer's place, for models that write: a request's one choice.

    Behind it stand what the template has there, and the token that ends a text, in a chat a turn, which is learned too.
    """

    @classmethod
    def of(
        cls, model: LanguageModel, prompt: Prompt, examples: Sequence[Example], vectors: Tensor | None = None
    ) -> Self:
        """As `Lesson.of`, with each example's label as the text. Raises ModelError for models that do not write."""
        if model.family not in {"causal", "seq2seq"}:
            raise ModelError(
                f"The model {model.name!r} is {model.family}, and texts are learned by models that write: "
                "causal and seq2seq ones."
            )
        inputs = [{**example.fields, _TARGET: example.label} for example in examples]
        read = _read(model, replace(prompt, calibration="none"), inputs, vectors, _written)
        turn = model.chat.ends if model.chat is not None and prompt.chat != "none" else ()
        end = next(iter(turn), model.tokenizer.eos_token_id)
        ends = () if end is None else (int(end),)
        requests = tuple(replace(r, choices=(r.choices[0] + ends,)) for r in read["requests"])
        changed = {"requests": requests, "normalize": True, "temperature": 1.0}
        return cls(**{**read, **changed}, gold=(0,) * len(requests))

    def judged(self, scores: Tensor, part: Sequence[int], smoothing: float = 0.0) -> Tensor:
        """-log P of each text (B,), the mean over its tokens, from `log_likelihoods` (B, 1)."""
        return -scores[:, 0]


LESSONS: Mapping[str, type[Lesson]] = {  # by the kind of a prompt's answer
    "label": Lesson,
    "option": OptionLesson,
    "number": NumberLesson,
    "likeness": LikenessLesson,
    "text": TextLesson,
}


def lesson_of(
    model: LanguageModel, prompt: Prompt, examples: Sequence[Example], vectors: Tensor | None = None
) -> Lesson:
    """What a prompt has to learn by the way it is answered; the arguments and errors of `Lesson.of`."""
    return LESSONS[prompt.answer.kind].of(model, prompt, examples, vectors)


def _read(
    model: LanguageModel,
    prompt: Prompt,
    inputs: Sequence[Mapping[str, str]],
    vectors: Tensor | None,
    render: Callable[[Prompt, Mapping[str, str]], Rendered] = Prompt.render,
) -> dict[str, Any]:
    """The fields of a lesson, all but what is right."""
    if vectors is None and prompt.soft is not None:
        vectors = torch.from_numpy(prompt.soft.vectors.copy())
    empty = prompt.content_free() if prompt.calibration == "content_free" else []
    count = 0 if vectors is None else len(vectors)
    encodings, _ = model.encode_fitting(
        lambda fields: render(prompt, fields), [*inputs, *empty], prompt.cut_fields, count
    )
    requests = tuple(Request(e.context, e.choices, e.tail) for e in encodings)
    return {
        "requests": requests[: len(inputs)],
        "empty": requests[len(inputs) :],
        "normalize": prompt.normalize and model.family != "encoder",  # a cosine is no sum over tokens
        "temperature": prompt.temperature or model.temperature,
        "vectors": vectors,
        "tree": model.family == "causal" and reads_trees(model, requests),
        "family": model.family,
    }


def _written(prompt: Prompt, fields: Mapping[str, str]) -> Rendered:
    """An example with the text that is to be written as its one answer."""
    inputs = {name: text for name, text in fields.items() if name != _TARGET}
    if prompt.answer.kind == "text":
        return prompt.answered(inputs, fields[_TARGET])
    shown = prompt.render(inputs)
    word = prompt.label_words[prompt.labels[0]]
    gap = shown.answers[0].removesuffix(word)
    return replace(shown, answers=(gap + fields[_TARGET],))


def _number(*texts: str) -> float | None:
    """The first of the texts that is a finite number, as one; None where none is."""
    for text in texts:
        try:
            value = float(text)
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    return None


def micro_batches(part: Sequence[int], size: Callable[[int], int], tokens: int) -> list[list[int]]:
    """Members of like size together, their number times the largest at most `tokens`; one alone may have more."""
    parts: list[list[int]] = []
    for at in sorted(part, key=size):
        if not parts or (len(parts[-1]) + 1) * size(at) > tokens:
            parts.append([])
        parts[-1].append(at)
    return parts


def untaught(prompt: Prompt, examples: Sequence[Example]) -> list[Example]:
    """The examples that the prompt does not show as demonstrations; all of them where it shows every one."""
    shown = {tuple(sorted(d.fields.items())) for d in prompt.demonstrations}
    return [e for e in examples if e.key not in shown] or list(examples)
