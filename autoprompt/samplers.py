"""Optuna samplers made for this space.

Every random choice comes from (run seed, what it is for, its number), never from a generator that
lives through a run: so a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from cmaes import CMA
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from autoprompt.soft import seed_of

__all__ = ["CoordinateSearch", "GivenSampler", "discrete_sampler"]


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


class CoordinateSearch:
    """CMA-ES (Hansen 2016) over the coordinates of a soft prompt.

    It holds no state between generations: `candidates` replays the losses told so far, which takes
    milliseconds and gives the same points after a restart.

    >>> search = CoordinateSearch(dimensions=2, population=4, deviation=0.5, seed=1)
    >>> first = search.candidates([])
    >>> second = search.candidates([[float(z @ z) for z in first]])
    >>> len(second)
    4
    """

    def __init__(self, dimensions: int, population: int, deviation: float, seed: int) -> None:
        self.dimensions, self.population, self.deviation, self.seed = dimensions, population, deviation, seed

    def candidates(self, told: Sequence[Sequence[float | None]]) -> list[NDArray[np.float64]]:
        """The next generation: `population` points (d,), after the losses of all earlier ones.

        A loss of None, of a trial that failed, counts as the worst of its generation.
        """
        strategy = CMA(
            mean=np.zeros(self.dimensions),
            sigma=self.deviation,
            seed=self.seed % 2**32,
            population_size=self.population,
        )
        for losses in told:
            points = [strategy.ask() for _ in range(self.population)]
            known = [loss for loss in losses if loss is not None]
            worst = max(known, default=0.0)
            strategy.tell([(p, worst if v is None else v) for p, v in zip(points, losses, strict=True)])
        return [strategy.ask() for _ in range(self.population)]
