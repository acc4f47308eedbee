"""A prompt's examples turned round: the label first, so that a model writes the input behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autoprompt.data import Example
from autoprompt.prompt import Prompt

__all__ = ["Sheet"]

_INPUT = "\ue0b1"  # a private-use character stands for the input while the template renders
_LABEL = "Label: "  # where the template says nothing in front of the answer
_INSIDE = ("'", "’", ".", "!", "?")  # closings that may also stand in an input
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.S | re.I)
_QUOTES = (('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"), ("**", "**"), ("`", "`"))


@dataclass(frozen=True)
class Sheet:
    """How examples are shown to a writer: the line of the label, then the input.

    cue and close: what stands before and behind the label word. opening and closing: what stands around the
    input of a task with one field, whose name opens it where the template says nothing there; a model that
    writes on would end the line at once. Tasks with several fields have a line "name: value" for each.

    >>> sheet = Sheet.of(Prompt("Message: {{ text }}\\nTeam: {{ label }}", {"b": "billing", "s": "shipping"}))
    >>> print(sheet.beginning("b", [Example(0, {"text": "Charged twice."}, "b")]))
    Team: billing
    Message: Charged twice.
    <BLANKLINE>
    Team: billing
    Message:
    """

    prompt: Prompt
    cue: str
    close: str
    opening: str = ""
    closing: str = ""

    @classmethod
    def of(cls, prompt: Prompt) -> Sheet:
        """The template's own words, as far as it shows one input at one place before or behind the answer."""
        bare = replace(prompt, demonstrations=(), retrieval=None, soft=None, instruction="", chat="none")
        rendered = bare.render(dict.fromkeys(prompt.fields, _INPUT))
        word = prompt.label_words[prompt.labels[0]]
        gap = rendered.answers[0][: len(rendered.answers[0]) - len(word)]
        context, tail = rendered.context + gap, rendered.tail
        if (context + tail).count(_INPUT) != 1:
            line, end = context.rpartition("\n")[2], tail.partition("\n")[0]
            named = (_LABEL, "") if _INPUT in line + end else _named(line, end)
            return cls(prompt, *named, _opening(prompt, ""))
        if _INPUT in tail:  # the label stands first already
            between, _, behind = tail.partition(_INPUT)
            close, _, opening = between.partition("\n") if "\n" in between else (between, "", "")
            return cls(prompt, context.lstrip(), close.rstrip(), _opening(prompt, opening), behind.partition("\n")[0])
        before, _, behind = context.partition(_INPUT)
        if "\n" in behind:
            closing, _, line = behind.partition("\n")
            line = line.rpartition("\n")[2]
        else:
            closing = behind[: len(behind) - len(behind.lstrip("\"'>])”’»"))]
            line = behind[len(closing) :].lstrip(" .!?,;:")
        return cls(prompt, *_named(line, tail.partition("\n")[0]), _opening(prompt, before), closing)

    @property
    def names(self) -> tuple[str, ...]:
        return self.prompt.fields

    def body(self, fields: Mapping[str, str]) -> str:
        """An input as it is shown, each field on one line."""
        if len(self.names) == 1:
            return self.opening + _line(fields[self.names[0]]) + self.closing
        return "\n".join(f"{name}: {_line(fields[name])}" for name in self.names)

    def beginning(self, label: str, shown: Sequence[Example]) -> str:
        """Examples of a label, and the beginning of one more: for models that write on."""
        head = self._head(label)
        opening = self.opening if len(self.names) == 1 else f"{self.names[0]}:"
        blocks = [*(head + self.body(example.fields) for example in shown), (head + opening).rstrip(" ")]
        return self.prompt.separator.join(blocks)

    def request(self, label: str, shown: Sequence[Example]) -> str:
        """The same as a request: for models that answer."""
        blocks = self.prompt.separator.join(self._head(label) + self.body(example.fields) for example in shown)
        form = "on one line" if len(self.names) == 1 else f"as lines {', '.join(f'{name}: ...' for name in self.names)}"
        return (
            f"These inputs of one task all have the answer {self.prompt.label_words[label]!r}.\n\n{blocks}\n\n"
            f"Write one more input with this answer, about something else and in other words, {form}. "
            "Write nothing but the input."
        )

    def _head(self, label: str) -> str:
        return f"{self.cue}{self.prompt.label_words[label]}{self.close}\n"

    def read(self, text: str) -> dict[str, str]:
        """The fields in what a model wrote behind `beginning` or `request`; "" for what is not there."""
        lines = [line for line in map(_line, _THOUGHT.sub("", text).splitlines()) if line]
        if len(lines) > 1 and lines[0].endswith(":") and len(lines[0].split()) > 3:  # an announcement
            lines.pop(0)
        if len(self.names) > 1:
            return self._several(lines)
        line = lines[0] if lines else ""
        line = _without(line, self.opening.rpartition("\n")[2].strip())
        closing = self.closing.strip()
        if closing and closing not in _INSIDE:
            line = line.partition(closing)[0]
        return {self.names[0]: _bare(line.removesuffix(closing))}

    def _several(self, lines: Sequence[str]) -> dict[str, str]:
        """A line for each field, the first maybe without its name; it ends where a name comes again."""
        found: dict[str, str] = {}
        for at, line in enumerate(lines):
            name, colon, value = line.partition(":")
            name = next((own for own in self.names if colon and own.casefold() == name.strip("*- ").casefold()), "")
            if not name and at == 0:
                name, value = self.names[0], line
            if not name or name in found:
                break
            found[name] = _bare(value)
        return {name: found.get(name, "") for name in self.names}


def _opening(prompt: Prompt, text: str) -> str:
    return text.lstrip() or f"{prompt.fields[0].capitalize()}: "


def _named(line: str, end: str) -> tuple[str, str]:
    """What stands before and behind the label word; "Label: " where that says nothing."""
    return (line.lstrip(), end) if any(map(str.isalnum, line)) else (_LABEL, "")


def _line(text: str) -> str:
    return " ".join(text.split())


def _without(text: str, opening: str) -> str:
    """Without the words that lead to it, which a model may say again."""
    return text[len(opening) :].strip() if text.casefold().startswith(opening.casefold()) else text


def _bare(text: str) -> str:
    """Without quotes around all of it."""
    text = text.strip()
    for first, last in _QUOTES:
        inner = text[len(first) : -len(last)]
        if inner and text.startswith(first) and text.endswith(last) and first not in inner and last not in inner:
            return inner.strip()
    return text
