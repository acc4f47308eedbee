"""What a model is to write, and what it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autoprompt.engine.request import Ids

__all__ = ["Form", "WritingRules", "Written"]


@dataclass(frozen=True)
class Form:
    """What every text must match from its first character to its last.

    kind "regex": `what` is a regular expression, without lookaround and back-references. "json": a JSON
    schema as JSON text; objects and arrays are written as `json.dumps` writes them, on one line. "choices": texts of
    which one is written. Spaces count: where a text goes on from "Answer:", the form has to have the
    space before its first word.
    """

    kind: Literal["regex", "json", "choices"]
    what: str | tuple[str, ...]


@dataclass(frozen=True)
class WritingRules:
    """How texts are written on from requests.

    tokens: the most a text may have. stop: strings before the first of which a text is cut.
    temperature: 0 takes the likeliest token each time; else the distribution is divided by it and
    drawn from. samples: texts a request, each from draws of its own; they hang on `seed`, the
    request and the sample's number. form: what the texts must match. ends: ids that end a text, besides the
    model's own.
    """

    tokens: int = 64
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    samples: int = 1
    seed: int = 0
    form: Form | None = None
    ends: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Written:
    """What a model wrote on from a context.

    text: as it goes on from the context's own text, cut before the first stop string. ids: all that was
    written but what ends a text; what spells the stop string is among them. ended: False where the
    tokens ran out first.
    """

    text: str
    ids: Ids
    ended: bool
