"""Other formats of the same prompt: what a template writes around its fields, and where.

The parts that vary are those of FormatSpread (Sclar et al. 2024, section 3): the name of a field, what
stands between name and value, what stands between fields, and the case. Jinja is never touched;
templates with statements ({% ... %}) are left as they are.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

__all__ = ["CASES", "SEPARATORS", "field_names", "instruction_moved", "names_changed", "punctuated", "spaced"]

SEPARATORS = ("\n\n", "\n", "\n---\n", "\n\n###\n\n", "\n\n\n")  # between blocks
CASES: tuple[Callable[[str], str], ...] = (str.upper, str.lower, lambda text: text[:1].upper() + text[1:].lower())
_MARKS = (": ", " - ", " = ", ":\n", ":: ", " -> ", " | ")  # between name and value
_BREAKS = ("\n", "\n\n", " ", "; ", " | ", "\n\t")  # between fields
_ANSWERS = ("Answer", "Label", "Category", "Class", "Output", "Result")
_INPUTS = ("Text", "Input", "Example", "Given", "Passage")
_QUOTES = (('"', '"'), ("<", ">"), ("[", "]"), ("'", "'"))
_JINJA = re.compile(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", re.DOTALL)
_MARK = re.compile(r"((?:\s*[:=|>-]+\s*|\s*))([\"'<\[]?)\Z")


@dataclass(frozen=True)
class _Slot:
    """A value with what stands before it: "lead", the value's name, a mark, an opening quote, {{ jinja }}."""

    lead: str
    name: str
    mark: str
    opening: str
    jinja: str

    @classmethod
    def of(cls, before: str, jinja: str) -> _Slot:
        found = _MARK.search(before)
        mark, opening = found.groups() if found else ("", "")
        head = before[: len(before) - len(mark + opening)]
        start = head.rfind("\n") + 1
        while start < len(head) and not head[start].isalnum():
            start += 1
        if start == len(head):
            return cls(head + mark, "", "", opening, jinja)
        return cls(head[:start], head[start:], mark, opening, jinja)

    @property
    def variable(self) -> str:
        found = re.search(r"\w+", self.jinja)
        return found[0] if found else ""

    def __str__(self) -> str:
        return self.lead + self.name + self.mark + self.opening + self.jinja


def _parsed(template: str) -> tuple[list[_Slot], str] | None:
    """The values of a template in their order and what stands behind the last; None with statements."""
    pieces = _JINJA.split(template)
    if len(pieces) < 3 or any(not jinja.startswith("{{") for jinja in pieces[1::2]):
        return None
    slots = [_Slot.of(before, jinja) for before, jinja in zip(pieces[:-1:2], pieces[1::2], strict=True)]
    return slots, pieces[-1]


def _written(slots: Sequence[_Slot], tail: str) -> str:
    return "".join(map(str, slots)) + tail


def field_names(templates: Iterable[str]) -> dict[str, list[str]]:
    """The names that templates give to each variable."""
    found: dict[str, list[str]] = {}
    for template in templates:
        slots, _ = _parsed(template) or ([], "")
        for slot in slots:
            if slot.name and slot.name not in found.setdefault(slot.variable, []):
                found[slot.variable].append(slot.name)
    return found


def names_changed(generator: random.Random, template: str, known: Mapping[str, Sequence[str]]) -> str:
    """The template with another name for one value: one that other templates give it, a usual one, or
    the same in another case."""
    parsed = _parsed(template)
    if parsed is None:
        return template
    slots, tail = parsed
    inputs = [slot for slot in slots if slot.variable not in ("label", "instruction")]
    at = generator.choice([at for at, slot in enumerate(slots) if slot.variable != "instruction"])
    slot = slots[at]
    # with several inputs, a name that fits any of them says nothing
    usual = _ANSWERS if slot.variable == "label" else _INPUTS if len(inputs) == 1 else (slot.variable.capitalize(),)
    cases = [case(slot.name) for case in CASES]
    new = [
        name for name in dict.fromkeys([*known.get(slot.variable, ()), *usual, *cases]) if name and name != slot.name
    ]
    if not new:
        return template
    lead = slot.lead if slot.name or at == 0 else slot.lead.rstrip(" ->=|:") or "\n"
    mark = slot.mark if slot.mark.strip() else ": "
    slots[at] = replace(slot, lead=lead, name=generator.choice(new), mark=mark)
    return _written(slots, tail)


def spaced(generator: random.Random, template: str) -> str:
    """The template with another mark behind all names, or another break between all values."""
    parsed = _parsed(template)
    if parsed is None:
        return template
    slots, tail = parsed
    if generator.random() < 0.5 and any(slot.name for slot in slots):
        mark = generator.choice(_MARKS)
        return _written([replace(slot, mark=mark) if slot.name else slot for slot in slots], tail)
    gap = generator.choice(_BREAKS)
    rest = [replace(slot, lead=slot.lead.rstrip(" \n\t;|") + gap) for slot in slots[1:]]
    return _written([slots[0], *rest], tail)


def punctuated(generator: random.Random, template: str) -> str:
    """The template with an input between quotes or brackets, or without those that it has."""
    parsed = _parsed(template)
    if parsed is None:
        return template
    slots, tail = parsed
    at = generator.choice([at for at, slot in enumerate(slots) if slot.variable not in ("label", "instruction")])
    before, after = str(slots[at])[: -len(slots[at].jinja)], _written(slots[at + 1 :], tail)
    for opening, closing in _QUOTES:
        if before.endswith(opening) and after.startswith(closing):
            inner = before[: -len(opening)] + slots[at].jinja + after[len(closing) :]
            return _written(slots[:at], "") + inner
    opening, closing = generator.choice(_QUOTES)
    return _written(slots[:at], "") + before + opening + slots[at].jinja + closing + after


def instruction_moved(generator: random.Random, template: str) -> str:
    """The template with the instruction elsewhere: before or behind the inputs, or in front of all blocks."""
    parsed = _parsed(template)
    if parsed is None:
        return template
    slots, tail = parsed
    own = next((at for at, slot in enumerate(slots) if slot.variable == "instruction"), -1)
    if own >= 0:
        taken = slots.pop(own)
        # what closes the value before it stays, such as a quote
        slots[own] = replace(slots[own], lead=(taken.lead.rstrip() + slots[own].lead) if own else "")
    answer = next(at for at, slot in enumerate(slots) if slot.variable == "label")
    at = generator.choice([place for place in dict.fromkeys([-1, 0, answer]) if place != own])
    if at < 0:
        return _written(slots, tail)
    value = "{{ instruction }}"
    if at == 0:
        return value + "\n" + _written(slots, tail)
    line = slots[at].lead.rfind("\n") + 1
    lead = slots[at].lead[:line] or "\n"
    new = [_Slot(lead, "", "", "", value), replace(slots[at], lead="\n" + slots[at].lead[line:].lstrip())]
    return _written([*slots[:at], *new, *slots[at + 1 :]], tail)
