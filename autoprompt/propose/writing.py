"""A model that writes: what it is asked, what it may cost, and the instruction in what it wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from autoprompt.engine import Engine, Request
from autoprompt.engine.request import Ids
from autoprompt.models import LanguageModel
from autoprompt.propose.base import Desk

__all__ = ["Pen", "chats", "instruction_in", "line_ends", "loops", "usable", "writer_of"]

_SIZES = (8, 4, 2, 1)  # how much is shown: less where the window or the budget is small
_TEMPERATURE = 0.8
_MOST_LINES, _FEWEST_WORDS, _MOST_WORDS = 8, 3, 100  # of an instruction


def writer_of(desk: Desk) -> LanguageModel | None:
    """The model that writes: the desk's writer, or else the task model; None where that cannot write."""
    writer = desk.writer or desk.model
    return writer if writer.family in ("causal", "seq2seq") else None


def chats(model: LanguageModel) -> bool:
    """Whether a model was trained to answer requests, which its tokenizer frames."""
    return bool(getattr(model.tokenizer, "chat_template", None))


def line_ends(model: LanguageModel) -> frozenset[int]:
    """The tokens that end a line, and those that end a text: only the first line of a list is of use."""
    tokenizer = model.tokenizer
    own = model.network.generation_config.eos_token_id
    lines = (at for at in range(len(tokenizer)) if "\n" in str(tokenizer.decode([at])))
    return frozenset([*([] if own is None else [own] if isinstance(own, int) else own), *lines])


class Pen:
    """A writer with a budget. left: how many tokens it may still read and write. tokens: what the work took
    so far. ends: the tokens that end a text; None takes the model's own."""

    def __init__(self, engine: Engine, budget: int, ends: frozenset[int] | None = None) -> None:
        self.engine, self.left, self.tokens, self.ends = engine, budget, 0, ends

    def fitting(self, build: Callable[[int], str], new_tokens: int) -> tuple[Ids, int] | None:
        """The ids of `build(size)` for the greatest size that leaves room to write, and the size.

        What is given back is taken from the budget, and has to be written on.
        """
        window = self.engine.model.window
        room = min(self.left, window or self.left) - new_tokens
        for size in _SIZES:
            ids = self._ids(build(size))
            if 0 < len(ids) <= room:
                self.left -= len(ids) + new_tokens
                return ids, size
        return None

    def write(self, contexts: Sequence[Ids], new_tokens: int, seed: int) -> list[tuple[str, bool]]:
        """The text behind each context, drawn from `seed`, and whether it was cut off."""
        requests = [Request(ids, ()) for ids in contexts]
        found = self.engine.generate(requests, new_tokens, _TEMPERATURE, seed, self.ends)
        self.tokens += sum(map(len, contexts)) + sum(map(len, found))
        decode = self.engine.model.tokenizer.decode
        return [(str(decode(list(ids), skip_special_tokens=True)), len(ids) == new_tokens) for ids in found]

    def _ids(self, text: str) -> Ids:
        model = self.engine.model
        if chats(model):
            said = [{"role": "user", "content": text}]
            framed = model.tokenizer.apply_chat_template(
                said, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            return model.ids([framed], special=False)[0]
        before, after = model.specials
        return before + model.ids([text], special=False)[0] + (after if model.family == "seq2seq" else ())


# -- reading what was written ----------------------------------------------------------------------

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.S | re.I)
_TAGGED = re.compile(r"<INS>(.*?)(</INS>|\Z)", re.S | re.I)
_TAG = re.compile(r"</?\w{1,12}>|```\w*")
_NEXT = re.compile(r"\s*\b(?:Instruction|Score|Input|Answer|In other words)\s*:", re.I)  # the list goes on
_LEAD = re.compile(
    r"^(?:[-*•#>]+\s+|\(?\d{1,2}[.):]\s+)*(?:[*_#]{0,3}(?:the |a |my |your )?"
    r"(?:(?:new|improved|better|revised|updated|final)\s+)*(?:instruction|prompt)[*_]{0,2}:[*_]{0,2}\s*)?",
    re.I,
)
_QUOTES = (("**", "**"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("`", "`"), ("*", "*"), ("«", "»"))


def instruction_in(text: str, cut: bool = False) -> str:
    """The instruction in a text that a model wrote, or "" when there is none to use.

    Between <INS> and </INS> if it has them; else its first paragraph that is no announcement.
    cut: the text was cut off, so that only its whole sentences count.

    >>> instruction_in('Here it is:\\n\\n1. "Name the topic of the text."\\n\\nI hope this helps.')
    'Name the topic of the text.'
    """
    text = _THOUGHT.sub("", text)
    tagged = _TAGGED.search(text)
    body = tagged[1] if tagged else _paragraph(text)
    body = _NEXT.split(_unquoted(_TAG.sub("", body)))[0]
    lines = [" ".join(line.split()) for line in body.splitlines()]
    body = _unquoted("\n".join(line for line in lines if line))
    if cut and not (tagged and tagged[2]):
        body = body[: max(body.rfind(end) for end in ".!?") + 1]
    return body if len(body.split()) >= _FEWEST_WORDS and usable(body) else ""


def _paragraph(text: str) -> str:
    """The first paragraph, the next where it announces one with a colon at its end."""
    paragraphs = [found for part in re.split(r"\n\s*\n", text) if (found := part.strip())]
    while len(paragraphs) > 1 and paragraphs[0].endswith(":"):
        paragraphs.pop(0)
    return paragraphs[0] if paragraphs else ""


def _unquoted(text: str) -> str:
    """Without numbers, the word "instruction" or quotation marks around it."""
    before = None
    while text != before:
        before = text
        text = _LEAD.sub("", text.strip(), count=1).strip()
        for first, last in _QUOTES:
            inner = text[len(first) : -len(last)]
            if inner and text.startswith(first) and text.endswith(last) and first not in inner:
                text = inner
    return text


def usable(text: str) -> bool:
    """Whether it reads like an instruction: words, mostly of letters, no loop, nothing that is code."""
    words = text.split()
    letters = sum(character.isalpha() or character.isspace() for character in text)
    return (
        0 < len(words) <= _MOST_WORDS
        and text.count("\n") < _MOST_LINES
        and letters >= 0.8 * len(text)
        and not loops(text)
        and all(character.isprintable() or character == "\n" for character in text)
        and not any(mark in text for mark in ("{", "}", "<", ">", "\ufffd"))
    )


def loops(text: str) -> bool:
    """Whether a text says the same words again and again."""
    words = text.casefold().split()
    return len(set(words)) < 0.5 * len(words)
