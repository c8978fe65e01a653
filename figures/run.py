"""The figures of one run.

`title` is a pair everywhere: the heading, and a line of options for the small print.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures.style import own_settings, small_print, titled

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


@own_settings()
def curves(title: Title, histories: Sequence[History], evaluated: str = "test") -> Figure:
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


@own_settings()
def confusion(title: Title, logits: torch.Tensor, labels: torch.Tensor, note: str = "") -> Figure:
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


@own_settings()
def mistakes(
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


@own_settings()
def sheet(images: torch.Tensor, columns: int = 25) -> Figure:
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
