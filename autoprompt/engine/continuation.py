"""Ids as the text that a context goes on with, and the stop strings in it while it is written."""

from __future__ import annotations

from collections.abc import Sequence

from autoprompt.engine.request import Ids
from autoprompt.models import LanguageModel

__all__ = ["Detokenizer", "StopWatch", "cut"]

_BEFORE = 8  # tokens of a context that are decoded with what follows: more than a character or a word's mark takes
_HALF = "\ufffd"  # stands for bytes that make no character yet
_MOST_HALVES = 8  # tokens that are waited for to make whole characters of what never will


class Detokenizer:
    """Decodes what was written.

    Tokenizers join words in different ways: a mark before a word is a space behind other text, and nothing at
    the beginning. So ids are decoded with the last tokens of what they go on from, which are taken off again.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._tokenizer = model.tokenizer
        self._anew = model.family == "seq2seq"  # its text does not go on from the context
        marked = model.tokenizer.added_tokens_decoder
        self.specials = frozenset([*model.tokenizer.all_special_ids, *(at for at, t in marked.items() if t.special)])

    def before(self, context: Ids) -> Ids:
        """The last tokens of a context that show in a text; none where the text begins anew: behind another text, or
        where a special token, such as one of a chat template, stands directly before it."""
        if self._anew or (context and context[-1] in self.specials):
            return ()
        return self._visible(context[-64:])[-_BEFORE:] or self._visible(context)[-_BEFORE:]

    def text(self, before: Ids, ids: Sequence[int]) -> str:
        """The text of ids behind `before`."""
        head, whole = self._decoded(before), self._decoded((*before, *self._visible(ids)))
        if whole.startswith(head):
            return whole[len(head) :]
        # the first ids complete a character of `before`
        return whole[next((at for at, (a, b) in enumerate(zip(head, whole, strict=False)) if a != b), len(whole)) :]

    def _visible(self, ids: Sequence[int]) -> Ids:
        return tuple(token for token in ids if token >= 0 and token not in self.specials)

    def _decoded(self, ids: Ids) -> str:
        if not ids:
            return ""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


class StopWatch:
    """Tells when one of the stop strings has been written; a step costs the last tokens alone."""

    def __init__(self, detokenizer: Detokenizer, before: Ids, stop: tuple[str, ...]) -> None:
        self._detokenizer, self._before, self._stop = detokenizer, before, stop
        self._pending: Ids = ()  # behind `before`; they end within a character
        self._tail = ""  # of the text so far: what a stop string may begin in
        self._reach = max(map(len, stop)) - 1

    def add(self, token: int) -> bool:
        """Take in the next token; True when a stop string stands in the text."""
        if token in self._detokenizer.specials:
            return False
        self._pending += (token,)
        seen = self._tail + self._detokenizer.text(self._before, self._pending)
        if any(stop in seen for stop in self._stop):
            return True
        if not seen.endswith(_HALF) or len(self._pending) >= _MOST_HALVES:
            self._before, self._pending = self._pending, ()
            self._tail = seen[len(seen) - self._reach :] if len(seen) > self._reach else seen
        return False


def cut(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """The text before the first stop string, and whether there is any."""
    at = min((place for found in stop if (place := text.find(found)) >= 0), default=-1)
    return (text, False) if at < 0 else (text[:at], True)
