"""Which examples are read in which epoch and step, under which prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autoprompt.data import Example
from autoprompt.errors import PromptError
from autoprompt.finetune.options import FinetuneOptions
from autoprompt.lesson import untaught
from autoprompt.prompt import Prompt
from autoprompt.soft import seed_of

__all__ = ["Course", "Reading"]


@dataclass(frozen=True)
class Reading:
    """An example, by its number, under one prompt or under two, by theirs."""

    example: int
    prompts: tuple[int, ...]


@dataclass(frozen=True)
class Course:
    """The readings of all epochs: a function of its fields alone.

    allowed: of each example that is taught, the numbers of the prompts that do not show it, by the
    example's number. readings: how often an example is read in an epoch, 1 or 2. batch: readings of
    a step. labels: of the examples, by number, where those of a label are read in pairs, so that a step
    with fewer places than labels has texts that belong together; empty where each is drawn by itself.

    >>> course = Course({0: (0, 1), 1: (0, 1), 2: (1,)}, prompts=2, readings=1, batch=2, seed=0)
    >>> sorted((r.example, r.prompts) for step in course.epoch(1) for r in step)
    [(0, (1,)), (1, (0,)), (2, (1,))]
    """

    allowed: dict[int, tuple[int, ...]]
    prompts: int
    readings: int
    batch: int
    seed: int
    labels: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, prompts: Sequence[Prompt], examples: Sequence[Example], options: FinetuneOptions, seed: int) -> Course:
        """The course of examples under prompts, each of which is not taught what it shows.

        Raises PromptError when the prompts are not for the same labels.
        """
        for prompt in prompts[1:]:
            if set(prompt.labels) != set(prompts[0].labels):
                raise PromptError(
                    f"Fine-tuning was given prompts for different labels: {', '.join(prompts[0].labels)}; "
                    f"and {', '.join(prompt.labels)}. Give prompts of one study."
                )
        taught = [{id(example) for example in untaught(prompt, examples)} for prompt in prompts]
        allowed = {
            number: tuple(p for p in range(len(prompts)) if id(example) in taught[p])
            for number, example in enumerate(examples)
        }
        allowed = {number: may for number, may in allowed.items() if may}
        labels = {number: examples[number].label for number in allowed} if options.contrastive > 0 else {}
        return cls(allowed, len(prompts), 2 if options.consistency > 0 else 1, options.batch_size, seed, labels)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.allowed) // self.batch)

    def epoch(self, number: int) -> list[list[Reading]]:
        """The steps of an epoch, counted from 1: every example once, in an order drawn for it.

        The example at place i is read under prompt (i + epoch) mod P, or under the next that does
        not show it; a second reading is under the next one behind that.
        """
        numbers = list(self.allowed)
        generator = np.random.default_rng(seed_of(self.seed, "finetune order", number))
        order = generator.permutation(len(numbers)).tolist()
        if self.labels:
            pairs = self._pairs([numbers[at] for at in order])
            places = {example: at for at, example in enumerate(numbers)}
            order = [places[example] for at in generator.permutation(len(pairs)).tolist() for example in pairs[at]]
        found = [self._reading(numbers[at], at + number) for at in order]
        return [found[start : start + self.batch] for start in range(0, len(found), self.batch)]

    def _pairs(self, numbers: Sequence[int]) -> list[list[int]]:
        """Examples in pairs of one label; what is left over of a label stands alone."""
        by_label: dict[str, list[int]] = {}
        for number in numbers:
            by_label.setdefault(self.labels[number], []).append(number)
        return [group[at : at + 2] for group in by_label.values() for at in range(0, len(group), 2)]

    def _reading(self, example: int, turn: int) -> Reading:
        may = set(self.allowed[example])
        turns = [p for k in range(self.prompts) if (p := (turn + k) % self.prompts) in may]
        return Reading(example, tuple(turns[k % len(turns)] for k in range(self.readings)))
