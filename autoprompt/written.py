"""Answers that a model writes: written, read, and how likely it finds the right ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprompt.answer import ByText
from autoprompt.data import Example
from autoprompt.engine import Engine, Form, Request, WritingRules, Written
from autoprompt.errors import PromptError
from autoprompt.metrics.programs import SAMPLES
from autoprompt.models import Encoding, LanguageModel
from autoprompt.prompt import Prompt, Rendered

__all__ = ["Wrote", "answered_encodings", "texts_and_likelihoods", "texts_written"]

_TARGET = "\ue0a3"  # a private-use character names the field that holds what is to be answered


@dataclass(frozen=True)
class Wrote:
    """What was written for an input.

    answer: as it is read; several samples stand with SAMPLES between them; None where none can be read. ended: whether
    all came to their end before their tokens ran out. length: tokens read and written.
    """

    answer: str | None
    ended: bool
    length: int


def texts_written(
    engine: Engine, prompt: Prompt, encodings: Sequence[Encoding], vectors: np.ndarray | None
) -> list[Wrote]:
    """The answers to inputs as `Scorer.encode` gives them. Raises ModelError as `Engine.write` does."""
    how, rules = _asked(engine, prompt)
    requests = [Request(encoding.context, (), (), vectors) for encoding in encodings]
    return [
        _read(how, prompt, request, texts)
        for request, texts in zip(requests, engine.write(requests, rules), strict=True)
    ]


def texts_and_likelihoods(
    engine: Engine, prompt: Prompt, encodings: Sequence[Encoding], vectors: np.ndarray | None
) -> list[tuple[Wrote | None, float | None]]:
    """The answers to inputs as `answered_encodings` gives them, and log P of their right texts, each input read once
    for both; None as `Engine.write_and_score` has it, and raises so."""
    how, rules = _asked(engine, prompt)
    requests = [Request(encoding.context, encoding.choices, encoding.tail, vectors) for encoding in encodings]
    return [
        (
            None if text is None else _read(how, prompt, request, (text,)),
            None if scores is None else float(scores[0]),
        )
        for request, (text, scores) in zip(requests, engine.write_and_score(requests, rules), strict=True)
    ]


def _asked(engine: Engine, prompt: Prompt) -> tuple[ByText, WritingRules]:
    how = prompt.answer
    if not isinstance(how, ByText):
        raise PromptError(f"The prompt is answered by {how.kind}, and a text is to be written.")
    chat = None if prompt.chat == "none" else engine.model.chat
    rules = WritingRules(
        how.tokens, prompt.stops, how.temperature, how.samples, form=_form(how, prompt.gap),
        ends=frozenset() if chat is None else chat.ends,
    )  # fmt: skip
    return how, rules


def _read(how: ByText, prompt: Prompt, request: Request, texts: Sequence[Written]) -> Wrote:
    read = [how.answer(text.text, prompt.label_words) for text in texts]
    answer = None if all(one is None for one in read) else SAMPLES.join(one or "" for one in read)
    length = len(request.context) + sum(len(text.ids) for text in texts)
    return Wrote(answer, all(text.ended for text in texts), length)


def _form(how: ByText, gap: str) -> Form | None:
    """What a text has to match from where the context ends: the space before the answer first."""
    if how.form is None or how.form[0] == "json":
        return None if how.form is None else Form("json", how.form[1])
    return Form("regex", f"{re.escape(gap)}(?:{how.form[1]})")


def answered_encodings(
    model: LanguageModel, prompt: Prompt, examples: Sequence[Example], vectors: int
) -> tuple[list[Encoding], list[int]]:
    """Token ids of examples, each with its target as its one choice, and which of them had to be shortened.

    Raises as `LanguageModel.encode_fitting` does.
    """

    def render(values: Mapping[str, str]) -> Rendered:
        return prompt.answered({name: text for name, text in values.items() if name != _TARGET}, values[_TARGET])

    inputs = [{**example.fields, _TARGET: example.label} for example in examples]
    return model.encode_fitting(render, inputs, prompt.cut_fields, vectors)
