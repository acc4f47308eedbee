"""Other prompts of the same task to train under, so that the task is learned and not one wording of it.

Format and demonstrations decide much of what a model answers (Sclar et al. 2024; Lu et al. 2022); one that was
trained under many prompts of a task depends less on each (T0, Sanh et al. 2022), and demonstrations drawn anew
teach it to use any (MetaICL, Min et al. 2022). What varies comes from the pool and from the prompt itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.errors import PromptError, nearest
from autoprompt.prompt import Prompt, check_template
from autoprompt.propose import formats
from autoprompt.propose.reading import in_turns
from autoprompt.soft import seed_of

__all__ = ["VariantKind", "variants"]

VariantKind = Literal["demonstrations", "formats"]
_MOST = 4  # demonstrations, for a prompt that shows none
_TRIES = 20  # draws for each variant that is wanted


def variants(
    prompt: Prompt, pool: Sequence[Example], kinds: Sequence[VariantKind], count: int, seed: int = 0
) -> tuple[Prompt, ...]:
    """Up to `count` other prompts, the kinds in turns; each fingerprint once, never the prompt's own.

    pool: the training examples. "demonstrations": none, fewer, others, or the same in another order, with
    the same template and words; never more than the prompt shows (4 where it shows none), so that what
    fits the model still does. A prompt that retrieves goes on doing so, with another number of them.
    "formats": separators, line breaks, names, quotes, and the instruction's case and place, with the same
    demonstrations and words; a soft prompt has none, since its vectors were made for its format. There are
    fewer than `count` where a kind has no more to give. Raises PromptError for a kind that is not there.

    >>> prompt = Prompt("{{ text }}\\nTopic: {{ label }}", {"s": "sports", "m": "money"}, "Which topic?")
    >>> pool = [Example(0, {"text": "They won."}, "s"), Example(1, {"text": "Rates fell."}, "m")]
    >>> {len(found.demonstrations) for found in variants(prompt, pool, ["demonstrations"], 4)}
    {1, 2}
    """
    for kind in kinds:
        if kind not in get_args(VariantKind):
            allowed = ", ".join(get_args(VariantKind))
            raise PromptError(f"There is no kind of variant {kind!r}; allowed are {allowed}.{nearest(kind, _MAKERS)}")
    found: dict[Prompt, None] = {prompt: None}
    for number in range(_TRIES * count):
        if len(found) > count or not kinds:
            break
        kind = kinds[number % len(kinds)]
        try:
            found.setdefault(_MAKERS[kind](random.Random(seed_of(seed, "variant", kind, number)), prompt, pool))
        except PromptError:  # a template that lost what it has to show
            continue
    return tuple(found)[1:]


# -- demonstrations --------------------------------------------------------------------------------


def _demonstrations(generator: random.Random, prompt: Prompt, pool: Sequence[Example]) -> Prompt:
    if prompt.retrieval is not None:
        number = generator.randint(1, prompt.retrieval.number)
        prompt = replace(prompt, retrieval=replace(prompt.retrieval, number=number))
        if not prompt.demonstrations:
            return prompt
    return replace(prompt, demonstrations=_set(generator, prompt.demonstrations, pool))


def _set(
    generator: random.Random, shown: Sequence[Demonstration], pool: Sequence[Example]
) -> tuple[Demonstration, ...]:
    """Some of those shown in any order, or others, of each label about equally many; now and then none."""
    most = len(shown) or min(_MOST, len(pool))
    size = generator.randint(0, most)
    if shown and generator.random() < 0.5:
        return tuple(generator.sample(list(shown), size))
    drawn = in_turns(pool, min(size, len(pool)), generator.getrandbits(62))
    return tuple(Demonstration(example.fields, example.label) for example in generator.sample(drawn, len(drawn)))


# -- formats ---------------------------------------------------------------------------------------


def _formats(generator: random.Random, prompt: Prompt, pool: Sequence[Example]) -> Prompt:
    """One to three changes, one after the other."""
    if prompt.soft is not None:
        return prompt
    made = prompt
    for change in generator.sample(_CHANGES, generator.randint(1, 3)):
        made = change(generator, made)
    check_template(made.template, prompt.fields)
    if made.fields != prompt.fields:
        raise PromptError("The variant lost an input field.")
    return made


def _separated(generator: random.Random, prompt: Prompt) -> Prompt:
    return replace(prompt, separator=generator.choice(formats.SEPARATORS))


def _spaced(generator: random.Random, prompt: Prompt) -> Prompt:
    return replace(prompt, template=formats.spaced(generator, prompt.template))


def _renamed(generator: random.Random, prompt: Prompt) -> Prompt:
    known = formats.field_names([prompt.template])
    return replace(prompt, template=formats.names_changed(generator, prompt.template, known))


def _quoted(generator: random.Random, prompt: Prompt) -> Prompt:
    return replace(prompt, template=formats.punctuated(generator, prompt.template))


def _cased(generator: random.Random, prompt: Prompt) -> Prompt:
    """The instruction in capitals, small letters, or like a sentence; not where it names label words, which
    would no longer be those of the answers."""
    if any(word.strip().casefold() in prompt.instruction.casefold() for word in prompt.label_words.values()):
        return prompt
    return replace(prompt, instruction=generator.choice(formats.CASES)(prompt.instruction))


def _moved(generator: random.Random, prompt: Prompt) -> Prompt:
    if not prompt.instruction.strip():
        return prompt
    return replace(prompt, template=formats.instruction_moved(generator, prompt.template))


_CHANGES: tuple[Callable[[random.Random, Prompt], Prompt], ...] = (
    _separated,
    _spaced,
    _renamed,
    _quoted,
    _cased,
    _moved,
)
_MAKERS: dict[str, Callable[[random.Random, Prompt, Sequence[Example]], Prompt]] = {
    "demonstrations": _demonstrations,
    "formats": _formats,
}
