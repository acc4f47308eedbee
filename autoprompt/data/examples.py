"""One labelled example, and what makes two of them the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Example", "Key", "fingerprint", "folded"]

Key = tuple[tuple[str, str], ...]  # (field, text), sorted


@dataclass(frozen=True)
class Example:
    """One labelled example; `number` is its place in the order in which its split is scored.

    label: the target, as text. references: other texts that are right too, for targets that are written. aside:
    columns that metrics may read and no prompt shows, such as the tests of a program.
    """

    number: int
    fields: Mapping[str, str]
    label: str
    references: tuple[str, ...] = ()
    aside: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What makes two examples the same input."""
        return tuple(sorted(self.fields.items()))


def folded(fields: Mapping[str, str]) -> Key:
    """What inputs that differ only in case and spaces have in common."""
    return tuple((name, " ".join(fields[name].casefold().split())) for name in sorted(fields))


def fingerprint(examples: Iterable[Example]) -> str:
    """A hash of the examples in their order: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for example in examples:
        content: list[object] = [example.key, example.label]
        if example.references or example.aside:
            content += [example.references, sorted(example.aside.items())]
        digest.update(json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
