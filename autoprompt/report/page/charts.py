"""Pictures with two axes, as SVG: lines and points.

They are drawn for the width of a phone and grow with the page. A series is told from another by its colour, its dash
and its mark, so that neither colour nor a screen is needed. A mark's own text shows when it is pointed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autoprompt.report.page.axes import Scale, bounds, tick
from autoprompt.report.page.markup import esc, finite

__all__ = ["WIDTH", "Chart", "Point", "Series", "legend", "mark", "opened", "plot"]

WIDTH = 380
_HEIGHT = 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 22, 40


@dataclass(frozen=True)
class Point:
    """A point, and what is said when it is pointed at."""

    x: float
    y: float
    said: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one colour and mark: `tone` is its number in the palette, or "faint".

    line: "step", "line" or "" for marks alone.
    """

    name: str
    tone: str
    points: Sequence[Point]
    line: str = ""
    marks: bool = True


@dataclass(frozen=True)
class Chart:
    """What a picture shows. y_of: values that the height is made for; else all that there are."""

    said: str
    x: str
    y: str
    series: Sequence[Series]
    y_of: Sequence[float] = field(default=())
    log: bool = False
    x_from_zero: bool = False
    whole_x: bool = False


def opened(said: str, height: float) -> str:
    """The beginning of a picture that is read out as `said`."""
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{esc(said, 600)}">'


def plot(chart: Chart) -> str:
    """The picture with its legend; nothing where there is no point."""
    series = [s for s in map(_drawable, chart.series) if len(s.points) > 1 or s.marks]
    points = [point for s in series for point in s.points]
    if not points:
        return ""
    low, high = bounds((p.x for p in points), 0.04)
    low = 0.0 if chart.x_from_zero else min(p.x for p in points) * 0.9 if chart.log else low
    x = Scale(low, high, _LEFT, WIDTH - _RIGHT, chart.log)
    y = Scale(*bounds(chart.y_of or [p.y for p in points]), _HEIGHT - _BOTTOM, _TOP)
    inner = "".join(_series(s, x, y) for s in series)
    return (
        opened(chart.said, _HEIGHT) + _axes(chart, x, y) + inner + "</svg>" + legend([(s.name, s.tone) for s in series])
    )


def _drawable(series: Series) -> Series:
    found = [point for point in series.points if finite(point.x) and finite(point.y)]
    return Series(series.name, series.tone, found, series.line, series.marks)


def _axes(chart: Chart, x: Scale, y: Scale) -> str:
    bottom, right = _HEIGHT - _BOTTOM, WIDTH - _RIGHT
    lines = []
    for value in y.ticks():
        at = y(value)
        lines.append(f'<line class="grid" x1="{_LEFT}" y1="{at}" x2="{right}" y2="{at}"/>')
        lines.append(f'<text class="tick end" x="{_LEFT - 6}" y="{at + 4}">{tick(value)}</text>')
    for value in x.ticks():
        if chart.whole_x and value != round(value):
            continue
        at = x(value)
        lines.append(f'<line class="axis" x1="{at}" y1="{bottom}" x2="{at}" y2="{bottom + 4}"/>')
        lines.append(f'<text class="tick middle" x="{at}" y="{bottom + 17}">{tick(value)}</text>')
    lines.append(f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>')
    lines.append(f'<text class="name" x="2" y="12">{esc(chart.y, 50)}</text>')
    lines.append(f'<text class="name end" x="{right}" y="{_HEIGHT - 5}">{esc(chart.x, 55)}</text>')
    return "".join(lines)


def _series(series: Series, x: Scale, y: Scale) -> str:
    places = [(x(point.x), y(point.y)) for point in series.points]
    path = ""
    if series.line and len(places) > 1:
        steps = "".join(_step(place, series.line) for place in places[1:])
        path = f'<path class="line t{series.tone}" d="M{places[0][0]} {places[0][1]}{steps}"/>'
    if not series.marks:
        return path
    return path + "".join(
        mark(series.tone, *place, point.said) for place, point in zip(places, series.points, strict=True)
    )


def _step(place: tuple[float, float], line: str) -> str:
    return f"H{place[0]}V{place[1]}" if line == "step" else f"L{place[0]} {place[1]}"


def mark(tone: str, x: float, y: float, said: str = "", size: float = 4.0) -> str:
    """A point's mark; its shape goes with its colour."""
    title = f"<title>{esc(said)}</title>" if said else ""
    half, more, tall = size, round(1.2 * size, 1), round(2.1 * size, 1)
    shapes = {
        "1": f"M{x - half} {y - half}h{2 * half}v{2 * half}h{-2 * half}z",
        "2": f"M{x} {y - more}l{more} {tall}h{-2 * more}z",
        "3": f"M{x} {y - more}l{more} {more}l{-more} {more}l{-more} {-more}z",
    }
    if tone in shapes:
        return f'<path class="mark t{tone}" d="{shapes[tone]}">{title}</path>'
    return f'<circle class="mark t{tone}" cx="{x}" cy="{y}" r="{2.4 if tone == "faint" else half}">{title}</circle>'


def legend(names: Sequence[tuple[str, str]]) -> str:
    """Names with their marks; nothing for one alone."""
    if len(names) < 2:
        return ""
    lines = [
        f'<li><svg class="key" viewBox="0 0 26 12" aria-hidden="true"><path class="line t{tone}" d="M1 6H25"/>'
        f"{mark(tone, 13, 6)}</svg>{esc(name, 60)}</li>"
        for name, tone in names
    ]
    return f'<ul class="legend">{"".join(lines)}</ul>'
