"""What all stages of a run share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoprompt import events
from autoprompt.clock import Clock
from autoprompt.config import Config
from autoprompt.data import Example, Splits
from autoprompt.models import LanguageModel
from autoprompt.results import RunFolder
from autoprompt.scorer import Scorer
from autoprompt.space import Space

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """A run, as its stages see it.

    base: the folder that the config's paths start from. clock: when the run has to end. writer: the model that
    writes, where it is another than the task's.
    """

    folder: RunFolder
    config: Config
    base: Path
    splits: Splits
    scorer: Scorer
    tell: events.Listener
    clock: Clock
    space: Space
    writer: LanguageModel | None = None

    def open_test(self, reason: str) -> tuple[Example, ...]:
        """The examples of the locked test split; that it was opened is told and counted."""
        times = self.folder.openings() + 1
        return self.splits.test.open(reason, lambda why: self.tell(events.TestOpened(why, times)))
