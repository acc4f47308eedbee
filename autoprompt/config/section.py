"""What all sections of a space file have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

__all__ = ["STRICT", "Count", "Share", "Text"]

Text = Annotated[str, StringConstraints(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)  # unknown keys and values of another type are refused
