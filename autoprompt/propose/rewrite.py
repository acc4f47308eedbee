"""New instructions that a model writes: from scored ones, from mistakes, or as the next in a list.

"opro" shows the best instructions in ascending order with their scores and asks for a better one
(Yang et al. 2024, OPRO, section 2). "reflect" shows what the best prompt gets wrong, asks what
should change, and for an instruction so changed (Pryzant et al. 2023, ProTeGi, section 2.2;
Agrawal et al. 2025, GEPA). "continue" is for models that follow no requests: a list of
instructions, or one with "in other words" behind it, is written on.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from autoprompt.data import Example
from autoprompt.engine import Engine
from autoprompt.engine.request import Ids
from autoprompt.prompt import Prompt
from autoprompt.propose.base import Desk, Known, Proposal, Proposals, Proposer
from autoprompt.propose.checks import fresh
from autoprompt.propose.reading import in_turns, tokens_read
from autoprompt.propose.writing import Pen, chats, instruction_in, line_ends, writer_of
from autoprompt.soft import seed_of

__all__ = ["Rewrite"]

_WRITTEN, _ADVICE = 64, 96  # the most tokens of an instruction, and of what should change
_RIGHT = 3  # right answers beside scored instructions
_JUDGED = 48  # training examples that mistakes are looked for on
_MISTAKES = 4  # shown at a time
_LONG = 240  # characters of an input that is shown

_SCORED = """These instructions for one task were scored, the best last. A {direction} score is better.

{listed}

Inputs of the task and their right answers:

{right}
"""
_BETTER = """
Write an instruction for this task that is unlike those above and scores better. Say what the
answers mean where that helps, and quote no input. Put it between <INS> and </INS>."""
_WRONG = """A model was given this instruction:

{instruction}

It answered these inputs wrongly:

{wrong}

Say in two or three sentences what the instruction lacks or says misleadingly, and what should change."""
_CHANGED = """A model was given this instruction:

{instruction}

A review of its mistakes:

{advice}

{choice}Write the instruction anew so that it follows the review. Quote no input. Put it between <INS> and </INS>."""


@dataclass(frozen=True)
class _Call:
    """What every way of asking is given. known: discrete prompts, the best first. count: how many
    instructions are wanted."""

    pen: Pen
    known: Sequence[Known]
    count: int
    seed: int

    @property
    def best(self) -> Prompt:
        return self.known[0].prompt


_Written = tuple[str, tuple[int, ...]]  # an instruction, and the numbers of the trials it was made from


class Rewrite(Proposer):
    """New instructions for the best prompt, by each way of asking in turn."""

    name: ClassVar[str] = "rewrite"

    @classmethod
    def covers(cls, desk: Desk) -> bool:
        """Where there is a model that writes: the desk's writer, or else the task model."""
        return writer_of(desk) is not None

    @functools.cached_property
    def _engine(self) -> Engine:
        writer = writer_of(self.desk) or self.desk.model
        return self.desk.scorer.engine if writer is self.desk.model else Engine(writer)

    @functools.cached_property
    def _ends(self) -> frozenset[int] | None:
        return None if chats(self._engine.model) else line_ends(self._engine.model)

    def propose(self, known: Sequence[Known], count: int, seed: int) -> Proposals:
        """The usable ones of what was written; from nonsense there are none."""
        known = [one for one in known if one.prompt.kind == "discrete"]
        if count < 1 or not known:
            return Proposals()
        ways: dict[str, Callable[[_Call], list[_Written]]] = {"opro": self._opro, "reflect": self._reflect}
        if not chats(self._engine.model):
            ways = {"continue": self._continue, **ways}
        rows: list[list[Proposal]] = []
        tokens = 0
        for name, way in ways.items():
            pen = Pen(self._engine, self.desk.writer_tokens // len(ways), self._ends)
            written = way(_Call(pen, known, -(-2 * count // len(ways)), seed_of(seed, "rewrite", name)))
            tokens += pen.tokens
            rows.append(
                [Proposal(replace(known[0].prompt, instruction=text), name, of) for text, of in written if text]
            )
        turns = [proposal for turn in itertools.zip_longest(*rows) for proposal in turn if proposal is not None]
        return Proposals(fresh(turns, known, self.desk, count), tokens)

    def _opro(self, call: _Call) -> list[_Written]:
        """Asked with scored instructions; a model that follows no requests sees a better score to come."""
        metric = self.desk.scorer.metric
        listed = _distinct(call.known)
        chat = chats(self._engine.model)
        hoped = f"\nScore: {_score(_hoped(listed[0].value, metric.maximize))}\nInstruction:"

        def meta(number: int, size: int) -> str:
            rows = [f"Score: {_score(one.value)}\nInstruction: {_line(one.prompt)}" for one in listed[:size]]
            right = in_turns(self.desk.pool, min(size, _RIGHT), seed_of(call.seed, number))
            text = _SCORED.format(
                direction="higher" if metric.maximize else "lower",
                listed="\n\n".join(reversed(rows)),
                right="\n\n".join(_answered(call.best, example) for example in right),
            )
            return text + (_BETTER if chat else hoped)

        asks = _asks(call, meta)
        texts = call.pen.write([ids for ids, _ in asks], _WRITTEN, call.seed)
        return [
            (instruction_in(text, cut), tuple(one.number for one in listed[:size]))
            for (text, cut), (_, size) in zip(texts, asks, strict=True)
        ]

    def _reflect(self, call: _Call) -> list[_Written]:
        """In two steps: what should change, and the instruction so changed."""
        mistakes = self._mistakes(call)
        if not mistakes:
            return []
        cues = ("", "") if chats(self._engine.model) else ("\n\nWhat should change:", "\n\nNew instruction:")
        instruction = call.best.instruction or "(none)"

        def wrong(number: int, size: int) -> str:
            generator = random.Random(f"{call.seed} mistakes {number}")
            shown = generator.sample(mistakes, min(size, _MISTAKES, len(mistakes)))
            return _WRONG.format(instruction=instruction, wrong="\n\n".join(shown)) + cues[0]

        def changed(advice: str) -> Callable[[int], str]:
            words = ", ".join(call.best.label_words.values())
            choice = f"The answers it can choose from: {words}.\n\n" if words else ""
            text = _CHANGED.format(instruction=instruction, advice=advice, choice=choice) + cues[1]
            return lambda size: text

        whole = call.pen.left
        call.pen.left = whole // 2  # the other half is for the second step
        asks = _asks(call, wrong, _ADVICE)
        advised = call.pen.write([ids for ids, _ in asks], _ADVICE, seed_of(call.seed, "advice"))
        call.pen.left += whole - whole // 2
        advice = [" ".join(text.split()) for text, _ in advised]
        found = [ask for text in advice if text and (ask := call.pen.fitting(changed(text), _WRITTEN))]
        texts = call.pen.write([ids for ids, _ in found], _WRITTEN, call.seed)
        return [(instruction_in(text, cut), (call.known[0].number,)) for text, cut in texts]

    def _mistakes(self, call: _Call) -> list[str]:
        """Training examples that the best prompt gets wrong, with the right and the given answer."""
        examples = in_turns(self.desk.pool, self.desk.few(_JUDGED), seed_of(call.seed, "judged"))
        [score] = self.desk.scorer.score([call.best], examples)
        call.pen.tokens += tokens_read(self.desk.scorer, [call.best], examples)
        best, metric, given = call.best, self.desk.scorer.metric, score.outcome.predictions
        wrong = [at for at, example in enumerate(examples) if given[at] != example.label]
        if best.answer.kind != "label":  # what is written is seldom the very words of the right text
            worths = metric.proxy(score.outcome)
            wrong = sorted((at for at in wrong if worths[at] < 1), key=lambda at: float(worths[at]))[: 2 * _MISTAKES]
        told = metric.feedback(score.outcome) or [""] * len(examples)
        return [
            f"{_shown(examples[at])}\nRight answer: {_said(best, examples[at], examples[at].label)}\n"
            f"Given answer: {_said(best, examples[at], given[at])}" + (told[at] and f"\n{told[at]}")
            for at in wrong
        ]

    def _continue(self, call: _Call) -> list[_Written]:
        """A list of instructions in a drawn order, every other time with the best one to be said anew."""
        numbers = {_line(one.prompt): one.number for one in reversed(call.known) if one.prompt.instruction}
        listed = list(reversed(numbers))
        listed += [line for text in self.desk.space.instructions if (line := " ".join(text.split())) not in numbers]
        listed = [line for line in dict.fromkeys(listed) if line]
        if not listed:
            return []

        def order(size: int, number: int) -> list[str]:
            return random.Random(f"{call.seed} list {number}").sample(listed, min(size, len(listed)))

        def meta(number: int, size: int) -> str:
            text = "\n".join(f"Instruction: {line}" for line in order(size, number))
            return text + ("\nInstruction:" if number % 2 == 0 else "\nIn other words:")

        asks = _asks(call, meta)
        texts = call.pen.write([ids for ids, _ in asks], _WRITTEN, call.seed)
        found = []
        for number, ((text, cut), (_, size)) in enumerate(zip(texts, asks, strict=True)):
            parents = sorted(numbers[shown] for shown in order(size, number) if shown in numbers)
            found.append((instruction_in(text, cut), tuple(parents)))
        return found


def _asks(call: _Call, build: Callable[[int, int], str], new_tokens: int = _WRITTEN) -> list[tuple[Ids, int]]:
    """What the writer is to read, as often as the budget allows, each with the size that it has."""
    asks = []
    for number in range(call.count):
        ask = call.pen.fitting(functools.partial(build, number), new_tokens)
        if ask is None:
            break
        asks.append(ask)
    return asks


def _distinct(known: Sequence[Known]) -> list[Known]:
    """The best one of each instruction."""
    best: dict[str, Known] = {}
    for one in known:
        best.setdefault(one.prompt.instruction, one)
    return list(best.values())


def _line(prompt: Prompt) -> str:
    return " ".join(prompt.instruction.split()) or "(empty)"


def _score(value: float) -> str:
    """A score as it is shown: shares as whole numbers of 100."""
    return str(round(100 * value)) if 0 <= value <= 1 else f"{value:.3g}"


def _hoped(value: float, maximize: bool) -> float:
    """A score that is better than the best: a third of the way to a perfect share."""
    if not 0 <= value <= 1:
        return value
    return value + (1 - value) / 3 if maximize else value * 2 / 3


def _shown(example: Example) -> str:
    return "\n".join(f"Input {name}: {' '.join(text.split())[:_LONG]}" for name, text in example.fields.items())


def _answered(prompt: Prompt, example: Example) -> str:
    return f"{_shown(example)}\nAnswer: {_said(prompt, example, example.label)}"


def _said(prompt: Prompt, example: Example, label: str) -> str:
    """A target or an answer as the prompt shows it."""
    if prompt.answer.kind in ("label", "option"):
        return prompt.answer.shown(prompt.label_words, example.fields, label)
    return " ".join(label.split())[:_LONG]
