"""What a search knows at the beginning of a batch: a function of what had ended when it was asked.

So what a branch makes of it, and how the batch is raced, come out the same when a killed search is
resumed in the middle of a batch, and when another worker races it again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from autoprompt.evidence import levelled
from autoprompt.metrics import Metric
from autoprompt.propose import Known
from autoprompt.racing import Rivals, inflation
from autoprompt.samplers import Observation, Turn
from autoprompt.study.board import Ticket
from autoprompt.study.records import by_batch
from autoprompt.study.trials import Trials

__all__ = ["History"]

_APART = 1_000_000  # numbers of one worker's choices, before those of the next
_GROUP = 64  # rivals that say how much of the best one's lead is luck, and the field of a race


@dataclass(frozen=True)
class History:
    """The trials of the batches that had ended before `batch` was asked.

    empty: batches for which a branch had nothing to propose. taken: fingerprints of prompts that other
    workers are on, or have told since. worker: whose batch it is. alone: no other worker has had one.
    """

    trials: Trials
    ended: tuple[FrozenTrial, ...]
    empty: tuple[tuple[int, Turn], ...]
    batch: int
    metric: Metric
    taken: frozenset[str] = frozenset()
    worker: int = 0
    alone: bool = True

    @classmethod
    def before(cls, batch: int, trials: Trials, metric: Metric) -> History:
        """What is known before batch number `batch`; all earlier batches have ended."""
        ended = tuple(trial for trial in trials.all() if trial.user_attrs["batch"] < batch)
        return cls(trials, ended, _turns(trials, batch), batch, metric)

    @classmethod
    def seen(cls, ticket: Ticket, trials: Trials, metric: Metric, alone: bool) -> History:
        """What was known to the worker that asked a batch. alone: no other worker has had one until now."""
        hidden = {*ticket.open, ticket.batch}
        ended = tuple(t for t in trials.all()[: ticket.upto] if t.user_attrs["batch"] not in hidden)
        known = {trial.number for trial in ended}
        taken = frozenset(
            trial.user_attrs.get("fingerprint", "")
            for trial in trials.all()
            if trial.number not in known and trial.user_attrs["batch"] != ticket.batch
        )
        # empty batches change nothing that a batch which was asked depends on
        empty = _turns(trials, ticket.batch if alone else None)
        return cls(trials, ended, empty, ticket.batch, metric, taken, ticket.worker, alone)

    @classmethod
    def whole(cls, trials: Trials, metric: Metric) -> History:
        """All that is told, also of batches that were left in the middle."""
        ended = tuple(trial for trial in trials.all() if trial.state.is_finished())
        batch = 1 + max((trial.user_attrs["batch"] for trial in ended), default=-1)
        return cls(trials, ended, _turns(trials, None), batch, metric)

    @property
    def number(self) -> int:
        """What the random choices of the batch come from: its first trial's number, and the worker's."""
        return len(self.ended) if self.alone else self._upto + self.worker * _APART

    @property
    def _upto(self) -> int:
        return 1 + self.ended[-1].number

    def mixed(self, number: int) -> int:
        """A number of something that no other worker has."""
        return number + self.worker * _APART

    @cached_property
    def told(self) -> list[FrozenTrial]:
        """Those that have a score."""
        return [t for t in self.ended if t.state != TrialState.FAIL]

    @cached_property
    def complete(self) -> list[FrozenTrial]:
        """Those that were scored on all examples."""
        return [t for t in self.told if t.state == TrialState.COMPLETE]

    @cached_property
    def known(self) -> list[Known]:
        """All candidates for proposers, each prompt once: the complete ones by the metric, then the dropped."""
        briefs = [self.trials.brief(trial) for trial in self.told]
        values = np.array([brief.value for brief in briefs]) * (-1 if self.metric.maximize else 1)
        dropped = np.array([not brief.complete for brief in briefs])
        gains = np.array([gain for gain, _ in self._levelled(self.told)])
        order = np.lexsort((-gains, np.where(dropped, 0.0, values), dropped))  # ties by number
        numbers, gained = [trial.number for trial in self.told], gains.tolist()
        found: dict[str, Known] = {}
        for at in order.tolist():
            prompt, fingerprint, value, examples, _ = briefs[at]
            if fingerprint not in found:
                found[fingerprint] = Known(numbers[at], prompt, value, gained[at], examples)
        return list(found.values())

    def observations(self, first: int | None = None) -> list[Observation]:
        """What the surrogate learns from: the prompts without vectors.

        first: only so many of them, as they were when there were no more.
        """
        texts = [trial for trial in self.told if trial.user_attrs["kind"] != "soft"][:first]
        levels = self._levelled(texts)
        return [Observation(self.trials.prompt(t), *level) for t, level in zip(texts, levels, strict=True)]

    def _levelled(self, trials: Sequence[FrozenTrial]) -> list[tuple[float, float]]:
        """The mean advantage over the baseline on all examples, estimated, and its variance."""
        rows = [self.trials.lane(trial).evidence for trial in trials]
        means, variances = levelled(rows, max(map(len, rows)))
        own = means[next(at for at, trial in enumerate(trials) if trial.number == 0)]
        return list(zip((means - own).tolist(), variances.tolist(), strict=True))

    def rivals(self, several: bool) -> Rivals:
        """Whom the batch races against: the best by evidence; all, where size is an objective too."""
        lanes = [self.trials.lane(trial) for trial in self.complete]
        ranked = sorted(lanes, key=lambda lane: (-float(lane.evidence.mean()), lane.number))
        luck = inflation([lane.evidence for lane in ranked[:_GROUP]])
        field = tuple(self.trials.lane(trial) for trial in self.told[-_GROUP:])
        return Rivals(tuple(ranked if several else ranked[:1]), luck, field)

    def turns(self) -> list[Turn]:
        """What each batch after the baseline's earned over the best before it, in the metric and in evidence."""
        sign = 1 if self.metric.maximize else -1
        found, best = list(self.empty), (-math.inf, -math.inf)
        for number, members in by_batch(self.ended).items():
            scores = [
                (t.user_attrs["score"], t.state == TrialState.COMPLETE) for t in members if "score" in t.user_attrs
            ]
            value = max([sign * score["value"] for score, whole in scores if whole], default=best[0])
            gain = max([score["gain"] for score, whole in scores if whole], default=best[1])
            if number:
                earned = max(0.0, value - best[0]) + max(0.0, gain - best[1])
                cost = members[0].user_attrs["tokens"] + sum(score["work"] for score, _ in scores)
                found.append((number, Turn(members[0].user_attrs["branch"], earned, cost)))
            best = max(value, best[0]), max(gain, best[1])
        return [turn for _, turn in sorted(found, key=lambda pair: pair[0])]

    def of_branch(self, branch: str) -> list[FrozenTrial]:
        """The trials of a branch, by number, failed ones included."""
        return [trial for trial in self.ended if trial.user_attrs["branch"] == branch]

    def own(self, branch: str) -> list[FrozenTrial]:
        """Those of them that this worker asked."""
        return [trial for trial in self.of_branch(branch) if trial.user_attrs.get("worker", 0) == self.worker]


def _turns(trials: Trials, before: int | None) -> tuple[tuple[int, Turn], ...]:
    """The turns that came to nothing."""
    empty = trials.empty().items()
    return tuple((at, Turn(branch, 0.0, cost)) for at, (branch, cost) in empty if before is None or at < before)
