"""From [data] target and [answer] to the ways in which prompts are answered."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autoprompt.answer import LETTERS, Answer, ByLabel, ByLikeness, ByNumber, ByOption, ByText
from autoprompt.config.datasection import DataSection
from autoprompt.config.sections import AnswerSection, PromptSection
from autoprompt.errors import PromptError
from autoprompt.template import compiled

__all__ = ["USUAL_METRICS", "answer_kind", "answer_problems", "answers_of", "words_of"]

# the most tokens of an answer, and what of a written one counts, where nothing is given
_TOKENS = {"labels": 32, "number": 32, "text": 64, "program": 256}
_READ = {"labels": "labels", "number": "number", "text": "text", "program": "code"}
USUAL_METRICS = {"labels": "example_f1", "number": "mse", "text": "token_f1", "program": "pass@1"}
_WRITTEN = ("tokens", "stop", "temperature", "samples", "pattern", "form", "read")


def answers_of(data: DataSection, prompt: PromptSection, answer: AnswerSection, folder: Path) -> tuple[Answer, ...]:
    """The ways in which prompts may be answered, the user's own first.

    folder: where the file of a form lies. Raises PromptError where what is given makes none.
    """
    kind = answer_kind(data, prompt, answer)
    if kind == "option":
        return tuple(ByOption(data.options or "", style) for style in dict.fromkeys(answer.style))
    if kind == "likeness":
        return (ByLikeness(answer.compare or "", answer.scale[0], answer.scale[1]),)
    if kind != "text":
        return (ByNumber() if kind == "number" else ByLabel(),)
    return (
        ByText(
            answer.tokens or _TOKENS[data.target],
            tuple(answer.stop),
            answer.temperature,
            answer.samples,
            _form(answer, folder),
            answer.read or _READ[data.target],
        ),
    )


def answer_kind(data: DataSection, prompt: PromptSection, answer: AnswerSection) -> str:
    """The kind of answer that is asked for: label, option, number, likeness or text."""
    if data.target in ("label", "option"):
        return data.target
    if data.target == "number" and answer.compare is not None:
        return "likeness"
    return "number" if data.target == "number" and prompt.label_words else "text"


def words_of(data: DataSection, prompt: PromptSection, labels: tuple[str, ...]) -> dict[str, str]:
    """The user's own word for each label of the data; where there may be none, a label is its own word."""
    if data.target in ("option", "labels"):
        return {label: prompt.label_words.get(label, label) for label in labels}
    if data.target != "label":
        return dict(prompt.label_words)
    return {label: prompt.label_words[label] for label in labels}


def answer_problems(data: DataSection, prompt: PromptSection, answer: AnswerSection, folder: Path) -> list[str]:
    """What of [answer], and of [prompt.label_words], does not go with the target."""
    problems = _unfit(data, prompt, answer)
    try:
        answers_of(data, prompt, answer, folder)
        if answer.compare is not None:
            strange = sorted(compiled(answer.compare).names - set(data.fields))
            if strange:
                problems.append(f"answer.compare names {{{{ {strange[0]} }}}}; allowed are {', '.join(data.fields)}.")
    except PromptError as error:
        problems.append(f"answer: {error}")
    return problems


def _unfit(data: DataSection, prompt: PromptSection, answer: AnswerSection) -> list[str]:
    given, target = answer.model_fields_set, data.target
    kind = answer_kind(data, prompt, answer)
    why = {"number": " and label words", "likeness": " and answer.compare"}.get(kind, "")
    problems = [
        f"answer.{key} is given, and with data.target = {target!r}{why} no answer is written; leave it out."
        for key in _WRITTEN
        if key in given and kind != "text"
    ]
    if "style" in given and target != "option":
        problems.append(f"answer.style is given, and data.target is {target!r}; it is for data.target = 'option'.")
    if answer.compare is not None and target != "number":
        problems.append(f"answer.compare is given, and data.target is {target!r}; it is for data.target = 'number'.")
    if answer.scale[0] >= answer.scale[1]:
        problems.append(f"answer.scale is {answer.scale}; the first number must be below the second.")
    if answer.pattern is not None and answer.form is not None:
        problems.append("answer.pattern and answer.form are both given; give one or the other.")
    if (answer.pattern is not None or answer.form is not None) and find_spec("llguidance") is None:
        problems.append(
            "answer.pattern and answer.form need the package llguidance: pip install 'autoprompt-search[forms]'."
        )
    if answer.samples > 1 and answer.temperature == 0:
        problems.append(
            f"answer.samples is {answer.samples} and answer.temperature 0, at which all samples are the same; "
            "give a temperature above 0."
        )
    return problems + _words(target, prompt)


def _words(target: str, prompt: PromptSection) -> list[str]:
    words = prompt.label_words
    if target == "label" and len(words) < 2:
        return [f"prompt.label_words has {len(words)} labels; it needs a word for each of at least two."]
    if target in ("text", "program") and words:
        return [f"prompt.label_words is given, and data.target is {target!r}; leave it out."]
    if target == "option" and (strange := [label for label in words if label not in LETTERS]):
        return [f"prompt.label_words has {strange[0]!r}; options have the letters A to Z."]
    if target == "number" and words:
        if len(words) < 2:
            return ["prompt.label_words has one number; an answer in between needs at least two."]
        return [
            f"prompt.label_words has {label!r}, which is no number; with data.target = 'number' each label is one."
            for label in words
            if not _is_number(label)
        ]
    return []


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def _form(answer: AnswerSection, folder: Path) -> tuple[str, str] | None:
    """What a written answer has to match."""
    if answer.pattern is not None:
        return "regex", answer.pattern
    if answer.form is None:
        return None
    try:
        found: Any = json.loads((folder / answer.form).read_text(encoding="utf-8"))
    except OSError as error:
        raise PromptError(
            f"The form {answer.form} cannot be read ({error.strerror}); name a file with a JSON schema."
        ) from None
    except (ValueError, RecursionError) as error:
        raise PromptError(f"The form {answer.form} is no JSON ({error}); name a file with a JSON schema.") from None
    return "json", json.dumps(found, sort_keys=True)
