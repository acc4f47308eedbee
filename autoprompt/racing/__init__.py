"""Which prompts deserve more examples, and which of them may be called the winner."""

from autoprompt.racing.bets import Bets, bounded
from autoprompt.racing.crown import Entrant, Standing, inflation, per_example, standings
from autoprompt.racing.race import Lane, Race, Rivals, Rule, looks_at
from autoprompt.racing.rules import RULES, make_rule

__all__ = [
    "RULES",
    "Bets",
    "Entrant",
    "Lane",
    "Race",
    "Rivals",
    "Rule",
    "Standing",
    "bounded",
    "inflation",
    "looks_at",
    "make_rule",
    "per_example",
    "standings",
]
