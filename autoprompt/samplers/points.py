"""The points that the surrogate weighs: a first design, random prompts, neighbours and children of good ones."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.errors import PromptError
from autoprompt.prompt import Prompt
from autoprompt.soft import seed_of
from autoprompt.space import Drawn, Space

__all__ = ["Point", "Points", "identity"]

_LISTED = 2000  # parameter sets of a space that is gone through whole
_TRIES = 4  # times that a draw which is no new prompt is drawn again
_REVERSED = 50_000  # (draw, number) pairs that are remembered to find a prompt's own


@dataclass(frozen=True)
class Point:
    """A prompt of the space with its parameters."""

    params: Mapping[str, Any]
    prompt: Prompt


def identity(prompt: Prompt) -> Hashable:
    """What tells prompts apart: where two of these differ, so do their fingerprints; quicker to make."""
    retrieved = None if prompt.retrieval is None else (prompt.retrieval.number, len(prompt.retrieval.pool))
    return (
        prompt.template,
        prompt.instruction,
        tuple(sorted(prompt.label_words.items())),
        tuple(map(_mark, prompt.demonstrations)),
        retrieved,
        prompt.calibration,
        prompt.temperature,
        prompt.normalize,
        prompt.separator,
        None if prompt.soft is None else prompt.fingerprint,
        prompt.answer,
        prompt.chat,
    )


def _mark(shown: Demonstration | Example) -> Hashable:
    return (shown.label, *(text for _, text in sorted(shown.fields.items())))


class Points:
    """Makes points of a space; every draw comes from the generator or the numbers that are given."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._names = list(space.choices)

    # -- one point -------------------------------------------------------------------------------

    def made(self, drawn: Drawn) -> Point | None:
        """The point of a draw, or None when it is no prompt."""
        try:
            prompt = self._space.discrete(drawn)
        except PromptError:
            return None
        return Point(dict(drawn.params), prompt)

    def anywhere(self, generator: random.Random) -> Point | None:
        return self.made(Drawn(generator))

    def neighbour(self, base: Mapping[str, Any], generator: random.Random) -> Point | None:
        """A point that differs in one parameter, or in two."""
        if not self._names:
            return None
        count = min(len(self._names), generator.choice((1, 1, 2)))
        return self.made(Drawn(generator, base, tuple(generator.sample(self._names, count))))

    def child(self, one: Mapping[str, Any], two: Mapping[str, Any], generator: random.Random) -> Point | None:
        """A point with each parameter from one of two."""
        mixed = {
            name: generator.choice((one, two)).get(name, one.get(name, two.get(name)))
            for name in self._names
            if name in one or name in two
        }
        return self.made(Drawn(generator, mixed))

    def design(self, row: int) -> Point | None:
        """Row number `row` of a design in which each parameter goes through its values again and again.

        Each round of each parameter is another permutation, so that after n rows every one of its k
        values was seen n/k times, rounded up or down. Where two labels would share a word, the words
        are drawn again.
        """
        base = {name: self._turn(name, count, row) for name, count in self._space.choices.items()}
        generator = random.Random(seed_of(self._seed, "repair", row))
        kept = {name: value for name, value in base.items() if not name.startswith("words.")}
        tries = itertools.chain([base], itertools.repeat(kept, 5 * _TRIES))
        return next((point for given in tries if (point := self.made(Drawn(generator, given)))), None)

    def _turn(self, name: str, count: int, row: int) -> int:
        lap, place = divmod(row, count)
        order = list(range(count))
        random.Random(seed_of(self._seed, "design", name, lap)).shuffle(order)
        if lap == 0:  # row 0 is the baseline, whose values come first
            order.sort(key=bool)
        return order[place]

    # -- many points -----------------------------------------------------------------------------

    @functools.cached_property
    def listed(self) -> tuple[Point, ...] | None:
        """Every different prompt of a small space; None for a space that is not small."""
        if self._space.size > _LISTED:
            return None
        found: dict[Hashable, Point] = {}
        for params in self._space.every():
            point = self.made(Drawn(random.Random(0), params))
            if point is not None:
                found.setdefault(identity(point.prompt), point)
        return tuple(found.values())

    def new(self, make: Callable[[], Point | None], count: int, known: set[Hashable]) -> Iterator[Point]:
        """Up to `count` points that are not known, which they are from then on."""
        for _ in range(_TRIES * count):
            point = make() if count else None
            if point is None or (mark := identity(point.prompt)) in known:
                continue
            known.add(mark)
            count -= 1
            yield point

    # -- from a prompt back ----------------------------------------------------------------------

    def params_of(self, prompt: Prompt) -> dict[str, Any]:
        """The parameters that say a prompt, as far as the space has its parts."""
        space, found = self._space, dict[str, Any]()
        lists: list[tuple[str, Iterable[Any], Any]] = [
            (f"words.{label}", space.label_words.get(label, ()), prompt.label_words.get(label))
            for label in space.baseline.label_words
        ]
        lists += [
            ("template", space.templates, prompt.template),
            ("instruction", space.instructions, prompt.instruction),
            ("calibration", space.calibrations, prompt.calibration),
            ("temperature", space.temperatures, prompt.temperature),
            ("answer", space.answers, prompt.answer),
            ("chat", space.chats, prompt.chat),
        ]
        for name, values, own in lists:
            if name in space.choices and own in (known := list(values)):
                found[name] = known.index(own)
        return found | (self._shown_by(prompt) if "demonstrations" in space.choices else {})

    def _shown_by(self, prompt: Prompt) -> dict[str, Any]:
        """The parameters of a prompt's demonstrations; of those that are not a draw's, the number alone."""
        space, options = self._space, self._space.demonstrations
        number = prompt.retrieval.number if prompt.retrieval else len(prompt.demonstrations)
        chosen = "similar" if prompt.retrieval else "drawn"
        found: dict[str, Any] = {"demonstrations": min(number, options.most)}
        if chosen in options.selections and number:
            found["selection"] = options.selections.index(chosen)
        wanted = [_mark(shown) for shown in prompt.demonstrations]
        for draw in self._draws.get((len(wanted), frozenset(wanted)), ()) if wanted else ():
            for order in range(options.orders):
                if [_mark(example) for example in space.ordered(number, draw, order)] == wanted:
                    return {n: v for n, v in {**found, "draw": draw, "order": order}.items() if n in space.choices}
        return {name: value for name, value in found.items() if name in space.choices}

    @functools.cached_property
    def _draws(self) -> dict[Hashable, list[int]]:
        """The draws that begin with a set of demonstrations."""
        options, found = self._space.demonstrations, dict[Hashable, list[int]]()
        if "drawn" not in options.selections or options.draws * options.most > _REVERSED:
            return found
        for draw in range(options.draws):
            marks = [_mark(example) for example in self._space.drawn(draw)]
            for number in range(1, len(marks) + 1):
                found.setdefault((number, frozenset(marks[:number])), []).append(draw)
        return found
