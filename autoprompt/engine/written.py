"""What a model is to write, and what it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from autoprompt.engine.request import Ids
from autoprompt.errors import ConfigError, nearest

__all__ = ["Form", "WritingRules", "Written"]


_FORM = "The form of the texts"


def _texts(given: object) -> bool:
    """Whether it is a tuple of texts, none empty."""
    return isinstance(given, tuple) and all(isinstance(text, str) and text for text in given)


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

    def __post_init__(self) -> None:
        """Raises ConfigError when `kind` and `what` do not fit."""
        kinds = ("regex", "json", "choices")
        if self.kind not in kinds:
            raise ConfigError(
                _FORM, [f"kind: {self.kind!r}; allowed are {', '.join(kinds)}.{nearest(self.kind, kinds)}"]
            )
        if self.kind == "choices" and not (_texts(self.what) and self.what):
            raise ConfigError(_FORM, [f"what: {self.what!r}; choices are a tuple of texts, at least one, none empty"])
        if self.kind != "choices" and not isinstance(self.what, str):
            raise ConfigError(_FORM, [f"what: {self.what!r}; a {self.kind} form is one text"])


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

    def __post_init__(self) -> None:
        """Raises ConfigError that names every value which is not allowed."""
        problems = [
            *([f"tokens: {self.tokens}; allowed is 0 or more"] if self.tokens < 0 else []),
            *([f"stop: {self.stop!r}; a tuple of texts, none empty"] if not _texts(self.stop) else []),
            *([f"temperature: {self.temperature}; allowed is 0 or more"] if not 0 <= self.temperature < inf else []),
            *([f"samples: {self.samples}; allowed is 1 or more"] if self.samples < 1 else []),
        ]
        if problems:
            raise ConfigError("The rules for writing", problems)


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
