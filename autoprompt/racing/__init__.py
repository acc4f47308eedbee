"""Which prompts deserve more examples, and which of them may be called the winner."""

from autoprompt.racing.bets import Bets
from autoprompt.racing.crown import Entrant, Standing, inflation, per_example, standings
from autoprompt.racing.order import in_class_turns
from autoprompt.racing.race import Fate, Lane, PairedRule, Race, Rivals, Rule, looks_at
from autoprompt.racing.rules import RULES, make_rule

__all__ = [
    "RULES",
    "Bets",
    "Entrant",
    "Fate",
    "Lane",
    "PairedRule",
    "Race",
    "Rivals",
    "Rule",
    "Standing",
    "in_class_turns",
    "inflation",
    "looks_at",
    "make_rule",
    "per_example",
    "standings",
]
