"""What all stages of a run share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoprompt import events
from autoprompt.clock import Clock
from autoprompt.config import Config
from autoprompt.data import Example, Splits
from autoprompt.models import LanguageModel
from autoprompt.quarantine import examine
from autoprompt.results import RunFolder
from autoprompt.scorer import Scorer
from autoprompt.setting import make_space
from autoprompt.space import Space

__all__ = ["Job"]

_EXAMINED = 2000  # training examples that are scored before the search


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

    def open_test(self, reason: str) -> list[Example]:
        """The examples of the locked test split, without those that cannot be scored at all; that it was
        opened is told and counted."""
        times = self.folder.openings() + 1
        found = self.splits.test.open(reason, lambda why: self.tell(events.TestOpened(why, times)))
        return self.examined("test", found, told=times > 1)

    def cleaned(self) -> Job:
        """The job without those examples of train and dev that cannot be scored at all.

        Raises StudyError when they are too many.
        """
        train, dev = self.splits.train, self.splits.dev
        kept = (*self.examined("train", train[:_EXAMINED]), *train[_EXAMINED:]), tuple(self.examined("dev", dev))
        splits = replace(self.splits, train=kept[0], dev=kept[1])
        return replace(self, splits=splits, space=make_space(self.config, splits))

    def examined(self, split: str, examples: Sequence[Example], told: bool = False) -> list[Example]:
        """Those of a split that the user's own prompt can be scored on; the others are told of, unless they were.

        Raises StudyError when they are too many.
        """
        kept, left_out = examine(self.scorer, self.space.baseline, examples, split, self.config.data.quarantine)
        for one in left_out if not told else ():
            self.tell(events.ExampleQuarantined(split, one.number, one.preview, one.reason))
        return kept
