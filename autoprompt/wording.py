"""Texts of others, shown so that nothing in them acts: neither on a terminal nor in Markdown.

Prompts, labels, file names, models' names and the reasons of errors come from data, from models and from
whoever wrote the files that are read. They may hold escape sequences, marks that turn the direction of
writing, HTML, links and tables.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["fenced", "inline", "plain"]

# those that turn the direction of writing (Boucher & Anderson 2021, "Trojan Source")
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_ACTING = {"Cc", "Cs", "Zl", "Zp"}  # controls, halves of pairs, separators of lines and paragraphs

_MARKS = re.compile(
    r"[\\`*\[\]|~$]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # an underscore inside a word does nothing
    r"|(?<=:)/(?=/)|(?<=www)\.(?=\S)"  # where an address would become a link by itself
    r"|^[#+=>-]|(?<=^\d)[.)]|(?<=^\d\d)[.)]",  # where a line would become a heading, a list, a quotation
    re.IGNORECASE,
)
_ENTITIES = {"<": "&lt;", "&": "&amp;"}  # not every reader knows a backslash in front of these


def plain(text: str) -> str:
    """The text with what acts on a terminal written out, as Python would; line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written(character) if _acts(character) else character for character in text.replace("\r\n", "\n"))


def _acts(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in _TURNING or unicodedata.category(character) in _ACTING


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def inline(text: object) -> str:
    """The text on one line of Markdown, also in a table's cell, where it shows as it is."""
    line = " ".join(plain(str(text)).split())
    line = _MARKS.sub(lambda mark: "\\" + mark[0], line)
    return re.sub(r"<|&(?=[#\w])", lambda mark: _ENTITIES[mark[0]], line)


def fenced(text: str, language: str = "text") -> str:
    """The text as a block of code in Markdown, in a fence that it cannot close."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{plain(text)}\n{fence}"
