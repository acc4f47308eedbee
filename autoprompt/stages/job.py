"""What all stages of a run share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from autoprompt import events
from autoprompt.clock import Clock
from autoprompt.config import Config
from autoprompt.data import Example, Splits
from autoprompt.energy import Meter
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt
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
    meter: Meter = field(default_factory=Meter)

    def open_test(self, reason: str, winner: Prompt) -> list[Example]:
        """The examples of the locked test split, without those on which the user's own prompt or the winner
        cannot be scored; that it was opened is told and counted.

        Raises StudyError when more than half of them cannot: they would say nothing.
        """
        times = self.folder.openings() + 1
        found = self.splits.test.open(reason, lambda why: self.tell(events.TestOpened(why, times)))
        return self._examined("test", found, [self.space.baseline, winner], 0.5)

    def cleaned(self) -> Job:
        """The job without those examples of train and dev that cannot be scored at all.

        Raises StudyError when they are too many.
        """
        train, dev = self.splits.train, self.splits.dev
        own, most = [self.space.baseline], self.config.data.quarantine
        kept = [*self._examined("train", train[:_EXAMINED], own, most), *train[_EXAMINED:]]
        splits = replace(self.splits, train=tuple(kept), dev=tuple(self._examined("dev", dev, own, most)))
        space = make_space(self.config, self.base, splits, self.scorer.model.chat is not None)
        return replace(self, splits=splits, space=space)

    def _examined(
        self, split: str, examples: Sequence[Example], prompts: Sequence[Prompt], most: float
    ) -> list[Example]:
        """Those of a split that prompts can be scored on. What was left out once stays out when the run goes on,
        on whatever machine: memory may be the reason."""
        stored = self.folder.stage(f"quarantine {split}")
        if stored is None:
            kept, left_out = list(examples), []
            for prompt in prompts:
                kept, more = examine(self.scorer, prompt, kept, split, most)
                left_out += more
            for one in left_out:
                self.tell(events.ExampleQuarantined(split, one.number, one.preview, one.reason))
            stored = [one.number for one in left_out]
            self.folder.finish_stage(f"quarantine {split}", stored)
        out = set(stored)
        return [example for example in examples if example.number not in out]
