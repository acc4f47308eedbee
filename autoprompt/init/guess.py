"""What is asked of a data file, and why that was guessed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autoprompt.data import Target

__all__ = ["TARGETS", "Guess"]

TARGETS: tuple[Target, ...] = ("label", "labels", "option", "number", "text", "program")


@dataclass(frozen=True)
class Guess:
    """What is asked of a data file, and why that was guessed.

    fields, options, label, aside: columns. first_option: the index of the first, where the answer is an index. split:
    the column that parts the rows; group: the one whose values are not to be parted. why: a reason by what was guessed.
    """

    label: str
    fields: tuple[str, ...] = ()
    target: Target = "label"
    metric: str = ""
    also: tuple[str, ...] = ()
    options: str | None = None
    first_option: int = 0
    aside: tuple[str, ...] = ()
    split: str | None = None
    group: str | None = None
    anchored: bool = False  # a number between label words
    why: tuple[tuple[str, str], ...] = ()

    def because(self, what: str, reason: str) -> Guess:
        return replace(self, why=(*(pair for pair in self.why if pair[0] != what), (what, reason)))
