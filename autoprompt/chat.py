"""A prompt as the turns of a conversation, for models whose tokenizer has a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["VECTORS", "Chat", "Turn", "told", "turns_of", "with_mark"]

Chat = Literal["none", "turns", "one"]
Turn = tuple[str, str]  # role ("system", "user" or "assistant") and content
VECTORS = "\ue0a2"  # a private-use character stands in a content where soft vectors go


def turns_of(system: str, worked: Sequence[tuple[str, str]], last: str) -> tuple[Turn, ...]:
    """The system's turn, where there is a text for it, each worked example as question and answer, and the last
    question."""
    said = [("system", system)] if system else []
    for question, answer in worked:
        said += [("user", question), ("assistant", answer)]
    return tuple((role, content.replace(VECTORS, "\ufffd")) for role, content in [*said, ("user", last)])


def with_mark(turns: Sequence[Turn], turn: int, at: int) -> tuple[Turn, ...]:
    """The turns with the mark of vectors at a place of one's content.

    Chat templates may trim what is said; so the mark stands inside of the space at either end.
    """
    role, content = turns[turn]
    end = len(content.rstrip())
    place = max(min(at, end), min(len(content) - len(content.lstrip()), end))
    made = list(turns)
    made[turn] = (role, content[:place] + VECTORS + content[place:])
    return tuple(made)


def told(turns: Sequence[Turn], answer: str, vectors: str) -> str:
    """A conversation as plain text: each turn's role on a line of its own, and the answer. vectors: what stands for
    soft vectors; where no turn has their mark, they are before the answer."""
    marked = any(VECTORS in content for _, content in turns)
    lines = [f"[{role}]\n{content.replace(VECTORS, vectors)}" for role, content in turns]
    return "\n".join([*lines, f"[assistant]\n{'' if marked else vectors}{answer}"])
