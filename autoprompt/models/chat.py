"""Turns of a conversation, as a tokenizer's own chat template frames them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jinja2

from autoprompt.chat import Turn
from autoprompt.errors import ModelError, PromptError

__all__ = ["ChatTemplate"]

# what a template that somebody else wrote may raise when it is rendered, or when there is none of the name "default"
_RENDERING = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_SYSTEM, _USER, _SAID = "Answer in one word.", "Which word?", "Nothing"  # what templates are tried with


class ChatTemplate:
    """The chat template of a tokenizer. name: of the model, for what errors say.

    What is put into a turn is framed as it is: a text that spells a special token, such as "<|im_end|>", is read as
    that token and can end its turn, as with the template itself.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name

    def require(self) -> None:
        """Raise ModelError when the template cannot frame a question, a question behind an answer, or a system text."""
        try:
            self.texts([(("user", _USER),), (("user", _USER), ("assistant", _SAID), ("user", _USER))])
        except PromptError as error:
            raise ModelError(
                f'The chat template of the model {self._name!r} is of no use: {error} Set prompt.chat = "none".'
            ) from None

    def texts(self, conversations: Sequence[Sequence[Turn]]) -> list[str]:
        """Each conversation as one text, with what begins the next answer at its end.

        A template without a role for the system gets its text in front of the first question, two line breaks
        between. Raises PromptError when the template cannot frame one.
        """
        found = [self._merged(turns) for turns in conversations]
        try:
            return self._framed(found)
        except _RENDERING as error:
            raise PromptError(
                f"The chat template of the model {self._name!r} cannot be rendered ({type(error).__name__}: {error})."
            ) from None

    @cached_property
    def system(self) -> bool:
        """Whether it has a role for the system; some templates raise for it, some say nothing and leave it out."""
        try:
            return _SYSTEM in self._framed([(("system", _SYSTEM), ("user", _USER))])[0]
        except _RENDERING:
            return False

    @cached_property
    def ends(self) -> frozenset[int]:
        """The special token that the template puts behind an answer, which ends what a model says; none where there is
        no such token."""
        try:
            text = self._framed([(("user", _USER), ("assistant", _SAID))], opened=False)[0]
        except _RENDERING:
            return frozenset()
        _, found, behind = text.rpartition(_SAID)
        if not found or not behind.strip():
            return frozenset()
        ids = self._tokenizer(behind.lstrip(), add_special_tokens=False)["input_ids"]
        marked = self._tokenizer.added_tokens_decoder
        special = {*self._tokenizer.all_special_ids, *(at for at, token in marked.items() if token.special)}
        return frozenset(ids[:1]) & special

    def _merged(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        if turns[0][0] != "system" or self.system:
            return turns
        (_, text), (role, question), *rest = turns
        return ((role, f"{text}\n\n{question}"), *rest)

    def _framed(self, conversations: Sequence[Sequence[Turn]], opened: bool = True) -> list[str]:
        messages = [[{"role": role, "content": content} for role, content in turns] for turns in conversations]
        # some templates open a block of reasoning unless they are told not to; the others do not read that name
        texts = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=opened, enable_thinking=False
        )
        return [str(text) for text in texts]
