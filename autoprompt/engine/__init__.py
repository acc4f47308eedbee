"""Token requests in, label log-probabilities out: batching, prefix reuse, memory.

The engine knows neither prompts nor examples. `Engine` plans and batches; each family has one
file with its forward passes.
"""

from autoprompt.engine.engine import Engine, plain_log_probabilities
from autoprompt.engine.request import Request, Row

__all__ = ["Engine", "Request", "Row", "plain_log_probabilities"]
