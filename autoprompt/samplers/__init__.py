"""Optuna samplers made for this space, and which branch of the search gets the next batch."""

from autoprompt.samplers.coordinates import CoordinateSearch
from autoprompt.samplers.optunas import GivenSampler, discrete_sampler

__all__ = ["CoordinateSearch", "GivenSampler", "discrete_sampler"]
