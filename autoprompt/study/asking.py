"""Which batch is next: asked whole by one branch, or taken up where it was left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from autoprompt.clock import Halt
from autoprompt.errors import AutopromptError, Halted, ResultsError
from autoprompt.events import BatchPlanned, Listener, Notice
from autoprompt.metrics import Metric
from autoprompt.prompt import Prompt
from autoprompt.samplers import next_branch
from autoprompt.study.branches import Branch, Found
from autoprompt.study.counts import evaluations, tokens
from autoprompt.study.history import History
from autoprompt.study.options import StudyOptions
from autoprompt.study.records import Asked
from autoprompt.study.trials import Trials

__all__ = ["Asking", "Plan"]


@dataclass(frozen=True)
class Plan:
    """What is asked for, and by whom. halt: why the search is to end now, or nothing."""

    baseline: Prompt
    branches: Mapping[str, Branch]
    options: StudyOptions
    metric: Metric
    seed: int
    listener: Listener
    halt: Halt


class Asking:
    """The batches of a study that one process works on, one after another."""

    def __init__(self, plan: Plan, trials: Trials) -> None:
        self.plan, self.trials = plan, trials
        self._history: History | None = None
        self._said = False

    def ask(self) -> list[FrozenTrial]:
        """All trials of the batch that is to be raced, some of which may be told; empty when all is done.

        Raises Halted when the search is to end.
        """
        while True:
            members = self._last_batch()
            batch = members[0].user_attrs["batch"] if members else -1
            if members and len(members) < self._whole(members):
                self.stop_if_told()
                self._ask_by(members[0].user_attrs["branch"], self.before(batch), members[0].user_attrs["size"])
            elif any(not t.state.is_finished() for t in members):
                self.stop_if_told()
                return members
            elif not self._ask_next(max([batch, *self.trials.empty()]) + 1):
                return []

    def before(self, batch: int) -> History:
        """What is known before a batch, which does not change while it is asked and raced."""
        if self._history is None or self._history.batch != batch:
            self._history = self._look_back(batch)
        return self._history

    def _look_back(self, batch: int) -> History:
        return History.before(batch, self.trials, self.plan.metric)

    def ended(self, batch: int) -> None:
        """A batch is told; here its trials say so."""

    def stop_if_told(self) -> None:
        if reason := self.plan.halt():
            raise Halted(reason)

    def _last_batch(self) -> list[FrozenTrial]:
        trials = self.trials.all()
        return self.trials.members(trials[-1].user_attrs["batch"]) if trials else []

    def _whole(self, members: Sequence[FrozenTrial]) -> int:
        """How many candidates a batch has when it is asked; fewer, where its branch could not make them again."""
        attrs = members[0].user_attrs
        return int(self.trials.short().get(attrs["batch"], attrs["size"]))

    def _ask_next(self, batch: int) -> bool:
        """Ask the batch of the next branch; whether there is anything left to do."""
        if batch == 0:
            self.stop_if_told()
            self.trials.add(Asked(self.plan.baseline, "baseline"), 0, 1)
            return True
        history = self.before(batch)
        size = min(self.plan.options.batch, self.plan.options.trials - len(history.ended))
        names = self._able(size)
        if not names or self.is_at_end(history.ended[-1].user_attrs["batch"]):
            return False
        self.stop_if_told()
        self._ask_by(self._turn_of(names, history), history, size)
        return True

    def _able(self, size: int) -> list[str]:
        """The branches that can make a batch of a size."""
        whole = size == self.plan.options.batch
        return [name for name, branch in self.plan.branches.items() if size > 0 and (whole or not branch.whole)]

    def is_at_end(self, last: int) -> bool:
        """Whether a search ends before its trials are done, which the listener is told. last: the last
        batch that has trials."""
        end = self._end(last)
        if end and not self._said:
            self._said = True
            ended = sum(trial.state.is_finished() for trial in self.trials.all())
            self.plan.listener(Notice(f"The search ends after {ended} trials: {end}"))
        return bool(end)

    def _end(self, last: int) -> str:
        options = self.plan.options
        if options.evaluations is not None and (spent := evaluations(self.trials)) >= options.evaluations:
            return f"{spent:,} evaluations are spent, and {options.evaluations:,} are allowed."
        if options.tokens is not None and (spent := tokens(self.trials)) >= options.tokens:
            return f"{spent:,} tokens are spent, and {options.tokens:,} are allowed."
        if self._is_barren(last):
            return f"none of the branches {', '.join(self.plan.branches)} finds anything new."
        return ""

    def _is_barren(self, last: int) -> bool:
        """Whether the branches have had turn after turn without anything new. last: as for `is_at_end`."""
        return len(self._fruitless(last)) > 4 * len(self.plan.branches)

    def _fruitless(self, last: int) -> list[int]:
        """The batches behind the last one with trials, none of which had any."""
        return [batch for batch in self.trials.empty() if batch > last]

    def _turn_of(self, names: Sequence[str], history: History) -> str:
        """The branch of a batch: the space itself until it is known a little, then whoever earns."""
        exhausted = any(turn.branch == "discrete" for _, turn in history.empty)
        if "discrete" in names and not exhausted and len(history.told) <= self.plan.options.startup:
            return "discrete"
        turns = [turn for turn in history.turns() if turn.branch in names]
        return next_branch(names, turns, history.mixed(self.plan.seed), self.plan.options.floor)

    def _ask_by(self, branch: str, history: History, size: int) -> None:
        """Let a branch make the batch behind `history`, and store what is not stored of it; an empty one is noted."""
        batch = history.batch
        start = len(self.trials.members(batch))
        found = self._found(branch, history, size)
        for slot, asked in enumerate(found.asked[start:], start):
            self.trials.add(asked, batch, len(found.asked), found.tokens, slot)
        if start and len(found.asked) < size:  # it had made more when an earlier process asked it
            self.trials.note(f"short:{batch}", max(start, len(found.asked)))
        elif not found.asked:
            self.trials.note(f"empty:{batch}", [branch, found.tokens])
        self.plan.listener(BatchPlanned(batch, branch, max(start, len(found.asked))))

    def _found(self, branch: str, history: History, size: int) -> Found:
        try:
            return self.plan.branches[branch].find(history, size, history.number)
        except ResultsError:
            raise  # the folder's fault and no branch's: with less the search would go another way
        except AutopromptError as error:  # such as a training that ran away: the others go on
            self.plan.listener(Notice(f"The branch {branch!r} of the search made nothing this time: {error}"))
            return Found()
