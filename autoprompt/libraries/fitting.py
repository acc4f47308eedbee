"""Rows that a template can be rendered with, made from what it asks of its columns."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from autoprompt.libraries.asking import shapes_of
from autoprompt.libraries.shape import Shape
from autoprompt.template import parsed

__all__ = ["fitting_rows"]

_WORDS = (
    "river", "market", "garden", "winter", "letter", "window", "island", "teacher", "engine", "harbour", "story",
    "village", "doctor", "planet", "bridge", "museum",
)  # fmt: skip
_DEEPEST = 12


def fitting_rows(template: str, seed: str, number: int) -> Iterator[dict[str, Any]]:
    """Rows that may fit a template; the first are the plainest.

    Which values a row needs for the text to be shown is not known beforehand: those that the template compares
    its columns with take turns.
    """
    columns = shapes_of(parsed(template))
    for at in range(number):
        yield _Row(columns, random.Random(f"{seed} row {at}"), at).values()


class _Row:
    """One row in the making: a column that is looked for in another is made after it."""

    def __init__(self, columns: Mapping[str, Shape], generator: random.Random, at: int) -> None:
        self._columns, self._random, self._at = columns, generator, at
        self._made: dict[int, Any] = {}

    def values(self) -> dict[str, Any]:
        return {name: self._once(shape, name, 0) for name, shape in self._columns.items()}

    def _once(self, shape: Shape, name: str, depth: int) -> Any:
        if id(shape) not in self._made:
            self._made[id(shape)] = None
            self._made[id(shape)] = self._value(shape, name, depth)
        return self._made[id(shape)]

    def _value(self, shape: Shape, name: str, depth: int) -> Any:
        if depth > _DEEPEST:
            return "end"
        if shape.within and self._random.random() < 0.8:
            found = self._from(self._random.choice(shape.within), name, depth)
            if found is not None:
                return found
        if shape.keys:
            return self._mapping(shape, name, depth)
        if shape.parts is not None:
            inner, mark = shape.parts
            inner.least = max(inner.least, 3)
            if mark in shape.begins:
                return self._text(shape, name)
            return self._held(shape, mark.join(map(str, self._list(inner, name, depth))))
        if shape.values and not (shape.one and not shape.text) and self._random.random() < 0.9:
            return self._listed(shape)
        if shape.number or shape.below:
            return self._number(shape)
        if shape.one is not None and self._random.random() < (0.5 if shape.text else 0.8):
            return self._list(shape, name, depth)
        return self._text(shape, name)

    def _from(self, place: Shape, name: str, depth: int) -> Any:
        """An element of where the value is looked for; that of a one-element place is its own value."""
        if place.one is not None and not place.least and id(place.one) in self._made:
            return self._made[id(place.one)]
        inside = self._once(place, name, depth + 1)
        if isinstance(inside, str):
            inside = inside.split()
        return self._random.choice(inside) if isinstance(inside, list) and inside else None

    def _mapping(self, shape: Shape, name: str, depth: int) -> Any:
        """A mapping, of which a list is asked for too where it is gone through."""
        texts = [key for key in shape.keys if isinstance(key, str)]
        made = {key: self._once(shape.keys[key], f"{name} {key}", depth + 1) for key in texts}
        if shape.one is not None and shape.one.keys:
            return self._list(shape, name, depth)
        return made

    def _list(self, shape: Shape, name: str, depth: int) -> list[Any]:
        inner = shape.one or Shape()
        size = max(shape.least, 2 + self._at % 4)
        if shape.size is not None and (shape.size.values or shape.size.below) and self._random.random() < 0.8:
            size = max(0, int(self._number(shape.size)))
        made, before = [], dict(self._made)
        for place in range(size if depth < _DEEPEST else 0):
            self._made = dict(before)  # what was made for the last element can be looked for elsewhere
            made.append(self._once(inner, f"{name} {place + 1}", depth + 1))
        for value in shape.holds if made else ():
            made[self._random.randrange(len(made))] = value
        return made

    def _listed(self, shape: Shape) -> Any:
        value = self._random.choice(shape.values)
        return self._text(shape, "another") if value in ("", None) and self._random.random() < 0.5 else value

    def _number(self, shape: Shape) -> Any:
        numbers = [value for value in shape.values if isinstance(value, int | float)]
        if numbers and self._random.random() < 0.7:
            return self._random.choice(numbers)
        return self._random.randrange(min([most for most in shape.below if most], default=4))

    def _text(self, shape: Shape, name: str) -> str:
        words = self._random.sample(_WORDS, self._random.randint(1, 8))
        return self._held(shape, " ".join([*name.replace("_", " ").split(), *words]))

    def _held(self, shape: Shape, text: str) -> str:
        """The text, with what is looked for in it, and with its beginning."""
        begin = self._random.choice(shape.begins) if shape.begins else ""
        return " ".join([f"{begin}{text}", *map(str, shape.holds), *(["the end"] if shape.holds else [])])
