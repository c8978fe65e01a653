"""The figures of many runs.

`results` is {experiment: {seed: history}} everywhere; an experiment has at least one seed. `note`
is a line for the small print.
"""

from collections.abc import Mapping, Sequence

from figures import run
from figures.run import History
from figures.style import BLUE, COLORS, RED, own_settings, titled

import matplotlib
import numpy as np
import torch
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

Results = Mapping[str, Mapping[int, History]]
Published = tuple[float, float, float, float]  # train loss, accuracy (%), test loss, accuracy (%)


def counted(name: str, histories: Mapping[int, History]) -> str:
    return f"{name}, {len(histories)} seed{'s' if len(histories) > 1 else ''}"


def round_numbers(axis: Axis, unit: str) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(f"{{x:g}} {unit}")


@own_settings()
def errors(
    heading: str, results: Results, published: Mapping[str, Published | None], note: str = ""
) -> Figure:
    """The test error of every experiment: each seed, their mean and standard deviation.

    `published` has the single published run of an experiment, or None.
    """
    key = "dot: one seed; bar: mean ± standard deviation; red cross: the published single run"
    figure = titled(11, 1.9 + 0.5 * len(results), heading, key, note)
    axes = figure.subplots()
    for row, (name, histories) in enumerate(results.items()):
        seeds = np.array([100 * (1 - h[-1]["test_accuracy"]) for h in histories.values()])
        mean, spread = seeds.mean(), seeds.std(ddof=1) if len(seeds) > 1 else None
        axes.plot(seeds, np.full(len(seeds), row), "o", color=BLUE, alpha=0.35, markersize=6)
        axes.errorbar(mean, row, xerr=spread, fmt="|", color="black", markersize=16, capsize=4)
        text = f"{mean:.2f} %" if spread is None else f"{mean:.2f} ± {spread:.2f} %"
        axes.text(mean, row - 0.2, text, ha="center", va="bottom", fontsize=9)
        if single := published.get(name):
            axes.plot(100 - single[3], row, "x", color=RED, markersize=9, markeredgewidth=2)
    axes.set_xlabel("test error (%)")
    if axes.dataLim.x0 > 0:  # an error of 0 has no logarithm
        axes.set(xscale="log", xlabel="test error (logarithmic axis)")
        axes.set_xlim(axes.dataLim.x0 / 1.5, 1.5 * axes.dataLim.x1)
        round_numbers(axes.xaxis, "%")
    axes.set_yticks(range(len(results)), [counted(*item) for item in results.items()])
    axes.set_ylim(len(results) - 0.4, -0.8)
    axes.grid(axis="x")
    return figure


@own_settings()
def comparison(
    results: Results, evaluated: str = "test", notes: Sequence[str] = (), training: bool = False
) -> Figure:
    """Loss and accuracy on the tested images over the epochs, a colour for each experiment.

    Several seeds are their mean and range. `evaluated` is the name of the images that the networks
    were tested on; `notes` are lines for the small print; `training` adds dashed lines.
    """
    # matplotlib would leave out a label that begins with "_", so each begins with a space.
    labels = [f" {counted(*item)}" for item in results.items()]
    columns = max(1, min(len(labels), 130 // (8 + max(map(len, labels)))))
    height = 4.8 + 0.2 * -(-len(labels) // columns)
    key = "mean of the seeds, and their range" * any(len(seeds) > 1 for seeds in results.values())
    dashed = f"solid: {evaluated}; dashed: training; {run.RUNNING_AVERAGES}" if training else ""
    figure = titled(11, height, "", key, dashed, *notes)
    many = matplotlib.colormaps["turbo"](np.linspace(0, 1, len(results)))
    colors = COLORS if len(results) <= len(COLORS) else many
    # Runs of one epoch stand beside each other.
    one_epoch = all(len(history) == 1 for seeds in results.values() for history in seeds.values())
    places = np.linspace(0, 1, len(results) + 2)[1:-1] if one_epoch else np.ones(len(results))
    curves = []
    for seeds, color, place in zip(results.values(), colors, places, strict=False):
        histories = list(seeds.values())
        curves.append((histories, "test", place, color, "-"))
        if training:
            curves.append((histories, "train", place - 0.5, color, "--"))
    panels = run.panels(figure, curves)
    for axes, _ in panels.values() if one_epoch else ():
        axes.set(xticks=[], xlabel="after one epoch")
    figure.legend(
        panels["loss"][1][:: 1 + training],
        labels,
        loc="outside upper center",
        ncols=columns,
        title="Loss and accuracy" if training else f"{evaluated.capitalize()} loss and accuracy",
        title_fontproperties={"weight": "bold", "size": 13},
    )
    return figure


@own_settings()
def regularization(points: Mapping[tuple[int, float, float], Sequence[float]]) -> Figure:
    """The validation error of each dropout and weight decay: a map for each length of training.

    `points` is {(epochs, dropout, weight decay): the error of each seed in percent}.
    """
    lengths, dropouts, decays = (sorted(set(values)) for values in zip(*points, strict=True))
    errors = np.array([[[points[e, d, w] for w in decays] for d in dropouts] for e in lengths])
    means, spreads = errors.mean(-1), errors.std(-1, ddof=1)
    seeds = errors.shape[-1]
    key = f"mean ± standard deviation of {seeds} seeds, on held-out images; bold: the lowest"
    heading = "Validation error (%) with dropout and weight decay"
    figure = titled(4 * len(lengths), 4.6, heading, key)
    panels = figure.subplots(1, len(lengths), squeeze=False)[0]
    darkest = 3 * means.max() - 2 * means.min()  # is not reached: black text is clear on all
    for axes, epochs, mean, spread in zip(panels, lengths, means, spreads, strict=True):
        axes.imshow(mean, "Reds", vmin=means.min(), vmax=darkest)
        for (row, column), value in np.ndenumerate(mean):
            weight = "bold" if value == mean.min() else "normal"
            text = f"{value:.2f}\n± {spread[row, column]:.2f}"
            axes.text(column, row, text, ha="center", va="center", weight=weight)
        axes.set(title=f"{epochs} epochs", xlabel="weight decay", ylabel="dropout")
        axes.set_xticks(range(len(decays)), [f"{decay:g}" for decay in decays])
        axes.set_yticks(range(len(dropouts)), [f"{dropout:g}" for dropout in dropouts])
    return figure


@own_settings()
def pareto(points: Mapping[str, tuple[float, Sequence[float]]]) -> Figure:
    """The time of a run against its test error, both axes logarithmic.

    `points` is {experiment: (seconds, the error of each seed in percent)}.
    """
    key = "time of training and testing, without start and pictures; bar: ± standard deviation"
    figure = titled(9, 5.5, "Time of one run, and its test error on MNIST", key)
    axes = figure.subplots()
    places = {name: (seconds, float(np.mean(errors))) for name, (seconds, errors) in points.items()}
    for name, (x, y) in places.items():
        spread = np.std(points[name][1], ddof=1) if len(points[name][1]) > 1 else 0
        axes.errorbar(x, y, yerr=spread, fmt="o", color=BLUE, capsize=3)
        # A name stands on the right, or on the left where it would run through another's bar.
        left = any(x < a < 1.5 * x and y / 1.3 < b < 1.3 * y for a, b in places.values())
        axes.text(x, y, f"   {name}   ", ha="right" if left else "left", va="center")
    axes.set(xscale="log", yscale="log", xlabel="time on one thread", ylabel="test error")
    axes.margins(x=0.18, y=0.12)
    round_numbers(axes.xaxis, "s")
    round_numbers(axes.yaxis, "%")
    axes.grid()
    return figure


@own_settings()
def hardest(images: torch.Tensor, labels: torch.Tensor, answers: torch.Tensor) -> Figure:
    """The images that every network reads wrong, with their label and what the networks answer.

    `images` are uint8, N x 28 x 28; `labels` N; `answers` networks x N, both int64.
    """
    wrong = (answers != labels).all(0).nonzero().flatten()
    texts = []
    for index in wrong.tolist():
        digits, counts = answers[:, index].unique(return_counts=True)
        given = digits[counts.argsort(descending=True, stable=True)].tolist()
        texts.append(f"label {labels[index]},\nread as {' or '.join(map(str, given))}")
    rows = max(1, -(-len(wrong) // 8))
    columns = max(4, -(-len(wrong) // rows))  # as many in each row
    note = f"{len(wrong)} of {len(labels):,} test images"
    heading = f"What all {len(answers)} networks read wrong"
    return run.gallery(heading, images[wrong], texts, columns, note)


@own_settings()
def speed(times: Mapping[str, Mapping[str, Sequence[float]]], note: str = "") -> Figure:
    """The time that each program takes to train a network: the median of its repetitions.

    `times` is {network: {program: seconds of each repetition}}; the first program of each is this
    project.
    """
    height = 1.9 + 0.5 * max(map(len, times.values()))
    key = "median; line: from the fastest repetition to the slowest"
    figure = titled(12, height, "Time from the command to the result, 5 epochs", key, note)
    panels = figure.subplots(1, len(times), squeeze=False)[0]
    for axes, (network, programs) in zip(panels, times.items(), strict=True):
        seconds = programs.values()
        low, median, high = ([f(s) for s in seconds] for f in (min, np.median, max))
        ranges = np.subtract(median, low), np.subtract(high, median)
        colors = ["#a0bbd2"] + ["0.85"] * (len(programs) - 1)
        bars = axes.barh(list(programs), median, 0.5, xerr=ranges, color=colors)
        axes.bar_label(bars, fmt="{:.3g} s", padding=8)
        axes.set(xlabel="seconds", title=network)
        axes.margins(x=0.2)
        axes.invert_yaxis()
        axes.grid(axis="x")
    return figure
