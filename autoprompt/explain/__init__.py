"""After the win: why it is one, how short and how sturdy it is, and what it is worth on other models.

`why` divides the gain among the winner's `parts` by Shapley values (`shapley`). `shortest` leaves out what is not
needed (`removals`). `robustness` disturbs prompts (`changes`, `paraphrase`) and inputs (`inputs`). `transfer`
takes prompts to other models. All score on dev or train; none has to do with the locked test.
"""

from autoprompt.explain.robustness import measure_robustness, robust_choice, worst_case
from autoprompt.explain.shortest import Shortest, shortest_equivalent
from autoprompt.explain.transfer import transfer
from autoprompt.explain.why import explain_gain

__all__ = [
    "Shortest",
    "explain_gain",
    "measure_robustness",
    "robust_choice",
    "shortest_equivalent",
    "transfer",
    "worst_case",
]
