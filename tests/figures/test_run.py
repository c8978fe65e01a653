"""The figures of a run, read back; hardly a pixel is compared."""

import multiprocessing
import os
import sys
import warnings
from pathlib import Path

from figures import run, style

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

# Warnings of drawing are errors; that matplotlib uses deprecated libraries is not our affair.
pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning", "error::RuntimeWarning", "ignore::DeprecationWarning"
)

TITLE = ("LeNet-5 on MNIST", "5 epochs of batches of 64, seed 0")


def history(epochs, loss=0.03, gap=0.01, points=0):
    """A made-up run whose losses fall to `loss` at last; accuracies follow them."""
    rows = []
    for epoch in range(1, epochs + 1):
        train, test = (loss + 0.3 * (1 - epoch / epochs) + more for more in (0, gap))
        row = {"train_loss": train, "test_loss": test}
        row |= {"train_accuracy": 1 / (1 + train), "test_accuracy": 1 / (1 + test)}
        if points:  # they begin high and fall to the loss of the epoch
            losses = np.geomspace(points if epoch == 1 else 1.2 * train, train, 50)
            places = epoch - 1 + np.arange(1, 51) / 50
            row["points"] = np.column_stack([places, losses, 1 / (1 + losses)]).tolist()
        rows.append(row)
    return rows


def boxes(figure, artists):
    """The boxes (left, bottom, right, top) that drawing gives to these artists, in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    return [artist.get_window_extent(renderer).extents for artist in artists]


def answers(wrong_by=()):
    """Images, logits and labels of 40; `wrong_by` has (image, answer, logit) of each mistake."""
    labels = torch.arange(40) % 10
    logits = 4.0 * torch.nn.functional.one_hot(labels, 10)
    for image, answer, logit in wrong_by:
        logits[image] = 0
        logits[image, answer] = logit
    return torch.arange(40, dtype=torch.uint8).view(40, 1, 1).expand(40, 28, 28), logits, labels


# ---- curves


@pytest.mark.parametrize("points", [0, 2.3])
@pytest.mark.parametrize(("epochs", "evaluated"), [(1, "test"), (5, "validation"), (60, "test")])
def test_every_metric_stands_at_its_place_and_the_first_points_do_not_press_it_down(
    epochs, evaluated, points
):
    """Training in the middle of its epoch, the test at its end, points in a thin line below."""
    rows = history(epochs, points=points)
    figure = run.curves(TITLE, [rows], evaluated)
    within = np.array([point for row in rows for point in row.get("points", [])]).reshape(-1, 3)
    for axes, column, metric in zip(figure.axes, (1, 2), ("loss", "accuracy"), strict=True):
        scale, shown = ((1, "{:.4f}"), (100, "{:.2f} %"))[column - 1]
        means, words = [], []
        train, test, *thin = axes.lines
        for line, part, end in ((train, "train", 0.5), (test, "test", 1)):
            values = [scale * row[f"{part}_{metric}"] for row in rows]
            expected = np.column_stack([np.arange(epochs) + end, values])
            np.testing.assert_allclose(line.get_xydata(), expected)
            words.append(shown.format(values[-1]))
            means += values
        legend = [text.get_text() for text in axes.get_legend().get_texts()]
        assert legend == [f"training: {words[0]}", f"{evaluated}: {words[1]}"]
        ticks = axes.get_xticks()
        assert len(ticks) >= 3 and (epochs == 1 or (ticks == ticks.round()).all())
        assert len(thin) == bool(points)
        for line in thin:
            np.testing.assert_allclose(line.get_xydata(), within[:, [0, column]] * [1, scale])
            assert line.get_color() == train.get_color()
            assert line.get_zorder() < min(train.get_zorder(), test.get_zorder())
            values = means + (scale * within[within[:, 0] > epochs / 10, column]).tolist()
            low, high = axes.get_ylim()
            assert low < min(values) and max(values) < high  # every dot, and nearly every point
            assert max(values) - min(values) > 0.85 * (high - low)  # and hardly anything else
    assert "seeds" not in figure.get_supxlabel()
    assert ("thin line: averages over about a fiftieth" in figure.get_supxlabel()) == bool(points)


@pytest.mark.parametrize("epochs", [1, 5])
def test_seeds_have_their_mean_and_range_and_a_thin_line(epochs):
    runs = [history(epochs, loss, points=2.3) for loss in (0.2, 0.3, 0.7)]
    figure = run.curves(TITLE, runs)
    train, _, thin = figure.axes[0].lines
    assert train.get_xydata()[-1].tolist() == pytest.approx([epochs - 0.5, 0.4])
    (band, _) = figure.axes[0].collections
    drawn = band.get_paths()[0].vertices
    assert epochs > 1 or band.get_linewidth() > 0
    heights = drawn[drawn[:, 0] == epochs - 0.5, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.2, 0.7))
    losses = [[point[1] for row in rows for point in row["points"]] for rows in runs]
    np.testing.assert_allclose(thin.get_ydata(), np.mean(losses, axis=0))
    assert "means of 3 seeds, and their range" in figure.get_supxlabel()


def test_a_seed_that_was_stopped_early_and_epochs_without_points_leave_gaps():
    runs = [history(5), history(5, 0.5, points=2.3)[:2]]
    figure = run.curves(TITLE, runs)
    losses = figure.axes[0].lines[0].get_ydata()
    assert losses[0] == pytest.approx((runs[0][0]["train_loss"] + runs[1][0]["train_loss"]) / 2)
    assert losses[4] == runs[0][4]["train_loss"]
    assert len(figure.axes[0].lines) == 2
    resumed = history(5)[:2] + history(5, points=2.3)[2:]
    drawn = run.curves(TITLE, [resumed]).axes[0].lines[2].get_xdata()
    assert np.isnan(drawn).tolist() == [True] * 2 + [False] * 150
    assert (drawn[2], drawn[-1]) == pytest.approx((2.02, 5))


@pytest.mark.parametrize("points", [0, 1e6])
def test_a_huge_loss_does_not_hide_the_others(points):
    rows = history(5, points=points)
    rows[0]["train_loss"] = 1e5
    loss, accuracy = run.curves(TITLE, [rows]).axes
    assert loss.get_yscale() == "log" and loss.get_ylim()[1] > max(1e5, points)
    assert accuracy.get_yscale() == "linear"


# ---- confusion, mistakes


def test_the_counts_are_right_and_only_mistakes_are_coloured():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (3000,), generator=generator)
    logits = torch.randn(3000, 10, generator=generator)
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (labels, logits.argmax(1)), 1)
    figure = run.confusion(TITLE, logits, labels)
    axes = figure.axes[0]
    drawn = np.zeros((10, 10), int)
    for text in axes.texts:
        answer, label = text.get_position()
        drawn[int(label), int(answer)] = int(text.get_text().replace(",", "").replace("·", "0"))
    assert len(axes.texts) == 100 and np.array_equal(drawn, expected)
    wrong = expected * (1 - np.eye(10, dtype=int))
    assert np.array_equal(axes.images[0].get_array(), wrong)
    assert f"{wrong.sum():,} mistakes in 3,000 images" in axes.get_title()
    assert figure.get_supxlabel() == TITLE[1]


def test_the_most_confident_mistakes_come_first_with_label_and_answer():
    images, logits, labels = answers([(3, 8, 5.0), (17, 1, 9.0), (29, 4, 7.0)])
    figure = run.mistakes(TITLE, images, logits, labels)
    first_lines = [text.get_text().splitlines()[0] for text in figure.axes[0].texts]
    assert first_lines == ["label 7, answer 1", "label 9, answer 4", "label 3, answer 8"]
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    assert [canvas[20, 36 * column + 10] for column in range(3)] == [17, 29, 3]
    small_print = ["3 mistakes in 40 images; shown: 3, surest first", TITLE[1]]
    assert figure.get_supxlabel().splitlines() == small_print
    assert "0 mistakes in 40 images" in run.mistakes(TITLE, *answers()).get_supxlabel()


def test_the_text_fits_above_its_image():
    wrong = [(image, (image + 1) % 10, 20.0) for image in range(40)]  # "100.0 % sure": the longest
    figure = run.mistakes(TITLE, *answers(wrong))
    axes = figure.axes[0]
    assert len(axes.texts) == 32
    for index, (left, bottom, right, top) in enumerate(boxes(figure, axes.texts)):
        row, column = divmod(index, 8)
        x0, y1 = axes.transData.transform((36 * column + 4, 42 * row)) + (-2, 2)
        x1, y0 = axes.transData.transform((36 * column + 32, 42 * row + 12)) + (2, 0)
        assert x0 <= left and right <= x1 and y0 <= bottom and top <= y1


# ---- what all of them share


def test_a_picture_is_written_whole_or_is_an_os_error(tmp_path):
    with matplotlib.rc_context({"font.size": 33}):
        figure = run.curves(TITLE, [history(5)])
        style.save(figure, tmp_path / "plots" / "run.png")
        assert matplotlib.rcParams["font.size"] == 33  # a person's own settings
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["run.png"]
    with Image.open(tmp_path / "plots" / "run.png") as picture:
        picture.verify()
        assert picture.size == (1320, 576)
    with pytest.raises(OSError):
        style.save(figure, tmp_path / "plots" / "run.png" / "run.png")


def draw_anew(backend):
    """Draw in this folder with matplotlib imported anew, warnings as errors; keep its backend."""
    os.environ["MPLBACKEND"] = backend
    for name in list(sys.modules):
        if name.startswith(("matplotlib", "figures")):
            del sys.modules[name]
    before, odd, rows = dict(os.environ), "数字 $\\frac$ 100 % _x^2_", history(1)
    warnings.simplefilter("error")
    from figures import run, study, style

    import matplotlib

    figure = run.curves((odd, odd), [rows * 2])
    assert figure.get_suptitle() == odd
    style.save(figure, "curves.png")
    style.save(study.comparison({odd: {0: rows}, "_a$": {0: rows, 1: rows}}), "comparison.png")
    assert dict(os.environ) == before and "matplotlib.pyplot" not in sys.modules
    Path("backend").write_text(str(matplotlib.rcParams._get("backend")))


RC = "text.usetex: True\nfigure.figsize: 1, 1\nsavefig.bbox: tight\nfont.size: 40\n"
INLINE = "module://matplotlib_inline.backend_inline"
PROCESSES = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")


def test_neither_a_matplotlibrc_nor_a_backend_changes_a_picture(tmp_path, monkeypatch, capfd):
    """In processes of their own; a backend that exists stays a person's own."""
    monkeypatch.chdir(tmp_path)
    pictures = []
    for rc, backend in (("", ""), (RC, "nonsense"), ("", INLINE), ("", "svg")):
        Path("matplotlibrc").write_text(rc)
        process = PROCESSES.Process(target=draw_anew, args=[backend])
        process.start()
        process.join(60)
        process.kill()
        assert process.exitcode == 0 and "Warning" not in capfd.readouterr().err
        assert backend in ("", "nonsense") or Path("backend").read_text() == backend
        pictures.append([Path(f"{name}.png").read_bytes() for name in ("curves", "comparison")])
        assert pictures[-1] == pictures[0]
