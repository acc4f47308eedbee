"""What may vary: a trial in, a prompt out. The only maker of searched prompts."""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from autoprompt.answer import Answer
from autoprompt.chat import Chat
from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration, Retrieval, Selection
from autoprompt.errors import PromptError
from autoprompt.prompt import Position, Prompt, SoftPart
from autoprompt.soft import Array, Projection, from_tokens, seed_of, start_random, start_vocabulary

__all__ = ["DemonstrationSpace", "Drawn", "SoftSpace", "SoftStart", "SoftStructure", "Space", "Stored"]

SoftStart = Literal["random", "vocabulary", "best"]


class Suggests(Protocol):
    """What of an Optuna trial is used."""

    def suggest_int(self, name: str, low: int, high: int) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Stored:
    """Plays the parameters of a finished trial again."""

    params: Mapping[str, Any]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return int(self.params[name])

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.params[name]


@dataclass(frozen=True)
class Drawn:
    """Draws parameters, and records them in `params`.

    base: values to keep; what it lacks is drawn. vary: names whose value must become another one
    than in `base`, where there is another.

    >>> space = Space(Prompt("{{ text }}\\n{{ label }}", {"p": "good", "n": "bad"}), instructions=("a", "b", "c"))
    >>> drawn = Drawn(random.Random(1), {"instruction": 2}, vary=("instruction",))
    >>> space.discrete(drawn) == space.discrete(Stored(drawn.params)), drawn.params["instruction"] != 2
    (True, True)
    """

    generator: random.Random
    base: Mapping[str, Any] = field(default_factory=dict)
    vary: Collection[str] = ()
    params: dict[str, Any] = field(default_factory=dict)

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return int(self.suggest_categorical(name, range(low, high + 1)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        own = self.base.get(name)
        if name not in self.base:
            value = self.generator.choice(choices)
        elif name in self.vary and len(choices) > 1:
            value = self.generator.choice([choice for choice in choices if choice != own])
        else:
            value = own
        self.params[name] = value
        return value


@dataclass(frozen=True)
class DemonstrationSpace:
    """How many demonstrations at most, how many draws of them, how many orders of each draw.

    selections: "drawn" shows every input the same ones; "similar" shows each input those of the
    pool that are most like it.
    """

    most: int = 4
    draws: int = 16
    orders: int = 4
    selections: tuple[Selection, ...] = ("drawn",)


@dataclass(frozen=True)
class SoftStructure:
    """What one search by coordinates holds fixed."""

    vectors: int
    position: Position
    start: SoftStart


@dataclass(frozen=True)
class SoftSpace:
    """What may vary in a soft prompt; `dimensions` is the length of its coordinates."""

    vectors: tuple[int, ...] = (4, 8)
    positions: tuple[Position, ...] = ("start", "answer")
    starts: tuple[SoftStart, ...] = ("best", "vocabulary", "random")
    dimensions: int = 24

    def structure(self, run: int, seed: int) -> SoftStructure:
        """The structure of search number `run`: the starts take turns, the rest is drawn."""
        generator = random.Random(f"{seed} structure {run}")
        return SoftStructure(
            generator.choice(self.vectors), generator.choice(self.positions), self.starts[run % len(self.starts)]
        )


@dataclass(frozen=True)
class Space:
    """Every prompt that a search may propose.

    baseline: the user's own prompt; what is not varied is taken from it. templates, instructions:
    the candidates, the baseline's first. label_words: for each label its candidate words. pool:
    the training examples that demonstrations are drawn from.

    >>> space = Space(Prompt("{{ text }}\\n{{ label }}", {"p": "good", "n": "bad"}),
    ...               instructions=("Sentiment?", "Was it liked?"))
    >>> space.discrete(Stored({"instruction": 1})).instruction
    'Was it liked?'
    """

    baseline: Prompt
    templates: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    label_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calibrations: tuple[Literal["none", "content_free"], ...] = ()
    temperatures: tuple[float | None, ...] = ()
    answers: tuple[Answer, ...] = ()
    chats: tuple[Chat, ...] = ()
    demonstrations: DemonstrationSpace = DemonstrationSpace(most=0)
    pool: tuple[Example, ...] = ()
    soft: SoftSpace | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        strange = set(self.label_words) - set(self.baseline.labels)
        if strange:
            raise PromptError(f"There are words for the label {min(strange)!r}, which the baseline does not have.")
        if self.demonstrations.most and not self.pool:
            raise PromptError("Demonstrations are searched and there is no pool of examples to draw them from.")

    def discrete(self, trial: Suggests) -> Prompt:
        """The prompt that a trial's parameters say.

        Raises PromptError when two labels get the same word.
        """
        words = {
            label: self._pick(trial, f"words.{label}", self.label_words.get(label) or (own,))
            for label, own in self.baseline.label_words.items()
        }
        return replace(
            self.baseline,
            template=self._pick(trial, "template", self.templates or (self.baseline.template,)),
            instruction=self._pick(trial, "instruction", self.instructions or (self.baseline.instruction,)),
            label_words=words,
            calibration=self._pick(trial, "calibration", self.calibrations or (self.baseline.calibration,)),
            temperature=self._pick(trial, "temperature", self.temperatures or (self.baseline.temperature,)),
            answer=self._pick(trial, "answer", self.answers or (self.baseline.answer,)),
            chat=self._pick(trial, "chat", self.chats or (self.baseline.chat,)),
            **self._demonstrations(trial),
        )

    def with_vectors(self, carrier: Prompt, vectors: Array, position: Position) -> Prompt:
        """A soft prompt: the carrier's text with vectors (K, H) in it."""
        return replace(carrier, soft=SoftPart(vectors, position))

    def projection(self, run: int, structure: SoftStructure, embeddings: Array, tokens: Sequence[int]) -> Projection:
        """The map from coordinates to vectors of search number `run`.

        embeddings (V, H) are the model's; "best" starts from those of `tokens`, the carrier's text.
        """
        if self.soft is None:
            raise PromptError("The space has no soft part.")
        seed, start_seed = seed_of(self.seed, "soft", run), seed_of(self.seed, "start", run)
        starts = {
            "random": lambda: start_random(embeddings, structure.vectors, start_seed),
            "vocabulary": lambda: start_vocabulary(embeddings, structure.vectors, start_seed),
            "best": lambda: from_tokens(embeddings, list(tokens), structure.vectors),
        }
        return Projection(starts[structure.start](), self.soft.dimensions, float(embeddings.std()), seed)

    @staticmethod
    def _pick(trial: Suggests, name: str, candidates: Sequence[Any]) -> Any:
        """One of the candidates; only their number is stored, so trials stay small."""
        if len(candidates) == 1:
            return candidates[0]
        return candidates[trial.suggest_categorical(name, list(range(len(candidates))))]

    def _demonstrations(self, trial: Suggests) -> dict[str, Any]:
        """The prompt's parts that show examples."""
        options = self.demonstrations
        if not options.most:
            return {"demonstrations": self.baseline.demonstrations}
        number = trial.suggest_int("demonstrations", 0, options.most)
        if self._pick(trial, "selection", options.selections) == "similar":
            return {"demonstrations": (), "retrieval": self.retrieved(number) if number else None}
        draw = trial.suggest_categorical("draw", list(range(options.draws))) if options.draws > 1 else 0
        order = trial.suggest_categorical("order", list(range(options.orders))) if options.orders > 1 else 0
        chosen = self.ordered(number, draw, order)
        return {"demonstrations": tuple(Demonstration(example.fields, example.label) for example in chosen)}

    def ordered(self, number: int, draw: int, order: int) -> list[Example]:
        """The first `number` examples of a draw, in order number `order`; order 0 is the draw's own."""
        chosen = self.drawn(draw)[:number]
        if order:
            random.Random(f"{self.seed} order {order}").shuffle(chosen)
        return chosen

    # -- without a trial -------------------------------------------------------------------------

    @functools.cached_property
    def choices(self) -> dict[str, int]:
        """Every parameter that may be asked, with the number of its values, which are 0, 1, 2, ..."""
        options = self.demonstrations
        counts = {f"words.{label}": len(self.label_words.get(label) or ("",)) for label in self.baseline.label_words}
        counts |= {"template": len(self.templates), "instruction": len(self.instructions)}
        counts |= {"calibration": len(self.calibrations), "temperature": len(self.temperatures)}
        counts |= {"answer": len(self.answers), "chat": len(self.chats)}
        if options.most:
            counts |= {"demonstrations": options.most + 1, "selection": len(options.selections)}
        if options.most and "drawn" in options.selections:
            counts |= {"draw": options.draws, "order": options.orders}
        return {name: count for name, count in counts.items() if count > 1}

    @property
    def size(self) -> int:
        """How many sets of parameters `every` gives; several may say the same prompt."""
        options = self.demonstrations
        ways = sum(options.draws * options.orders if chosen == "drawn" else 1 for chosen in options.selections)
        return math.prod(self._free.values()) * (1 + options.most * ways)

    def every(self) -> Iterator[dict[str, Any]]:
        """Every set of parameters; of those that show no demonstration, which say the same, the first."""
        for values in itertools.product(*map(range, self._free.values())):
            for way in self._ways():
                yield {**dict(zip(self._free, values, strict=True)), **way}

    @functools.cached_property
    def _free(self) -> dict[str, int]:
        """The parameters that do not say which demonstrations are shown."""
        shown = {"demonstrations", "selection", "draw", "order"}
        return {name: count for name, count in self.choices.items() if name not in shown}

    def _ways(self) -> Iterator[dict[str, Any]]:
        """The parameters of every way to show demonstrations; the first shows none."""
        options = self.demonstrations
        for number in range(options.most + 1):
            for at, selection in enumerate(options.selections if number else options.selections[:1]):
                counts = (options.draws, options.orders) if selection == "drawn" else (1, 1)
                for draw, order in itertools.product(*map(range, counts if number else (1, 1))):
                    way = {"demonstrations": number, "selection": at}
                    way |= {"draw": draw, "order": order} if selection == "drawn" else {}
                    yield {name: value for name, value in way.items() if name in self.choices}

    def retrieved(self, number: int) -> Retrieval:
        """For each input the `number` examples of the pool that are most like it; all, where it has fewer."""
        return Retrieval(self.shown, min(number, len(self.shown)))

    @functools.cached_property
    def shown(self) -> tuple[Demonstration, ...]:
        """The pool, as demonstrations."""
        return tuple(Demonstration(example.fields, example.label) for example in self.pool)

    def drawn(self, draw: int) -> list[Example]:
        """Draw number `draw` of the pool: the classes take turns, in a shuffled order."""
        if draw not in self._draws:
            self._draws[draw] = self._draw(draw)
        return list(self._draws[draw])

    @functools.cached_property
    def _draws(self) -> dict[int, list[Example]]:
        """The draws made so far: each sorts the whole pool."""
        return {}

    def _draw(self, draw: int) -> list[Example]:
        generator = random.Random(f"{self.seed} draw {draw}")
        by_label: dict[str, list[Example]] = {}
        for example in generator.sample(self.pool, len(self.pool)):
            by_label.setdefault(example.label, []).append(example)
        found: list[Example] = []
        while len(found) < min(self.demonstrations.most, len(self.pool)):
            labels = [label for label, left in sorted(by_label.items()) if left]
            found += [by_label[label].pop() for label in generator.sample(labels, len(labels))]
        return found[: self.demonstrations.most]
