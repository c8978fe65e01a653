"""The figures of pictures that were read: the answers, and the steps on the way to them."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from figures.style import BLUE, own_settings, titled
from handwriting import photo, picture, reading

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import nn

SURELY = 0.9  # answers with less than this probability are drawn as doubtful
WIDTH = 3.4  # of a page, in units: a small picture is 1 x 1
KEY = "green: at least 90 % sure; orange: less sure;\nred: no digit, or unreadable"


class Prediction(NamedTuple):
    """A picture and what was read of it."""

    text: str
    picture: np.ndarray  # H x W or H x W x 3, uint8
    # Of each shape: top, left, bottom and right in pixels; the answer; how sure.
    marks: Sequence[tuple[np.ndarray, str, float]] = ()
    alone: reading.Digit | None = None  # the only shape: what the network sees of it is shown


def answered(text: str, page: Image.Image, rows: reading.Rows) -> Prediction:
    """A picture with the shapes that were read in it."""
    digits = sum(rows, [])
    marks = [(digit.box, str(digit), digit.probabilities.max()) for digit in digits]
    return Prediction(text, np.asarray(page), marks, digits[0] if len(digits) == 1 else None)


@own_settings()
def predictions(rows: Sequence[Prediction]) -> Figure:
    """Each picture with a box around each shape, coloured by how sure the network is of it.

    Beside a shape that is alone are the 28 x 28 that the network sees, and the probabilities. Other
    pictures fill the width of a column, with the answer at each box.
    """
    columns = min(4, -(-len(rows) // 2))
    unit = min(2.2, max(1, 3.4 / columns))  # inches
    figure = Figure()
    axes = figure.add_axes((0, 0, 1, 1))  # one for all: one for each part would take seconds
    axes.text(0, 0, KEY, size=8, color="0.45", va="top")
    y = -0.35 / unit
    for first in range(0, len(rows), columns):
        y -= 0.5 / unit  # for the texts
        line = enumerate(rows[first : first + columns])
        y -= max(_prediction(axes, (WIDTH + 0.2) * column, y, row, unit) for column, row in line)
    right, bottom = (WIDTH + 0.2) * columns - 0.1, y - 0.1
    figure.set_size_inches(unit * (right + 0.1), unit * (0.1 - bottom))
    axes.set(xlim=(-0.1, right), ylim=(bottom, 0.1), aspect="equal")
    axes.set_axis_off()
    return figure


def _prediction(axes: Axes, x: float, y: float, row: Prediction, unit: float) -> float:
    """Draw a picture from its upper left corner (x, y) on, with its answers; gives its height."""
    text = textwrap.wrap(row.text.replace(" %", "\N{NO-BREAK SPACE}%"), int(16.5 * WIDTH * unit))
    axes.text(x, y + 0.16 / unit, "\n".join(text[:2]), size=8, linespacing=1.1)
    size = np.array(row.picture.shape[:2])
    scale = (1 if row.alone else WIDTH) / max(size)
    if not row.marks:  # a tall picture without a digit is no higher than a wide one
        scale = min(scale, 0.75 * WIDTH / size[0])
    height, width = scale * size
    axes.imshow(row.picture, cmap="gray", vmin=0, vmax=255, extent=(x, x + width, y - height, y))
    paper = Rectangle((x, y - height), width, height, fill=False, edgecolor="0.8", linewidth=0.5)
    axes.add_patch(paper)  # white paper on a white page has an edge, too
    outline = [withStroke(linewidth=2.5, foreground="white")]  # to be seen in a shadow, too
    for box, answer, probability in row.marks:
        top, left, bottom, right = scale * box
        doubtful = "tab:green" if probability >= SURELY else "tab:orange"
        color = {"": BLUE, "?": "tab:red"}.get(answer, doubtful)
        corner, size = (x + left, y - bottom), (right - left, bottom - top)
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, path_effects=outline))
        if not row.alone:
            place = x + left, y - top + 0.03 / unit
            axes.text(*place, answer, size=10, color=color, weight="bold", path_effects=outline)
    if not row.alone:
        return height
    axes.imshow(row.alone.seen, "gray", vmin=0, vmax=255, extent=(x + 1.1, x + 2.1, y - 1, y))
    for middle, caption in ((1.6, "the network sees"), (2.7, "probabilities")):
        axes.text(x + middle, y + 0.03 / unit, caption, size=6.5, color="0.45", ha="center")
    middles = x + 2.25 + 0.1 * np.arange(10)
    best = row.alone.probabilities.argmax()
    bars = axes.bar(middles, 0.85 * row.alone.probabilities, 0.07, y - 0.88, color="tab:gray")
    bars[best].set_facecolor("tab:blue")
    for digit, middle in enumerate(middles):
        weight = "bold" if digit == best else "normal"
        axes.text(middle, y - 1, str(digit), size=6.5, ha="center", weight=weight)
    return 1


def steps(network: nn.Module, page: Image.Image) -> Figure:
    """The steps from a photograph to what is read of it."""
    ink = photo.ink_of(photo.best_channel(picture.resized(page, 640)))
    clean = photo.without_lines_and_grain(ink)
    shapes = [(shape.box, "", 0.0) for shape in next(photo.shapes_in(clean))]
    rows = reading.read(network, page)
    pale, cleaned = ((255 - 255 * i.clip(0, 1)).astype(np.uint8) for i in (ink, clean))
    seen = np.full((28 * len(rows), 28 * max(map(len, rows))), 255, np.uint8)
    for y, row in enumerate(rows):
        seen[28 * y : 28 * (y + 1), : 28 * len(row)] = 255 - np.hstack([d.seen for d in row])
    shown = [
        Prediction("1. the picture", np.asarray(page)),
        Prediction("2. ink: how much darker than the paper", pale),
        Prediction("3. without ruled lines and grain", cleaned),
        Prediction("4. shapes", cleaned, shapes),
        answered("5. answers, in rows", page, rows),
        Prediction("6. what the network sees", seen),
    ]
    return predictions(shown)


@own_settings()
def grid(cells: Sequence[Mapping[str, str]]) -> Figure:
    """Which share of drawn scenes is read, by the cells of docs/handwriting.csv."""
    pairs = list(dict.fromkeys((cell["rows"], cell["columns"]) for cell in cells))
    counts = [int(cell["pictures"]) for cell in cells]
    few = f"a cell has {min(counts)} to {max(counts)} scenes; a white one has none"
    figure = titled(11, 4.8, "Drawn scenes that are read, in percent", few)
    for number, pair in enumerate(pairs, 1):
        inside = [cell for cell in cells if (cell["rows"], cell["columns"]) == pair]
        rows, columns = (list(dict.fromkeys(c[key] for c in inside)) for key in ("row", "column"))
        shares = np.full((len(rows), len(columns)), np.nan)
        for cell in inside:
            place = rows.index(cell["row"]), columns.index(cell["column"])
            shares[place] = 100 * int(cell["read"]) / int(cell["pictures"])
        axes = figure.add_subplot(1, len(pairs), number)
        axes.imshow(shares, cmap="RdYlGn", vmin=50, vmax=100, aspect="auto", alpha=0.7)
        for (y, x), share in np.ndenumerate(shares):
            axes.text(x, y, "" if np.isnan(share) else f"{share:.0f}", ha="center", va="center")
        axes.set_xticks(range(len(columns)), columns, rotation=45)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(ylabel=pair[0], xlabel=pair[1])
    return figure
