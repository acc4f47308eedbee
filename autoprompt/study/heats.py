"""One batch's race: scored in growing slices, read from the study as far as it is told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from optuna.trial import FrozenTrial

from autoprompt.clock import Halt
from autoprompt.data import Example
from autoprompt.errors import Halted, ResultsError
from autoprompt.evidence import bounded
from autoprompt.prompt import Prompt
from autoprompt.racing import Fate, Lane, PairedRule, Race, Rivals, Rule, make_rule
from autoprompt.scorer import Score, Scorer
from autoprompt.space import Space
from autoprompt.study.history import History
from autoprompt.study.options import StudyOptions
from autoprompt.study.records import by_batch
from autoprompt.study.trials import Trials

__all__ = ["Heats", "Runner"]

_SCALED_BY = 64  # training examples on which the baseline's margins are measured


@dataclass
class Runner:
    """A candidate on its way through a race."""

    trial: FrozenTrial
    lane: Lane | None = None
    score: Score | None = None
    reason: str = ""
    fate: Fate = "stays"
    looks: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    tokens: float = 0.0


class Heats:
    """The races of a search, batch after batch, on the same examples in the same order.

    halt: says after each look why the search is to end now, or nothing; then Halted is raised.
    """

    def __init__(
        self,
        space: Space,
        scorer: Scorer,
        examples: Sequence[Example],
        options: StudyOptions,
        trials: Trials,
        halt: Halt,
    ) -> None:
        self._baseline, self._pool = space.baseline, space.pool
        self._scorer, self._examples, self._trials = scorer, list(examples), trials
        self._several, self._options, self._halt = options.several, options, halt
        self._rule = self._fresh_rule()
        self._raced: list[int] = []  # batches that the rule has seen
        self._scale: float | None = None

    def run(self, batch: Sequence[FrozenTrial], history: History) -> list[Runner]:
        """Score a batch in growing slices, and drop who is certainly not the best; those not told yet.

        All its trials take part: what those got that are told already is read from the study.
        """
        self._follow_races(history)
        runners = [Runner(trial, reason=trial.user_attrs.get("reason", "")) for trial in batch]
        running = [runner for runner in runners if not runner.reason]
        race, looks = self._race_of(history, [runner.trial.number for runner in running])
        for total in looks:
            self._look(running, total)
            if reason := self._halt():
                raise Halted(reason)
            running = [runner for runner in running if not runner.reason]
            if not running:
                break
            fates = race.judge([runner.lane for runner in running if runner.lane is not None])
            for runner, fate in zip(running, fates, strict=True):
                runner.fate = "stays" if total == looks[-1] else fate  # who saw all examples is complete
            running = [runner for runner in running if runner.fate == "stays"]
        race.finish([runner.lane for runner in running if runner.lane is not None])
        self._raced += [history.batch] if history.batch else []
        return [runner for runner in runners if not runner.trial.state.is_finished()]

    def _race_of(self, history: History, numbers: Sequence[int]) -> tuple[Race, list[int]]:
        total = len(self._examples)
        if history.batch == 0:  # what all others are compared with sees all examples
            return make_rule("none", PairedRule(), total, True).race(numbers, Rivals()), [total]
        return self._rule.race(numbers, history.rivals(self._several)), self._rule.looks(total)

    def _fresh_rule(self) -> Rule:
        options = self._options
        paired = PairedRule(options.level, options.share, options.slice)
        return make_rule(options.pruner, paired, len(self._examples), self._scorer.metric.maximize)

    def _follow_races(self, history: History) -> None:
        """Run the races that others ran again, from what is stored, where a rule remembers them.

        It sees them in the order of their first trials. One that ended late, of another worker, has
        its place before others that the rule has seen: then it sees all again.
        """
        if not self._rule.remembers:
            return
        past = {number: running for number, running in by_batch(history.told).items() if number}
        if list(past)[: len(self._raced)] != self._raced:
            self._rule, self._raced = self._fresh_rule(), []
        for number in list(past)[len(self._raced) :]:
            running = past[number]
            race = self._rule.race([t.number for t in running], Rivals())
            for total in self._rule.looks(len(self._examples)):
                running = [t for t in running if t.user_attrs["score"]["examples"] >= total]
                if running:
                    race.judge([self._stored(t, total) for t in running])
            race.finish([self._trials.lane(t) for t in running])
        self._raced = list(past)

    def _look(self, runners: Sequence[Runner], total: int) -> None:
        """Bring each runner to `total` examples, those that are not stored in one grid.

        If the grid fails, each is scored by itself, so that one prompt's failure stays its own.
        """
        new = [runner for runner in runners if not runner.trial.state.is_finished()]
        examples = self._examples[:total]
        began, before = time.monotonic(), self._scorer.tokens
        with suppress(Exception):  # if the grid fails, the culprit is found below
            self._scorer.read([self._trials.prompt(r.trial) for r in new], examples)
        for runner in new:
            try:
                [runner.score] = self._scorer.score([self._trials.prompt(runner.trial)], examples)
                runner.lane = self._lane(runner.trial, runner.score)
                runner.looks[total] = runner.score.value
            except ResultsError:
                raise  # the folder's fault and no trial's
            except Exception as error:  # failure is data: it is recorded with its reason
                runner.reason = f"{type(error).__name__}: {error}"
        for runner in new:
            runner.seconds += (time.monotonic() - began) / len(new)
            runner.tokens += (self._scorer.tokens - before) / len(new)
        for runner in runners:
            if runner.trial.state.is_finished():
                runner.lane = self._stored(runner.trial, total)

    def _lane(self, trial: FrozenTrial, score: Score) -> Lane:
        values = self._scorer.metric.per_example(score.outcome)
        size = self._size_of(self._trials.prompt(trial)) if self._several else 0.0
        return Lane(trial.number, bounded(score.margins, self.scale), score.value, values, size)

    def _stored(self, trial: FrozenTrial, total: int) -> Lane:
        """The lane of a told trial as it was at a look."""
        lane = self._trials.lane(trial)
        values = None if lane.values is None else lane.values[:total]
        value = trial.user_attrs["score"]["looks"].get(str(total), lane.value)
        return Lane(lane.number, lane.evidence[:total], value, values, lane.size)

    @property
    def scale(self) -> float:
        """Half the size of the baseline's margins, measured once on training examples.

        With half of it most answers count nearly as right or wrong, and the closest the less: means
        of such evidence order prompts nearly as the metric does, with less noise.

        Not on those that the bets are laid on: their bounds must not depend on what they bet on.
        """
        if self._scale is None:
            known = self._trials.noted().get("scale")
            if known is None:
                examples = self._pool[:_SCALED_BY] or self._examples
                [score] = self._scorer.score([self._baseline], examples)
                known = max(1e-6, float(np.median(np.abs(score.margins))) / 2)
                self._trials.note("scale", known)
            self._scale = float(known)
        return self._scale

    def _size_of(self, prompt: Prompt) -> float:
        """Rendered tokens of an input, in the mean."""
        encodings = self._scorer.encode(prompt, [dict(example.fields) for example in self._examples[:_SCALED_BY]])
        return float(np.mean([len(encoding.context) for encoding in encodings]))
