"""New templates and instructions whose gaps a model fills, between a few training examples and their answers.

With sentinels (T5) a template's fixed text is written anew: "<text> <X> <label word> <Y>" (Gao et al.
2021, LM-BFF, section 5.2), or an instruction, whole or in part. With masks (BERT) one to three words
of an instruction or a template are taken out and filled again, as in masked-word paraphrases.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from autoprompt.data import Example
from autoprompt.engine import Engine
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt
from autoprompt.propose.base import Desk, Known, Proposal, Proposals, Proposer
from autoprompt.propose.checks import fresh
from autoprompt.propose.filling import Filler, Gap, MaskFiller, SentinelFiller, fills
from autoprompt.propose.reading import in_turns
from autoprompt.propose.writing import usable
from autoprompt.soft import seed_of

__all__ = ["GAP", "Infill", "layouts"]

GAP = "\ue0a3"  # a private-use character, as those of a prompt's answer and vectors
_EXAMPLES = 8  # that a gap is filled between
_PARENTS = 3  # prompts that gaps are made in
_TEXT, _INSTRUCTION = 8, 24  # the most tokens in a gap of a template, and in an instruction's
_WORDS = 3  # the most that are taken out at once
_LONG = 240  # characters of an input that is shown
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_PLACE = re.compile(r"(\{\{.*?\}\})", re.S)


@dataclass(frozen=True)
class _Open:
    """A prompt with gaps in its template or its instruction. longest: tokens of one gap. taken: the
    words that stood there."""

    prompt: Prompt
    parent: int
    longest: int
    taken: str = ""

    @property
    def operator(self) -> str:
        return "fill template" if GAP in self.prompt.template else "fill instruction"

    def between(self, examples: Sequence[Example]) -> Gap | None:
        """The gaps with each example and its answer around them."""
        texts = []
        for example in examples:
            fields = {name: " ".join(text.replace(GAP, " ").split())[:_LONG] for name, text in example.fields.items()}
            shown = replace(self.prompt, chat="none").answered(fields, example.label)
            texts.append(tuple((shown.context + shown.answers[0] + shown.tail).split(GAP)))
        gaps = (self.prompt.template + self.prompt.instruction).count(GAP)
        if any(len(parts) != gaps + 1 for parts in texts):
            return None  # the template shows its instruction twice, or not at all
        return Gap(texts, self.longest, frozenset(self.taken.casefold().split()))

    def closed(self, best: Prompt, texts: Sequence[str]) -> Prompt:
        """The prompt `best` with this one's template and instruction, the gaps filled."""
        if self.taken[:1].isupper():
            texts = [text[:1].upper() + text[1:] for text in texts]
        template, instruction = self.prompt.template, self.prompt.instruction
        if GAP in template:
            return replace(best, template=_joined(template, texts))
        return replace(best, instruction=_joined(instruction, texts).strip())


class Infill(Proposer):
    """Templates and instructions with new words in their gaps."""

    name: ClassVar[str] = "infill"

    @classmethod
    def covers(cls, desk: Desk) -> bool:
        """Where the desk's writer or the task model has sentinels or masks."""
        return _model(desk) is not None

    @cached_property
    def _filler(self) -> Filler:
        model = _model(self.desk) or self.desk.model
        engine = self.desk.scorer.engine if model is self.desk.model else Engine(model)
        return (MaskFiller if model.family == "masked" else SentinelFiller)(engine)

    def propose(self, known: Sequence[Known], count: int, seed: int) -> Proposals:
        """What fits the gaps best: of each gap the likeliest, then of each the next."""
        parents: dict[tuple[str, str], Known] = {}
        for one in known:
            if one.prompt.kind == "discrete" and len(parents) < _PARENTS:
                parents.setdefault((one.prompt.template, one.prompt.instruction), one)
        if count < 1 or not parents or not self.covers(self.desk):
            return Proposals()
        rows: list[tuple[float, list[Proposal]]] = []
        tokens = 0
        prompts = {one.number: one.prompt for one in parents.values()}
        for number, opened in enumerate(self._opened(list(parents.values()), 2 * count, seed)):
            gap = opened.between(in_turns(self.desk.pool, _EXAMPLES, seed_of(seed, "examples", number)))
            if gap is None:
                continue
            # the first ones take what is likeliest; later ones, in other gaps, draw
            drawn = None if number < count else seed_of(seed, "fill", number)
            fillings, read = self._filler.fill(gap, count, self.desk.writer_tokens - tokens, drawn)
            tokens += read
            found = [opened.closed(prompts[opened.parent], filling.texts) for filling in fillings]
            found = [prompt for prompt in found if opened.operator == "fill template" or usable(prompt.instruction)]
            if found:
                proposals = [Proposal(prompt, opened.operator, (opened.parent,)) for prompt in found]
                rows.append((fillings[0].score, proposals))
        if isinstance(self._filler, MaskFiller):  # the beam's texts differ too much in length to be compared
            rows.sort(key=lambda row: -row[0])
        turns = [one for turn in itertools.zip_longest(*(row for _, row in rows)) for one in turn if one is not None]
        return Proposals(fresh(turns, known, self.desk, count), tokens)

    def _opened(self, parents: Sequence[Known], count: int, seed: int) -> Iterator[_Open]:
        """Prompts with gaps, in a drawn order."""
        generator = random.Random(f"{seed} gaps")
        if isinstance(self._filler, MaskFiller):
            for _ in range(count):
                yield from _masked(generator.choice(parents), generator)
            return
        causal = self.desk.model.family == "causal"
        opened = []
        for parent in parents:
            plain = _bare(parent.prompt)
            opened += [
                _Open(replace(plain, template=template), parent.number, _TEXT)
                for template in layouts(plain.template, causal)
            ]
            opened.append(_Open(replace(plain, instruction=GAP), parent.number, _INSTRUCTION))
            opened += [replace(one, longest=_TEXT) for one in _masked(parent, generator)]
        yield from generator.sample(opened, len(opened))


def _model(desk: Desk) -> LanguageModel | None:
    """The model that fills gaps."""
    return next((model for model in (desk.writer, desk.model) if model is not None and fills(model)), None)


def _bare(prompt: Prompt) -> Prompt:
    return replace(prompt, demonstrations=(), retrieval=None)


def layouts(template: str, causal: bool) -> list[str]:
    """A template with gaps in place of its fixed text, the fields and the answer in their order.

    What stands before the first field is kept or is a gap too. Where the model reads both sides of
    the answer there is a gap behind it, and with one field also the answer before the field.
    A template that is more than fields and fixed text has none.

    >>> [found.replace(GAP, "_") for found in layouts("{{ text }}\\n{{ label }}", causal=True)]
    ['{{ text }}\\n_ {{ label }}']
    """
    if any(mark in template for mark in ("{%", "{#", GAP)):
        return []
    first, *inner, last = _PLACE.split(template)
    between = []
    for at, part in enumerate(inner):
        if at % 2:
            lead, _, trail = re.fullmatch(r"(\W*)(.*?)(\s*)", part, re.S).groups()  # type: ignore[union-attr]
            part = f"{lead or ' '}{GAP}{trail or ' '}"
        between.append(part)
    middle = "".join(between)
    found = [first + middle + (last if causal else GAP)]
    if _WORD.search(first):
        found.append(f"{GAP} {middle}{last}")
    places = inner[::2]
    if not causal and len(places) == 2:
        label = next((place for place in places if re.fullmatch(r"\{\{\s*label\s*\}\}", place)), "")
        field = next(place for place in places if place != label)
        found += [f"{GAP} {label}{GAP} {field}"] if label else []
    return [one for one in found if GAP in one]


def _masked(parent: Known, generator: random.Random) -> list[_Open]:
    """A prompt with one to three words taken out of its instruction or of its template's fixed text."""
    prompt = _bare(parent.prompt)
    texts = {"instruction": [prompt.instruction], "template": _PLACE.split(prompt.template)}
    if any(mark in prompt.template for mark in ("{%", "{#")):
        texts["template"] = []
    spans = [
        (name, at, word.start())
        for name, parts in texts.items()
        for at, part in enumerate(parts)
        if not part.startswith("{{")
        for word in _WORD.finditer(part)
    ]
    if not spans:
        return []
    # an instruction and a template are as likely, however many words they have
    name = generator.choice(sorted({name for name, _, _ in spans}))
    _, at, start = generator.choice([span for span in spans if span[0] == name])
    words = list(_WORD.finditer(texts[name][at], start))[: generator.randint(1, _WORDS)]
    part, stop = texts[name][at], words[-1].end()
    taken = part[start:stop]
    longest = min(_WORDS, max(1, len(words) + generator.choice((-1, 0, 1))))
    texts[name][at] = part[:start] + GAP + part[stop:]
    whole = "".join(texts[name])
    opened = replace(prompt, instruction=whole) if name == "instruction" else replace(prompt, template=whole)
    return [_Open(opened, parent.number, longest, taken)]


def _joined(text: str, fillings: Sequence[str]) -> str:
    """The text with its gaps filled: words are set off by a space, punctuation is not."""
    first, *rest = text.split(GAP)
    whole = first
    for filling, part in zip(fillings, rest, strict=True):
        if filling[:1].isalnum() and whole[-1:].strip():
            whole += " "
        elif filling[:1] in tuple(".,;:?!") and filling:
            whole = whole.rstrip(" ")
        if not filling and whole[-1:].isspace():
            part = part.removeprefix(" ")
        whole += filling + part
    return whole
