"""The figures of many runs.

`results` is {experiment: {seed: history}} everywhere; an experiment has at least one seed.
"""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.run import (
    BLUE,
    METRICS,
    RED,
    RUNNING_AVERAGES,
    Color,
    History,
    by_epoch,
    frame,
    images_with_texts,
    logarithmic_if_wide,
    mean_and_range,
)
from figures.style import literal, own_settings, small_print, titled
from study.intervals import interval

Results = Mapping[str, Mapping[int, History]]
Ways = Mapping[str, Mapping[str, Sequence[float]]]  # {network: {way: seconds}}
Point = tuple[float, Sequence[float], str]  # seconds, errors in percent, kind
Published = tuple[float, float, float, float]  # train loss, accuracy (%), test loss, accuracy (%)

COLORS = (BLUE, RED, "#228833", "#ee7733", "#aa3377", "#33bbee", "#bbaa00", "#777777")
COMPARED = {"lenet5": ("LeNet-5", BLUE), "mlp": ("MLP", RED)}  # experiment: label and color


@own_settings()
def errors(heading: str, results: Results, published: Mapping[str, Published | None]) -> Figure:
    """The test error of every experiment: each seed, their mean and standard deviation.

    `published` has the single published run of an experiment, or None.
    """
    figure = titled(heading, 11, 1.9 + 0.5 * len(results))
    axes = figure.subplots()
    everything: list[float] = []
    for row, (name, histories) in enumerate(results.items()):
        seeds = np.array([100 * (1 - h[-1]["test_accuracy"]) for h in histories.values()])
        everything.extend(seeds.tolist())
        _seeds_and_mean(axes, row, seeds)
        single = published.get(name)
        if single:
            everything.append(100 - single[3])
            axes.plot(100 - single[3], row, "x", color=RED, markersize=9, markeredgewidth=2)
    logarithmic = min(everything, default=0) > 0  # an error of 0 has no logarithm
    if logarithmic:
        _logarithmic(axes, min(everything), max(everything))
    else:
        right = 1.2 * max(everything, default=0) or 1
        axes.set_xlim(-right / 10, right)  # room for the text above an error of 0
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= right])
    axes.xaxis.set_major_formatter("{x:g} %")
    axes.set_yticks(range(len(results)), [_counted(*item) for item in results.items()])
    axes.set_ylim(len(results) - 0.4, -0.8)
    axes.set_xlabel("test error (logarithmic axis)" if logarithmic else "test error")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    small_print(
        figure,
        "dot: one seed; bar: mean ± standard deviation; red cross: the published single run",
    )
    return figure


def _counted(name: str, histories: Mapping[int, History]) -> str:
    """A name and the number of its seeds, in words."""
    return f"{name}, {len(histories)} seed{'s' if len(histories) > 1 else ''}"


def _seeds_and_mean(axes: Axes, row: int, seeds: np.ndarray) -> None:
    """A dot for each seed, a bar for their mean and standard deviation, and both as text."""
    mean = seeds.mean()
    spread = seeds.std(ddof=1) if len(seeds) > 1 else None
    axes.plot(seeds, np.full(len(seeds), row), "o", color=BLUE, alpha=0.35, markersize=6)
    axes.errorbar(mean, row, xerr=spread, fmt="|", color="black", markersize=16, capsize=4)
    axes.annotate(
        f"{mean:.2f} %" if spread is None else f"{mean:.2f} ± {spread:.2f} %",
        (mean, row),
        xytext=(0, 13),
        textcoords="offset points",
        ha="center",
        fontsize=9,
    )


def _logarithmic(axes: Axes, lowest: float, highest: float) -> None:
    """Make the x axis logarithmic, with ticks at round numbers; lowest and highest are in %."""
    margin = 1.2 * (highest / lowest) ** 0.05  # room for the text above the outermost means
    low, high = lowest / margin, highest * margin
    if high < 2 * low:  # then add more: at least two round numbers must be on the axis
        low, high = low / 1.4, high * 1.4
    few = high > 40 * low
    steps = (1, 2, 5) if few else (1, 1.5, 2, 3, 4, 5, 6, 8)
    ticks = [step * power for power in (0.001, 0.01, 0.1, 1, 10, 100) for step in steps]
    axes.set_xscale("log", nonpositive="clip")
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.minorticks_off()


@own_settings()
def models(heading: str, results: Results) -> Figure:
    """Loss and accuracy of the experiments lenet5 and mlp over the epochs: means of the seeds.

    An experiment that is not in the results is left out.
    """
    figure = titled(heading, 11, 4.8)
    panels = figure.subplots(1, 2)
    present = [name for name in COMPARED if name in results]
    for axes, (metric, (_, scale)) in zip(panels, METRICS.items(), strict=True):
        longest = 1
        for name in present:
            label, color = COMPARED[name]
            histories = list(results[name].values())
            for part, words, style, face in (
                ("train", "training", "o--", "white"),
                ("test", "test", "o-", color),
            ):
                mean = np.nanmean(by_epoch(histories, f"{part}_{metric}", scale), axis=0)
                longest = max(longest, len(mean))
                epochs = np.arange(1, len(mean) + 1)
                axes.plot(
                    epochs,
                    mean,
                    style,
                    color=color,
                    markerfacecolor=face,
                    markersize=4,
                    label=f"{label}, {words}",
                )
        frame(axes, metric, longest)
    if present:
        panels[0].legend(frameon=False, loc="best")
    counts = "; ".join(_counted(COMPARED[name][0], results[name]) for name in present)
    means = f"means of the seeds ({counts})" if present else "no finished run of lenet5 or mlp"
    small_print(figure, means, RUNNING_AVERAGES)
    return figure


@own_settings()
def comparison(results: Results, evaluated: str = "test", notes: Sequence[str] = ()) -> Figure:
    """Loss and accuracy on the tested images over the epochs, a colour for each experiment.

    Several seeds are their mean and range. `evaluated` is the name of the images that the networks
    were tested on; `notes` are lines for the small print.
    """
    # matplotlib would leave out a label that begins with "_", so each line begins with a space.
    labels = [textwrap.indent(textwrap.fill(name, 34), " ") for name in results]
    lines = sum(1 + label.count("\n") for label in labels)
    height = min(max(4.8, 1.5 + 0.2 * lines), 100)  # inches; no picture can be of any size
    figure = titled(f"{evaluated.capitalize()} loss and accuracy", 13, height)
    panels = figure.subplots(1, 2)
    longest = max(len(history) for seeds in results.values() for history in seeds.values())
    colors = _colors(len(results))
    for axes, (metric, (words, scale)) in zip(panels, METRICS.items(), strict=True):
        drawn = []
        for seeds, label, color in zip(results.values(), labels, colors, strict=True):
            values = by_epoch(list(seeds.values()), f"test_{metric}", scale)
            counted = f", {len(seeds)} seeds" if len(seeds) > 1 else ""
            mean_and_range(axes, values, color, literal(label) + counted)
            drawn.append(values)
        frame(axes, metric, longest)
        axes.set_ylabel(f"{evaluated} {words}")
        if metric == "loss":
            logarithmic_if_wide(axes, min(map(np.nanmin, drawn)), max(map(np.nanmax, drawn)))
    handles, labels = panels[0].get_legend_handles_labels()
    # Inside the panels there is no room for long names, or for many.
    figure.legend(handles, labels, loc="outside right upper", fontsize=8.5, frameon=False)
    several = any(len(seeds) > 1 for seeds in results.values())
    band = "line: mean of the seeds; band: lowest to highest"
    small_print(figure, band if several else "", *notes)
    return figure


@own_settings()
def regularization(points: Mapping[tuple[int, float, float], Sequence[float]]) -> Figure:
    """Validation error against dropout: a line for each weight decay, a panel for each length.

    `points` is {(epochs, dropout, weight decay): the error of each seed in percent}.
    """
    lengths, dropouts, decays = (sorted(set(values)) for values in zip(*points, strict=True))
    figure = titled("What dropout and weight decay do to LeNet-5", 11, 4.8)
    panels = np.atleast_1d(figure.subplots(1, len(lengths), sharey=True))
    for axes, epochs in zip(panels, lengths, strict=True):
        for number, decay in enumerate(decays):
            found = [interval(points[epochs, dropout, decay]) for dropout in dropouts]
            mean, low, high = np.array(found).T
            places = np.arange(len(dropouts)) + 0.08 * (number - (len(decays) - 1) / 2)
            axes.errorbar(
                places,
                mean,
                yerr=[mean - low, high - mean],
                fmt="o-",
                color=COLORS[number],
                markersize=4,
                capsize=3,
                linewidth=1.2,
                label=f"weight decay {decay:g}",
            )
        axes.set_xticks(range(len(dropouts)), [f"{dropout:g}" for dropout in dropouts])
        axes.set_xlabel("dropout")
        axes.set_title(f"{epochs} epochs", fontsize=11)
        axes.yaxis.set_major_formatter("{x:g} %")
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("validation error")
    panels[0].legend(frameon=False, fontsize=9)
    counts = {len(errors) for errors in points.values()}
    small_print(
        figure,
        f"dot: mean of {min(counts)} seeds; bar: its 95 % interval; published optimiser, tested on "
        "held-out training images",
    )
    return figure


@own_settings()
def pareto(points: Mapping[str, Point]) -> Figure:
    """The time of one run against its test error, both axes logarithmic.

    `points` is {what: (seconds, the error of each seed in percent, kind)}; the kind is "whole run"
    or "training" (that alone) of this project, or "other program".
    """
    figure = titled("Time of one run, and its test error on MNIST", 9, 5.5)
    axes = figure.subplots()
    for seconds, errors, kind in points.values():
        spread = np.std(errors, ddof=1) if len(errors) > 1 else 0
        axes.errorbar(
            seconds,
            np.mean(errors),
            yerr=spread,
            fmt="x" if kind == "other program" else "o",
            color=RED if kind == "other program" else BLUE,
            markerfacecolor="white" if kind == "training" else None,
            capsize=3,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.18, y=0.12)
    for axis, unit in ((axes.xaxis, " s"), (axes.yaxis, " %")):
        low, high = axis.get_view_interval()
        round_numbers = [step * 10.0**power for power in range(-3, 5) for step in (1, 2, 5)]
        axis.set_ticks([number for number in round_numbers if low <= number <= high])
        axis.set_major_formatter("{x:g}" + unit)
    axes.minorticks_off()
    label_apart(axes, {what: (one[0], float(np.mean(one[1]))) for what, one in points.items()})
    axes.set_xlabel("time of one run on one thread")
    axes.set_ylabel("test error")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    small_print(
        figure,
        "dot: this project (hollow: training and testing alone, without start and pictures); "
        "cross: other programs; bar: ± standard deviation of the seeds",
    )
    return figure


def label_apart(axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Write a name beside each place, where it hides no name that was written before."""
    written = []
    for what, place in sorted(places.items(), key=lambda one: -one[1][1]):
        corners = [(right, up) for right in (True, False) for up in (5, -13)]
        for right, up in corners:
            text = axes.annotate(
                literal(what),
                place,
                xytext=(7 if right else -7, up),
                textcoords="offset points",
                ha="left" if right else "right",
                fontsize=9,
            )
            box = text.get_window_extent()
            if (right, up) == corners[-1] or not any(box.overlaps(other) for other in written):
                break
            text.remove()
        written.append(box)


@own_settings()
def hardest(
    images: torch.Tensor, labels: torch.Tensor, answers: torch.Tensor, columns: int = 8
) -> Figure:
    """The images that every network reads wrong, with their label and what the networks answer.

    `images` are uint8, N x 28 x 28; `labels` N; `answers` networks x N, both int64.
    """
    wrong = (answers != labels).all(0).nonzero().flatten()
    texts = []
    for index in wrong.tolist():
        counts = torch.bincount(answers[:, index], minlength=10)
        given = [f"{digit} ({counts[digit]})" for digit in counts.argsort(descending=True).tolist()]
        texts.append(f"label {labels[index]}\n{', '.join(given[: (counts > 0).sum()])}")
    number = len(answers)
    figure = titled(
        f"What all {number} networks read wrong", 11, 1.1 + 1.6 * max(1, -(-len(wrong) // columns))
    )
    images_with_texts(figure, images[wrong], texts, columns)
    small_print(
        figure,
        f"{len(wrong)} of {len(labels):,} test images; below the label: the answers, and how many "
        f"of the {number} networks give each",
    )
    return figure


@own_settings()
def speed(ways: Ways) -> Figure:
    """The whole time of each way of training a network: its repetitions, and their median as a bar.

    `ways` is {network: {way: seconds of each repetition}}; the first way of each is this project.
    """
    height = 1.9 + 0.5 * max(len(times) for times in ways.values())
    figure = titled("Time from the command to the result, 5 epochs", 12, height)
    panels = np.atleast_1d(figure.subplots(1, len(ways)))
    for axes, (network, times) in zip(panels, ways.items(), strict=True):
        for row, seconds in enumerate(times.values()):
            middle = float(np.median(seconds))
            axes.barh(row, middle, height=0.5, color="0.8" if row else BLUE, alpha=0.6)
            axes.plot(seconds, np.full(len(seconds), row), "o", color="black", markersize=4)
            axes.annotate(
                f"{middle:.3g} s",
                (max(seconds), row),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axes.set_yticks(range(len(times)), [literal(way) for way in times])
        axes.set_ylim(len(times) - 0.4, -0.6)
        axes.set_xlim(0, 1.18 * max(map(max, times.values())))  # room for the text
        axes.set_title(literal(network), fontsize=11)
        axes.set_xlabel("seconds")
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    small_print(figure, "dot: one repetition; bar and number: their median")
    return figure


def _colors(number: int) -> list[Color]:
    """As many colours as experiments, as different as they can be."""
    if number <= len(COLORS):
        return list(COLORS[:number])
    return [matplotlib.colormaps["turbo"](share) for share in np.linspace(0, 1, number)]
