"""Texts cut where a tokenizer always cuts, so that each distinct piece is tokenized once.

Prompts of one search share most of their lines. A byte-level BPE tokenizer first splits a text by a
pattern and then works on each part alone; behind a line break that a letter or digit follows, and
between a letter or colon and a space that a letter follows, the usual patterns (GPT-2's, Llama 3's, Qwen's)
always split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

__all__ = ["Pieces"]

Ids = tuple[int, ...]
_LINES = re.compile(r"(?<=\n)(?=[A-Za-z0-9])")
_WORDS = re.compile(r"(?<=[A-Za-z:])(?= [A-Za-z])")
_NEXT = "a"  # stands for the letter behind a line break: a pattern may look one character ahead
_KEPT = 200_000  # pieces, before they are forgotten
_CHECKED = 64  # texts that are first tokenized both ways; later every so many


class Pieces:
    """Token ids, without special tokens, by pieces; exact, or not used.

    >>> from autoprompt.models import load_model
    >>> pieces = Pieces(load_model("builtin").tokenizer)
    >>> pieces.usable
    True
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, Ids] = {}  # by the piece, with _NEXT behind it where it ends a line
        self._count = 0
        self.usable = _splits_by_pattern(tokenizer)

    def ids(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text."""
        if not self.usable:
            return self._whole(texts)
        if len(self._known) > _KEPT:
            self._known.clear()
        cut = [_cut(text) for text in texts]
        new = list(dict.fromkeys(piece for pieces in cut for piece in pieces if piece not in self._known))
        for piece, ids in zip(new, self._whole(new), strict=True):
            # the letter behind a line break is one token of its own, or there are no pieces
            self._known[piece] = ids[:-1] if piece.endswith("\n" + _NEXT) else ids
        found = [tuple(chain.from_iterable(map(self._known.__getitem__, pieces))) for pieces in cut]
        return found if self._same(texts, found) else self._whole(texts)

    def _same(self, texts: Sequence[str], found: Sequence[Ids]) -> bool:
        """Whether samples agree with the tokenizer; if not, pieces are not used any more."""
        sample = [n for n in range(len(texts)) if self._count + n < _CHECKED or (self._count + n) % (4 * _CHECKED) == 0]
        self._count += len(texts)
        self.usable = self._whole([texts[n] for n in sample]) == [found[n] for n in sample]
        return self.usable

    def _whole(self, texts: Sequence[str]) -> list[Ids]:
        if not texts:
            return []
        encoded = self._tokenizer(
            list(texts), add_special_tokens=False, padding=False, truncation=False, verbose=False
        )["input_ids"]
        return [tuple(ids) for ids in encoded]


def _cut(text: str) -> list[str]:
    """The pieces: lines, the last one in words."""
    lines = _LINES.split(text)
    return [*(line + _NEXT for line in lines[:-1]), *_WORDS.split(lines[-1])]


def _splits_by_pattern(tokenizer: Any) -> bool:
    """Whether a tokenizer is a byte-level BPE that splits by a pattern and changes nothing before."""
    if not getattr(tokenizer, "is_fast", False):
        return False
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    normalizer, before, model = described["normalizer"], described["pre_tokenizer"], described["model"]
    if any(map(_holds_a_cut, described["added_tokens"])):
        return False
    if model["type"] != "BPE" or before is None or (normalizer is not None and normalizer["type"] != "NFC"):
        return False
    parts = before["pretokenizers"] if before["type"] == "Sequence" else [before]
    levels = [part for part in parts if part["type"] == "ByteLevel"]
    others = {part["type"] for part in parts} - {"ByteLevel", "Split", "Digits"}
    split = any(part["type"] == "Split" or part.get("use_regex") for part in parts)
    return len(levels) == 1 and not levels[0]["add_prefix_space"] and split and not others


def _holds_a_cut(token: Mapping[str, Any]) -> bool:
    """Whether an added token, which is found before a text is split, may reach across a place where it is cut."""
    text = str(token["content"])
    inside = any(0 < found.start() < len(text) for pattern in (_LINES, _WORDS) for found in pattern.finditer(text))
    # one that takes the space around it with it, or that stands between the ends of words alone
    strips = (token["rstrip"] and re.search(r"[A-Za-z:]$", text)) or (token["lstrip"] and re.match("[A-Za-z0-9]", text))
    return bool(inside or strips or token["single_word"])
