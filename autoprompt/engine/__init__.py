"""Token requests in, label log-probabilities out: batching, prefix reuse, memory.

The engine knows neither prompts nor examples. `Engine` plans and batches; each family has one
file with its forward passes.
"""

from autoprompt.engine.engine import Engine, choice_log_probabilities, plain_log_probabilities, reads_trees
from autoprompt.engine.request import Request, Row

__all__ = ["Engine", "Request", "Row", "choice_log_probabilities", "plain_log_probabilities", "reads_trees"]
