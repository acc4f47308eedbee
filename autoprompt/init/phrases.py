"""The words of a first prompt: label words, templates and instructions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from autoprompt.data import Target

__all__ = ["anchors", "instructions_for", "readable", "template_pair", "words_for"]

_FEW = 20  # labels that an instruction may list
_ANCHORS = {
    3: ("low", "medium", "high"),
    5: ("very low", "low", "medium", "high", "very high"),
}
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def readable(name: str) -> str:
    """A name as one would write it: "card_arrival" and "cardArrival" are "card arrival"."""
    if not re.search(r"[_-]", name.strip("_-")) and not _HUMP.search(name):
        return name.strip()
    parts = [part for part in re.split(r"[_\-\s]+", _HUMP.sub(" ", name)) if part]
    return " ".join(part if part.isupper() and len(part) > 1 else part.lower() for part in parts) or name.strip()


def words_for(labels: Sequence[str]) -> dict[str, str]:
    """A word for each label, no two the same."""
    words = {label: readable(label) for label in labels}
    counts = Counter(words.values())
    return {label: word if counts[word] == 1 else label for label, word in words.items()}


def anchors(numbers: Sequence[float]) -> dict[str, str]:
    """Words for numbers from the least to the greatest, evenly apart."""
    low, high = min(numbers), max(numbers)
    words = _ANCHORS[5 if len(set(numbers)) >= 5 else 3]
    step = (high - low) / (len(words) - 1)
    return {f"{low + step * at:.6g}": word for at, word in enumerate(words)}


def template_pair(fields: Sequence[str], options: str | None, answer: str) -> tuple[str, str]:
    """Two templates: the first bare where there is one field, the second with a name before each.

    answer: what stands before the place of the answer.
    """
    named = [f"{_heading(field)}: {{{{ {field} }}}}" for field in fields]
    shown = [f"{{{{ {fields[0]} }}}}"] if len(fields) == 1 else named
    below = [f"{{{{ {options} }}}}"] if options is not None else []
    return (
        "\n".join([*shown, *below, f"{_heading(answer)}: {{{{ label }}}}"]),
        "\n".join([*named, *below, "{{ instruction }}", "Answer: {{ label }}"]),
    )


def _heading(name: str) -> str:
    """A name as it stands before a colon; nothing in it can act in a template."""
    text = re.sub(r"[{}%#\s]+", " ", readable(name)).strip()[:40] or "Answer"
    return text[:1].upper() + text[1:]


def instructions_for(target: Target, answer: str, words: Sequence[str], written: bool) -> list[str]:
    """Two or three plain instructions. words: those of the labels; written: whether a number is written."""
    name = re.sub(r"[{}%#\s]+", " ", readable(answer)).strip()[:40] or "answer"
    listed = ", ".join(words) if 0 < len(words) <= _FEW else ""
    if target == "label":
        return [f"Name the {name}.", "Which one fits best?", *([f"Choose one of: {listed}."] if listed else [])]
    if target == "labels":
        return [
            f"List the {name}.",
            "List all that fit, or write none.",
            *([f"List those that fit of: {listed}."] if listed else []),
        ]
    if target == "option":
        return ["Choose the right answer.", "Only one of these is right.", "Answer with one of the options."]
    if target == "number" and written:
        return ["Work it out and give the number alone.", f"What is the {name}?"]
    if target == "number":
        return [f"How high is the {name}?", f"Judge the {name}, from low to high."]
    if target == "program":
        return ["Write a Python function.", "Answer with code alone."]
    return [f"Write the {name}.", "Be brief and exact.", "Answer with nothing but what is asked for."]
