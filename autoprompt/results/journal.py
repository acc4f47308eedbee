"""The journal of a run's events, read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autoprompt.errors import ResultsError

__all__ = ["read_journal", "spent"]


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a journal in their order; a torn last line is passed over.

    Raises ResultsError when the file is missing or a line before the last is not JSON.
    """
    try:
        opened = path.open(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        raise ResultsError(f"There is no journal {path}. Is this the folder of a run?") from None
    except OSError as error:
        raise ResultsError(f"The journal {path} cannot be read ({error.strerror}).") from None
    with opened as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                event = None
            if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                raise ResultsError(f"{path}, line {number} is not an event. Was the file edited?")
            yield event


def spent(journal: Iterable[Mapping[str, Any]]) -> float:
    """Seconds that all processes of a run's folder ran, from its events; no wall clock is asked.

    Each process begins with RunStarted, and ran until its last event, at least. Events of a journal
    from before they had `up` count nothing.
    """
    total = last = 0.0
    for event in journal:
        if event["event"] == "RunStarted":
            total, last = total + last, 0.0
        last = max(last, float(event.get("up", 0.0)))
    return round(total + last, 3)
