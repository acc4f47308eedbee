"""The discrete sampler: a Gaussian process over prompts that knows what their parts say."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprompt.prompt import Prompt
from autoprompt.samplers.features import Embed, Features
from autoprompt.samplers.field import Field
from autoprompt.samplers.points import Point, Points, identity
from autoprompt.samplers.process import Fitted, Process, fit
from autoprompt.soft import seed_of
from autoprompt.space import Space

__all__ = ["Observation", "Surrogate"]

Floats = NDArray[np.float64]
Params = Mapping[str, Any]

_GROWTH = 1.25  # the hyperparameters are fitted again when there are so many times more observations
_FITTED, _SEEN = 160, 240  # observations that hyperparameters are fitted on, and that predictions rest on
_RANDOM, _PARENTS, _NEIGHBOURS, _CHILDREN = 120, 10, 14, 40  # candidates, and the best that they are made from
_ROUNDS, _CLIMBERS, _CLIMBED = 2, 5, 8  # rounds of neighbours of the most promising candidates
_LISTED = 400  # prompts left in a space that are all weighed
_LEAST_SCALE = 1e-3  # of gains; where they do not differ more, all prompts are alike


@dataclass(frozen=True)
class Observation:
    """A prompt that was scored.

    gain: its mean paired advantage over the baseline on the examples that it was scored on, in
    bounded margins, from -1 to 1. noise: the variance of that mean, 0 or more; few examples make it
    large, which is how the surrogate knows them from many.
    """

    prompt: Prompt
    gain: float
    noise: float


@dataclass(frozen=True)
class _Scale:
    """What gains are measured in."""

    centre: float
    scale: float

    def scaled(self, chosen: Sequence[Observation]) -> tuple[Floats, Floats]:
        """Gains (N,) and their noises (N,) for the process; of a bounded gain no variance is above 1."""
        gains = np.array([o.gain for o in chosen])
        noises = np.array([o.noise if 0 <= o.noise <= 1 else 1.0 for o in chosen])
        return (gains - self.centre) / self.scale, noises / self.scale**2


First = Callable[[int], Sequence[Observation]]


class Surrogate:
    """Suggests prompts of a space by their expected improvement.

    The idea is that of HbBoPs (Schneider et al. 2025): a Gaussian process that sees the parts of a
    prompt by their embeddings, and takes all observations in, whatever number of examples they rest
    on. Here that number enters as the variance of each. A batch is filled by the kriging believer
    (Ginsbourger et al. 2010): each pick counts as observed at its mean before the next.

    embed: vectors (N, H) of texts. startup: observations before the process is asked; until then a
    design in which every value of every parameter comes up about as often. What is suggested depends
    on the arguments alone: the process is fitted anew when the observations have grown by a quarter,
    from those up to then, so that a search that was resumed has the same one.
    """

    def __init__(self, space: Space, embed: Embed, seed: int, startup: int = 16) -> None:
        self._seed, self._startup = seed, startup
        self._points = Points(space, seed)
        self._features = Features(space, embed)
        self._model: tuple[int, _Scale, Fitted] | None = None  # with the observations it rests on
        self._marks: dict[str, Hashable] = {}
        self._params: dict[str, Params] = {}

    def suggest(
        self, seen: Sequence[Observation], count: int, number: int, first: First | None = None
    ) -> list[dict[str, Any]]:
        """Up to `count` sets of parameters, each for a prompt that none of `seen` and no other of them has.

        number: that of the batch's first trial, from which every draw comes. Fewer where the space
        has no more. first: the first n observations as they were when there were no more; those of
        `seen`, where later ones do not change earlier ones.
        """
        known = {self._mark(o.prompt) for o in seen}
        generator = random.Random(seed_of(self._seed, "surrogate", number))
        if len(seen) < max(2, self._startup):
            points = self._first(known, count, number, generator)
        else:
            points = self._best(seen, first or (lambda size: seen[:size]), known, count, generator)
        return [dict(point.params) for point in points]

    def _mark(self, prompt: Prompt) -> Hashable:
        if prompt.fingerprint not in self._marks:
            self._marks[prompt.fingerprint] = identity(prompt)
        return self._marks[prompt.fingerprint]

    def _first(self, known: set[Hashable], count: int, number: int, generator: random.Random) -> list[Point]:
        """The rows of the design from `number` on; in place of what is known already, random points."""
        rows = (self._points.design(row) for row in range(number, number + count))
        found = [point for point in rows if point is not None and _is_new(point, known)]
        found += self._points.new(partial(self._points.anywhere, generator), count - len(found), known)
        return found if len(found) == count else (found + self._left(known))[:count]

    def _left(self, known: set[Hashable]) -> list[Point]:
        """What a small space still has."""
        return [point for point in self._points.listed or () if identity(point.prompt) not in known]

    # -- the process -----------------------------------------------------------------------------

    def _best(
        self, seen: Sequence[Observation], first: First, known: set[Hashable], count: int, drawn: random.Random
    ) -> list[Point]:
        """The points of the greatest expected improvement, among those that are drawn."""
        scale, fitted = self._fitted(len(seen), first)
        chosen = _chosen(seen, _SEEN)
        targets, noises = scale.scaled(chosen)
        process = Process(fitted, self._features.of([o.prompt for o in chosen]), targets, noises)
        order = np.argsort(-process.means, kind="stable")[:_PARENTS]
        parents = [self._params_of(chosen[at].prompt) for at in order]
        field = Field(process, self._features, float(process.means[order[0]]))
        left = self._left(known)
        if self._points.listed is not None and len(left) <= _LISTED:
            field.add(left)
        else:
            self._explore(field, parents, set(known), drawn)
        return field.batch(count, fitted.noise + float(np.median(noises)))

    def _explore(self, field: Field, parents: Sequence[Params], taken: set[Hashable], drawn: random.Random) -> None:
        """Add candidates, and from the most promising of them climb on."""
        field.add(self._candidates(parents, taken, drawn))
        for _ in range(_ROUNDS):
            tops = [point.params for point in field.tops(_CLIMBERS)]
            field.add([point for top in tops for point in self._near(top, _CLIMBED, taken, drawn)])

    def _candidates(self, parents: Sequence[Params], taken: set[Hashable], drawn: random.Random) -> list[Point]:
        """Random points, neighbours of the best known ones, and mixtures of two of those."""
        found = list(self._points.new(partial(self._points.anywhere, drawn), _RANDOM, taken))
        found += [point for parent in parents for point in self._near(parent, _NEIGHBOURS, taken, drawn)]
        pairs = list(itertools.permutations(parents, 2))
        children = (self._points.child(*drawn.choice(pairs), drawn) for _ in range(2 * _CHILDREN if pairs else 0))
        return found + list(self._points.new(partial(next, children, None), _CHILDREN, taken))

    def _near(self, base: Params, count: int, taken: set[Hashable], drawn: random.Random) -> list[Point]:
        return list(self._points.new(partial(self._points.neighbour, base, drawn), count, taken))

    def _params_of(self, prompt: Prompt) -> Params:
        if prompt.fingerprint not in self._params:
            self._params[prompt.fingerprint] = self._points.params_of(prompt)
        return self._params[prompt.fingerprint]

    def _fitted(self, reached: int, first: First) -> tuple[_Scale, Fitted]:
        """The hyperparameters at the greatest size on the schedule that the observations have reached."""
        size = max(2, self._startup)
        while math.ceil(size * _GROWTH) <= reached:
            size = math.ceil(size * _GROWTH)
        if self._model is None or self._model[0] != size:
            chosen = _chosen(first(size), _FITTED)
            gains = [o.gain for o in chosen]
            scale = _Scale(float(np.mean(gains)), max(float(np.std(gains)), _LEAST_SCALE))
            prompts = [o.prompt for o in chosen]
            self._features.fit(prompts)
            self._model = size, scale, fit(self._features.of(prompts), *scale.scaled(chosen))
        return self._model[1:]


def _is_new(point: Point, known: set[Hashable]) -> bool:
    """Whether a point is not known; from then on it is."""
    mark = identity(point.prompt)
    if mark in known:
        return False
    known.add(mark)
    return True


def _chosen(seen: Sequence[Observation], most: int) -> list[Observation]:
    """At most `most` observations, in their order: the best, the latest, and some of the others.

    The others are those with the lowest fingerprints, which is a sample that hardly changes from one
    batch to the next.
    """
    if len(seen) <= most:
        return list(seen)
    third = most // 3
    kept = dict.fromkeys(range(len(seen) - third, len(seen)))
    kept |= dict.fromkeys(sorted(range(len(seen)), key=lambda at: math.sqrt(seen[at].noise) - seen[at].gain)[:third])
    others = sorted((at for at in range(len(seen)) if at not in kept), key=lambda at: seen[at].prompt.fingerprint)
    return [seen[at] for at in sorted([*kept, *others[: most - len(kept)]])]
