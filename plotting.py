"""The pictures: data in, a PNG out, drawn without a display.

`Figure` instead of pyplot: no global state, no window, nothing to close.
"""

import io

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from tarball import write_whole

TRAIN, TEST, MISTAKE = "#4477aa", "#cc3311", "#cc3311"
SHOWN = 40  # pictures in one figure of predictions


def save(figure, path):
    """Write a figure as a PNG, whole or not at all; OSError."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, facecolor="white")
    write_whole(path, buffer.getbuffer())


def titled(title, width, height):
    """An empty figure under a title, with a margin around it."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    return figure


def curves(path, title, histories, evaluated="test"):
    """Loss and accuracy over the epochs, of one run or (mean and spread) of several.

    `title` is what `options.describe` gives: the network and the data, then the options.
    """
    figure = titled(title[0], 11, 4.8)
    panels = figure.subplots(1, 2)
    for axes, metric, scale in zip(panels, ("loss", "accuracy"), (1, 100), strict=True):
        ends = []
        for part, color, label in (("train", TRAIN, "training"), ("test", TEST, evaluated)):
            runs = [[scale * row[f"{part}_{metric}"] for row in history] for history in histories]
            epochs = np.arange(1, max(map(len, runs)) + 1)
            padded = np.array([run + [np.nan] * (len(epochs) - len(run)) for run in runs])
            mean, low, high = (f(padded, axis=0) for f in (np.nanmean, np.nanmin, np.nanmax))
            few = "o-" if len(epochs) <= 12 else "-"
            axes.plot(epochs, mean, few, color=color, markersize=4, label=label)
            if len(runs) > 1:
                axes.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
            ends.append((mean[-1], color))
        write_ends(axes, epochs[-1], ends, "{:.4f}" if metric == "loss" else "{:.2f} %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("cross-entropy loss" if metric == "loss" else "accuracy (%)")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    several = f"; line: mean of {len(histories)} seeds, band: lowest to highest"
    note = "training values are running averages during the epoch"
    figure.supxlabel(
        f"{title[1]}\n{note}{several if len(histories) > 1 else ''}", fontsize=8.5, color="0.35",
        wrap=True,
    )  # fmt: skip
    save(figure, path)


def write_ends(axes, epoch, ends, form):
    """The last values beside the ends of the curves, pushed apart where they would overlap."""
    axes.margins(x=0.05)
    low, high = axes.get_ylim()
    apart = 0.06 * (high - low)
    middle = sum(value for value, _ in ends) / len(ends)
    for value, color in ends:
        place = value
        if abs(ends[0][0] - ends[1][0]) < apart:
            place = middle + (apart / 2 if value >= middle else -apart / 2)
        axes.annotate(
            form.format(value), (epoch, place), xytext=(9, 0), textcoords="offset points",
            va="center", color=color, fontsize=9, annotation_clip=False,
        )  # fmt: skip


def confusion(path, title, logits, labels):
    """How often each digit was taken for each; the colour is of the mistakes alone."""
    answers = logits.argmax(1)
    counts = torch.bincount(10 * labels + answers, minlength=100).view(10, 10).numpy()
    wrong = np.where(np.eye(10, dtype=bool), 0, counts)
    figure = titled(title[0], 7.2, 7.2)
    axes = figure.subplots()
    axes.imshow(wrong, cmap="Reds", vmin=0, vmax=max(1, 1.3 * wrong.max()))
    for label in range(10):
        for answer in range(10):
            count, right = counts[label, answer], label == answer
            axes.text(
                answer, label, f"{count:,}" if count else "·", ha="center", va="center",
                color="0.55" if right or not count else "black", fontsize=9 if right else 11,
                fontweight="normal" if right or not count else "bold",
            )  # fmt: skip
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.set_xlabel("the network's answer")
    axes.set_ylabel("true digit")
    total = counts.sum()
    axes.set_title(
        f"{wrong.sum():,} mistakes in {total:,} images ({100 * wrong.sum() / total:.2f} %) in red, "
        "right answers in grey",
        fontsize=10,
    )
    figure.supxlabel(title[1], fontsize=8, color="0.35", wrap=True)
    save(figure, path)


def mistakes(path, title, images, logits, labels, rows=4, columns=8):
    """The images that were answered wrongly with the most confidence."""
    confidence, answers = logits.double().softmax(1).max(1)
    wrong = (answers != labels).nonzero().flatten()
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)][: rows * columns]
    figure = titled(title[0], 11, 0.9 + 1.6 * rows)
    axes = figure.subplots()  # one for all: one for each takes half a second
    canvas = np.zeros((42 * rows, 36 * columns), np.uint8)
    for place, index in enumerate(worst.tolist()):
        y, x = 42 * (place // columns), 36 * (place % columns)
        canvas[y + 12 : y + 40, x + 4 : x + 32] = images[index].numpy()
        axes.text(
            x + 18, y + 11, f"{labels[index]}, taken for {answers[index]}\n"
            f"{100 * confidence[index]:.1f} % sure",
            ha="center", va="bottom", fontsize=8.5, color=MISTAKE,
        )  # fmt: skip
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=255)
    axes.set_axis_off()
    which = f"the {len(worst)} most confident of {len(wrong):,} mistakes" if len(wrong) else "none"
    text = f"mistakes: {which} in {len(labels):,} images\n{title[1]}"
    figure.supxlabel(text, fontsize=8.5, color="0.35", wrap=True)
    save(figure, path)


def comparison(path, title, results, published):
    """Every experiment's test error over its seeds, and LeNet-5 beside the MLP epoch by epoch.

    `results` is {experiment: {seed: history}}, `published` {experiment: (train loss, train
    accuracy, test loss, test accuracy) or None}.
    """
    figure = titled(title, 11, 9.5)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 0.9])
    axes = top.subplots()
    for row, (name, histories) in enumerate(results.items()):
        errors = np.array([100 * (1 - h[-1]["test_accuracy"]) for h in histories.values()])
        axes.plot(errors, np.full(len(errors), row), "o", color=TRAIN, alpha=0.35, markersize=6)
        spread = errors.std(ddof=1) if len(errors) > 1 else 0
        axes.errorbar(errors.mean(), row, xerr=spread, fmt="|", color="black", markersize=16,
                      capsize=4)  # fmt: skip
        axes.annotate(f"{errors.mean():.2f} ± {spread:.2f} %", (errors.mean(), row), (0, 13),
                      textcoords="offset points", ha="center", fontsize=9)  # fmt: skip
        if published[name]:
            axes.plot(100 - published[name][3], row, "x", color=TEST, markersize=9, mew=2)
    axes.set_xscale("log")
    ticks = [0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50]
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g} %")
    axes.set_yticks(
        range(len(results)), [f"{name}, {len(results[name])} seeds" for name in results]
    )
    axes.set_ylim(len(results) - 0.4, -0.7)
    axes.set_xlabel(
        "test error (logarithmic axis)\ndot: one seed; bar: mean ± standard deviation; "
        "red cross: the published single run"
    )
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)

    pair = {"lenet5": ("LeNet-5", TRAIN), "mlp": ("CustomMLP", TEST)}
    panels = bottom.subplots(1, 2)
    for axes, metric, scale in zip(panels, ("loss", "accuracy"), (1, 100), strict=True):
        for name in pair.keys() & results.keys():
            label, color = pair[name]
            for part, style in (("train", "--"), ("test", "o-")):
                values = [
                    [scale * r[f"{part}_{metric}"] for r in h] for h in results[name].values()
                ]
                mean, epochs = np.mean(values, axis=0), np.arange(1, len(values[0]) + 1)
                axes.plot(epochs, mean, style, color=color, markersize=4, label=f"{label}, {part}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch (mean over the seeds)")
        axes.set_ylabel("cross-entropy loss" if metric == "loss" else "accuracy (%)")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False)
    save(figure, path)


def sheet(path, images, columns=25):
    """Images (uint8, N x 28 x 28) in rows, as one picture of dark digits on white."""
    rows = len(images) // columns
    grid = images[: rows * columns].view(rows, columns, 28, 28).transpose(1, 2)
    pixels = 255 - grid.reshape(rows * 28, columns * 28).numpy()
    figure = Figure(figsize=(columns * 0.4, rows * 0.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
    save(figure, path)


def predictions(path, rows):
    """Draws for each picture the original, the 28 x 28 the network saw, and the probabilities.

    `rows` holds (title, original, 28 x 28 or None if no digit was found, 10 probabilities or None);
    Only the first 40 are drawn, and the figure says so.
    """
    shown = rows[:SHOWN]
    across = min(4, -(-len(shown) // 4))
    down = -(-len(shown) // across)
    limits = 1.3 - 1.4 * down, 1.5 if len(rows) > SHOWN else 1.25
    figure = Figure(figsize=(3.6 * across, limits[1] - limits[0]))
    axes = figure.add_axes((0, 0, 1, 1))  # one for all: forty times three would take seconds
    for index, (title, original, seen, probabilities) in enumerate(shown):
        x, y = 3.6 * (index // down), -1.4 * (index % down)
        axes.text(x, y + 1.04, title, size=7.5, parse_math=False)
        height, width = np.shape(original)[:2]
        right, top = np.array([width, height]) / max(width, height)
        axes.imshow(original, cmap="gray", extent=(x, x + right, y, y + top))
        if seen is None:
            continue
        axes.imshow(seen, cmap="gray", extent=(x + 1.1, x + 2.1, y, y + 1), interpolation="nearest")
        digits = x + 2.25 + 0.1 * np.arange(10)
        best = int(np.argmax(probabilities))
        colours = ["tab:blue" if digit == best else "tab:gray" for digit in range(10)]
        axes.plot([x + 2.2, x + 3.2], [y + 0.12, y + 0.12], color="0.8", linewidth=0.5)
        axes.bar(digits, 0.85 * np.asarray(probabilities), 0.07, y + 0.12, color=colours)
        for digit, place in enumerate(digits):
            weight = "bold" if digit == best else None
            axes.text(place, y, digit, size=6.5, ha="center", weight=weight)
    if len(rows) > SHOWN:
        axes.text(0, 1.3, f"the first {SHOWN} of {len(rows)} pictures", size=9)
    axes.set(xlim=(-0.1, 3.6 * across - 0.1), ylim=limits, aspect="equal")
    axes.set_axis_off()
    save(figure, path)
