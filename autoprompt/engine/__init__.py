"""Token requests in; label log-probabilities, texts or embeddings out: batching, prefix reuse, memory.

The engine knows neither prompts nor examples. `Engine` is the door; each family has one file with
its forward passes. Causal grids are planned in `tree`, walked in `walk`, read through `attention`.
"""

from autoprompt.engine.engine import Engine
from autoprompt.engine.memory import ScoreMemory
from autoprompt.engine.other import Checked, OtherEngine, load_engine
from autoprompt.engine.paths import choice_log_probabilities, plain_log_probabilities, reads_trees
from autoprompt.engine.request import Request, Row
from autoprompt.engine.written import Form, WritingRules, Written

__all__ = [
    "Checked",
    "Engine",
    "Form",
    "OtherEngine",
    "Request",
    "Row",
    "ScoreMemory",
    "WritingRules",
    "Written",
    "choice_log_probabilities",
    "load_engine",
    "plain_log_probabilities",
    "reads_trees",
]
