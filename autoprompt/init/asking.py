"""Up to four questions at the terminal, each with an answer that Enter takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autoprompt.errors import nearest
from autoprompt.wording import plain

__all__ = ["Ask", "chosen", "several"]

Ask = Callable[[str], str]  # a question in, the answer out; raises EOFError where there is nobody

_TRIES = 3


def chosen(ask: Ask, question: str, guess: str, allowed: Sequence[str] = ()) -> str:
    """One of those that are allowed, or any text where none are named; the guess where Enter is pressed."""
    [found] = _answered(ask, question, [guess], allowed, one=True)
    return found


def several(ask: Ask, question: str, guess: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """Some of those that are allowed, parted by commas; the guess where Enter is pressed."""
    return _answered(ask, question, guess, allowed, one=False)


def _answered(ask: Ask, question: str, guess: Sequence[str], allowed: Sequence[str], one: bool) -> list[str]:
    shown = plain(f"{question} [{', '.join(guess)}] ")
    told = ""
    for _ in range(_TRIES):
        try:
            text = ask(told + shown).strip()
        except EOFError:
            break
        if not text:
            break
        found = [text] if one or text in allowed else [part.strip() for part in text.split(",") if part.strip()]
        strange = next((part for part in found if allowed and part not in allowed), None)
        if strange is None:
            return found
        told = plain(f"{strange!r} is none of {', '.join(allowed)}.{nearest(strange, allowed)}") + "\n"
    return list(guess)
