"""Changes of a prompt that should not matter: whitespace, case, marks, order, other words for the same."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.errors import PromptError
from autoprompt.explain.parts import literals, with_literals
from autoprompt.finetune.variants import variants
from autoprompt.prompt import Prompt
from autoprompt.propose.phrases import renamed, reworded
from autoprompt.propose.reading import in_turns
from autoprompt.soft import seed_of

__all__ = ["Change", "changes", "two_spaces"]

_ORDERS, _DRAWS, _WORDINGS, _FORMATS = 3, 3, 3, 3
_TRIES = 20  # rewordings for each that is wanted
_END = re.compile(r"[.:;?!]+$")
_BEFORE_ANSWER, _HELD = re.compile(r" +(?=\{\{-?\s*label\b)"), "\ue0a5"  # a private-use character
_BETWEEN = re.compile(r"(?:[^\w]|_|\d|\bor\b|\band\b)*", re.IGNORECASE)  # what stands between the words of a list


@dataclass(frozen=True)
class Change:
    """A changed prompt. kind: of the change, such as "whitespace"; name: what was changed."""

    kind: str
    name: str
    prompt: Prompt


def changes(prompt: Prompt, seed: int, pool: Sequence[Example] = ()) -> list[Change]:
    """Every change that applies to a prompt; those that make another one before it, or none, are left out.

    pool: training examples that other demonstrations are drawn from; without it drawn demonstrations stay.
    Case is left alone where label words would no longer be those of the answers, and a soft prompt has no
    other formats (`finetune.variants`).
    """
    found: dict[Prompt, Change] = {}
    for change in _all(prompt, seed, pool):
        if change.prompt != prompt:
            found.setdefault(change.prompt, change)
    return list(found.values())


def _all(prompt: Prompt, seed: int, pool: Sequence[Example]) -> Iterator[Change]:
    yield from _edited(prompt)
    yield from _orders(prompt, seed)
    yield from _label_orders(prompt, seed)
    yield from _draws(prompt, seed, pool)
    yield from _wordings(prompt, seed)
    for at, other in enumerate(variants(prompt, (), ["formats"], _FORMATS, seed_of(seed, "robust formats")), 1):
        yield Change("format", f"another format, {at}", other)


# -- whitespace, case and marks --------------------------------------------------------------------


def _doubled(text: str) -> str:
    return re.sub(r"(?<! ) (?! )", "  ", text)


def _behind(mark: str) -> Callable[[str], str]:
    return lambda text: _END.sub("", text.rstrip()) + mark


_INSTRUCTION: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("whitespace", "two spaces for one in the instruction", _doubled),
    ("whitespace", "a line break behind the instruction", lambda text: text + "\n"),
    ("casing", "instruction in small letters", str.lower),
    ("casing", "instruction in capitals", str.upper),
    ("punctuation", "no mark behind the instruction", _behind("")),
    ("punctuation", "a colon behind the instruction", _behind(":")),
    ("punctuation", "a full stop behind the instruction", _behind(".")),
)
_TEMPLATE: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("whitespace", "two spaces for one in the template", _doubled),
    ("whitespace", "tabs for spaces in the template", lambda text: text.replace(" ", "\t")),
    ("casing", "template in small letters", str.lower),
    ("casing", "template in capitals", str.upper),
    ("punctuation", "no colons in the template", lambda text: re.sub(rf":(?=[\s{_HELD}])", "", text)),
)


def two_spaces(prompt: Prompt) -> Prompt:
    """The prompt with two spaces for one in its template."""
    return replace(prompt, template=_around(prompt.template, _doubled))


def _around(template: str, edit: Callable[[str], str]) -> str:
    """The template with what it says around its fields edited, but for the space before the answer: that one is no
    matter of taste, since it decides which tokens the answers are."""
    held = _BEFORE_ANSWER.sub(lambda gap: _HELD * len(gap[0]), template)
    return with_literals(held, edit(literals(held))).replace(_HELD, " ")


def _edited(prompt: Prompt) -> Iterator[Change]:
    cases = [not _names_labels(text, prompt) for text in (prompt.instruction, literals(prompt.template))]
    for kind, name, edit in _INSTRUCTION if prompt.instruction.strip() else ():
        if cases[0] or kind != "casing":
            yield Change(kind, name, replace(prompt, instruction=edit(prompt.instruction)))
    for kind, name, edit in _TEMPLATE:
        if not cases[1] and kind == "casing":
            continue
        try:
            yield Change(kind, name, replace(prompt, template=_around(prompt.template, edit)))
        except PromptError:  # such as a template whose text is no Jinja in capitals
            continue


def _names_labels(text: str, prompt: Prompt) -> bool:
    """Whether a text names any label word."""
    return any(word.strip().casefold() in text.casefold() for word in prompt.label_words.values())


# -- order and choice ------------------------------------------------------------------------------


def _orders(prompt: Prompt, seed: int) -> Iterator[Change]:
    shown = prompt.demonstrations
    if len(shown) > 1:
        yield Change("order", "demonstrations reversed", replace(prompt, demonstrations=shown[::-1]))
    for at in range(1, _ORDERS):
        mixed = random.Random(seed_of(seed, "robust order", at)).sample(shown, len(shown))
        yield Change("order", f"demonstrations in another order, {at}", replace(prompt, demonstrations=tuple(mixed)))


def _label_orders(prompt: Prompt, seed: int) -> Iterator[Change]:
    """The label words in another order, where the instruction or the template lists them."""
    words = list(prompt.label_words.values())
    orders = [words[::-1], random.Random(seed_of(seed, "robust labels")).sample(words, len(words))]
    for at, order in enumerate(orders, 1):
        to = dict(zip(words, order, strict=True))

        def turned(text: str, to: dict[str, str] = to) -> str:
            return renamed(text, {word: word for word in to}, to) if _lists(text, words) else text

        template = with_literals(prompt.template, turned(literals(prompt.template)))
        made = replace(prompt, template=template, instruction=turned(prompt.instruction))
        yield Change("order", f"labels listed in another order, {at}", made)


def _lists(text: str, words: Sequence[str]) -> bool:
    """Whether a text names each word once, with nothing but marks, numbers, "or" and "and" between them."""
    longest = sorted(words, key=lambda word: (-len(word), word))
    found = list(re.finditer(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)", text))
    if sorted(match[0] for match in found) != sorted(words):
        return False
    gaps = [text[a.end() : b.start()] for a, b in itertools.pairwise(found)]
    return all(_BETWEEN.fullmatch(gap) for gap in gaps)


def _draws(prompt: Prompt, seed: int, pool: Sequence[Example]) -> Iterator[Change]:
    """Other demonstrations: as many drawn anew, or those most like the input in a part of the examples."""
    for at in range(1, _DRAWS + 1):
        generator = random.Random(seed_of(seed, "robust demonstrations", at))
        if prompt.demonstrations and pool:
            drawn = in_turns(pool, len(prompt.demonstrations), generator.getrandbits(62))
            shown = tuple(Demonstration(one.fields, one.label) for one in generator.sample(drawn, len(drawn)))
            yield Change("demonstrations", f"other demonstrations, {at}", replace(prompt, demonstrations=shown))
        if prompt.retrieval is not None:
            own = prompt.retrieval
            kept = max(own.number, 2 * len(own.pool) // 3)
            places = sorted(generator.sample(range(len(own.pool)), kept))
            part = replace(own, pool=tuple(own.pool[place] for place in places))
            yield Change("demonstrations", f"similar ones of two thirds, {at}", replace(prompt, retrieval=part))


def _wordings(prompt: Prompt, seed: int) -> Iterator[Change]:
    texts: dict[str, None] = {}
    for at in range(_TRIES * _WORDINGS):
        generator = random.Random(seed_of(seed, "robust wording", at))
        text = prompt.instruction
        for _ in range(generator.randint(1, 2)):
            text = reworded(generator, text)
        if text != prompt.instruction and len(texts) < _WORDINGS and _keeps(text, prompt):
            texts.setdefault(text)
    for at, text in enumerate(texts, 1):
        yield Change("paraphrase", f"other words in the instruction, {at}", replace(prompt, instruction=text))


def _keeps(text: str, prompt: Prompt) -> bool:
    """Whether a rewording names the label words that the instruction names."""
    words = [word for word in prompt.label_words.values() if word in prompt.instruction]
    return all(word in text for word in words)
