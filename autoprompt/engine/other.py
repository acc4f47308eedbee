"""Engines of another make behind the same door: found by name, checked against the plain path, then trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from autoprompt.engine.request import Request
from autoprompt.errors import ModelError, nearest
from autoprompt.models import LanguageModel

__all__ = ["GROUP", "TOLERANCE", "Checked", "OtherEngine", "load_engine"]

GROUP = "autoprompt.engines"
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.25}  # of a log-probability
_CHECKED = 4  # requests of the first call

Plain = Callable[[Sequence[Request]], list[NDArray[np.float64]]]


class OtherEngine(Protocol):
    """What a package publishes under the entry point group `autoprompt.engines`, made by a function of
    the loaded model: log P(choice | context), natural, summed over the choice's tokens, one sequence
    of numbers a request, in the order of its choices."""

    def score(self, requests: Sequence[Request]) -> Sequence[Sequence[float]]: ...


def load_engine(name: str, model: LanguageModel) -> Checked:
    """The engine of that name, made for the model. Raises ModelError when there is none, or it fails."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise ModelError(
            f"There is no engine {name!r}; installed are {', '.join(['own', *sorted(found)])}."
            f"{nearest(name, ['own', *found])} A package publishes one as an entry point in the group {GROUP}."
        )
    try:
        made: OtherEngine = found[name].load()(model)
    except Exception as error:  # another make may raise anything
        raise ModelError(f"The engine {name!r} cannot run {model.name!r} ({type(error).__name__}: {error}).") from error
    return Checked(name, made, model)


class Checked:
    """An engine whose answers are looked at: their shape always, their values at the first call."""

    def __init__(self, name: str, engine: OtherEngine, model: LanguageModel) -> None:
        self.name, self.engine, self.model = name, engine, model
        self.compared = False

    def score(self, requests: Sequence[Request], plain: Plain | None = None) -> list[NDArray[np.float64]]:
        """The other engine's scores; `plain` gives ours, for the comparison.

        Raises ModelError when the engine fails, answers in another shape, or differs by more than
        TOLERANCE of the model's dtype.
        """
        try:
            found = [np.asarray(row, dtype=np.float64) for row in self.engine.score(requests)]
        except Exception as error:  # another make may raise anything
            raise ModelError(f"The engine {self.name!r} failed ({type(error).__name__}: {error}).") from error
        shapes = [(len(request.choices),) for request in requests]
        if [row.shape for row in found] != shapes:
            raise ModelError(
                f"The engine {self.name!r} answered {len(requests)} requests with scores of another shape; "
                "it must give one number for each choice of each request."
            )
        if plain is not None and requests and not self.compared:
            sample = requests[:_CHECKED]
            apart = max(float(np.abs(a - b).max()) for a, b in zip(found, plain(sample), strict=False))
            allowed = TOLERANCE[self.model.dtype]
            if not apart <= allowed:
                raise ModelError(
                    f"The engine {self.name!r} differs from the plain path by {apart:.2g} in a log-probability; "
                    f"allowed are {allowed:g} in {str(self.model.dtype).removeprefix('torch.')}. "
                    'Use [model] engine = "own".'
                )
            self.compared = True
        return found
