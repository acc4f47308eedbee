"""A race: candidates on the same examples in the same order, in growing slices.

After each slice those go that are certainly worse than another one, and those that are too far behind
for the evaluations that a race may spend. What is compared is the bounded margin, which says more of
a prompt than whether an answer was right; who wins is decided by the metric, among those that saw all
examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from autoprompt.racing.bets import Bets

__all__ = ["Fate", "Lane", "PairedRace", "PairedRule", "Race", "Rivals", "Rule", "looks_at"]

Floats = NDArray[np.float64]
Fate = Literal["stays", "worse", "behind"]
_GROWTH = 2.0
_FIELD = 64  # candidates before this race that a place is counted among


@dataclass(frozen=True)
class Lane:
    """What a candidate got on the first n examples.

    evidence (n,): bounded margins. value: the metric over them. values (n,): the metric of each,
    where it has one an example. size: what the prompt costs (rendered tokens), where that is an
    objective beside the score: then only prompts that are not larger may drop it.
    """

    number: int
    evidence: Floats
    value: float
    values: Floats | None = None
    size: float = 0.0


@dataclass(frozen=True)
class Rivals:
    """Candidates of earlier races. lanes: those that saw all examples, to be compared with.

    inflation: by how much the mean evidence of the best of them is too high because it is the best
    of many; it is taken off before anyone is compared with it. field: all of the latest, as far as
    each was scored.
    """

    lanes: tuple[Lane, ...] = ()
    inflation: float = 0.0
    field: tuple[Lane, ...] = ()


class Race(Protocol):
    """One batch on its way."""

    def judge(self, lanes: Sequence[Lane]) -> list[Fate]:
        """What becomes of each that is still in the race, after a look at the same n examples of each."""

    def finish(self, lanes: Sequence[Lane]) -> None:
        """The race is over; these saw all examples."""


class Rule(Protocol):
    """How a race is run. remembers: it compares with earlier races that it saw itself."""

    @property
    def remembers(self) -> bool: ...

    def looks(self, total: int) -> list[int]:
        """After how many examples the race looks; the last is `total`."""

    def race(self, numbers: Sequence[int], rivals: Rivals) -> Race:
        """A new race of these candidates."""


def looks_at(total: int, first: int, growth: float = _GROWTH) -> list[int]:
    """Growing slices: `first` examples, then each time `growth` times as many, up to `total`."""
    found = [min(first, total)]
    while found[-1] < total:
        following = max(found[-1] + 1, math.ceil(found[-1] * growth))
        # a last slice of a few examples would cost a pass and tell nothing
        found.append(total if following * math.sqrt(growth) > total else following)
    return found


@dataclass(frozen=True)
class PairedRule:
    """Anytime-valid paired racing within a budget.

    level: the chance, over a whole race, that its truly best candidate is found worse. share: of the
    evaluations of scoring every candidate on every example, how many a search may take about; 1 drops
    none but those that are certainly worse. first: examples of the first slice.
    """

    level: float = 0.05
    share: float = 0.17
    first: int = 8

    @property
    def remembers(self) -> bool:
        return False

    def looks(self, total: int) -> list[int]:
        return looks_at(total, self.first)

    def race(self, numbers: Sequence[int], rivals: Rivals) -> PairedRace:
        return PairedRace(self, len(numbers), rivals)

    def kept(self, total: int) -> dict[int, float]:
        """After each look but the last, the share of candidates that go on.

        Every slice behind the first costs the same, as in successive halving (Jamieson & Talwalkar
        2016): the fewer go on, the longer their slice may be.
        """
        looks = self.looks(total)
        each = max(total * self.share - looks[0], looks[0] / 2) / max(1, len(looks) - 1)
        return {n: 1.0 if self.share >= 1 else min(1.0, each / (m - n)) for n, m in pairwise(looks)}


class PairedRace:
    """Each candidate against the leader of the moment, example by example, and within the field.

    Each candidate has one account, on which the next slice's differences to the leader are bet. The
    leader is the candidate with the best mean so far, or the best rival of earlier races; it is
    fixed before the slice that it is compared on, so the account stays a test by betting whoever
    leads: whatever the number of looks and of candidates, the truly best one, which no leader beats
    in truth, is found worse with probability at most `level`. Examples in which the classes take
    turns do not break this: over one turn of the classes, whose differences have the means m_c, the
    wealth grows by at most prod(1 - b m_c) <= (1 - b mean(m_c))^C <= 1.

    Behind is who has a worse place by mean evidence, among the latest candidates at the same look,
    than the budget lets go on (asynchronous successive halving, Li et al. 2020). That is no claim
    about which prompt is better.
    """

    def __init__(self, rule: PairedRule, entrants: int, rivals: Rivals) -> None:
        self._rule, self._rivals = rule, rivals
        self._field = rivals.field[-_FIELD:]
        self._size = entrants + len(self._field)
        self._accounts: dict[int, Bets] = {}
        self._leaders: dict[int, int | None] = {}  # a candidate's number -> its leader's; None: the best rival
        self._seen = 0
        self._total = len(rivals.lanes[0].evidence) if rivals.lanes else 0

    def judge(self, lanes: Sequence[Lane]) -> list[Fate]:
        by_number = {lane.number: lane for lane in lanes}
        new = slice(self._seen, len(lanes[0].evidence))
        behind = self._behind(lanes)
        fates: list[Fate] = []
        for lane in lanes:
            account = self._accounts.setdefault(lane.number, Bets())
            leader = self._leader_of(lane, by_number)
            if leader is not None:
                account.add(lane.evidence[new] - leader[new])
            worse = account.log_wealth >= math.log(1 / self._rule.level)
            fates.append("worse" if worse else "behind" if lane.number in behind else "stays")
        self._seen = new.stop
        self._leaders = self._chosen([lane for lane, fate in zip(lanes, fates, strict=True) if fate == "stays"])
        return fates

    def _behind(self, lanes: Sequence[Lane]) -> set[int]:
        """Those whose place is too low for the budget."""
        seen = len(lanes[0].evidence)
        share = self._rule.kept(self._total).get(seen, 1.0) if self._total else 1.0
        if share >= 1:
            return set()
        others = [lane for lane in self._field if len(lane.evidence) >= seen]
        # by number, so that whoever was asked first is before others with the same mean
        ranked = sorted([*others, *lanes], key=lambda lane: (-float(lane.evidence[:seen].mean()), lane.number))
        go_on, own = math.ceil(share * self._size), {lane.number for lane in lanes}
        behind = set()
        for place, lane in enumerate(ranked):
            if lane.number in own and place >= go_on:
                # where size is an objective too, only prompts that are not larger count
                behind |= {lane.number} if sum(o.size <= lane.size for o in ranked[:place]) >= go_on else set()
        return behind

    def finish(self, lanes: Sequence[Lane]) -> None:
        """Nothing is carried over: the next race's rivals are given to it."""

    def _leader_of(self, lane: Lane, lanes: Mapping[int, Lane]) -> Floats | None:
        leader = self._leaders.get(lane.number)
        # a leader that could not be scored any further has left the race
        return self._rival_of(lane) if leader is None or leader not in lanes else lanes[leader].evidence

    def _rival_of(self, lane: Lane) -> Floats | None:
        """The best of the rivals that are not larger than the candidate."""
        allowed = [rival for rival in self._rivals.lanes if rival.size <= lane.size]
        if not allowed:
            return None
        best = max(allowed, key=lambda rival: (float(rival.evidence.mean()), -rival.number))
        return best.evidence - self._rivals.inflation

    def _chosen(self, lanes: Sequence[Lane]) -> dict[int, int | None]:
        """The leader of each candidate in the slice to come."""
        ranked = sorted(lanes, key=lambda lane: (-float(lane.evidence.mean()), lane.number))
        found: dict[int, int | None] = {}
        for lane in lanes:
            best = next((other for other in ranked if other is not lane and other.size <= lane.size), None)
            rival = self._rival_of(lane)
            if best is not None and (rival is None or best.evidence.mean() > rival[: self._seen].mean()):
                found[lane.number] = best.number
            else:
                found[lane.number] = None
        return found
