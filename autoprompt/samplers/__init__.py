"""What chooses the next candidates of the space, and which branch of the search gets the next batch."""

from autoprompt.samplers.branches import Turn, next_branch
from autoprompt.samplers.coordinates import CoordinateSearch
from autoprompt.samplers.optunas import SAMPLERS, GivenSampler, ask_parameters, named_sampler
from autoprompt.samplers.surrogate import Observation, Surrogate

__all__ = [
    "SAMPLERS",
    "CoordinateSearch",
    "GivenSampler",
    "Observation",
    "Surrogate",
    "Turn",
    "ask_parameters",
    "named_sampler",
    "next_branch",
]
