"""[data]: its keys, their values, and what they are when they are not given."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PlainSerializer, PlainValidator
from pydantic_core import PydanticCustomError

from autoprompt.config.section import STRICT, Count, Share, Text
from autoprompt.data import Cut, Frame, Target

__all__ = ["DataSection"]


def _source(value: Any) -> Any:
    if isinstance(value, str) and not value:
        raise PydanticCustomError("string_too_short", "Input should have at least 1 character", {"min_length": 1})
    if not isinstance(value, str | Frame):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    return value


def _told(value: Any) -> str | None:
    """A table in memory as one word: its content stands in the fingerprints of the splits."""
    return value if value is None or isinstance(value, str) else "table"


# a file or folder, hf:NAME of the hub, or from Python a DataFrame
Source = Annotated[str | Frame, PlainValidator(_source), PlainSerializer(_told)]


class DataSection(BaseModel):
    """[data]: the labelled examples and how they are split."""

    model_config = STRICT

    label: Text
    target: Target = "label"  # what the label is
    options: Text | None = None  # the column of each example's own options
    first_option: Literal[0, 1] = 0  # the index of the first
    fields: Annotated[list[Text], Field(min_length=1)] = ["text"]
    aside: list[Text] = []  # columns for the metric alone
    columns: dict[Text, Text] = {}  # of the file, for names that differ
    file: Source | None = None
    train: Source | None = None
    dev: Source | None = None
    test: Source | None = None
    split: Text | None = None
    shares: Annotated[list[Share], Field(min_length=3, max_length=3)] = [0.4, 0.3, 0.3]
    group: Text | None = None  # the column whose values are never parted
    folds: Annotated[int, Field(ge=3, le=1000)] | None = None
    fold: Count | None = None  # which of them is test; None: each, a run a fold
    longest: Annotated[int, Field(ge=16)] | None = None  # characters of a text
    cut: Cut = "end"  # where the rest is left away
    quarantine: Annotated[float, Field(ge=0, lt=1)] = 0.05  # of a split that may be left out, as it cannot be scored

    @property
    def inputs(self) -> list[str]:
        """What a template may show: the fields, and the options where the target is one."""
        more = self.target == "option" and self.options is not None and self.options not in self.fields
        return [*self.fields, str(self.options)] if more else self.fields
