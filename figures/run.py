"""The figures of one run or of its seeds: curves, confusion and mistakes.

`title` is a pair everywhere: the heading, and a line of options for the small print.
`images` are uint8, N x 28 x 28; `labels` int64, N; `logits` float, N x 10.
"""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from figures.style import BLUE, RED, own_settings, titled

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import ColorType

# A row for each epoch: its metrics, and perhaps "points", a list of [position, loss, accuracy] of
# the training images: the position in epochs, the means over the images since the last point.
History = Sequence[Mapping]
Title = tuple[str, str]
# Some runs; their "train" or "test"; the place of a value in its epoch: 0.5 is the middle, 1 the
# end; the colour and style of the line.
Curve = tuple[Sequence[History], str, float, ColorType, str]

METRICS = {  # the label of its axis, the factor from the history to what is drawn, its format
    "loss": ("cross-entropy loss", 1, "{:.4f}"),
    "accuracy": ("accuracy (%)", 100, "{:.2f} %"),
}
RUNNING_AVERAGES = "training values are running averages, each in the middle of its epoch"


def panels(figure: Figure, curves: Sequence[Curve]) -> dict[str, tuple[Axes, list[Line2D]]]:
    """Draw loss and accuracy over the epochs, side by side; gives the axes and lines of each.

    A line is the mean of some runs, in each epoch of those that have it; around it is their range.
    The y axis is logarithmic where a very large loss would press the lowest onto the x axis.
    """
    epochs = max(len(history) for curve in curves for history in curve[0])
    drawn = {}
    for axes, metric in zip(figure.subplots(1, 2), METRICS, strict=True):
        label, scale, _ = METRICS[metric]
        lines = []
        for histories, part, place, color, style in curves:
            runs = ([scale * row[f"{part}_{metric}"] for row in history] for history in histories)
            values = np.array(list(zip_longest(*runs, fillvalue=np.nan)))  # epochs x runs
            mean, low, high = (f(values, axis=1) for f in (np.nanmean, np.nanmin, np.nanmax))
            places = np.arange(len(mean)) + place
            marker = "o" if len(mean) <= 12 else None  # more would touch each other
            lines += axes.plot(places, mean, style, marker=marker, markersize=4, color=color)
            if len(histories) > 1:
                edge = 4 if len(mean) == 1 else 0  # the band of one epoch has no width of its own
                axes.fill_between(places, low, high, color=color, alpha=0.2, linewidth=edge)
        axes.set(xlabel="epoch", ylabel=label, xlim=(0, 1.03 * epochs))
        axes.xaxis.set_major_locator(MaxNLocator(10 if epochs > 1 else 5, integer=epochs > 1))
        axes.grid()
        if 0 < 300 * axes.dataLim.y0 < axes.dataLim.y1:
            axes.set_yscale("log")
        drawn[metric] = axes, lines
    return drawn


def within_epochs(histories: Sequence[History]) -> np.ndarray:
    """Position, loss and accuracy of the points of histories, means of the runs (float64, N x 3).

    An epoch without points is a row of NaN, which interrupts a line; so are all of runs that have
    other points than each other.
    """
    gap = [[np.nan] * 3]
    runs = [[point for row in run for point in row.get("points") or gap] for run in histories]
    return np.mean(runs if len(set(map(len, runs))) == 1 else [gap], axis=0)


@own_settings()
def curves(title: Title, histories: Sequence[History], evaluated: str = "test") -> Figure:
    """Loss and accuracy over the epochs of one run, or of several: their mean and range.

    `evaluated` is the name of the images that the network was tested on: "test" or "validation".
    """
    within = within_epochs(histories)
    fine = bool(np.isfinite(within).any())
    lines = RUNNING_AVERAGES + "; thin line: averages over about a fiftieth of an epoch" * fine
    seeds = f"means of {len(histories)} seeds, and their range" if len(histories) > 1 else ""
    figure = titled(11, 4.8, *title, lines, seeds)
    parts = (histories, "train", 0.5, BLUE, "-"), (histories, "test", 1, RED, "-")
    for column, (metric, (axes, drawn)) in enumerate(panels(figure, parts).items(), 1):
        _, scale, number = METRICS[metric]
        for line, label in zip(drawn, ("training", evaluated), strict=True):
            line.set_label(f"{label}: {number.format(np.asarray(line.get_ydata())[-1])}")
        if fine:
            thin = within[:, [0, column]] * (1, scale)
            # The first points, of a network that knows nothing yet, would press down all others:
            # they may lie outside, and are cut off.
            late = (thin[:, 0] > max(map(len, histories)) / 10) | (axes.get_yscale() == "log")
            axes.update_datalim(thin[late])
            axes.autoscale_view(scalex=False)
            axes.add_artist(Line2D(*thin.T, color=BLUE, alpha=0.4, lw=0.9, zorder=1.5))
        axes.legend(title="last epoch", alignment="left", loc="best")
    return figure


@own_settings()
def confusion(title: Title, logits: torch.Tensor, labels: torch.Tensor) -> Figure:
    """How often each digit got each answer; only mistakes are coloured."""
    counts = torch.bincount(10 * labels + logits.argmax(1), minlength=100).view(10, 10).numpy()
    wrong = np.where(np.eye(10, dtype=bool), 0, counts)
    figure = titled(7.2, 7.2, *title)
    axes = figure.subplots()
    # The deepest red, at 1.8 times the largest count, is never used: black text is clear on all.
    axes.imshow(wrong, cmap="Reds", vmin=0, vmax=max(1, 1.8 * wrong.max()))
    for (label, answer), count in np.ndenumerate(counts):
        color, weight = ("black", "bold") if wrong[label, answer] else ("0.55", "normal")
        text = f"{count:,}" if count else "·"
        axes.text(answer, label, text, ha="center", va="center", color=color, weight=weight)
    axes.set(xlabel="the network's answer", ylabel="label", xticks=range(10), yticks=range(10))
    mistakes = f"{wrong.sum():,} mistakes in {len(labels):,} images"
    axes.set_title(f"{mistakes} ({100 * wrong.sum() / len(labels):.2f} %), in red", fontsize=10)
    return figure


@own_settings()
def mistakes(
    title: Title, images: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor
) -> Figure:
    """The images with wrong answers, the most confident first, with label and answer."""
    confidence, answers = logits.double().softmax(1).max(1)
    wrong = (answers != labels).nonzero().flatten()
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)][:32]
    texts = [
        f"label {labels[index]}, answer {answers[index]}\n{100 * confidence[index]:.1f} % sure"
        for index in worst.tolist()
    ]
    which = f"{len(wrong):,} mistakes in {len(labels):,} images; shown: {len(worst)}, surest first"
    return gallery(title[0], images[worst], texts, 8, which, title[1])


def gallery(
    heading: str, images: torch.Tensor, texts: Sequence[str], columns: int, *small_print: str
) -> Figure:
    """Images in rows, each under a red text of two lines."""
    cell_height, cell_width = 42, 36  # pixels: an image, a margin, and two lines of text above
    rows = max(1, -(-len(images) // columns))
    figure = titled(0.6 + 1.3 * columns, 1.1 + 1.6 * rows, heading, *small_print)
    axes = figure.subplots()  # one for all images: one for each would take half a second
    canvas = np.zeros((cell_height * rows, cell_width * columns), np.uint8)
    for index, (image, text) in enumerate(zip(images.numpy(), texts, strict=True)):
        row, column = divmod(index, columns)
        y, x = cell_height * row, cell_width * column
        canvas[y + 12 : y + 40, x + 4 : x + 32] = image
        axes.text(x + 18, y + 11, text, ha="center", va="bottom", fontsize=8.5, color=RED)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=255)
    axes.set_axis_off()
    return figure
