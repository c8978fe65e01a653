"""The pictures of one run: data in, a PNG file out.

Each picture has two functions: `curves_figure` builds the figure, `curves` writes it to a file.
They use matplotlib's `Figure` and not pyplot, which keeps each figure and may open a window.
`title` is a pair everywhere: the heading, and a line of options for the small print.
"""

import io
import math
import os
import sys
import textwrap
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from files import write_whole


@contextmanager
def no_backend() -> Generator[None]:
    """Import matplotlib in this context: then MPLBACKEND may name a backend that does not exist.

    A backend that does exist stays chosen: a notebook shows its own figures with it.
    """
    first = "matplotlib" not in sys.modules
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # matplotlib uses deprecated parts of other libraries
            yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if first and backend:
        with suppress(ValueError):  # there is no such backend, and no figure here needs one
            matplotlib.rcParams["backend"] = backend


with no_backend():
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

# A row for each epoch: its metrics, and perhaps "points", a list of [position, loss, accuracy] of
# the training images: the position in epochs, the means over the images since the last point.
History = Sequence[Mapping]
Title = tuple[str, str]
Color = str | tuple[float, float, float, float]

BLUE, RED = "#4477aa", "#cc3311"
METRICS = {  # the label of its axis, and the factor from the history to what is drawn
    "loss": ("cross-entropy loss", 1),
    "accuracy": ("accuracy (%)", 100),
}
RUNNING_AVERAGES = "training values are running averages during the epoch"
MAX_PICTURES = 40  # in one figure of predictions
SURELY = 0.9  # answers with less than this probability are drawn as doubtful


@contextmanager
def own_settings() -> Generator[None]:
    """Draw with matplotlib's own settings, whatever a person's matplotlibrc says; a decorator.

    Somebody's `text.usetex: True` would need LaTeX, and the picture would not be the same.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A file's name may have letters that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries that matplotlib uses
        matplotlib.rcdefaults()
        yield


@own_settings()
def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file, whole or not at all. Errors: OSError."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, facecolor="white")
    write_whole(path, buffer.getvalue())


def literal(text: str) -> str:
    """A text that matplotlib draws as it is: "$", as in the name of a file, starts no formula."""
    return text.replace("$", r"\$")  # parse_math=False would be ignored where lines are wrapped


def titled(heading: str, width: float, height: float) -> Figure:
    """An empty figure with a heading; width and height are in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), layout=layout)
    figure.suptitle(literal(heading), fontsize=13, fontweight="bold", wrap=True)
    return figure


def small_print(figure: Figure, *lines: str) -> None:
    """Write lines in small grey letters at the foot of a figure; empty lines are left out."""
    text = "\n".join(line for line in lines if line)
    figure.supxlabel(literal(text), fontsize=8.5, color="0.35", wrap=True)


def by_epoch(histories: Sequence[History], column: str, scale: float) -> np.ndarray:
    """A column of each history times `scale` (float64, runs x epochs); NaN after a run's end."""
    longest = max(len(history) for history in histories)
    values = np.full((len(histories), longest), np.nan)
    for run, history in enumerate(histories):
        values[run, : len(history)] = [scale * row[column] for row in history]
    return values


def within_epochs(history: History) -> np.ndarray:
    """Position, loss and accuracy of all points of a history (float64, N x 3).

    An epoch without points is a row of NaN, which interrupts a line.
    """
    gap = [[np.nan] * 3]
    rows = [point for row in history for point in row.get("points") or gap]
    points = np.array(rows, float).reshape(-1, 3)
    return np.where(np.isfinite(points), points, np.nan)


def frame(axes: Axes, metric: str, epochs: int, start: int = 1) -> None:
    """Label the axes for a metric over the epochs from `start`, 0 or 1, to `epochs`.

    Ticks are whole epochs of these; a single epoch that is shown from 0 on has fractions.
    """
    whole = epochs > 1 or start == 1
    locator = MaxNLocator(10 if whole else 5, integer=whole, steps=[1, 2, 5, 10])
    ticks = locator.tick_values(start, epochs)
    axes.set_xticks([tick for tick in ticks if start <= tick <= epochs])
    if start == 0:
        axes.set_xlim(0, 1.05 * epochs)
    elif epochs == 1:
        axes.set_xlim(0.5, 1.5)
    axes.set_xlabel("epoch")
    axes.set_ylabel(METRICS[metric][0])
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def line_style(epochs: int) -> str:
    """A line with a dot at each epoch, or without dots where they would touch each other."""
    return "o-" if epochs <= 12 else "-"


def mean_and_range(axes: Axes, values: np.ndarray, color: Color, label: str) -> np.ndarray:
    """Draw the mean of some runs over the epochs, and a band from the lowest to the highest.

    `values` are float64, runs x epochs, as `by_epoch` gives them. Gives the mean of each epoch.
    """
    mean = np.nanmean(values, axis=0)
    epochs = np.arange(1, len(mean) + 1)
    axes.plot(epochs, mean, line_style(len(mean)), color=color, markersize=4, label=label)
    if len(values) > 1:
        lowest, highest = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        axes.fill_between(epochs, lowest, highest, color=color, alpha=0.2, linewidth=0)
    return mean


def logarithmic_if_wide(axes: Axes, lowest: float, highest: float) -> bool:
    """Make the y axis logarithmic if one very large loss would press all others onto the axis."""
    wide = bool(0 < 300 * lowest < highest)
    if wide:
        axes.set_yscale("log")
        axes.set_ylabel(f"{axes.get_ylabel()} (logarithmic axis)")
    return wide


def curves(
    path: str | Path, title: Title, histories: Sequence[History], evaluated: str = "test"
) -> None:
    """Draw loss and accuracy over the epochs into a PNG file; see `curves_figure`."""
    save(curves_figure(title, histories, evaluated), path)


@own_settings()
def curves_figure(title: Title, histories: Sequence[History], evaluated: str) -> Figure:
    """Loss and accuracy over the epochs of one run, or of several: their mean and range.

    `evaluated` is the name of the images that the network was tested on: "test" or "validation".
    """
    figure = titled(title[0], 11, 4.8)
    panels = figure.subplots(1, 2)
    within = within_epochs(histories[0] if len(histories) == 1 else [])
    start = 1 if np.isnan(within).all() else 0
    for axes, (metric, (_, scale)), points in zip(
        panels, METRICS.items(), within.T[1:], strict=True
    ):
        ends = []
        drawn = []
        for part, color, label in (("train", BLUE, "training"), ("test", RED, evaluated)):
            values = by_epoch(histories, f"{part}_{metric}", scale)
            mean = mean_and_range(axes, values, color, label)
            ends.append((float(mean[-1]), color))
            drawn.append(values)
        longest = len(drawn[0][0])
        frame(axes, metric, longest, start)
        if start == 0:
            _thin_line(axes, within[:, 0], scale * points)
        late = scale * points[within[:, 0] > longest / 10]
        shown = np.concatenate([np.ravel(drawn), late])
        logarithmic = metric == "loss" and logarithmic_if_wide(
            axes, np.nanmin(drawn), np.nanmax(shown)
        )
        if start == 0 and not logarithmic:
            # The first points, of a network that knows nothing yet, would press down all others.
            _limit(axes, shown)
        _write_ends(axes, longest, ends, metric)
    panels[0].legend(frameon=False, loc="best")  # the default, but without a warning if it is slow
    notes = [RUNNING_AVERAGES]
    if start == 0:
        notes.append("thin line: averages over about a fiftieth of an epoch")
    if len(histories) > 1:
        lines = f"line: mean of {len(histories)} seeds; band: lowest to highest"
        dots = f"dot: mean of {len(histories)} seeds"
        notes.append(dots if max(map(len, histories)) == 1 else lines)
        if len({len(history) for history in histories}) > 1:
            notes.append("an epoch's values are of the seeds that reached it")
    small_print(figure, title[1], "; ".join(notes))
    return figure


def _thin_line(axes: Axes, positions: np.ndarray, values: np.ndarray) -> None:
    """Draw points of the training images behind the epochs' dots."""
    axes.plot(
        positions,
        values,
        color=BLUE,
        alpha=0.4,
        linewidth=0.9,
        zorder=1.5,
        label="training, within an epoch",
    )


def _limit(axes: Axes, values: np.ndarray) -> None:
    """Make the y axis just hold some values; what lies outside is cut off."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1
    axes.set_ylim(low - margin, high + margin)


def _write_ends(axes: Axes, epoch: int, ends: list[tuple[float, str]], metric: str) -> None:
    """Write the last values of two curves beside their ends, one well above the other."""
    axes.margins(x=0.05)
    axes.autoscale_view()  # or the limits, and so the heights, are not known yet
    to_axes = axes.transData + axes.transAxes.inverted()
    (low, *_), (high, *_) = sorted(ends)
    bottom, top = (float(to_axes.transform((epoch, value))[1]) for value in (low, high))
    apart = 0.065  # of the height of the axes: one line of text
    if top - bottom < apart:
        middle = (bottom + top) / 2
        bottom, top = middle - apart / 2, middle + apart / 2
    for (value, color), height in zip(sorted(ends), (bottom, top), strict=True):
        if metric == "accuracy":
            text = f"{value:.2f} %"
        else:
            text = f"{value:.4f}" if value < 100 else f"{value:.4g}"
        axes.annotate(
            text,
            (epoch, height),
            xycoords=("data", "axes fraction"),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=color,
            fontsize=9,
            annotation_clip=False,
        )


def confusion(
    path: str | Path, title: Title, logits: torch.Tensor, labels: torch.Tensor, note: str = ""
) -> None:
    """Draw how often each digit got each answer into a PNG file; see `confusion_figure`."""
    save(confusion_figure(title, logits, labels, note), path)


@own_settings()
def confusion_figure(
    title: Title, logits: torch.Tensor, labels: torch.Tensor, note: str = ""
) -> Figure:
    """How often each digit got each answer; only mistakes are coloured.

    `logits` are float, N x 10, and `labels` int64, N; `note` is added to the small print.
    """
    counts = torch.bincount(10 * labels + logits.argmax(1), minlength=100).view(10, 10).numpy()
    wrong = np.where(np.eye(10, dtype=bool), 0, counts)
    figure = titled(title[0], 7.2, 7.2)
    axes = figure.subplots()
    # The deepest red, at 1.8 times the largest count, is never used: black text is clear on all.
    axes.imshow(wrong, cmap="Reds", vmin=0, vmax=max(1, 1.8 * wrong.max()))
    for label in range(10):
        for answer in range(10):
            count = counts[label, answer]
            right = label == answer
            plain = right or count == 0
            axes.text(
                answer,
                label,
                f"{count:,}" if count else "·",
                ha="center",
                va="center",
                color="0.55" if plain else "black",
                fontsize=9 if right else 11,
                fontweight="normal" if plain else "bold",
            )
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.set_xlabel("the network's answer")
    axes.set_ylabel("label")
    mistaken, total = wrong.sum(), counts.sum()
    axes.set_title(
        f"{mistaken:,} mistakes in {total:,} images ({100 * mistaken / total:.2f} %) in red, "
        "right answers in grey",
        fontsize=10,
    )
    small_print(figure, title[1], note)
    return figure


def mistakes(
    path: str | Path,
    title: Title,
    images: torch.Tensor,
    logits: torch.Tensor,
    labels: torch.Tensor,
    note: str = "",
) -> None:
    """Draw the most confident mistakes into a PNG file; see `mistakes_figure`."""
    save(mistakes_figure(title, images, logits, labels, note), path)


@own_settings()
def mistakes_figure(
    title: Title,
    images: torch.Tensor,
    logits: torch.Tensor,
    labels: torch.Tensor,
    note: str = "",
    rows: int = 4,
    columns: int = 8,
) -> Figure:
    """The images with wrong answers, the most confident first, with label and answer.

    `images` are uint8, N x 28 x 28; `logits` float, N x 10; `labels` int64, N. `note` is added to
    the small print. Without a mistake the small print says so.
    """
    confidence, answers = logits.double().softmax(1).max(1)
    wrong = (answers != labels).nonzero().flatten()
    order = confidence[wrong].argsort(descending=True, stable=True)
    worst = wrong[order][: rows * columns]
    rows = max(1, math.ceil(len(worst) / columns))  # those in use
    figure = titled(title[0], 11, 1.1 + 1.6 * rows)
    texts = [
        f"label {labels[index]}, answer {answers[index]}\n{100 * confidence[index]:.1f} % sure"
        for index in worst.tolist()
    ]
    images_with_texts(figure, images[worst], texts, columns)
    which = f"the {len(worst)} most confident of {len(wrong):,} mistakes in {len(labels):,} images"
    if len(wrong) == 0:
        which = f"no mistakes in {len(labels):,} images"
    small_print(figure, which, title[1], note)
    return figure


def images_with_texts(
    figure: Figure, images: torch.Tensor, texts: Sequence[str], columns: int
) -> None:
    """Draw images (uint8, N x 28 x 28) in rows, each under a red text of two lines."""
    axes = figure.subplots()  # one for all images: one for each would take half a second
    cell_height, cell_width = 42, 36  # pixels: an image, a margin, and two lines of text above
    rows = max(1, math.ceil(len(images) / columns))
    canvas = np.zeros((cell_height * rows, cell_width * columns), np.uint8)
    for place, (image, text) in enumerate(zip(images.numpy(), texts, strict=True)):
        row, column = divmod(place, columns)
        y, x = cell_height * row, cell_width * column
        canvas[y + 12 : y + 40, x + 4 : x + 32] = image
        axes.text(x + 18, y + 11, text, ha="center", va="bottom", fontsize=8.5, color=RED)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=255)
    axes.set_axis_off()


def sheet(path: str | Path, images: torch.Tensor, columns: int = 25) -> None:
    """Draw a sheet of images into a PNG file; see `sheet_figure`."""
    save(sheet_figure(images, columns), path)


@own_settings()
def sheet_figure(images: torch.Tensor, columns: int) -> Figure:
    """Images (uint8, N x 28 x 28) in full rows, as one picture of dark digits on white.

    Images that would not fill a last row are left out.
    """
    rows = len(images) // columns
    grid = images[: rows * columns].view(rows, columns, 28, 28).transpose(1, 2)
    pixels = 255 - grid.reshape(rows * 28, columns * 28).numpy()
    figure = Figure(figsize=(columns * 0.4, rows * 0.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
    return figure


class Prediction(NamedTuple):
    """A picture and what was read of it."""

    text: str
    picture: np.ndarray  # H x W x 3
    # Of each shape: top, left, bottom and right as shares of the longer side; the answer; how sure.
    marks: Sequence[tuple[np.ndarray, str, float]] = ()
    seen: np.ndarray | None = None  # 28 x 28: what the network sees of a shape that is alone
    probabilities: np.ndarray | None = None  # its 10


def predictions(path: str | Path, rows: Sequence[Prediction]) -> None:
    """Draw pictures and their answers into a PNG file; see `predictions_figure`."""
    save(predictions_figure(rows), path)


@own_settings()
def predictions_figure(rows: Sequence[Prediction]) -> Figure:
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
