"""Optuna's own samplers, by name, and the one that gives what was decided elsewhere.

Every random choice comes from (run seed, what it is for, its number), never from a generator that
lives through a run: so a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from autoprompt.errors import PromptError, StudyError, nearest
from autoprompt.soft import seed_of
from autoprompt.space import Space

__all__ = ["SAMPLERS", "GivenSampler", "ask_parameters", "named_sampler"]

SAMPLERS = ("surrogate", "tpe", "gp", "cmaes", "nsgaii", "random")  # the first is no sampler of Optuna
_WHOLE = ("gp", "cmaes", "nsgaii")  # those that need every parameter in every trial


def named_sampler(name: str, seed: int, number: int, startup: int) -> BaseSampler:
    """One of Optuna's samplers, seeded for trial `number` alone; random in the first `startup` trials.

    "tpe" (Bergstra et al. 2011), "gp" (a Gaussian process over numbers and categories), "cmaes"
    (CMA-ES with margin for integers, Hamano et al. 2022; to be asked for integers only), "nsgaii"
    (Deb et al. 2002; its first generation is the start) and "random". All but "cmaes" take several
    objectives. Trials of other branches, without these parameters, are not seen by "gp", "cmaes" and
    "nsgaii", and a pruned trial counts with the last value that it reported.

    Raises StudyError when there is no such sampler.
    """
    own = seed_of(seed, name, number) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        makers: dict[str, Callable[[], BaseSampler]] = {
            # group: the soft branch has other parameters, which must not empty the joint space of these
            "tpe": lambda: TPESampler(seed=own, n_startup_trials=startup, multivariate=True, group=True),
            "gp": lambda: _Seeing(GPSampler(seed=own, n_startup_trials=startup, warn_independent_sampling=False)),
            "cmaes": lambda: _Seeing(
                CmaEsSampler(seed=own, n_startup_trials=startup, with_margin=True, warn_independent_sampling=False)
            ),
            "nsgaii": lambda: _Seeing(NSGAIISampler(seed=own, population_size=max(2, startup))),
            "random": lambda: RandomSampler(seed=own),
        }
        if name not in makers:
            raise StudyError(f"The sampler is {name!r}; Optuna's are {', '.join(makers)}.{nearest(name, makers)}")
        return makers[name]()


def ask_parameters(study: Study, space: Space, name: str, seed: int, number: int, startup: int) -> Trial:
    """Ask a study for the parameters of trial `number`, by a sampler of Optuna's.

    The trial's `params` are for `space.discrete(Stored(params))`; some may be more than the prompt
    needs, or say two labels with the same word, which then raises PromptError. What is asked without
    this function, for other branches, gets no parameters.
    """
    study.sampler = named_sampler(name, seed, number, startup)
    try:
        trial = study.ask()
        if name in _WHOLE:
            integers = _Integers(trial) if name == "cmaes" else trial
            for parameter, count in space.choices.items():
                if parameter == "demonstrations":
                    integers.suggest_int(parameter, 0, count - 1)
                else:
                    integers.suggest_categorical(parameter, list(range(count)))
        else:
            _ask(space, trial)
        return trial
    finally:
        study.sampler = GivenSampler({})


def _ask(space: Space, trial: Trial) -> None:
    """Ask for the parameters that the prompt needs, all of them even if it turns out to be none."""
    try:
        space.discrete(trial)
    except PromptError:
        return  # whoever makes the prompt of these parameters will see


@dataclass(frozen=True)
class _Integers:
    """Asks for the number of a category as an integer: CMA-ES knows no categories."""

    trial: Trial

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return self.trial.suggest_int(name, low, high)

    def suggest_categorical(self, name: str, choices: Sequence[int]) -> int:
        return choices[self.trial.suggest_int(name, 0, len(choices) - 1)]


class _View(Study):
    """A study as it would be without other branches' trials, its pruned trials finished."""

    def __init__(self, study: Study) -> None:
        super().__init__(study.study_name, study._storage, GivenSampler({}), study.pruner)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        found = self._storage.get_all_trials(self._study_id, deepcopy=deepcopy)
        seen = [_finished(trial) if trial.state == TrialState.PRUNED else trial for trial in found]
        return [t for t in seen if (states is None or t.state in states) and not _foreign(t)]


def _foreign(trial: FrozenTrial) -> bool:
    """Whether a finished trial has none of the space's parameters."""
    own = [name for name in trial.distributions if not name.startswith("soft.")]
    return trial.state.is_finished() and not own


def _finished(trial: FrozenTrial) -> FrozenTrial:
    """A pruned trial as one that is complete with the last value that it reported, if it did."""
    value = trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else math.nan
    if math.isnan(value):
        return trial
    complete = copy.copy(trial)
    complete.state, complete.values = TrialState.COMPLETE, [value]
    return complete


class _Seeing(BaseSampler):
    """Shows a sampler the trials that it can learn from, those of this space."""

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler
        self._least = 2 if isinstance(sampler, CmaEsSampler) else 1  # CMA-ES has no covariance of one number

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        found = self._sampler.infer_relative_search_space(_View(study), trial)
        return found if len(found) >= self._least else {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(_View(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler.after_trial(study, trial, state, values)


class GivenSampler(BaseSampler):
    """Gives a trial the parameters that were decided elsewhere."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._values[param_name]
