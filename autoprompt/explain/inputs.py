"""Changes of inputs that should not matter, and typing errors, which should not matter much."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from autoprompt.data import Example
from autoprompt.soft import seed_of

__all__ = ["InputChange", "input_changes", "mistyped"]

_ROWS = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))  # letters of a row and where it begins
_RATES = (0.02, 0.05)


@dataclass(frozen=True)
class InputChange:
    """Examples with changed inputs, in their order. kind, name: as of `changes.Change`."""

    kind: str
    name: str
    examples: tuple[Example, ...]


def input_changes(examples: Sequence[Example], seed: int) -> list[InputChange]:
    """Inputs with other whitespace, in small letters, without their last mark, and with typing errors."""
    edits: list[tuple[str, str, Callable[[str], str]]] = [
        ("whitespace", "two spaces for one in the input", lambda text: text.replace(" ", "  ")),
        ("whitespace", "a line break behind the input", lambda text: text + "\n"),
        ("casing", "input in small letters", str.lower),
        ("punctuation", "no mark behind the input", lambda text: re.sub(r"[.:;?!]+$", "", text) or text),
    ]
    found = []
    for kind, name, edit in edits:
        made = [
            replace(one, fields={field: edit(text) for field, text in sorted(one.fields.items())}) for one in examples
        ]
        found.append(InputChange(kind, name, tuple(made)))
    for rate in _RATES:
        made = [mistyped(one, rate, seed) for one in examples]
        found.append(InputChange("typos", f"typing errors in {100 * rate:.0f} % of the letters", tuple(made)))
    return found


def mistyped(example: Example, rate: float, seed: int) -> Example:
    """The example with about `rate` of the letters of its inputs mistyped.

    A letter becomes its neighbour on the keyboard, is left out, is doubled, or changes places with the next;
    letters of other scripts have no neighbour here. What becomes of an input depends on the seed and the text alone.
    """
    return replace(example, fields={name: _mistyped(text, rate, seed) for name, text in sorted(example.fields.items())})


def _mistyped(text: str, rate: float, seed: int) -> str:
    generator = random.Random(seed_of(seed, "typing errors", rate, text))
    letters, made, at = list(text), [], 0
    while at < len(letters):
        letter = letters[at]
        after = letters[at + 1] if at + 1 < len(letters) else ""
        if letter.isalpha() and generator.random() < rate:
            ways = [letter * 2, *([after + letter] if after.isalpha() else []), *([""] if len(letters) > 1 else [])]
            near = _near(letter.lower())
            if near and generator.random() < 0.5:  # half of all errors hit the key beside
                chosen = generator.choice(near)
                ways = [chosen.upper() if letter.isupper() else chosen]
            made.append(generator.choice(ways))
            at += 1 + (made[-1] == after + letter and after.isalpha() and after != letter)
        else:
            made.append(letter)
            at += 1
    return "".join(made)


@functools.cache
def _near(letter: str) -> str:
    """The letters beside one on the keyboard; none for a letter that is not on it."""
    places = {
        other: (row, column + shift)
        for row, (letters, shift) in enumerate(_ROWS)
        for column, other in enumerate(letters)
    }
    row, column = places.get(letter, (len(_ROWS) + 1, 0.0))
    near = {other for other, (r, c) in places.items() if abs(r - row) <= 1 and abs(c - column) <= 1}
    return "".join(sorted(near - {letter}))
