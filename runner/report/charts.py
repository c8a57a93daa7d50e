"""Line and scatter charts as SVG, whose colours come from the page's style sheet, so that they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax import saxutils

from ..terminal import printable

#: Size and margins of a chart in its own units, about a pixel on a phone.
WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 40
#: Number of colours in the style sheet, and most points of a line.
COLORS, POINTS = 10, 300
#: Ratios of the largest to the smallest cost between which its axis is logarithmic.
LOGARITHMIC = 25.0, 1e9
#: Ratio from which there is no room for ticks within a decade.
DECADES = 1e3


@dataclass
class Axis:
    """Maps values to positions along one side of a chart."""

    low: float
    high: float
    begin: float
    """Position of `low`."""
    end: float
    """Position of `high`."""
    ticks: list[float]
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of a value, clipped to the axis."""
        inside = min(self.high, max(self.low, value))
        numbers = self.low, self.high, inside
        low, high, at = map(math.log, numbers) if self.log else numbers
        return self.begin + (at - low) / (high - low) * (self.end - self.begin)


def axis(values: Sequence[float], begin: float, end: float, margin: float = 0.06, wide: bool = False) -> Axis:
    """An axis with room for all values, from 0 to 1 without any; with `wide` logarithmic if they span a wide range."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    least, most = min(values, default=0.0), max(values, default=1.0)
    if wide and least > 0 and LOGARITHMIC[0] < most / least < LOGARITHMIC[1]:
        room = (most / least) ** margin
        low, high = least / room, most * room
        within = [1, 2, 5] if most / least < DECADES else [1]
        ticks = LogLocator(base=10, subs=within, numticks=8).tick_values(low, high)
        return Axis(low, high, begin, end, [float(tick) for tick in ticks if low <= tick <= high], log=True)
    room = margin * (most - least) or 0.05 * abs(most) or 0.5
    low, high = least - room, most + room
    ticks = MaxNLocator(5, min_n_ticks=3).tick_values(low, high)
    return Axis(low, high, begin, end, [float(tick) for tick in ticks if low <= tick <= high])


@dataclass
class Dot:
    """A run in a scatter chart."""

    label: str
    title: str
    x: float
    y: float
    color: int | None
    """Index of its colour in the style sheet; None for a muted dot."""
    on_front: bool = False


def scatter(dots: Sequence[Dot], x_title: str, y_title: str) -> str:
    """Dots with labels; those on the Pareto front (low x is good) are filled and joined by its edge."""
    across = axis([dot.x for dot in dots], LEFT, WIDTH - RIGHT, 0.1, wide=True)
    up = axis([dot.y for dot in dots], HEIGHT - BOTTOM, TOP, 0.12)
    parts = _frame(across, up, x_title, y_title)
    front = sorted((dot.x, dot.y) for dot in dots if dot.on_front)
    if len(front) > 1:
        steps = f"M{across(front[0][0]):.1f} {up(front[0][1]):.1f}"
        steps += "".join(f"H{across(x):.1f}V{up(y):.1f}" for x, y in front[1:])
        parts.append(f'<path class="front" d="{steps}"/>')
    for dot in sorted(dots, key=lambda one: (one.on_front, one.color is not None)):
        place = f"{across(dot.x):.1f}", f"{up(dot.y):.1f}"
        kind = "dot on-front" if dot.on_front else "dot"
        parts.append(
            f'<g class="{kind} {_color(dot.color)}" data-run="{escape(dot.label)}"><title>{escape(dot.title)}\n'
            f"{escape(y_title)} {dot.y:.4f}\n{escape(x_title)} {dot.x:.4g}</title>"
            f'<circle cx="{place[0]}" cy="{place[1]}" r="9"/>'
            f'<text x="{place[0]}" y="{place[1]}" dy="3.5">{escape(dot.label)}</text></g>'
        )
    return _svg(parts, f"{y_title} over {x_title}")


@dataclass
class Line:
    """A run's metric over the steps."""

    label: str
    title: str
    points: Mapping[int, float]
    color: int | None


def lines(curves: Sequence[Line], y_title: str) -> str:
    """Metrics of several runs over the optimizer steps; values that are not finite are left out."""
    finite = [(line, {step: value for step, value in line.points.items() if math.isfinite(value)}) for line in curves]
    shown = [(line, points) for line, points in finite if points]
    across = axis([step for _, points in shown for step in points], LEFT, WIDTH - RIGHT, 0.0)
    up = axis(_typical([value for _, points in shown for value in points.values()]), HEIGHT - BOTTOM, TOP)
    parts = _frame(across, up, "optimizer step", y_title)
    for line, points in shown:
        places = [(across(step), up(value)) for step, value in thinned(points)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(
            f'<g class="line {_color(line.color)}" data-run="{escape(line.label)}">'
            f'<title>{escape(line.title)}</title><path d="{path}"/></g>'
        )
    return _svg(parts, f"{y_title} over the optimizer steps")


def over_rates(rates: Sequence[float], losses: Sequence[float], means: Sequence[float], marked: int | None) -> str:
    """Losses at rising learning rates (pale), their moving means, and a marked rate."""
    across = axis(rates, LEFT, WIDTH - RIGHT, 0.0, wide=True)
    # Clip the explosion, so that the fall before it fills most of the chart.
    fall = means[0] - min(means)
    up = axis([value for value in (*means, *losses) if value <= means[0] + fall], HEIGHT - BOTTOM, TOP)
    parts = _frame(across, up, "learning rate", "training loss")
    for values, color in ((losses, None), (means, 0)):
        path = "M" + "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in zip(rates, values, strict=True))
        parts.append(f'<g class="line {_color(color)}"><path d="{path}"/></g>')
    if marked is not None:
        parts.append(f'<path class="front" d="M{across(rates[marked]):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    return _svg(parts, "training loss over the learning rate")


@dataclass
class Curve:
    """A curve of a class, such as ROC."""

    title: str
    points: Sequence[Sequence[float]]
    """(x, y), each from 0 to 1."""
    color: int


def shares(curves: Sequence[Curve], x_title: str, y_title: str) -> str:
    """Curves whose axes both go from 0 to 1."""
    across, up, parts = _square(x_title, y_title)
    for curve in curves:
        path = "M" + "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in curve.points)
        parts.append(
            f'<g class="line {_color(curve.color)}"><title>{escape(curve.title)}</title><path d="{path}"/></g>'
        )
    return _svg(parts, f"{y_title} over {x_title}")


def reliability(
    bins: Sequence[Sequence[float]], x_title: str = "confidence", y_title: str = "accuracy", what: str = "images"
) -> str:
    """A reliability diagram of bins (images, accuracy, confidence), with larger dots for larger bins, and the
    diagonal."""
    across, up, parts = _square(x_title, y_title)
    parts.append(f'<path class="front" d="M{across(0):.1f} {up(0):.1f}L{across(1):.1f} {up(1):.1f}"/>')
    most = max(images for images, *_ in bins)
    for images, accuracy, confidence in bins:
        place = f'cx="{across(confidence):.1f}" cy="{up(accuracy):.1f}"'
        title = f"{images:.0f} {what}\n{y_title} {accuracy:.3f}\n{x_title} {confidence:.3f}"
        radius = 2.5 + 6.5 * math.sqrt(images / most)
        parts.append(f'<g class="dot on-front c0"><title>{title}</title><circle {place} r="{radius:.1f}"/></g>')
    return _svg(parts, f"{y_title} over {x_title}")


def _square(x_title: str, y_title: str) -> tuple[Axis, Axis, list[str]]:
    """Axes from 0 to 1 and their frame."""
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    across, up = Axis(0, 1, LEFT, WIDTH - RIGHT, ticks), Axis(0, 1, HEIGHT - BOTTOM, TOP, ticks)
    return across, up, _frame(across, up, x_title, y_title)


def thinned(points: Mapping[int, float]) -> list[tuple[int, float]]:
    """At most as many points as are drawn: means of neighbours, and the last point unchanged."""
    every = -(-len(points) // POINTS)
    pairs = list(points.items())
    if every == 1:
        return pairs
    groups = [pairs[begin : begin + every] for begin in range(0, len(pairs) - 1, every)]
    return [(group[-1][0], math.fsum(value for _, value in group) / len(group)) for group in groups] + pairs[-1:]


def _typical(values: Sequence[float]) -> list[float]:
    """Values without outliers so large that all others would lie on a line."""
    ordered = sorted(values) or [0.0]
    most = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    middle = ordered[len(ordered) // 2]
    return [value for value in ordered if value <= most + 2 * abs(most - middle)]


def _color(number: int | None) -> str:
    return "back" if number is None else f"c{number % COLORS}"


def _frame(across: Axis, up: Axis, x_title: str, y_title: str) -> list[str]:
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    parts: list[str] = []
    for tick in up.ticks:
        y = f"{up(tick):.1f}"
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y}" dy="3.5" text-anchor="end">{tick:.4g}</text>')
    for tick in across.ticks:
        x = f"{across(tick):.1f}"
        parts.append(f'<path class="grid" d="M{x} {TOP}V{bottom}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{bottom + 14}" text-anchor="middle">{tick:.5g}</text>')
    parts.append(
        f'<text class="name" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x_title)}{' (log)' if across.log else ''}</text>"
    )
    parts.append(
        f'<text class="name" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_title)}</text>"
    )
    return parts


def escape(text: str) -> str:
    """A text within SVG: what it has of markup or of control characters is text."""
    return saxutils.escape(printable(text))


def _svg(parts: Sequence[str], title: str) -> str:
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return head + "".join(parts) + "</svg>"
