"""Line and bar plots as SVG text: round steps on both axes, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, log10

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 880, 260, 64, 32, 20, 32
INK, GRID, BLUE, ORANGE, GREEN, RED, PINK, GREY = (
    "#1f2329", "#e5e6eb", "#0052d9", "#e37318", "#2ba471", "#d54941", "#fdecee", "#8f959e",
)  # fmt: skip


def steps(top: float, about: int = 5) -> list[float]:
    """Round values from 0 up to at least `top`: steps of 1, 2 or 5 times a power of ten."""
    raw = max(top, 1e-9) / about
    power = 10.0 ** (ceil(log10(raw)) - 1)
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    return [step * number for number in range(ceil(top / step - 1e-9) + 1)]


class Plot:
    """One plot. Give it its axes, then draw; `svg` is the whole of it."""

    def __init__(self, title: str, x_of: Callable[[float], float], y_top: float, unit: str) -> None:
        """`x_of` maps a value to 0…1 of the width."""
        self._title, self._x_of, self._unit = title, x_of, unit
        self._levels = steps(y_top)
        self._under: list[str] = []
        self._parts: list[str] = []

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * self._x_of(value)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * min(1.0, value / self._levels[-1])

    def text(self, x: float, y: float, words: str, *, anchor: str = "middle", colour: str = GREY) -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
        )

    def ticks(self, marks: Sequence[tuple[float, str]]) -> None:
        """Labels under the plot."""
        for value, words in marks:
            self.text(self.x(value), HEIGHT - BOTTOM + 18, words)

    def line(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self._parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round" points="{path}"/>'
        )

    def limit(self, value: float, words: str) -> None:
        """A target, as a dashed line across."""
        if value > self._levels[-1]:
            return
        y = self.y(value)
        self._parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{RED}" stroke-dasharray="5 4"/>'
        )
        self.text(WIDTH - RIGHT, y - 4, words, anchor="end", colour=RED)

    def shade(self, first: float, last: float, words: str) -> None:
        """A span in which something was broken."""
        x, width = self.x(first), self.x(last) - self.x(first)
        self._under.append(
            f'<rect x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - BOTTOM - TOP}" fill="{PINK}"/>'
        )
        self.text(x, TOP - 4, words, anchor="start", colour=RED)

    def bar(self, first: float, last: float, bottom: float, top: float, colour: str) -> None:
        x, width = self.x(first), max(1.0, self.x(last) - self.x(first) - 1)
        y, height = self.y(top), self.y(bottom) - self.y(top)
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
        )

    @property
    def svg(self) -> str:
        grid = []
        for level in self._levels:
            y = self.y(level)
            grid.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
            grid.append(
                f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{GREY}">{level:g}{self._unit}</text>'
            )
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="12"><title>{escape(self._title)}</title>'
            f"{''.join(self._under)}{''.join(grid)}{''.join(self._parts)}</svg>"
        )
