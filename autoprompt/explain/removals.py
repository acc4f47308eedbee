"""What can be left out of a prompt, one thing at a time; never the input or the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from autoprompt.data import Example
from autoprompt.demonstrations import Demonstration
from autoprompt.explain.attempts import said
from autoprompt.prompt import Prompt
from autoprompt.propose.phrases import phrases, sentences
from autoprompt.scorer import Scorer

__all__ = ["Shorter", "call_tokens"]

_ENDS = ".!?:"


@dataclass(frozen=True)
class Shorter:
    """A prompt with what was left out of it. numbers: the places that its demonstrations had before."""

    prompt: Prompt
    dropped: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()

    @classmethod
    def whole(cls, prompt: Prompt) -> Shorter:
        return cls(prompt, (), tuple(range(1, len(prompt.demonstrations) + 1)))

    def removals(self) -> list[Shorter]:
        """The prompts with one thing less: a demonstration, one of those that are like the input, the instruction, a
        sentence of it, a phrase that does not begin its sentence, or a soft prompt's vectors."""
        return [*self._fewer_demonstrations(), *self._shorter_instructions(), *self._without_vectors()]

    def _fewer_demonstrations(self) -> Iterator[Shorter]:
        shown, retrieval = self.prompt.demonstrations, self.prompt.retrieval
        for at, number in enumerate(self.numbers):
            prompt = replace(self.prompt, demonstrations=_without(shown, at))
            numbers = (*self.numbers[:at], *self.numbers[at + 1 :])
            yield Shorter(prompt, (*self.dropped, f"demonstration {number}"), numbers)
        if retrieval is not None:
            less = replace(retrieval, number=retrieval.number - 1) if retrieval.number > 1 else None
            yield self._with(replace(self.prompt, retrieval=less), "a demonstration that is like the input")

    def _shorter_instructions(self) -> Iterator[Shorter]:
        text = self.prompt.instruction
        if not text.strip():
            return
        yield self._with(replace(self.prompt, instruction=""), f"instruction {said(text)}")
        lines = sentences(text)
        for at, line in enumerate(lines):
            if len(lines) > 1:
                rest = "".join([*lines[:at], *lines[at + 1 :]]).strip()
                yield self._with(replace(self.prompt, instruction=rest), f"sentence {said(line)}")
            for phrase, rest in _phrases_out(line):
                whole = "".join([*lines[:at], rest, *lines[at + 1 :]])
                yield self._with(replace(self.prompt, instruction=whole), f"phrase {said(phrase)}")

    def _without_vectors(self) -> Iterator[Shorter]:
        if self.prompt.soft is not None:
            yield self._with(replace(self.prompt, soft=None), f"{len(self.prompt.soft.vectors)} vectors")

    def _with(self, prompt: Prompt, dropped: str) -> Shorter:
        return replace(self, prompt=prompt, dropped=(*self.dropped, dropped))


def _without(shown: Sequence[Demonstration], at: int) -> tuple[Demonstration, ...]:
    return (*shown[:at], *shown[at + 1 :])


def _phrases_out(line: str) -> Iterator[tuple[str, str]]:
    """Each phrase of a sentence but the first, and the sentence without it, which ends as it did."""
    pieces = phrases(line)
    body = line.rstrip()
    end = (body[-1] if body[-1:] and body[-1] in _ENDS else "") + line[len(body) :]
    for at in range(1, len(pieces)):
        rest = "".join([*pieces[:at], *pieces[at + 1 :]])
        yield pieces[at], rest if at + 1 < len(pieces) else rest.rstrip(" ,;:") + end


def call_tokens(scorer: Scorer, prompt: Prompt, examples: Sequence[Example]) -> float:
    """Tokens that one call reads before it answers, in the mean over `examples`; a soft prompt's vectors count."""
    encodings = scorer.encode(prompt, [dict(example.fields) for example in examples])
    return sum(len(encoding.context) + len(encoding.tail) for encoding in encodings) / len(encodings)
