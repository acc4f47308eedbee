"""Pictures of one axis, as SVG: a row for each thing, with a mark and its interval, or a bar."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from autoprompt.report.page.axes import Scale, bounds, tick
from autoprompt.report.page.charts import WIDTH, mark, opened
from autoprompt.report.page.markup import esc, finite, signed
from autoprompt.wording import plain

__all__ = ["Band", "Row", "bar", "difference", "dumbbell", "strips"]

_ROW, _FOOT = 40, 40
_LETTERS = 60  # characters of a label and its note on one line
_MOST = 60


@dataclass(frozen=True)
class Row:
    """A row: its name, what stands at its right end, and its value with its interval.

    tone: a number of the palette, "good", "bad" or "faint".
    """

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    tone: str = "0"


def difference(label: str, value: float, ends: Sequence[float], tone: str = "0") -> Row:
    """A row for a difference with its interval."""
    low, high = ends
    return Row(label, value, low, high, signed(value), tone)


@dataclass(frozen=True)
class Band:
    """A range that is shaded behind all rows."""

    low: float
    high: float
    said: str


def strips(
    said: str, axis: str, rows: Sequence[Row], zero: float | None = 0.0, band: Band | None = None, bars: bool = False
) -> str:
    """The rows above one axis. zero: where a line stands that rows are compared with; bars begin there."""
    rows = rows[:_MOST]
    if not rows:
        return ""
    values = [v for row in rows for v in (row.value, row.low, row.high)]
    low, high = bounds([*values, zero, *((band.low, band.high) if band else ())])
    if bars and zero is not None and all(v >= zero for v in values if finite(v)):
        low = zero  # bars stand on the edge
    scale = Scale(low, high, 8, WIDTH - 8)
    bottom = _ROW * len(rows) + 8
    parts = [opened(said, bottom + _FOOT)]
    if band and finite(band.low) and finite(band.high):
        left, right = scale(band.low), scale(band.high)
        size = f'width="{right - left:.1f}" height="{bottom}"'
        parts.append(f'<rect class="band" x="{left}" y="0" {size}><title>{esc(band.said)}</title></rect>')
    parts += [_axis(scale, axis, bottom)]
    if zero is not None:
        between = "".join(f"M{scale(zero)} {_ROW * at + 20}v16" for at in range(len(rows)))  # not through the words
        parts.append(f'<path class="zero" d="{between}"/>')
    parts += [_row(row, _ROW * at, scale, zero if bars else None) for at, row in enumerate(rows)]
    return "".join(parts) + "</svg>"


def _axis(scale: Scale, name: str, bottom: float) -> str:
    lines = [f'<line class="axis" x1="8" y1="{bottom}" x2="{WIDTH - 8}" y2="{bottom}"/>']
    for value in scale.ticks():
        at = scale(value)
        lines.append(f'<line class="grid" x1="{at}" y1="0" x2="{at}" y2="{bottom}"/>')
        lines.append(
            f'<text class="tick middle" x="{min(max(at, 14), WIDTH - 14)}" y="{bottom + 16}">{tick(value)}</text>'
        )
    lines.append(f'<text class="name end" x="{WIDTH - 8}" y="{bottom + 34}">{esc(name, 60)}</text>')
    return "".join(lines)


def _row(row: Row, top: float, scale: Scale, begin: float | None) -> str:
    parts = [
        f"<g><title>{esc(row.label)}: {esc(row.note)}</title>",
        f'<text class="label halo" x="8" y="{top + 16}">{_fitted(row.label, _LETTERS - len(row.note))}</text>',
        f'<text class="label halo end strong" x="{WIDTH - 8}" y="{top + 16}">{esc(row.note)}</text>',
    ]
    if finite(row.value):
        parts.append(
            _mark(row, row.value, top + 28, scale) if begin is None else _bar(row, row.value, top, scale, begin)
        )
    return "".join(parts) + "</g>"


def _fitted(label: str, room: int) -> str:
    shown = " ".join(plain(label[:_LETTERS]).split())
    return html.escape(shown if len(shown) <= room else shown[: max(4, room - 1)] + "…")


def _mark(row: Row, value: float, middle: float, scale: Scale) -> str:
    return _whisker(row, middle, scale, row.tone) + mark(row.tone, scale(value), middle, size=5)


def _bar(row: Row, value: float, top: float, scale: Scale, begin: float) -> str:
    left, width = min(scale(value), scale(begin)), max(abs(scale(value) - scale(begin)), 1)
    body = f'<rect class="bar t{row.tone}" x="{left}" y="{top + 22}" width="{width:.1f}" height="12"/>'
    return body + _whisker(row, top + 28, scale, "bar")


def _whisker(row: Row, middle: float, scale: Scale, tone: str) -> str:
    if not (finite(row.low) and finite(row.high)):
        return ""
    low, high = scale(row.low), scale(row.high)
    ends = f"M{low} {middle}H{high}M{low} {middle - 5}v10M{high} {middle - 5}v10"
    return f'<path class="whisker t{tone}" d="{ends}"/>'


def bar(part: float, tone: str = "0") -> str:
    """A share of one, as a bar in a table's cell."""
    width = round(100 * min(max(part, 0.0), 1.0), 1) if finite(part) else 0
    return (
        '<svg class="cell" viewBox="0 0 100 10" aria-hidden="true" preserveAspectRatio="none">'
        f'<rect class="rail" width="100" height="10"/><rect class="bar t{tone}" width="{width}" height="10"/></svg>'
    )


def dumbbell(before: float, after: float, tone: str) -> str:
    """Two shares of one on a line, in a table's cell: a ring, and the point to which it moved."""
    if not (finite(before) and finite(after)):
        return ""
    first, second = (round(6 + 88 * min(max(value, 0.0), 1.0), 1) for value in (before, after))
    return (
        f'<svg class="cell" viewBox="0 0 100 12" aria-hidden="true"><path class="railline" d="M6 6H94"/>'
        f'<path class="line t{tone}" d="M{first} 6H{second}"/><circle class="ring" cx="{first}" cy="6" r="3.5"/>'
        f'<circle class="mark t{tone}" cx="{second}" cy="6" r="4"/></svg>'
    )
