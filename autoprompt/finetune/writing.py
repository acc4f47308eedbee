"""New training examples that a model writes: shown a few inputs of a label, it writes another one.

Written for a label, then kept only where the prompt gives that label too (LAMBADA, Anaby-Tavor et al. 2020,
section 3), and only where the text is new (as in Self-Instruct, Wang et al. 2023, section 2.2).
"""

from __future__ import annotations

import functools
import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprompt.data import Example
from autoprompt.engine import Engine
from autoprompt.engine.request import Ids
from autoprompt.errors import ModelError
from autoprompt.finetune.seen import Seen, shown_by
from autoprompt.finetune.sheets import Sheet
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt
from autoprompt.propose.reading import tokens_read
from autoprompt.propose.writing import Pen, chats, line_ends, loops
from autoprompt.scorer import Scorer
from autoprompt.soft import seed_of

__all__ = ["WritingOptions", "Written", "written_examples"]

_LONGEST = 1.5  # times the longest training text
_SHORTEST = 0.5  # times the shortest
_COMMON = 0.5  # a label word that stands in so large a share of its training texts gives nothing away
_REASONS = ("empty", "too_short", "too_long", "loops", "duplicate", "near_duplicate", "giveaway", "disagreement")


@dataclass(frozen=True)
class WritingOptions:
    """per_label: how many examples of each label are wanted. rounds: how often a label that still lacks some
    is asked for as many as it lacks. tokens: the most that may be read and written for it all. shown: how
    many training examples of the label the writer sees. agreement: the least P(label) under the prompt.
    """

    per_label: int = 20
    rounds: int = 4
    tokens: int = 50_000
    shown: int = 4
    agreement: float = 0.5


@dataclass(frozen=True)
class Written:
    """examples: written ones that passed, numbered behind pool and dev.

    record: plain numbers. "asked" texts are those "kept" and those "refused", by reason; "written" are
    those that are not empty. "tokens" were read and written by the writer, "scoring_tokens" read to ask
    the prompt. "labels" counts the kept by label. Nothing is asked where the window or `tokens` has no room
    for it, nor for a label without training examples.
    """

    examples: tuple[Example, ...]
    record: dict[str, Any]


@dataclass(frozen=True)
class _Draft:
    label: str
    fields: Mapping[str, str]


def written_examples(
    scorer: Scorer,
    prompt: Prompt,
    pool: Sequence[Example],
    options: WritingOptions | None = None,
    seed: int = 0,
    writer: LanguageModel | None = None,
    dev: Sequence[Example] = (),
) -> Written:
    """Examples of each label that a model writes after training examples in the prompt's own format.

    pool: the training examples; nothing else is ever shown. writer: the model that writes; None takes the
    task model. dev: what no example may repeat. A soft prompt's vectors take no part in the writing, only in
    the judgement. Raises ModelError when the writer's family cannot write.
    """
    options = options or WritingOptions()
    model = writer or scorer.model
    if model.family not in ("causal", "seq2seq"):
        raise ModelError(
            f"The model {model.name!r} is {model.family} and cannot write examples; causal and seq2seq models can. "
            "Name one of those as the writer, or let no examples be written."
        )
    desk = _Desk(scorer, prompt, pool, options, seed, model)
    checks = _Checks(prompt, pool, Seen([*pool, *dev, *shown_by(prompt)]))
    refused = Counter(dict.fromkeys(_REASONS, 0))
    kept: list[_Draft] = []
    asked = scored = 0
    for turn in range(options.rounds):
        have = Counter(draft.label for draft in kept)
        drafts = desk.drafts({label: options.per_label - have[label] for label in prompt.labels}, turn)
        if not drafts:
            break
        passed = checks.passed(drafts, refused)
        agreed, read = _agreed(scorer, prompt, passed, options.agreement)
        refused["disagreement"] += len(passed) - len(agreed)
        kept += agreed
        asked += len(drafts)
        scored += read
    first = max((example.number for example in (*pool, *dev)), default=-1) + 1
    examples = tuple(Example(first + n, draft.fields, draft.label) for n, draft in enumerate(kept))
    have = Counter(example.label for example in examples)
    counts = {"asked": asked, "written": asked - refused["empty"], "kept": len(examples)}
    tokens = {"tokens": desk.pen.tokens, "scoring_tokens": scored}
    labels = {label: have[label] for label in prompt.labels}
    return Written(examples, {**counts, "labels": labels, "refused": dict(refused), **tokens})


# -- asking ------------------------------------------------------------------------------------


class _Desk:
    """Where drafts are written."""

    def __init__(
        self,
        scorer: Scorer,
        prompt: Prompt,
        pool: Sequence[Example],
        options: WritingOptions,
        seed: int,
        model: LanguageModel,
    ) -> None:
        self.options, self.seed, self.model = options, seed, model
        self.sheet = Sheet.of(prompt)
        self.by_label = {label: [e for e in pool if e.label == label] for label in prompt.labels}
        engine = scorer.engine if model is scorer.model else Engine(model)
        # a text of one field ends with its line; a model that answers requests ends by itself
        ends = line_ends(model) if len(prompt.fields) == 1 and not chats(model) else None
        self.pen = Pen(engine, options.tokens, ends)
        lengths = map(len, model.ids([self.sheet.body(example.fields) for example in pool], special=False))
        self.new_tokens = math.ceil(_LONGEST * max(lengths, default=0)) + 1

    def drafts(self, lacking: Mapping[str, int], turn: int) -> list[tuple[_Draft, bool]]:
        """As many drafts of each label as it lacks, and whether each was cut off; labels take turns, so that
        a budget that ends early ends for all."""
        asks: list[tuple[str, Ids]] = []
        self.pen.left = self.options.tokens - self.pen.tokens  # what was allowed and not used is free again
        for number in range(max(lacking.values())):
            for label in [label for label, count in lacking.items() if number < count and self.by_label[label]]:
                found = self.pen.fitting(functools.partial(self._ask, label, f"{turn} {number}"), self.new_tokens)
                if found is not None:
                    asks.append((label, found[0]))
        texts = self.pen.write([ids for _, ids in asks], self.new_tokens, seed_of(self.seed, "write", turn))
        return [
            (_Draft(label, self.sheet.read(text)), cut) for (label, _), (text, cut) in zip(asks, texts, strict=True)
        ]

    def _ask(self, label: str, number: str, size: int) -> str:
        generator = random.Random(seed_of(self.seed, "shown to write", label, number))
        own = self.by_label[label]
        shown = generator.sample(own, min(size, self.options.shown, len(own)))
        return (self.sheet.request if chats(self.model) else self.sheet.beginning)(label, shown)


# -- checking ------------------------------------------------------------------------------------


class _Checks:
    """What a draft must be before the prompt is asked about it."""

    def __init__(self, prompt: Prompt, pool: Sequence[Example], seen: Seen) -> None:
        self.seen = seen
        sizes = [_size(example.fields) for example in pool]
        self.shortest, self.longest = _SHORTEST * min(sizes, default=0), _LONGEST * max(sizes, default=0)
        self.giveaways: dict[str, re.Pattern[str]] = {}
        for label, word in prompt.label_words.items():
            pattern = re.compile(rf"(?<!\w){re.escape(word.strip())}(?!\w)", re.I)
            own = [example for example in pool if example.label == label]
            if sum(_says(pattern, example.fields) for example in own) < _COMMON * len(own):
                self.giveaways[label] = pattern

    def passed(self, drafts: Sequence[tuple[_Draft, bool]], refused: Counter[str]) -> list[_Draft]:
        """The drafts without objection; the others are counted by reason."""
        reasons = [self.objection(draft, cut) for draft, cut in drafts]
        refused.update(reason for reason in reasons if reason)
        return [draft for (draft, _), reason in zip(drafts, reasons, strict=True) if not reason]

    def objection(self, draft: _Draft, cut: bool) -> str:
        """Why a draft is refused, one of _REASONS, or "". One that passes has been seen from then on."""
        size = _size(draft.fields)
        giveaway = self.giveaways.get(draft.label)
        if not all(any(map(str.isalnum, text)) for text in draft.fields.values()):
            return "empty"
        if cut or size > self.longest:
            return "too_long"
        if size < self.shortest:
            return "too_short"
        if any(map(loops, draft.fields.values())):
            return "loops"
        if likeness := self.seen.like(draft.fields):
            return likeness
        if giveaway is not None and _says(giveaway, draft.fields):
            return "giveaway"
        self.seen.add(draft.fields)
        return ""


def _size(fields: Mapping[str, str]) -> int:
    return sum(len(" ".join(text.split())) for text in fields.values())


def _says(pattern: re.Pattern[str], fields: Mapping[str, str]) -> bool:
    return any(pattern.search(text) for text in fields.values())


def _agreed(scorer: Scorer, prompt: Prompt, drafts: Sequence[_Draft], least: float) -> tuple[list[_Draft], int]:
    """The drafts whose label is the prompt's likeliest one and has at least P = `least`; tokens that it took."""
    if not drafts:
        return [], 0
    examples = [Example(at, draft.fields, draft.label) for at, draft in enumerate(drafts)]
    rows = scorer.log_likelihoods([prompt], examples)[0]
    logs = rows - np.logaddexp.reduce(rows, 1, keepdims=True)
    gold = [prompt.labels.index(draft.label) for draft in drafts]
    agreed = [
        draft
        for draft, row, at in zip(drafts, logs, gold, strict=True)
        if row.argmax() == at and math.exp(row[at]) >= least
    ]
    return agreed, tokens_read(scorer, [prompt], examples)
