"""What is known of a value that a template reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Shape"]


@dataclass(eq=False)
class Shape:
    """What is known of a value. values: what it is compared with. within: where it is looked for. parts: what
    splitting it gives, and at what. holds: what is looked for in it. below: it is a place among so many elements."""

    keys: dict[Any, Shape] = field(default_factory=dict)
    one: Shape | None = None  # its elements
    least: int = 0  # elements
    text: bool = False
    number: bool = False
    values: list[Any] = field(default_factory=list)
    within: list[Shape] = field(default_factory=list)
    holds: list[Any] = field(default_factory=list)
    begins: list[str] = field(default_factory=list)
    parts: tuple[Shape, str] | None = None
    below: list[int] = field(default_factory=list)
    size: Shape | None = None  # the number of its elements, where the template asks for it
    counts: bool = False  # it is such a number

    def key(self, name: Any) -> Shape:
        return self.keys.setdefault(name, Shape())

    def element(self) -> Shape:
        self.one = self.one or Shape()
        return self.one
