"""From the columns of a row to the texts of an example."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from autoprompt.data.cells import cell, text_of, whole
from autoprompt.data.choices import choices_of
from autoprompt.data.options import Cut, DataOptions

__all__ = ["aside_of", "cut_text", "inputs_of"]

_MARK = " … "  # stands where the middle was


def inputs_of(place: str, row: Mapping[str, Any], options: DataOptions) -> tuple[dict[str, str], int]:
    """The fields of an example, and how many of its texts were cut. Raises DataError, with the place."""
    fields, cuts = {}, 0
    for name in options.inputs:
        if name == options.options and options.target == "option":
            fields[name] = "\n".join(choices_of(place, row, options.column(name)).texts)
            continue
        text = text_of(place, row, options.column(name))
        if options.longest is not None and len(text) > options.longest:
            text, cuts = cut_text(text, options.longest, options.cut), cuts + 1
        fields[name] = text
    return fields, cuts


def cut_text(text: str, longest: int, cut: Cut) -> str:
    """The text without its end, start or middle, at most `longest` characters."""
    if len(text) <= longest:
        return text
    if cut == "end":
        return text[:longest].rstrip()
    if cut == "start":
        return text[-longest:].lstrip()
    kept = max(2, longest - len(_MARK))
    return text[: kept - kept // 2].rstrip() + _MARK + text[-(kept // 2) :].lstrip()


def aside_of(place: str, row: Mapping[str, Any], options: DataOptions) -> dict[str, str]:
    """The columns for the metric as texts: what is no text as JSON, what is not there empty."""
    found = {}
    for name in options.aside:
        value = cell(place, row, options.column(name))
        if value is None:
            found[name] = ""
        else:
            found[name] = whole(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
    return found
