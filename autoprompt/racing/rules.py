"""The rules of a race by name: ours, and Optuna's pruners."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.study import StudyDirection
from optuna.trial import TrialState

from autoprompt.errors import StudyError, nearest
from autoprompt.racing.race import Fate, Lane, PairedRule, Race, Rivals, Rule, looks_at

__all__ = ["RULES", "make_rule"]

RULES = ("racing", "successive_halving", "hyperband", "wilcoxon", "none")


def make_rule(name: str, paired: PairedRule, total: int, maximize: bool) -> Rule:
    """The rule of a name. paired: ours, whose first slice the others have too. total: of all examples.

    Raises StudyError for an unknown name.
    """
    first = paired.first
    if name == "racing":
        return paired
    if name == "none":
        return _EveryExample()
    pruners: dict[str, Callable[[], BasePruner]] = {
        "successive_halving": lambda: SuccessiveHalvingPruner(min_resource=first, reduction_factor=2),
        "hyperband": lambda: HyperbandPruner(min_resource=first, max_resource=max(first, total), reduction_factor=2),
        "wilcoxon": WilcoxonPruner,
    }
    if name not in pruners:
        raise StudyError(f"The pruner is {name!r}; allowed are {', '.join(RULES)}.{nearest(name, RULES)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _OptunasRule(pruners[name](), name == "wilcoxon", first, maximize)


class _EveryExample:
    """All candidates see all examples."""

    remembers = False

    def looks(self, total: int) -> list[int]:
        return [total]

    def race(self, numbers: Sequence[int], rivals: Rivals) -> Race:
        return _NoRace()


class _NoRace:
    def judge(self, lanes: Sequence[Lane]) -> list[Fate]:
        return ["stays"] * len(lanes)

    def finish(self, lanes: Sequence[Lane]) -> None:
        return None


class _OptunasRule:
    """One of Optuna's pruners, asked after each slice.

    It works on a study of its own in memory: pruners keep notes in the trials and compare with all
    that came before, so the races of a resumed search are run again, from what is stored of them,
    in their order. step: the number of examples, or, for a pruner that pairs examples, each example.
    """

    remembers = True

    def __init__(self, pruner: BasePruner, every_example: bool, first: int, maximize: bool) -> None:
        direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
        self._study = optuna.create_study(direction=direction, pruner=pruner, study_name="autoprompt")
        self._every_example, self._first = every_example, first

    def looks(self, total: int) -> list[int]:
        return looks_at(total, self._first)

    def race(self, numbers: Sequence[int], rivals: Rivals) -> Race:
        return _OptunasRace(self._study, numbers, self._every_example)


class _OptunasRace:
    def __init__(self, study: optuna.Study, numbers: Sequence[int], every_example: bool) -> None:
        self._study, self._every_example = study, every_example
        self._trials = {number: study.ask() for number in numbers}
        self._seen = 0

    def judge(self, lanes: Sequence[Lane]) -> list[Fate]:
        fates = [self._fate(lane) for lane in lanes]
        self._seen = len(lanes[0].evidence)
        return fates

    def _fate(self, lane: Lane) -> Fate:
        trial = self._trials[lane.number]
        if self._every_example and lane.values is not None:
            for step in range(self._seen, len(lane.values)):
                trial.report(float(lane.values[step]), step)
        else:
            trial.report(lane.value, len(lane.evidence))
        return "behind" if trial.should_prune() else "stays"

    def finish(self, lanes: Sequence[Lane]) -> None:
        values = {lane.number: lane.value for lane in lanes}
        for number, trial in self._trials.items():
            value = values.get(number)
            if value is None or not math.isfinite(value):
                self._study.tell(trial, state=TrialState.PRUNED)
            else:
                self._study.tell(trial, value)
