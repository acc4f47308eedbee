"""A search by coordinates: CMA-ES over the numbers that move a soft prompt's vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["CoordinateSearch"]


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
        from cmaes import CMA  # brings scipy.stats, a tenth of what all other imports take

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
