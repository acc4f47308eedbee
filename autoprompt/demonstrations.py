"""Worked examples in a prompt: the same for every input, or for each input those most like it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from autoprompt.errors import PromptError
from autoprompt.retrieval import Index, index_of

__all__ = ["Demonstration", "Retrieval", "Selection"]

Selection = Literal["drawn", "similar"]
_LONG = 200  # characters; so long a beginning in common makes two texts the same


@dataclass(frozen=True)
class Demonstration:
    """A worked example: input fields and the label (not the label word)."""

    fields: Mapping[str, str]
    label: str

    def to_dict(self) -> dict[str, Any]:
        return {"fields": dict(self.fields), "label": self.label}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Demonstration:
        """The demonstration of `to_dict`. Raises KeyError, TypeError or AttributeError on a damaged one."""
        return cls({str(k): str(v) for k, v in value["fields"].items()}, str(value["label"]))


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Demonstrations chosen for each input: those of a pool that are most like it.

    Liu et al. 2022 (KATE), with TF-IDF for the sentence encoder. The most alike stands last, next
    to the input. An example is never shown to itself. Raises PromptError when the pool has fewer
    than `number` demonstrations.

    >>> pool = [Demonstration({"text": "Late parcel."}, "a"), Demonstration({"text": "Wrong bill."}, "b")]
    >>> [shown.label for shown in Retrieval(tuple(pool), 1).nearest({"text": "Where is my parcel?"})]
    ['a']
    """

    pool: tuple[Demonstration, ...]
    number: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= len(self.pool):
            raise PromptError(f"{self.number} demonstrations cannot be retrieved from a pool of {len(self.pool)}.")

    @functools.cached_property
    def _index(self) -> Index:
        return index_of(tuple(_words(shown.fields) for shown in self.pool))

    def nearest(self, fields: Mapping[str, str]) -> list[Demonstration]:
        """The demonstrations for an input, the most alike last."""
        found: list[Demonstration] = []
        for at in self._index.ranking(_words(fields)):
            if not _shows(self.pool[at], fields):
                found.append(self.pool[at])
            if len(found) == self.number:
                break
        return found[::-1]

    def __str__(self) -> str:
        return f"<the {self.number} of {len(self.pool)} examples most like the input, the most alike last>"

    def to_dict(self) -> dict[str, Any]:
        return {"number": self.number, "pool": [shown.to_dict() for shown in self.pool]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Retrieval:
        """The retrieval of `to_dict`. Raises as `Demonstration.from_dict` does."""
        return cls(tuple(map(Demonstration.from_dict, value["pool"])), int(value["number"]))


def _words(fields: Mapping[str, str]) -> str:
    return "\n".join(fields[name] for name in sorted(fields))


def _shows(shown: Demonstration, fields: Mapping[str, str]) -> bool:
    """Whether a demonstration is the input itself, which may have been cut to fit if it is long."""
    pairs = ((shown.fields.get(name, ""), text) for name, text in fields.items())
    return all(known == text or (len(text) >= _LONG and known.startswith(text)) for known, text in pairs)
