"""Optuna's own samplers, by name, and the one that gives what was decided elsewhere.

Every random choice comes from (run seed, what it is for, its number), never from a generator that
lives through a run: so a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from autoprompt.soft import seed_of

__all__ = ["GivenSampler", "discrete_sampler"]


def discrete_sampler(seed: int, number: int, startup: int) -> TPESampler:
    """TPE for the discrete branch (Bergstra et al. 2011), seeded for trial `number` alone."""
    # group: the soft branch has other parameters, which must not empty the joint space of these
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed_of(seed, "tpe", number) % 2**32, n_startup_trials=startup, group=True)


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
