"""How a prompt is answered: by a label, one of the input's own options, a number, a likeness, or a text.

Each way says what a worked example shows as its answer, and what an input's candidate answers are. `words` are a
prompt's label words, `fields` an input's texts, `label` an example's target.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from autoprompt.errors import PromptError, nearest

__all__ = [
    "LETTERS",
    "NONE",
    "READS",
    "Answer",
    "ByLabel",
    "ByLikeness",
    "ByNumber",
    "ByOption",
    "ByText",
    "answer_from",
    "answer_to_dict",
    "number_text",
    "options_of",
]

Words: TypeAlias = Mapping[str, str]
Style = Literal["letters", "texts"]
LETTERS = tuple(string.ascii_uppercase)
NONE = "none"  # the target of an example that no label fits, where it may have several
READS = ("text", "line", "number", "labels", "json", "code")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+]?\.\d+")
_OPENING = re.compile(r"<(?:think|thinking|reasoning)>", re.I)
_BLOCK = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.S | re.I)
# a chat template may open the block by itself, so that the text begins within it
_BEGUN = re.compile(r"\A(?:(?!<(?:think|thinking|reasoning)>).)*?</(?:think|thinking|reasoning)>", re.S | re.I)
_SAID = re.compile(r"(?:####|answer\s+is|answer\s*:|=)\s*\$?\s*", re.I)


@dataclass(frozen=True)
class ByLabel:
    """The likeliest of the label words."""

    kind: ClassVar[str] = "label"

    def shown(self, words: Words, fields: Mapping[str, str], label: str) -> str:
        """What stands in the answer's place of a worked example."""
        return words[label]

    def candidates(self, words: Words, fields: Mapping[str, str]) -> tuple[str, ...]:
        """The candidate answers of an input, in the order of the labels."""
        return tuple(words.values())

    def seen(self, words: Words, fields: Mapping[str, str]) -> Mapping[str, str]:
        """The fields as the template shows them."""
        return fields


@dataclass(frozen=True)
class ByOption(ByLabel):
    """The likeliest of the input's own options, which stand one a line in the field `field`.

    style: "letters" shows each with its letter's word in front, which is the answer; with "texts" the option itself
    is. An input may have fewer options than there are letters, never more.
    """

    field: str = "options"
    style: Style = "letters"
    kind: ClassVar[str] = "option"

    def shown(self, words: Words, fields: Mapping[str, str], label: str) -> str:
        found = options_of(fields.get(self.field, ""))
        at = list(words).index(label)
        return words[label] if self.style == "letters" or at >= len(found) else found[at]

    def candidates(self, words: Words, fields: Mapping[str, str]) -> tuple[str, ...]:
        found = options_of(fields.get(self.field, ""))
        if len(found) > len(words):
            raise PromptError(f"An input has {len(found)} options, and the prompt has {len(words)} letters for them.")
        return tuple(words.values())[: len(found)] if self.style == "letters" else tuple(found)

    def seen(self, words: Words, fields: Mapping[str, str]) -> Mapping[str, str]:
        found = options_of(fields.get(self.field, ""))
        marks = [f"{word}. " if self.style == "letters" else "- " for word in words.values()]
        if len(found) < 2 or len(found) > len(marks):
            return fields
        return {**fields, self.field: "\n".join(map("".join, zip(marks, found, strict=False)))}


@dataclass(frozen=True)
class ByNumber(ByLabel):
    """The expectation of the labels' numbers under the probabilities of their words.

    G-Eval (Liu et al. 2023, equation 1), for numbers in LM-BFF (Gao et al. 2021, section 3.2). A worked example shows
    the word of the label that is nearest to its target.
    """

    kind: ClassVar[str] = "number"

    def shown(self, words: Words, fields: Mapping[str, str], label: str) -> str:
        target = float(label)
        return min(words.items(), key=lambda item: abs(float(item[0]) - target))[1]


@dataclass(frozen=True)
class ByLikeness(ByLabel):
    """How alike a sentence encoder finds the input and what the template `other` makes of it: the cosine, 0 as `low`
    and 1 as `high`."""

    other: str = ""
    low: float = 0.0
    high: float = 1.0
    kind: ClassVar[str] = "likeness"

    def shown(self, words: Words, fields: Mapping[str, str], label: str) -> str:
        return label

    def candidates(self, words: Words, fields: Mapping[str, str]) -> tuple[str, ...]:
        return ()  # the prompt renders it


@dataclass(frozen=True)
class ByText(ByLabel):
    """What the model writes, as it is read.

    tokens: the most to write. stop: texts that end an answer; where there are none, what stands behind the answer in
    the template, and the separator of blocks. temperature, samples: 0 writes the likeliest text; above it `samples`
    texts are drawn. form: "regex" or "json" and what the answer has to match, or None. read: what of the text is the
    answer, one of READS, or "regex:" and an expression whose first group it is; of several samples each is read.
    """

    tokens: int = 64
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    samples: int = 1
    form: tuple[str, str] | None = None
    read: str = "text"
    kind: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop))
        object.__setattr__(self, "form", None if self.form is None else (self.form[0], self.form[1]))
        if self.tokens < 1 or self.samples < 1 or not 0 <= self.temperature < math.inf:
            raise PromptError(
                f"An answer has {self.tokens} tokens, {self.samples} samples and the temperature {self.temperature}; "
                "the first two must be at least 1, the last a finite number, 0 or above."
            )
        if self.form is not None and self.form[0] not in ("regex", "json"):
            raise PromptError(f"The form of an answer is {self.form[0]!r}; allowed are regex and json.")
        if self.form is not None and self.form[0] == "regex":
            _compiled(self.form[1], "An answer has to match")
        self._expression()

    def shown(self, words: Words, fields: Mapping[str, str], label: str) -> str:
        if self.read != "labels":
            return label
        return ", ".join(words.get(name, name) for name in label.split(", "))

    def candidates(self, words: Words, fields: Mapping[str, str]) -> tuple[str, ...]:
        return ()

    def answer(self, text: str, words: Words) -> str | None:
        """What of a written text is the answer; None where it cannot be read.

        Blocks of reasoning ("<think>", "<thinking>", "<reasoning>") are no part of it; one that is never closed leaves
        no answer.
        """
        text = _BLOCK.sub("", _BEGUN.sub("", text))
        if _OPENING.search(text):
            return None
        if (expression := self._expression()) is not None:
            found = expression.search(text)
            return None if found is None else (found.group(1) if expression.groups else found.group(0)).strip()
        if self.read == "line":
            return next((line.strip() for line in text.splitlines() if line.strip()), "")
        if self.read == "number":
            return _number_in(text)
        if self.read == "labels":
            return _labels_in(text, words)
        if self.read == "json":
            return _json_in(text)
        return text if self.read == "code" else text.strip()

    def _expression(self) -> re.Pattern[str] | None:
        kind, found, pattern = self.read.partition(":")
        if not found:
            if self.read not in READS:
                raise PromptError(
                    f"An answer is read as {self.read!r}; allowed are {', '.join(READS)}, and 'regex:' with an "
                    f"expression.{nearest(self.read, READS)}"
                )
            return None
        if kind != "regex":
            raise PromptError(f"An answer is read as {self.read!r}; an expression stands behind 'regex:'.")
        return _compiled(pattern, "An answer is read by")


def _compiled(pattern: str, what: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.S)
    except (re.error, OverflowError, RecursionError) as error:
        raise PromptError(f"{what} {pattern!r}, which is no regular expression: {error}.") from None


Answer: TypeAlias = ByLabel | ByOption | ByNumber | ByLikeness | ByText
_KINDS: dict[str, type[ByLabel]] = {one.kind: one for one in (ByLabel, ByOption, ByNumber, ByLikeness, ByText)}


def answer_to_dict(answer: Answer) -> dict[str, Any]:
    """The way of answering as plain values."""
    return {"kind": answer.kind, **json.loads(json.dumps(asdict(answer)))}


def answer_from(value: Mapping[str, Any]) -> Answer:
    """The way of answering of `answer_to_dict`. Raises PromptError or LookupError when it is damaged."""
    kind = _KINDS[value["kind"]]
    given = {name: part for name, part in value.items() if name != "kind"}
    known = {field.name: field for field in fields(kind)}
    if strange := set(given) - set(known):
        raise PromptError(f"The answer has the part {min(strange)!r}, which this version does not know.")
    for name, part in given.items():
        expected = type(known[name].default)
        allowed = {int: (int,), float: (int, float), str: (str,)}.get(expected)
        if allowed is not None and (isinstance(part, bool) or not isinstance(part, allowed)):
            raise PromptError(f"{name} of the answer is {part!r}, not {expected.__name__}")
        if expected is tuple and not (isinstance(part, list) and all(isinstance(one, str) for one in part)):
            raise PromptError(f"{name} of the answer is {part!r}, not a list of texts")
    form = given.get("form")
    if form is not None and not (isinstance(form, list) and len(form) == 2 and all(isinstance(x, str) for x in form)):
        raise PromptError(f"form of the answer is {form!r}, not a list of its kind and what has to be matched")
    if kind is ByOption and given.get("style", "letters") not in get_args(Style):
        raise PromptError(f"Options are shown as {given['style']!r}; allowed are {', '.join(get_args(Style))}.")
    return kind(**given)


def options_of(text: str) -> list[str]:
    """The options of an input, one a line."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def number_text(value: float) -> str:
    """A number as short as it can be told."""
    return repr(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def _number_in(text: str) -> str | None:
    """The number behind the last "####", "answer is", "Answer:" or "="; without one the last number."""
    said = [found.end() for found in _SAID.finditer(text)]
    for start in reversed(said):
        found = _NUMBER.match(text, start)
        if found is not None:
            return _plain(found.group())
    numbers = _NUMBER.findall(text)
    return _plain(numbers[-1]) if numbers else None


def _plain(number: str) -> str | None:
    value = float(number.replace(",", ""))
    return number_text(value) if math.isfinite(value) else None


def _labels_in(text: str, words: Words) -> str | None:
    """The labels whose words are listed, sorted, as targets have them; None where a word is of no label."""
    by_word = {word.strip().casefold(): label for label, word in words.items()}
    parts: Sequence[str] = [part.strip().strip(".").casefold() for part in re.split(r"[,;|\n]", text)]
    parts = [part for part in parts if part]
    if not parts or any(part not in by_word and part != NONE for part in parts):
        return None
    found = {by_word.get(part, NONE) for part in parts}
    return ", ".join(sorted(found - {NONE})) or NONE


def _json_in(text: str) -> str | None:
    """The text as JSON in one spelling; None where it is none."""
    try:
        return json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
