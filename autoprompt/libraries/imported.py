"""What a library gives: templates that were taken, and those that were refused, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Imported", "Library", "Refused", "Written", "with_answer"]


@dataclass(frozen=True)
class Written:
    """A template of PromptSource as it was written. choices: Jinja that gives the answer choices between |||."""

    name: str
    jinja: str
    choices: str | None
    source: str


@dataclass(frozen=True)
class Imported:
    """A template of PromptSource in our form.

    template: the part before ||| with {{ label }} at its end. label_words: the answer choices, where they are the
    same for every row. fields: the columns that the template reads, sorted. target: the part behind |||, as it was
    written. source: the data set that it was written for.
    """

    name: str
    template: str
    label_words: tuple[str, ...] | None
    fields: tuple[str, ...]
    target: str
    source: str


@dataclass(frozen=True)
class Refused:
    """What cannot be taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Library:
    """The candidates of a library. label_words: one mapping from label to word for each list of choices."""

    instructions: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    label_words: tuple[Mapping[str, str], ...] = ()
    refused: tuple[Refused, ...] = ()


def with_answer(template: str) -> str:
    """The template with {{ label }} at its end: on the same line behind a colon, else on a line of its own.

    >>> with_answer("{{ text }}\\nTopic: "), with_answer("{{ text }}\\nWhat is it about?")
    ('{{ text }}\\nTopic: {{ label }}', '{{ text }}\\nWhat is it about?\\n{{ label }}')
    """
    shown = template.rstrip()
    return shown + (" " if shown.endswith((":", "=", "->", "=>")) else "\n") + "{{ label }}"
