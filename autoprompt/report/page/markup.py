"""Text as HTML: every text of an event goes through `esc`, so that nothing in it acts."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autoprompt.report.numbers import count, duration, finite, number_of, pvalue, score, share, signed, span
from autoprompt.wording import plain

__all__ = [
    "LONG",
    "SHORT",
    "block",
    "count",
    "cut",
    "details",
    "duration",
    "esc",
    "figure",
    "finite",
    "items",
    "note",
    "number_of",
    "pairs",
    "pvalue",
    "score",
    "section",
    "share",
    "signed",
    "span",
    "table",
]

SHORT, LONG = 300, 12_000  # characters of a name or a sentence, and of a prompt


def cut(text: object, limit: int = SHORT) -> str:
    """The text as it acts nowhere, not longer than `limit` characters; it says how many more there were."""
    whole = str(text)
    if len(whole) <= limit:
        return plain(whole)
    return f"{plain(whole[:limit])} … ({len(whole) - limit:,} more characters)"


def esc(text: object, limit: int = SHORT) -> str:
    """The text for an element or a quoted attribute."""
    return html.escape(cut(text, limit), quote=True)


def block(text: object, limit: int = LONG) -> str:
    """The text with its own lines, in a box."""
    return f'<div class="text" dir="auto">{esc(text, limit)}</div>'


# -- elements; what is given to them is HTML already -----------------------------------------------


def section(name: str, title: str, *parts: str) -> str:
    """A section with a heading; nothing where it has no parts. name: its address on the page."""
    inner = "\n".join(part for part in parts if part)
    if not inner:
        return ""
    return f'<section id="{name}" aria-labelledby="{name}-t"><h2 id="{name}-t">{title}</h2>\n{inner}\n</section>'


def note(text: str, kind: str = "quiet") -> str:
    """A paragraph."""
    return f'<p class="{kind}">{text}</p>' if text else ""


def figure(picture: str, *beside: str) -> str:
    """A picture with what stands beside it on a wide screen, and below it on a narrow one."""
    if not picture:
        return ""
    inner = "".join(part for part in beside if part)
    return f'<div class="figure"><div class="chart">{picture}</div><div class="beside">{inner}</div></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> str:
    """A table whose first column names the rows; it scrolls by itself where it is too wide. name: read out aloud."""
    top = "".join(f'<th scope="col">{title}</th>' for title in head)
    lines = [
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    ]
    if not lines:
        return ""
    return (
        f'<div class="wide" role="region" aria-label="{name}" tabindex="0"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def details(title: str, inner: str, opened: bool = False) -> str:
    """What is shown when it is asked for."""
    return f"<details{' open' if opened else ''}><summary>{title}</summary>{inner}</details>" if inner else ""


def items(lines: Iterable[str], kind: str = "") -> str:
    """A list."""
    inner = "".join(f"<li>{line}</li>" for line in lines)
    return f'<ul class="{kind}">{inner}</ul>' if inner else ""


def pairs(values: Mapping[str, Any], limit: int = 40) -> str:
    """Names with values of any shape, each shown as JSON."""
    shown = list(values.items())[:limit]
    inner = "".join(f"<dt>{esc(key, 80)}</dt><dd>{esc(_told(value), 800)}</dd>" for key, value in shown)
    more = f"<dt>…</dt><dd>{len(values) - limit} more</dd>" if len(values) > limit else ""
    return f"<dl>{inner}{more}</dl>" if inner else ""


def _told(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
