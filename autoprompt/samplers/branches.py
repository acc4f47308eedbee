"""Which branch of the search gets the next batch: a bandit on what each has lately earned."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from autoprompt.errors import StudyError
from autoprompt.soft import seed_of

__all__ = ["Turn", "next_branch"]

_PATIENCE = 4  # rounds of all branches that one waits at most
_PRIOR = 0.1  # of the usual rate, with the weight of one turn: what is believed of a branch that earned nothing
_CHEAPEST = 0.1  # of the usual cost: a turn that took less counts as much


@dataclass(frozen=True)
class Turn:
    """A batch that a branch had.

    gain: what it earned, the improvement over the incumbent, 0 or more. cost: the tokens that it
    took, counted as if nothing were remembered.
    """

    branch: str
    gain: float
    cost: float


def next_branch(
    branches: Sequence[str], turns: Sequence[Turn], seed: int, floor: float = 0.2, decay: float = 0.9
) -> str:
    """The branch that gets the next batch, after all `turns` so far, the oldest first.

    Each branch has one turn first, in the given order. Then a branch is drawn in proportion to what
    it lately earned per token: sums of gains and costs in which a turn counts `decay` less with
    every later one, so that the draw follows a search that moves on (the discounting of Garivier &
    Moulines 2011). A share `floor` of the draws is spread evenly, and no branch waits for more than
    4 rounds, that is 4 * len(branches) turns of others.

    Cost is in tokens and not in seconds: how long a batch takes differs from run to run, and a run
    that was killed and resumed would become another one. The answer depends on the arguments alone.
    Raises StudyError when there is no branch.

    >>> next_branch(["discrete", "soft"], [Turn("discrete", 0.1, 5000.0)], seed=1)
    'soft'
    """
    if not branches:
        raise StudyError("There is no branch to give a turn to; a search needs at least one.")
    taken = [turn for turn in turns if turn.branch in branches]
    last = {turn.branch: at for at, turn in enumerate(taken)}
    for branch in branches:
        if branch not in last:
            return branch
    longest = sorted(branches, key=lambda branch: last[branch])
    waited = [len(taken) - 1 - last[branch] for branch in longest]
    # the one at place n of the queue may have to wait for n more turns
    if any(wait + place >= _PATIENCE * len(branches) for place, wait in enumerate(waited)):
        return longest[0]
    rates = _rates(branches, taken, decay)
    shares = [(1 - floor) * rate / sum(rates) + floor / len(branches) for rate in rates]
    return random.Random(seed_of(seed, "branch", len(turns))).choices(branches, shares)[0]


def _rates(branches: Sequence[str], turns: Sequence[Turn], decay: float) -> list[float]:
    """What each branch lately earned per token, shrunk toward a part of what all did; all 1, if nothing."""
    weights = [decay ** (len(turns) - 1 - at) for at in range(len(turns))]
    usual = math.fsum(w * t.cost for w, t in zip(weights, turns, strict=True)) / math.fsum(weights)
    gains, costs = dict.fromkeys(branches, 0.0), dict.fromkeys(branches, 0.0)
    for weight, turn in zip(weights, turns, strict=True):
        gains[turn.branch] += weight * max(turn.gain, 0.0)
        costs[turn.branch] += weight * max(turn.cost, _CHEAPEST * usual)
    earned, spent = sum(gains.values()), sum(costs.values())
    if earned <= 0 or spent <= 0:
        return [1.0] * len(branches)
    prior = _PRIOR * usual * earned / spent
    return [(gains[branch] + prior) / (costs[branch] + usual) for branch in branches]
