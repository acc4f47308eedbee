"""A piece of advice with the evidence for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from autoprompt.report.page.story import Story

__all__ = ["Advice", "Rule"]


@dataclass(frozen=True)
class Advice:
    """What to do and why, as HTML; the greater the weight, the further up it stands."""

    weight: int
    what: str
    why: str


Rule = Callable[[Story], Iterator[Advice]]
