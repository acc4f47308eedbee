"""Two texts word by word: what the second left out of the first, and what it put in."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from autoprompt.report.page.markup import LONG, cut

__all__ = ["beside", "inside"]

_WORDS = re.compile(r"\w+|\s+|[^\w\s]")
_MOST = 1_200  # words of a passage that are compared one by one
_ALIKE = 0.3  # passages with less in common are shown as one replaced by the other

Piece = tuple[str, str]  # "same", "out" or "in", and the text


def beside(before: str, after: str, titles: tuple[str, str], limit: int = LONG) -> str:
    """The two texts side by side, each with what the other has not marked in it."""
    pieces = _pieces(cut(before, limit), cut(after, limit))
    left = _marked([piece for piece in pieces if piece[0] != "in"])
    right = _marked([piece for piece in pieces if piece[0] != "out"])
    return (
        f'<div class="pair"><div><h3>{titles[0]}</h3><div class="text" dir="auto">{left}</div></div>'
        f'<div><h3>{titles[1]}</h3><div class="text" dir="auto">{right}</div></div></div>'
    )


def inside(before: str, after: str, limit: int = 4_000) -> str:
    """Both as one text, what was left out and put in marked in their places."""
    return f'<div class="text" dir="auto">{_marked(_pieces(cut(before, limit), cut(after, limit)))}</div>'


def _marked(pieces: Sequence[Piece]) -> str:
    tags = {"out": "del", "in": "ins"}
    return "".join(
        html.escape(text) if kind == "same" else f"<{tags[kind]}>{html.escape(text)}</{tags[kind]}>"
        for kind, text in pieces
    )


def _pieces(before: str, after: str) -> list[Piece]:
    """Lines first, and words inside the lines that differ."""
    first, second = before.splitlines(keepends=True), after.splitlines(keepends=True)
    found: list[Piece] = []
    for kind, a, b, c, d in SequenceMatcher(None, first, second).get_opcodes():
        old, new = "".join(first[a:b]), "".join(second[c:d])
        found += [("same", old)] if kind == "equal" else _words(old, new)
    return _joined(found)


def _words(old: str, new: str) -> list[Piece]:
    """The words of two passages that differ."""
    replaced = [("out", old), ("in", new)]
    first, second = _WORDS.findall(old), _WORDS.findall(new)
    if not first or not second or max(len(first), len(second)) > _MOST:
        return replaced
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    found: list[Piece] = []
    alike = 0
    for kind, a, b, c, d in matcher.get_opcodes():
        passage = "".join(first[a:b])
        if kind == "equal" and (passage.strip() or b - a == len(first)):
            alike += len(passage)
            found.append(("same", passage))
        else:  # a space between two changed words is no island
            found += [("out", passage), ("in", "".join(second[c:d]))]
    return found if alike >= _ALIKE * min(len(old), len(new)) else replaced


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbours of one kind as one; of what changed, first all that went, then all that came."""
    found: list[Piece] = []
    out = new = ""
    for kind, text in [*pieces, ("same", "")]:
        if kind == "out":
            out += text
        elif kind == "in":
            new += text
        elif text or (out or new):
            found += [(name, held) for name, held in (("out", out), ("in", new)) if held]
            found += [("same", text)] if text else []
            out = new = ""
    return found
