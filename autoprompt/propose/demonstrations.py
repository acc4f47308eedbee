"""Which examples to show, and in which order: chosen for the best prompt, in two grids of scores.

One reads pool examples under the best prompt: some are hard for it, some easy. The other shows sets of
demonstrations to held-out pool examples: sets drawn in a balanced design, whose worths are the sum of
what each demonstration adds (datamodels, Ilyas et al. 2022, section 2; for demonstrations Nguyen & Wong
2023), and sets made for a reason, whose worths are read directly.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.prompt import Prompt
from autoprompt.propose.base import Desk, Known, Proposal, Proposals, Proposer
from autoprompt.propose.checks import fresh, objection
from autoprompt.propose.reading import in_turns
from autoprompt.propose.selection import covering, in_class_turns, likeness, spread, typical
from autoprompt.scorer import Score
from autoprompt.soft import seed_of

__all__ = ["Demonstrations", "Design", "influences"]

Floats = NDArray[np.float64]
Set = tuple[Example, ...]
_LOOKED_AT = 400  # pool examples that are compared with each other
_READ = 96  # and of these, that the model reads
_SHORT = 0.75  # share of the pool, the shortest, that demonstrations are chosen from
_RIDGE = 0.5  # of the additive estimate, in units of one appearance


class Demonstrations(Proposer):
    """Sets of demonstrations for the best discrete prompt, from one example to as many as the space allows.

    candidates: examples whose influence is estimated. subsets: sets that this is estimated from.
    heldout: pool examples that sets are shown to, and which no set holds; fewer where dev is small. A prompt
    that retrieves its demonstrations gets fixed ones instead. Sets made in different ways take turns in the answer.
    """

    name: ClassVar[str] = "demonstrations"

    def __init__(self, desk: Desk, candidates: int = 24, subsets: int = 20, heldout: int = 16) -> None:
        super().__init__(desk)
        self.candidates, self.subsets, self.heldout = candidates, subsets, heldout

    @classmethod
    def covers(cls, desk: Desk) -> bool:
        """Not sentence encoders: one vector of all blocks says less of the input the more blocks there are."""
        return bool(desk.space.demonstrations.most and desk.pool) and desk.model.family != "encoder"

    def propose(self, known: Sequence[Known], count: int, seed: int) -> Proposals:
        """Up to `count` prompts that are the best one but for what they show; none from fewer than 3 examples."""
        parent = next((one for one in known if one.prompt.kind == "discrete"), None)
        if parent is None or count < 1:
            return Proposals()
        base = replace(parent.prompt, retrieval=None)
        shown = self._shown(base)
        heldout, choice = self._parted(shown, seed)
        most = self._most(base, choice)
        if not choice or not heldout or not most:
            return Proposals()
        read = choice[:_READ]
        made = _made(choice, self._margins(base, read), most, seed)
        made["order"] = _orders(shown or made["prototypes"][0], seed)
        design = Design.drawn(read[: self.candidates], min(most, len(read)), self.subsets, seed)
        measured = [*design.sets, *(found for sets in made.values() for found in sets)]
        prompts = [_showing(base, found) for found in measured]
        worths = self._worths(prompts, heldout)
        values = dict(zip(prompts, worths, strict=True))
        effects = influences(design, np.array(worths[: len(design.sets)]))
        made["drawn"] = list(design.sets)
        for sets in made.values():
            sets.sort(key=lambda found: values[_showing(base, found)], reverse=True)
        made |= _influential(design, effects, shown or made["drawn"][0], most, seed)
        work = functools.partial(self.desk.scorer.work, losses=True)
        tokens = work(base, read) + sum(work(prompt, heldout) for prompt in values)
        turns = _turns(made, seed)
        proposals = (Proposal(_showing(base, found), operator, (parent.number,)) for operator, found in turns)
        return Proposals(fresh(proposals, known, self.desk, count), tokens)

    def _margins(self, base: Prompt, examples: Sequence[Example]) -> Floats:
        """Of each example; where texts are written, the probability of the right one's tokens above 1/2."""
        if base.answer.kind == "text":
            [losses] = self.desk.scorer.losses([base], examples)
            return np.exp(-losses) - 0.5
        [score] = self.desk.scorer.score([base], examples)
        return score.margins

    def _worths(self, prompts: Sequence[Prompt], heldout: Sequence[Example]) -> list[float]:
        """Of each prompt, larger is better; where texts are written, the mean probability of the right ones' tokens."""
        if prompts[0].answer.kind == "text":
            return [float(np.exp(-losses).mean()) for losses in self.desk.scorer.losses(prompts, heldout)]
        return [_worth(score) for score in self.desk.scorer.score(prompts, heldout)]

    def _shown(self, base: Prompt) -> Set:
        """The pool examples that the prompt shows."""
        by_key = {(example.key, example.label): example for example in self.desk.pool}
        keys = [(tuple(sorted(shown.fields.items())), shown.label) for shown in base.demonstrations]
        return tuple(by_key[key] for key in keys if key in by_key)

    def _parted(self, shown: Set, seed: int) -> tuple[list[Example], list[Example]]:
        """Held-out examples, and others to choose from; none is shown already, and all are rather short."""
        keys = {example.key for example in shown}
        order = sorted(self.desk.pool, key=lambda example: (_length(example), example.number))
        short = [example for example in order[: math.ceil(_SHORT * len(order))] if example.key not in keys]
        most = self.desk.few(self.heldout)
        drawn = in_turns(short, most + _LOOKED_AT, seed_of(seed, "pool"))
        cut = min(most, len(drawn) // 3)
        return drawn[:cut], drawn[cut:]

    def _most(self, base: Prompt, choice: Sequence[Example]) -> int:
        """How many of the examples can be shown together, whichever they are."""
        longest = sorted(choice, key=_length, reverse=True)
        for number in range(min(self.desk.space.demonstrations.most, len(choice)), 0, -1):
            if objection(_showing(base, longest[:number]), self.desk) is None:
                return number
        return 0


def _length(example: Example) -> int:
    return sum(map(len, example.fields.values()))


def _showing(base: Prompt, found: Sequence[Example]) -> Prompt:
    shown = tuple(Demonstration(example.fields, example.label) for example in found)
    return replace(base, demonstrations=shown)


def _worth(score: Score) -> float:
    """The mean of P(right label) - max P(other label): in [-1, 1], above 0 for right answers; of answers that are
    no labels, the mean margin."""
    if score.outcome.answers is not None:
        return score.margin
    rows = np.arange(len(score.outcome.targets))
    others = np.array(score.outcome.probabilities, dtype=np.float64)
    gold = [score.outcome.labels.index(target) for target in score.outcome.targets]
    right = others[rows, gold].copy()
    others[rows, gold] = -np.inf
    return float((right - others.max(1)).mean())


# -- sets made for a reason ------------------------------------------------------------------


def _made(choice: Sequence[Example], margins: Floats, most: int, seed: int) -> dict[str, list[Set]]:
    """Sets by what they are chosen for; each by as many examples as are allowed, and by a smaller number."""
    generator = random.Random(f"{seed} made")
    sizes = sorted({most, generator.randint(1, most)}, reverse=True)
    alike = likeness(choice)
    labels = [example.label for example in choice]
    read = range(len(margins))
    ranked = {
        # those that the model is least sure of; far on the wrong side are those that the data may have wrong
        "hard": sorted(read, key=lambda at: abs(margins[at])),
        "easy": sorted(read, key=lambda at: -margins[at]),
        "prototypes": typical(alike, labels),
    }
    orders = {name: in_class_turns(order, labels, generator) for name, order in ranked.items()}
    sets = {name: [order[:size] for size in sizes] for name, order in orders.items()}
    sets["diverse"] = [spread(alike, labels, size, generator) for size in sizes]
    sets["coverage"] = [covering(alike, labels, size, generator) for size in sizes]
    # what was chosen first stands last, next to the input
    return {name: [tuple(choice[at] for at in found[::-1]) for found in several] for name, several in sets.items()}


def _orders(shown: Set, seed: int, number: int = 6) -> list[Set]:
    """Other orders of a set (Lu et al. 2022: the order alone can decide), or the set where it has only one."""
    generator = random.Random(f"{seed} orders")
    drawn = [shown[::-1], *(tuple(generator.sample(shown, len(shown))) for _ in range(number))]
    by_order = {tuple(example.key for example in found): found for found in drawn}
    return list(by_order.values())[:number]


# -- influence -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Design:
    """Sets in which each candidate appears equally often, as far as their number allows."""

    candidates: Set
    sets: tuple[Set, ...]

    @classmethod
    def drawn(cls, candidates: Sequence[Example], size: int, number: int, seed: int) -> Design:
        """`number` sets of `size` candidates, each of those that appeared least so far."""
        generator = random.Random(f"{seed} design")
        appeared = [0] * len(candidates)
        sets: list[Set] = []
        for _ in range(number):
            order = sorted(generator.sample(range(len(candidates)), len(candidates)), key=appeared.__getitem__)
            for at in order[:size]:
                appeared[at] += 1
            sets.append(tuple(candidates[at] for at in generator.sample(order[:size], size)))
        return cls(tuple(candidates), tuple(sets))

    @property
    def presence(self) -> Floats:
        """Which candidate is in which set (S, K): 1 or 0."""
        return np.array([[float(one in found) for one in self.candidates] for found in self.sets])


def influences(design: Design, worths: Floats) -> Floats:
    """What each candidate adds to a set's worth (K,), from the worths of the sets (S,).

    The additive model of Ilyas et al. 2022 (equation 1), worth = b + sum of w_k over the set, with a
    ridge for the lasso: sets are as few as candidates, and no candidate is known to do nothing.
    """
    presence = design.presence
    centred = presence - presence.mean(0)
    matrix = centred.T @ centred + _RIDGE * np.eye(presence.shape[1])
    return np.asarray(np.linalg.solve(matrix, centred.T @ (worths - worths.mean())))


def _influential(design: Design, effects: Floats, best: Set, most: int, seed: int) -> dict[str, list[Set]]:
    """Sets of what adds most, and the best set with one of these put in, for one of its own or beside them."""
    generator = random.Random(f"{seed} influential")
    order = sorted(range(len(effects)), key=lambda at: (-effects[at], at))
    labels = [example.label for example in design.candidates]
    turns = in_class_turns(order, labels)
    sizes = sorted({most, max(1, most // 2), generator.randint(1, most)}, reverse=True)
    chosen = [[design.candidates[at] for at in turns[:size][::-1]] for size in sizes]
    known = {example.key for example in best}
    new = [design.candidates[at] for at in order if design.candidates[at].key not in known]
    swaps, grown = [], []
    for one in new[:4]:
        # for one of the same class where there is one, so that the balance of classes stays
        places = [at for at, own in enumerate(best) if own.label == one.label] or list(range(len(best)))
        at = generator.choice(places)
        swaps.append((*best[:at], one, *best[at + 1 :]))
        if len(best) < most:
            grown.append((*best, one))
    found = {"influence": [tuple(several) for several in chosen], "swap": swaps, "one more": grown}
    if len(best) > 1:
        at = generator.randrange(len(best))
        found["one less"] = [(*best[:at], *best[at + 1 :])]
    return found


def _turns(made: dict[str, list[Set]], seed: int) -> list[tuple[str, Set]]:
    """All sets with how they were made: the first of each way, then the second, and so on."""
    names = [name for name, sets in made.items() if sets]
    random.Random(f"{seed} turns").shuffle(names)
    rounds = zip_longest(*(made[name] for name in names))
    return [(name, found) for one in rounds for name, found in zip(names, one, strict=True) if found is not None]
