"""New prompts by editing the best ones, without a model.

Phrases of the instruction are edited as in GrIPS (Prasad et al. 2023), formats as in FormatSpread
(Sclar et al. 2024), and good prompts are crossed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from autoprompt.errors import PromptError
from autoprompt.prompt import Prompt
from autoprompt.propose import formats, phrases
from autoprompt.propose.base import Known, Proposal, Proposals, Proposer
from autoprompt.propose.checks import fresh
from autoprompt.soft import seed_of
from autoprompt.space import Space

__all__ = ["Edits"]

_PARENTS = 12  # the best prompts, of which children are made
_FALL = 0.8  # how much less often a parent is drawn than the one before it
_TRIES = 10  # a child wanted


class Edits(Proposer):
    """Edits and crossings of the best discrete prompts; the operators take turns.

    A better parent is drawn more often, by its rank. A child shows the fields of the parent whose
    template it has.
    """

    name: ClassVar[str] = "edits"

    def propose(self, known: Sequence[Known], count: int, seed: int) -> Proposals:
        """Up to `count` children, each of another operator while there are more operators."""
        parents = [one for one in known if one.prompt.kind == "discrete"][:_PARENTS]
        if not parents or count < 1:
            return Proposals()
        material = _Material.of(self.desk.space, parents)
        operators = list(_OPERATORS)
        random.Random(f"{seed} operators").shuffle(operators)
        children = (
            self._child(parents, operators[at % len(operators)], material, seed_of(seed, "edit", at))
            for at in range(_TRIES * max(count, len(operators)))
        )
        return Proposals(fresh((child for child in children if child), known, self.desk, count))

    def _child(self, parents: Sequence[Known], operator: str, material: _Material, seed: int) -> Proposal | None:
        """What an operator makes of drawn parents, or None if that is no prompt."""
        generator = random.Random(seed)
        weights = [_FALL**rank for rank in range(len(parents))]
        [parent] = generator.choices(parents, weights)
        try:
            if operator in _EDITS:
                made = _EDITS[operator](generator, parent.prompt, material)
                return Proposal(made, operator, (parent.number,))
            if len(parents) < 2:
                return None
            at = parents.index(parent)
            [other] = generator.choices([*parents[:at], *parents[at + 1 :]], [*weights[:at], *weights[at + 1 :]])
            made = _CROSSINGS[operator](generator, parent.prompt, other.prompt)
            return Proposal(made, operator, (parent.number, other.number))
        except PromptError:  # two label words became one
            return None


@dataclass(frozen=True)
class _Material:
    """What edits take in: instructions of the space and of known prompts, and the names that their
    templates give to each field."""

    instructions: tuple[str, ...]
    names: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, space: Space, parents: Sequence[Known]) -> _Material:
        prompts = [space.baseline, *(parent.prompt for parent in parents)]
        texts = [*space.instructions, *(prompt.instruction for prompt in prompts)]
        templates = dict.fromkeys([*space.templates, *(prompt.template for prompt in prompts)])
        return cls(tuple(dict.fromkeys(text for text in texts if text.strip())), formats.field_names(templates))


# -- the instruction -------------------------------------------------------------------------


def _delete(generator: random.Random, prompt: Prompt, material: _Material) -> Prompt:
    return replace(prompt, instruction=phrases.deleted(generator, prompt.instruction))


def _swap(generator: random.Random, prompt: Prompt, material: _Material) -> Prompt:
    return replace(prompt, instruction=phrases.swapped(generator, prompt.instruction))


def _add(generator: random.Random, prompt: Prompt, material: _Material) -> Prompt:
    others = (*material.instructions, *phrases.REMARKS)
    return replace(prompt, instruction=phrases.added(generator, prompt.instruction, others))


def _replace(generator: random.Random, prompt: Prompt, material: _Material) -> Prompt:
    return replace(prompt, instruction=phrases.replaced(generator, prompt.instruction, material.instructions))


def _reword(generator: random.Random, prompt: Prompt, material: _Material) -> Prompt:
    return replace(prompt, instruction=phrases.reworded(generator, prompt.instruction))


def _options(generator: random.Random, prompt: Prompt, material: _Material) -> Prompt:
    """The label words named in the instruction, or no longer named."""
    if prompt.answer.kind != "label":
        return prompt
    words = list(prompt.label_words.values())
    lines = phrases.sentences(prompt.instruction)
    kept = [line for line in lines if not all(word in line for word in words)]
    if len(kept) < len(lines):
        return replace(prompt, instruction="".join(kept).strip())
    opening = generator.choice(["Options: ", "Answer with one of: ", "The possible answers are ", "Choose one: "])
    closing, between = generator.choice([(".", ", "), (".", " / "), ("", ", ")])
    gap = generator.choice(["\n", " "]) if prompt.instruction.strip() else ""
    return replace(prompt, instruction=prompt.instruction.rstrip() + gap + opening + between.join(words) + closing)


# -- the format ------------------------------------------------------------------------------


def _separator(generator: random.Random, prompt: Prompt, material: _Material) -> Prompt:
    """Another separator of blocks, or another spacing in them."""
    if generator.random() < 0.5:
        return replace(prompt, template=formats.spaced(generator, prompt.template))
    return replace(prompt, separator=generator.choice(formats.SEPARATORS))


def _case(generator: random.Random, prompt: Prompt, material: _Material) -> Prompt:
    """The label words in another case, or the whole instruction in capitals or no longer."""
    if generator.random() < 0.25:
        text = prompt.instruction
        return replace(prompt, instruction=formats.CASES[2](text) if text.isupper() else text.upper())
    case = generator.choice(formats.CASES)
    return _worded(prompt, {label: case(word) for label, word in prompt.label_words.items()})


def _punctuation(generator: random.Random, prompt: Prompt, material: _Material) -> Prompt:
    """Another end of the instruction, or quotes around an input."""
    text = prompt.instruction.rstrip()
    if not text or generator.random() < 0.4:
        return replace(prompt, template=formats.punctuated(generator, prompt.template))
    return replace(prompt, instruction=re.sub(r"[.:;?!]+$", "", text) + generator.choice([".", ":", "", "?", "!"]))


def _order(generator: random.Random, prompt: Prompt, material: _Material) -> Prompt:
    if not prompt.instruction.strip():
        return prompt
    return replace(prompt, template=formats.instruction_moved(generator, prompt.template))


def _fields(generator: random.Random, prompt: Prompt, material: _Material) -> Prompt:
    return replace(prompt, template=formats.names_changed(generator, prompt.template, material.names))


# -- two parents -----------------------------------------------------------------------------


def _cross_instructions(generator: random.Random, prompt: Prompt, other: Prompt) -> Prompt:
    text = _renamed_like(other.instruction, other, prompt)
    return replace(prompt, instruction=phrases.crossed(generator, prompt.instruction, text))


def _cross_parts(generator: random.Random, prompt: Prompt, other: Prompt) -> Prompt:
    """Each part of one of the two: template and separator, instruction, demonstrations, label words, and how
    scores are calibrated; at least one part of each parent."""
    takes = [0, 0, 0, 0, 0]
    while len(set(takes)) < 2:
        takes = [generator.randrange(2) for _ in takes]
    template, instruction, shown, words, scale = ((prompt, other)[take] for take in takes)
    made = replace(
        prompt,
        template=template.template,
        separator=template.separator,
        instruction=_renamed_like(instruction.instruction, instruction, prompt),
        demonstrations=shown.demonstrations,
        retrieval=shown.retrieval,
        calibration=scale.calibration,
        normalize=scale.normalize,
        temperature=scale.temperature,
    )
    return _worded(made, words.label_words)


def _worded(prompt: Prompt, words: Mapping[str, str]) -> Prompt:
    """The prompt with other label words, also where its instruction names them all."""
    instruction = phrases.renamed(prompt.instruction, prompt.label_words, words)
    return replace(prompt, label_words={label: words[label] for label in prompt.labels}, instruction=instruction)


def _renamed_like(text: str, own: Prompt, other: Prompt) -> str:
    """An instruction of one prompt with the label words of another."""
    return phrases.renamed(text, own.label_words, other.label_words)


_EDITS: dict[str, Callable[[random.Random, Prompt, _Material], Prompt]] = {
    "delete": _delete,
    "swap": _swap,
    "add": _add,
    "replace": _replace,
    "reword": _reword,
    "options": _options,
    "separator": _separator,
    "case": _case,
    "punctuation": _punctuation,
    "order": _order,
    "field names": _fields,
}
_CROSSINGS: dict[str, Callable[[random.Random, Prompt, Prompt], Prompt]] = {
    "cross instructions": _cross_instructions,
    "cross parts": _cross_parts,
}
_OPERATORS = (*_EDITS, *_CROSSINGS)
