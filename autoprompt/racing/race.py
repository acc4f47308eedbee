"""A race: candidates on the same examples in the same order, in growing slices.

After each slice those go that are certainly not the best. What is compared is the bounded margin,
which says more of a prompt than whether an answer was right; who wins is decided by the metric,
among those that saw all examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autoprompt.racing.bets import Bets

__all__ = ["Lane", "PairedRace", "PairedRule", "Race", "Rivals", "Rule", "looks_at"]

Floats = NDArray[np.float64]
_GROWTH = 1.5


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
    """Candidates of earlier races that saw all examples, and how much of their lead is luck.

    inflation: by how much the mean evidence of the best of them is too high because it is the best
    of many; it is taken off before anyone is compared with it.
    """

    lanes: tuple[Lane, ...] = ()
    inflation: float = 0.0


class Race(Protocol):
    """One batch on its way."""

    def keep(self, lanes: Sequence[Lane]) -> list[bool]:
        """Which of those still in the race stay in it, after a look at the same n examples of each."""

    def finish(self, lanes: Sequence[Lane]) -> None:
        """The race is over; these saw all examples."""


class Rule(Protocol):
    """How a race is run."""

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
    """Anytime-valid paired racing. level: the chance, over a whole race, that its best candidate is
    dropped. first: examples of the first slice."""

    level: float = 0.05
    first: int = 16

    def looks(self, total: int) -> list[int]:
        return looks_at(total, self.first)

    def race(self, numbers: Sequence[int], rivals: Rivals) -> PairedRace:
        return PairedRace(self.level, rivals)


class PairedRace:
    """Each candidate against the leader of the moment, example by example.

    Each candidate has one account, on which the next slice's differences to the leader are bet. The
    leader is the candidate with the best mean so far, or the best rival of earlier races; it is
    fixed before the slice that it is compared on, so the account stays a test by betting whoever
    leads: whatever the number of looks and of candidates, the truly best one, which no leader beats
    in truth, is dropped with probability at most `level`.
    """

    def __init__(self, level: float, rivals: Rivals) -> None:
        self._needed = math.log(1 / level)
        self._rivals = rivals
        self._accounts: dict[int, Bets] = {}
        self._leaders: dict[int, int | None] = {}  # a candidate's number -> its leader's; None: the best rival
        self._seen = 0

    def keep(self, lanes: Sequence[Lane]) -> list[bool]:
        by_number = {lane.number: lane for lane in lanes}
        new = slice(self._seen, len(lanes[0].evidence))
        stay = []
        for lane in lanes:
            account = self._accounts.setdefault(lane.number, Bets())
            leader = self._leader_of(lane, by_number)
            if leader is not None:
                account.add(lane.evidence[new] - leader[new])
            stay.append(account.log_wealth < self._needed)
        self._seen = new.stop
        self._leaders = self._chosen([lane for lane, kept in zip(lanes, stay, strict=True) if kept])
        return stay

    def finish(self, lanes: Sequence[Lane]) -> None:
        """Nothing is carried over: the next race's rivals are given to it."""

    def _leader_of(self, lane: Lane, lanes: Mapping[int, Lane]) -> Floats | None:
        leader = self._leaders.get(lane.number)
        return self._rival_of(lane) if leader is None else lanes[leader].evidence

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
