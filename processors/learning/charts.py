"""Small pictures as SVG text: lines, points and bars, readable in a light and a dark page, without a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

WIDTH: Final = 460
HEIGHT: Final = 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 28, 34
COLORS: Final = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#718096")

Points = Sequence[tuple[float, float]]


def lines(title: str, series: Mapping[str, Points], *, x_label: str = "", diagonal: bool = False, dots: bool = False) -> str:
    """One line a name; `diagonal` adds what a perfect forecast would be."""
    points = [point for mine in series.values() for point in mine]
    if not points:
        return _frame(title, ['<text x="20" y="60">nothing to show</text>'], HEIGHT)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x0, x1 = _around(min(xs), max(xs))
    y0, y1 = _around(min(ys), max(ys)) if diagonal else _around(min(*ys, 0.0), max(*ys, 0.0))

    def at(x: float, y: float) -> str:
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        return f"{across:.1f},{HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [_axes(x0, x1, y0, y1, x_label)]
    ends = ((max(x0, y0),) * 2, (min(x1, y1),) * 2) if diagonal else ((x0, 0.0), (x1, 0.0))
    parts.append(f'<polyline class="grid" points="{at(*ends[0])} {at(*ends[1])}"/>')
    for number, (name, mine) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.6" points="{" ".join(at(x, y) for x, y in mine)}"/>')
        if dots:
            places = [at(x, y).split(",") for x, y in mine]
            parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{color}"/>' for x, y in places]
        parts.append(f'<text x="{LEFT + 8}" y="{TOP + 14 + 14 * number}" fill="{color}">{_text(name)}</text>')
    return _frame(title, parts, HEIGHT)


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars from zero, in the order given."""
    height = TOP + 15 * len(values) + 12
    widest = max((abs(value) for _, value in values), default=0.0) or 1.0
    parts = []
    for number, (name, value) in enumerate(values):
        y = TOP + 15 * number
        long = abs(value) / widest * (WIDTH - 220)
        parts.append(f'<text x="140" y="{y + 10}" text-anchor="end">{_text(name)}</text>')
        parts.append(f'<rect x="146" y="{y}" width="{long:.1f}" height="11" fill="{COLORS[0]}"/>')
        parts.append(f'<text x="{150 + long:.1f}" y="{y + 10}">{value:.3g}</text>')
    return _frame(title, parts, height)


def _axes(x0: float, x1: float, y0: float, y1: float, x_label: str) -> str:
    bottom = HEIGHT - BOTTOM
    return (
        f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{bottom - TOP}"/>'
        f'<text x="{LEFT - 4}" y="{bottom}" text-anchor="end">{y0:.3g}</text>'
        f'<text x="{LEFT - 4}" y="{TOP + 10}" text-anchor="end">{y1:.3g}</text>'
        f'<text x="{LEFT}" y="{bottom + 14}">{x0:.4g}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{bottom + 14}" text-anchor="end">{x1:.4g}</text>'
        f'<text x="{(LEFT + WIDTH) / 2}" y="{bottom + 28}" text-anchor="middle">{_text(x_label)}</text>'
    )


def _frame(title: str, parts: Sequence[str], height: int) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="{_text(title)}">'
    return "".join([head, f'<text class="title" x="8" y="16">{_text(title)}</text>', *parts, "</svg>"])


def _around(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
