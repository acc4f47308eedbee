"""Answer choices as label words: which choice stands for which label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jinja2 import nodes

from autoprompt.libraries.cutting import CHOICES
from autoprompt.libraries.imported import Imported
from autoprompt.template import parsed

__all__ = ["words_of"]


def words_of(found: Imported, labels: Sequence[str]) -> Mapping[str, str] | str:
    """The word for each label, or why there is none.

    A label is matched with the choice that reads the same, upper and lower case aside. Where not all are, the
    choices go by their order, if the target takes them by number and the labels are these numbers.
    """
    choices = found.label_words or ()
    if len(set(choices)) != len(labels):
        return f"They are {len(set(choices))} choices, and the data have {len(labels)} labels."
    by_text = {choice.casefold(): choice for choice in choices}
    if all(label.strip().casefold() in by_text for label in labels):
        return {label: by_text[label.strip().casefold()] for label in labels}
    first = _first_number(found.target)
    by_number = {} if first is None else {str(at + first): choice for at, choice in enumerate(choices)}
    if set(labels) == set(by_number):
        return {label: by_number[label] for label in labels}
    order = "a number does not say which is which" if first is None else f"the choices are for {', '.join(by_number)}"
    return f"The labels are {', '.join(labels[:8])}, not these words; and {order}."


def _first_number(target: str) -> int | None:
    """The label of the first choice: 0 for answer_choices[label], 1 for answer_choices[label - 1]; None where the
    target does not take a choice by a column's number."""
    taken = [
        item.arg
        for item in parsed(target).find_all(nodes.Getitem)
        if isinstance(item.node, nodes.Name) and item.node.name == CHOICES
    ]
    if len(taken) != 1:
        return None
    number: nodes.Expr = taken[0]
    first = 0
    if isinstance(number, nodes.Sub):
        less = number.right.value if isinstance(number.right, nodes.Const) else None
        if not isinstance(less, int):
            return None
        number, first = number.left, less
    while isinstance(number, nodes.Filter) and number.name == "int" and number.node is not None:
        number = number.node
    return first if isinstance(number, nodes.Name) else None
