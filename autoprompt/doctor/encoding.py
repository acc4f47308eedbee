"""Texts that were damaged on their way: wrong encodings, markup, signs that cannot be seen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html.entities import html5
from statistics import median
from typing import Any

from autoprompt.data import Example, Splits
from autoprompt.doctor.finding import fine, number_of, percent, problem, quoted, warning
from autoprompt.events import Finding

__all__ = ["examine_encoding", "repaired"]

_MANY = 0.05  # of all texts
_LONG, _TIMES = 2_000, 20  # characters, and times the median length

# -- UTF-8 that was read as Latin-1 or cp1252 ------------------------------------------------------

_BYTES = {bytes([byte]).decode("cp1252"): byte for byte in range(0x80, 0xA0) if byte not in b"\x81\x8d\x8f\x90\x9d"}
_BYTES |= {chr(byte): byte for byte in range(0x80, 0x100)}


def _read_as(first: int, last: int) -> str:
    """The characters, as part of a class, that bytes become in Latin-1 or cp1252."""
    return "".join(re.escape(sign) for sign, byte in _BYTES.items() if first <= byte <= last)


_NEXT = f"[{_read_as(0x80, 0xBF)}]"
_ANY = f"(?:[{_read_as(0xC2, 0xDF)}]{_NEXT}|[{_read_as(0xE0, 0xEF)}]{_NEXT}{{2}}|[{_read_as(0xF0, 0xF4)}]{_NEXT}{{3}})"
# One alone is damage where it is an accented letter (not behind a capital, where a word may end so), a sign of
# Latin-1, punctuation, a byte-order mark or an emoji; others, which might stand in good texts ("e" with an accent,
# a space that does not break, a quotation mark), only two in a row.
_ALONE = (
    f"(?<![A-Z\u00c0-\u00de])\u00c3{_NEXT}|\u00c2[\u0080-\u00bf]|\u00e2{_NEXT}{{2}}"
    f"|\u00ef[\u00bb\u00bc\u00bf]{_NEXT}|\u00f0{_NEXT}{{3}}"
)
_MOJIBAKE = re.compile(f"{_ANY}{{2,}}|{_ALONE}")


def repaired(text: str) -> str:
    """The text with UTF-8 that was read as Latin-1 or cp1252, once or more often, read as UTF-8.

    >>> repaired("caf\\u00c3\\u00a9") == "caf\\u00e9"
    True
    """
    for _ in range(4):
        better = _MOJIBAKE.sub(_decoded, text)
        if better == text:
            break
        text = better
    return text


def _decoded(found: re.Match[str]) -> str:
    try:
        return bytes(_BYTES[sign] for sign in found[0]).decode("utf-8")
    except UnicodeDecodeError:
        return found[0]


def _mojibake(text: str) -> int:
    return next((m.start() for m in _MOJIBAKE.finditer(text) if _decoded(m) != m[0]), -1)


# -- the other kinds ---------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ENTITY = re.compile(r"&([a-zA-Z][a-zA-Z0-9]{1,31};|#\d{1,7};|#[xX][0-9a-fA-F]{1,6};)")
_TAG = re.compile(
    r"</?(?:a|b|blockquote|body|br|code|div|em|font|h[1-6]|head|hr|html|i|img|li|ol|p|pre|script|span|strong|style|sub|sup"
    r"|table|tbody|td|th|thead|tr|u|ul)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
# joiners are at home in emoji and in scripts whose letters join: damage only beside plain letters
_UNSEEN = re.compile("[\u00ad\u180e\u200b\u2060-\u2064]|(?<=[ -~])[\u200c\u200d]|[\u200c\u200d](?=[ -~])")
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
_MARKING = re.compile("[\u061c\u200e\u200f]")
_LEFTWARD = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")  # letters of scripts from right to left
_NOTHING = {"nan", "null", "none", "n/a", "undefined", "#n/a", "[removed]", "[deleted]"}


def _place(pattern: re.Pattern[str]) -> Callable[[str], int]:
    return lambda text: found.start() if (found := pattern.search(text)) else -1


def _control(text: str) -> int:
    """Those of wrongly read UTF-8 do not count."""
    return _place(_CONTROL)(_MOJIBAKE.sub(lambda found: "." * len(found[0]), text))


def _markup(text: str) -> int:
    entity = next((m.start() for m in _ENTITY.finditer(text) if m[1][0] == "#" or m[1] in html5), -1)
    return entity if entity >= 0 else _place(_TAG)(text)


def _turned(text: str) -> int:
    turning = _place(_TURNING)(text)
    return turning if turning >= 0 or _LEFTWARD.search(text) else _place(_MARKING)(text)


def _empty(text: str) -> int:
    says = any(sign.isalnum() or unicodedata.category(sign) == "So" for sign in text)  # an emoji says something
    return -1 if says and text.casefold() not in _NOTHING else 0


@dataclass(frozen=True)
class _Kind:
    """A kind of damage: what the texts hold, where a text holds it (or -1), and what to do."""

    name: str
    what: str
    place: Callable[[str], int]
    advice: str
    grave: bool = False


_KINDS = (
    _Kind(
        "mojibake",
        "UTF-8 that was read as Latin-1 or cp1252",
        _mojibake,
        "Read the source again as UTF-8 and save it anew.",
        True,
    ),
    _Kind(
        "replacement",
        'the sign U+FFFD or "\ufffd" for what could not be read',
        lambda text: text.find("\ufffd"),
        "The letters are lost: export the texts again from their source.",
        True,
    ),
    _Kind("control", "control characters", _control, "Remove them.", True),
    _Kind("byte-order mark", "a byte-order mark", lambda text: text.find("\ufeff"), "Remove U+FEFF."),
    _Kind("markup", "HTML", _markup, "Unescape entities and strip tags, unless the inputs in use will have them too."),
    _Kind("unseen", "signs that cannot be seen (zero width)", _place(_UNSEEN), "Remove them: they split words."),
    _Kind("direction", "marks that turn the direction of writing", _turned, "Remove them."),
    _Kind("empty", "nothing to read (signs alone, or a word such as null)", _empty, "Remove the rows."),
)


def examine_encoding(splits: Splits) -> list[Finding]:
    """A finding for each kind of damage: how many texts have it, and one of train or dev. Of test, counts alone."""
    rows = [*_rows("train", splits.train), *_rows("dev", splits.dev)]
    found = [finding for kind in _KINDS if (finding := _counted(kind, rows, splits)) is not None]
    found += [*_forms(rows, splits), *_lengths(rows, splits)]
    return found or [fine("encoding", "No text shows damage of encoding, markup or signs that cannot be seen.")]


def _rows(name: str, examples: Iterable[Example]) -> list[tuple[str, str]]:
    """Each text with where it stands."""
    return [(f"{name} row {e.number}", text) for e in examples for text in e.fields.values()]


def _counted(kind: _Kind, rows: Sequence[tuple[str, str]], splits: Splits) -> Finding | None:
    hits = [(row, text) for row, text in rows if kind.place(text) >= 0]
    tested = _in_test(splits, lambda text: kind.place(text) >= 0)
    if not hits and not tested:
        return None
    details: dict[str, Any] = {"kind": kind.name, "texts": len(hits), "test": tested}
    message = f"{_some(len(hits), len(rows), tested)} {kind.what}"
    if hits:
        row, text = hits[0]
        details |= {"row": row, "example": quoted(text, around=kind.place(text))}
        message += f", for instance {row}: {details['example']}"
        if kind.name == "mojibake":
            message += f" for {quoted(repaired(text), around=kind.place(text))}"
    many = len(hits) >= _MANY * len(rows) or tested >= _MANY * _texts(splits)
    return (problem if kind.grave and many else warning)("encoding", f"{message}. {kind.advice}", **details)


def _some(hits: int, texts: int, tested: int) -> str:
    count = f"{hits:,} of {number_of(texts, 'text')} of train and dev ({percent(hits, texts)})"
    return f"{count} and {tested:,} of test hold"


def _in_test(splits: Splits, holds: Callable[[str], bool]) -> int:
    return splits.test.counted(lambda tested: [sum(holds(text) for e in tested for text in e.fields.values())])[0]


def _texts(splits: Splits) -> int:
    return splits.test.counted(lambda tested: [sum(len(e.fields) for e in tested)])[0]


def _forms(rows: Sequence[tuple[str, str]], splits: Splits) -> list[Finding]:
    """Accents as part of the letter (NFC) in some texts and as signs of their own in others."""
    wide = [(row, text) for row, text in rows if not text.isascii()]
    apart = [(row, text) for row, text in wide if not unicodedata.is_normalized("NFC", text)]
    joined = [row for row, text in wide if not unicodedata.is_normalized("NFD", text)]
    tested = _in_test(splits, lambda text: not unicodedata.is_normalized("NFC", text))
    if not (apart and joined) and not (tested and joined):
        return []
    details: dict[str, Any] = {"kind": "normalisation", "texts": len(apart), "joined": len(joined), "test": tested}
    message = (
        f"{_some(len(apart), len(rows), tested)} accents as signs of their own, where others have them in the letter"
    )
    if apart:
        details["row"] = apart[0][0]
        message += f", for instance {apart[0][0]}: {apart[0][1][:30]!a}"
    return [warning("encoding", f"{message}. The model sees two spellings: normalise all texts to NFC.", **details)]


def _lengths(rows: Sequence[tuple[str, str]], splits: Splits) -> list[Finding]:
    usual = median(len(text) for _, text in rows)
    most = max(_LONG, _TIMES * usual)
    long = [(row, text) for row, text in rows if len(text) > most]
    tested = _in_test(splits, lambda text: len(text) > most)
    if not long and not tested:
        return []
    message = f"{_some(len(long), len(rows), tested)} more than {int(most):,} characters, the median is {usual:,.0f}"
    details: dict[str, Any] = {"kind": "long", "texts": len(long), "test": tested, "median": usual}
    if long:
        row, text = max(long, key=lambda pair: len(pair[1]))
        details |= {"row": row, "characters": len(text)}
        message += f"; the longest is {row} with {len(text):,}: {quoted(text)}"
    return [warning("encoding", f"{message}. Look whether rows ran together; long inputs are cut.", **details)]
