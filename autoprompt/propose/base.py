"""What every proposer gets and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from autoprompt.data import Example
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt
from autoprompt.scorer import Scorer
from autoprompt.space import Space

__all__ = ["Desk", "Known", "Proposal", "Proposals", "Proposer"]


class Known(NamedTuple):
    """A candidate that was scored.

    value: the metric over the dev examples that it was scored on; their number is `examples`.
    gain: its mean advantage over the baseline in bounded margins, estimated for all dev examples.
    """

    number: int
    prompt: Prompt
    value: float
    gain: float
    examples: int


@dataclass(frozen=True)
class Proposal:
    """A new candidate with its lineage. parents: numbers of the trials it was made from.

    operator: what was done to them, in a word or two ("delete", "cross", "token gradient").
    """

    prompt: Prompt
    operator: str
    parents: tuple[int, ...] = ()


@dataclass(frozen=True)
class Proposals:
    """What a proposer found, the most promising first.

    tokens: what finding it costs in tokens that go through a model (a backward pass counts two
    forward passes), counted as if nothing were remembered, so that the number does not depend on
    what an earlier process scored.
    """

    found: tuple[Proposal, ...] = ()
    tokens: int = 0


@dataclass(frozen=True)
class Desk:
    """What proposers work with; none of it is from dev or test.

    pool: the training examples. writer: the model that writes and fills in; the task model unless
    the user named another. writer_tokens: the most tokens that one call may write or read with it. dev: how many
    examples a trial is scored on at most; 0 where that is not known.
    """

    space: Space
    scorer: Scorer
    pool: tuple[Example, ...]
    writer: LanguageModel | None = None
    writer_tokens: int = 20_000
    dev: int = 0

    def few(self, most: int) -> int:
        """How many examples of the pool to look at, of `most` that are enough: with a small dev, finding candidates
        would cost many times what scoring them does."""
        return min(most, max(4, self.dev // 4)) if self.dev else most

    @property
    def model(self) -> LanguageModel:
        return self.scorer.model


class Proposer(ABC):
    """Makes new candidates from those known.

    It keeps no state between calls that its answers depend on: they are a function of the desk,
    of what is known, and of the seed, so that a search that was killed goes on as if it had not been.
    """

    name: ClassVar[str]

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @classmethod
    def covers(cls, desk: Desk) -> bool:
        """Whether it can do anything for this space and model; if not, it takes no part."""
        return True

    @abstractmethod
    def propose(self, known: Sequence[Known], count: int, seed: int) -> Proposals:
        """Up to `count` new candidates. `known` is sorted, best first, and has at least the baseline."""
