"""The figures of pictures that were read: answers, and the steps on the way to them."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from figures.style import literal, own_settings

BLUE = "#4477aa"
MAX_PICTURES = 40  # in one figure of predictions
SURELY = 0.9  # answers with less than this probability are drawn as doubtful


class Prediction(NamedTuple):
    """A picture and what was read of it."""

    text: str
    picture: np.ndarray  # H x W x 3
    # Of each shape: top, left, bottom and right as shares of the longer side; the answer; how sure.
    marks: Sequence[tuple[np.ndarray, str, float]] = ()
    seen: np.ndarray | None = None  # 28 x 28: what the network sees of a shape that is alone
    probabilities: np.ndarray | None = None  # its 10


@own_settings()
def predictions(rows: Sequence[Prediction]) -> Figure:
    """Each picture with a box around each shape, coloured by how sure the network is of it.

    Beside a shape that is alone are the 28 x 28 that the network sees, and the probabilities.
    Pictures with more shapes are drawn larger, with the answer at each box. Only the first 40
    pictures are drawn, and the figure says so.
    """
    shown = rows[:MAX_PICTURES]
    pages = any(len(row.marks) > 1 for row in shown)
    across = 1 if pages else min(4, -(-len(shown) // 4))  # rounded up
    down = -(-len(shown) // across)
    unit = 2.4 if pages else 1  # inches
    width, height = 3.6, 1.25 if pages else 1.5  # of one row of the figure, in units
    bottom, top = -height * (down - 1) - 0.15, 1.7 if len(rows) > MAX_PICTURES else 1.5
    figure = Figure(figsize=(unit * width * across, unit * (top - bottom)))
    axes = figure.add_axes((0, 0, 1, 1))  # one for all: one for each part would take seconds
    for column in range(across):
        for place, head in (
            (0.5, "your picture"),
            (1.6, "the network sees"),
            (2.7, "probabilities"),
        ):
            if not pages:
                axes.text(width * column + place, 1.38, head, size=7, color="0.45", ha="center")
    if pages:
        key = f"green: at least {SURELY:.0%} sure; orange: less sure; red: no digit, or unreadable"
        axes.text(0, 1.38, key.replace("%", " %"), size=9, color="0.45")
    for index, row in enumerate(shown):
        x, y = width * (index // down), -height * (index % down)
        _prediction(axes, x, y, row)
        if row.seen is not None and row.probabilities is not None:
            box = (x + 1.1, x + 2.1, y, y + 1)
            axes.imshow(
                row.seen, cmap="gray", vmin=0, vmax=255, extent=box, interpolation="nearest"
            )
            _bars(axes, x + 2.2, y, row.probabilities)
    if len(rows) > MAX_PICTURES:
        axes.text(0, 1.55, f"the first {MAX_PICTURES} of {len(rows)} pictures", size=9)
    axes.set(xlim=(-0.1, width * across - 0.1), ylim=(bottom, top), aspect="equal")
    axes.set_axis_off()
    return figure


def _prediction(axes: Axes, x: float, y: float, row: Prediction) -> None:
    """A picture whose lower left corner is (x, y), its marks, and the text above it.

    It lies within 1 x 1, or within 3.4 x 1 where it has more than one shape.
    """
    text = row.text.replace(" %", "\N{NO-BREAK SPACE}%")
    alone = len(row.marks) < 2
    lines = textwrap.fill(text, 56 if alone else 100, max_lines=2, placeholder=" ...")
    axes.text(x, y + 1.05, literal(lines), size=7.5 if alone else 9, linespacing=1.1)
    height, width = row.picture.shape[:2]
    longest = max(height, width)
    scale = 1 / longest if alone else min(1 / height, 3.4 / width)
    axes.imshow(row.picture, extent=(x, x + scale * width, y, y + scale * height))
    for box, answer, probability in row.marks:
        top, left, bottom, right = scale * longest * box
        color = _color(answer, probability)
        low, high = y + scale * height - bottom, y + scale * height - top
        axes.add_patch(Rectangle((x + left, low), right - left, high - low, fill=False, ec=color))
        if not alone:
            axes.text(x + left, high + 0.01, answer, size=9, color=color, weight="bold")


def _color(answer: str, probability: float) -> str:
    if answer == "?":
        return "tab:red"
    return "tab:green" if probability >= SURELY else "tab:orange"


def _bars(axes: Axes, x: float, y: float, probabilities: np.ndarray) -> None:
    """Ten bars on a line of length 1 from (x, y + 0.12), and the digits below the line."""
    best = int(np.argmax(probabilities))
    middles = x + 0.05 + 0.1 * np.arange(10)
    colors = ["tab:blue" if digit == best else "tab:gray" for digit in range(10)]
    axes.plot([x, x + 1], [y + 0.12, y + 0.12], color="0.8", linewidth=0.5)
    axes.bar(middles, 0.85 * probabilities, 0.07, y + 0.12, color=colors)
    for digit, middle in enumerate(middles):
        weight = "bold" if digit == best else None
        axes.text(middle, y, str(digit), size=6.5, ha="center", weight=weight)


class Step(NamedTuple):
    """A picture on the way from a page to the answer."""

    title: str
    pixels: np.ndarray  # H x W or H x W x 3, uint8
    boxes: Sequence[tuple[np.ndarray, str]] = ()  # top, left, bottom, right; the text above it


@own_settings()
def steps(shown: Sequence[Step]) -> Figure:
    """Pictures under their titles, three in a row."""
    rows = -(-len(shown) // 3)
    figure = Figure(figsize=(11, 3.1 * rows), layout="constrained")
    for place, step in zip(figure.subplots(rows, 3, squeeze=False).flat, shown, strict=False):
        place.imshow(step.pixels, cmap="gray", vmin=0, vmax=255)
        place.set_title(step.title, fontsize=10, loc="left")
        for (top, left, bottom, right), text in step.boxes:
            size = right - left, bottom - top
            place.add_patch(Rectangle((left, top), *size, fill=False, ec=BLUE))
            place.text(left, top - 4, text, color=BLUE, fontsize=11, fontweight="bold")
    for place in figure.axes:
        place.set(xticks=[], yticks=[])
    return figure
