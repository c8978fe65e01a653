"""The pictures of a run, read back from their figures; hardly a pixel is compared."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text
from PIL import Image

from figures import page as pages
from figures import run as plotting
from figures import style

# Warnings of drawing are errors; that matplotlib uses deprecated libraries is not our affair.
pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning", "error::RuntimeWarning", "ignore::DeprecationWarning"
)

ROOT = Path(plotting.__file__).parents[1]
TITLE = ("LeNet-5 on MNIST", "5 epochs of batches of 64, seed 0")


def history(epochs, last_loss=0.03, first_loss=0.3, gap=0.01):
    """A made-up run whose losses fall from first to last; accuracies follow the losses."""
    rows = []
    for epoch in range(1, epochs + 1):
        loss = last_loss + (first_loss - last_loss) * 0.3 ** (epoch - 1)
        rows.append(
            {
                "epoch": epoch,
                "lr": 0.01,
                "train_loss": loss,
                "train_accuracy": 1 / (1 + loss),
                "test_loss": loss + gap,
                "test_accuracy": 1 / (1 + loss + gap),
                "seconds": 1.0,
            }
        )
    return rows


def texts(figure):
    """Every text of a figure, as it was written."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def points(line):
    """What a line connects (float64, N x 2)."""
    return np.asarray(line.get_xydata(), float)


def pixels(image):
    return np.asarray(image.get_array())


def bars(axes):
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def boxes(figure, artists):
    """The boxes (left, bottom, right, top) that drawing gives to these artists, in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    return [artist.get_window_extent(renderer).extents for artist in artists]


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def answers(wrong_by=()):
    """Logits and labels of 40 images; `wrong_by` has (image, answer, logit) of each mistake."""
    labels = torch.arange(40) % 10
    logits = 4.0 * torch.nn.functional.one_hot(labels, 10)
    for image, answer, logit in wrong_by:
        logits[image] = 0
        logits[image, answer] = logit
    return logits, labels


# ---- curves


def test_curves_draw_each_metric_of_the_history():
    run = history(5)
    loss, accuracy = plotting.curves(TITLE, [run], "test").axes
    for axes, metric, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        for line, part in zip(axes.lines, ("train", "test"), strict=True):
            expected = [(row["epoch"], scale * row[f"{part}_{metric}"]) for row in run]
            np.testing.assert_allclose(points(line), expected)


@pytest.mark.parametrize("evaluated", ["test", "validation"])
def test_the_legend_names_the_images_that_were_tested(evaluated):
    figure = plotting.curves(TITLE, [history(2)], evaluated)
    assert legend(figure.axes[0]) == ["training", evaluated]


def test_one_epoch_has_one_tick_in_the_middle():
    for axes in plotting.curves(TITLE, [history(1)], "test").axes:
        assert axes.get_xticks().tolist() == [1]
        assert axes.get_xlim() == (0.5, 1.5)


@pytest.mark.parametrize("epochs", [2, 3, 5, 12, 60, 1000])
def test_every_tick_is_an_epoch_of_the_run(epochs):
    for axes in plotting.curves(TITLE, [history(epochs)], "test").axes:
        ticks = axes.get_xticks()
        assert 2 <= len(ticks) <= 12 and (ticks == ticks.round()).all()
        assert ticks.min() >= 1 and ticks.max() <= epochs


def test_several_seeds_have_their_mean_and_range_and_the_picture_says_so():
    runs = [history(5, first_loss=loss) for loss in (0.2, 0.3, 0.7)]
    figure = plotting.curves(TITLE, runs, "test")
    loss = figure.axes[0]
    assert points(loss.lines[0])[0].tolist() == pytest.approx([1, 0.4])
    band = np.asarray(loss.collections[0].get_paths()[0].vertices)
    at_first_epoch = band[band[:, 0] == 1, 1]
    assert (at_first_epoch.min(), at_first_epoch.max()) == pytest.approx((0.2, 0.7))
    assert "line: mean of 3 seeds; band: lowest to highest" in figure.get_supxlabel()


def test_one_seed_has_no_band_and_no_word_of_one():
    figure = plotting.curves(TITLE, [history(5)], "test")
    assert not figure.axes[0].collections
    assert "seeds" not in figure.get_supxlabel() and "band" not in figure.get_supxlabel()


def test_a_seed_that_was_stopped_early_counts_only_where_it_has_epochs():
    runs = [history(5, first_loss=0.2), history(2, first_loss=0.4)]
    figure = plotting.curves(TITLE, runs, "test")
    drawn = points(figure.axes[0].lines[0])
    assert drawn[0].tolist() == pytest.approx([1, 0.3])
    assert drawn[4].tolist() == [5, runs[0][4]["train_loss"]]
    assert "the seeds that reached it" in figure.get_supxlabel()


def test_a_huge_loss_does_not_hide_the_others():
    run = history(5)
    run[1]["train_loss"] = 4321.0
    loss = plotting.curves(TITLE, [run], "test").axes[0]
    assert loss.get_yscale() == "log" and "logarithmic" in loss.get_ylabel()
    usual = plotting.curves(TITLE, [history(60)], "test").axes[0]
    assert usual.get_yscale() == "linear"


# ---- points inside an epoch


def with_points(rows, first_loss=2.3, each=50):
    """A history with points that fall from a high loss to that of the epoch, in each epoch."""
    for row in rows:
        start = first_loss if row is rows[0] else 1.2 * row["train_loss"]
        losses = np.geomspace(start, row["train_loss"], each)
        row["points"] = [
            [row["epoch"] - 1 + (step + 1) / each, loss, 1 / (1 + loss)]
            for step, loss in enumerate(losses.tolist())
        ]
    return rows


@pytest.mark.parametrize("epochs", [1, 5])
def test_points_are_a_thin_line_behind_the_dots_and_the_axis_begins_at_0(epochs):
    run = with_points(history(epochs))
    figure = plotting.curves(TITLE, [run], "test")
    for axes, column, scale in zip(figure.axes, (1, 2), (1, 100), strict=True):
        train, test, thin = axes.lines
        every = np.array([point for row in run for point in row["points"]])
        np.testing.assert_allclose(points(thin), every[:, [0, column]] * [1, scale])
        assert len(points(train)) == len(points(test)) == epochs
        assert thin.get_color() == train.get_color()
        assert thin.get_linewidth() < train.get_linewidth()
        assert thin.get_zorder() < min(train.get_zorder(), test.get_zorder())
        left, right = axes.get_xlim()
        assert left == 0 and epochs < right < 1.1 * epochs
        assert min(in_view(axes)) == 0 and max(in_view(axes)) == epochs
    assert legend(figure.axes[0]) == ["training", "test", "training, within an epoch"]
    assert "thin line: averages over about a fiftieth of an epoch" in figure.get_supxlabel()


def in_view(axes):
    low, high = axes.get_xlim()
    return [tick for tick in axes.get_xticks() if low <= tick <= high]


def test_one_epoch_with_points_has_ticks_within_it_and_more_epochs_have_none():
    one = plotting.curves(TITLE, [with_points(history(1))], "test").axes[0]
    assert 3 <= len(in_view(one)) <= 6
    five = plotting.curves(TITLE, [with_points(history(5))], "test").axes[0]
    assert in_view(five) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("epochs", [1, 5, 60])
def test_the_first_points_do_not_press_the_others_onto_the_axis(epochs):
    run = with_points(history(epochs))
    late = [p for row in run for p in row["points"] if p[0] > epochs / 10]
    loss, accuracy = plotting.curves(TITLE, [run], "test").axes
    for axes, column, scale in ((loss, 1, 1), (accuracy, 2, 100)):
        part = ("loss", "accuracy")[column - 1]
        values = [scale * row[f"{which}_{part}"] for row in run for which in ("train", "test")]
        values += [scale * point[column] for point in late]
        low, high = axes.get_ylim()
        assert axes.get_yscale() == "linear"
        assert low < min(values) and max(values) < high  # every dot, and nearly every point
        assert max(values) - min(values) > 0.85 * (high - low)  # and hardly anything else
    if epochs > 1:
        assert loss.get_ylim()[1] < 1 < run[0]["points"][0][1]


def test_a_run_that_diverged_for_a_while_has_a_logarithmic_axis_that_holds_all_points():
    run = with_points(history(5), first_loss=1e6)
    run[0]["train_loss"] = 1e5
    loss, accuracy = plotting.curves(TITLE, [run], "test").axes
    assert loss.get_yscale() == "log" and loss.get_ylim()[1] > 1e6
    assert accuracy.get_yscale() == "linear"


def test_epochs_without_points_are_a_gap():
    run = history(2) + with_points(history(5))[2:]
    thin = plotting.curves(TITLE, [run], "test").axes[0].lines[2]
    drawn = points(thin)
    assert np.isnan(drawn[:2]).all() and not np.isnan(drawn[2:]).any()
    assert drawn[2, 0] == pytest.approx(2.02) and drawn[-1, 0] == 5


def test_several_seeds_have_no_points():
    runs = [with_points(history(5)), with_points(history(5))]
    figure = plotting.curves(TITLE, runs, "test")
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    assert "thin line" not in figure.get_supxlabel() and figure.axes[0].get_xlim()[0] > 0


SHAPES = {
    "5 epochs": [history(5)],
    "1 epoch": [history(1)],
    "60 epochs": [history(60)],
    "5 seeds": [history(5, first_loss=0.3 + seed / 100) for seed in range(5)],
    "equal values": [history(5, gap=0)],
    "nearly equal values, 1 epoch": [history(1, gap=1e-5)],
    "at the foot of the axes": [history(60, last_loss=1e-4, gap=1e-4)],
    "growing losses": [history(5, last_loss=0.9, first_loss=0.1)],
    "diverging scales": [history(5, first_loss=1e5)],
    "still diverged": [history(5, last_loss=1e9, first_loss=1e4)],
    "1 epoch with points": [with_points(history(1))],
    "5 epochs with points": [with_points(history(5))],
    "60 epochs with points": [with_points(history(60))],
    "equal values with points": [with_points(history(1, last_loss=2.3, first_loss=2.3, gap=0))],
    "diverged with points": [with_points(history(5, first_loss=1e5), first_loss=1e6)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_last_values_are_readable(shape):
    """They overlap neither each other, nor the labels of the axes, nor the legend."""
    figure = plotting.curves(TITLE, SHAPES[shape], "test")
    for axes in figure.axes:
        values = axes.texts
        assert len(values) == 2
        labels = [axes.xaxis.label, *axes.get_xticklabels()]
        labels += [a.yaxis.label for a in figure.axes]
        labels += [label for a in figure.axes for label in a.get_yticklabels()]
        others = [*labels, *filter(None, [axes.get_legend()])]
        first, second, *rest = boxes(figure, [*values, *others])
        assert not overlap(first, second)
        assert not any(overlap(value, box) for value in (first, second) for box in rest)
        width, height = figure.get_size_inches() * figure.dpi
        for left, bottom, right, top in (first, second):
            assert left >= 0 and bottom >= 0 and right <= width and top <= height


def test_the_higher_of_two_values_stands_above_the_lower():
    figure = plotting.curves(TITLE, [history(5, gap=1e-4)], "test")
    for axes in figure.axes:
        heights = {text.get_text(): text.xy[1] for text in axes.findobj(Annotation)}
        assert len(heights) == 2
        low, high = sorted(heights, key=lambda text: float(text.split()[0]))
        assert heights[low] < heights[high]


# ---- confusion


def test_the_counts_are_those_of_bincount():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (3000,), generator=generator)
    logits = torch.randn(3000, 10, generator=generator)
    expected = torch.bincount(10 * labels + logits.argmax(1), minlength=100).view(10, 10)
    axes = plotting.confusion(TITLE, logits, labels).axes[0]
    drawn = torch.zeros(10, 10, dtype=torch.int64)
    for text in axes.texts:
        answer, label = text.get_position()
        drawn[int(label), int(answer)] = int(text.get_text().replace(",", "").replace("·", "0"))
    assert len(axes.texts) == 100 and torch.equal(drawn, expected)
    mistakes = 3000 - int(expected.trace())
    assert f"{mistakes:,} mistakes in 3,000 images" in axes.get_title()


def test_right_answers_have_no_colour():
    logits, labels = answers([(3, 8, 5.0), (13, 8, 5.0)])
    image = plotting.confusion(TITLE, logits, labels).axes[0].images[0]
    colored = {tuple(cell) for cell in np.argwhere(pixels(image) > 0).tolist()}
    assert colored == {(3, 8)}


@pytest.mark.parametrize("draw", ["confusion", "mistakes"])
def test_the_note_is_in_the_small_print(draw):
    logits, labels = answers([(3, 8, 5.0)])
    images = torch.zeros(40, 28, 28, dtype=torch.uint8)
    arguments = (logits, labels) if draw == "confusion" else (images, logits, labels)
    figure_of = getattr(plotting, draw)
    plain = figure_of(TITLE, *arguments).get_supxlabel()
    noted = figure_of(TITLE, *arguments, note="seed 0, one of 5").get_supxlabel()
    assert TITLE[1] in plain and noted == f"{plain}\nseed 0, one of 5"


# ---- mistakes


def test_the_most_confident_mistakes_come_first_with_label_and_answer():
    logits, labels = answers([(3, 8, 5.0), (17, 1, 9.0), (29, 4, 7.0)])
    images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1).expand(40, 28, 28)
    figure = plotting.mistakes(TITLE, images, logits, labels)
    first_lines = [text.get_text().splitlines()[0] for text in figure.axes[0].texts]
    assert first_lines == ["label 7, answer 1", "label 9, answer 4", "label 3, answer 8"]
    canvas = pixels(figure.axes[0].images[0])
    drawn = [int(canvas[20, 36 * column + 10]) for column in range(3)]
    assert drawn == [17, 29, 3]
    assert "the 3 most confident of 3 mistakes in 40 images" in figure.get_supxlabel()


def test_the_text_fits_above_its_image():
    wrong = [(image, (image + 1) % 10, 20.0) for image in range(40)]  # "100.0 % sure": the longest
    logits, labels = answers(wrong)
    images = torch.zeros(40, 28, 28, dtype=torch.uint8)
    figure = plotting.mistakes(TITLE, images, logits, labels)
    axes = figure.axes[0]
    assert len(axes.texts) == 32
    for place, box in enumerate(boxes(figure, axes.texts)):
        row, column = divmod(place, 8)
        (left, top) = axes.transData.transform((36 * column + 4, 42 * row))
        (right, bottom) = axes.transData.transform((36 * column + 32, 42 * row + 12))
        slack = 2  # pixels
        assert left - slack <= box[0] and box[2] <= right + slack
        assert bottom <= box[1] and box[3] <= top + slack


def test_without_mistakes_the_picture_says_so():
    logits, labels = answers()
    images = torch.zeros(40, 28, 28, dtype=torch.uint8)
    figure = plotting.mistakes(TITLE, images, logits, labels)
    assert not figure.axes[0].texts
    assert "no mistakes in 40 images" in figure.get_supxlabel()


# ---- sheet


def test_a_sheet_holds_the_images_row_by_row_dark_on_white():
    images = torch.arange(8, dtype=torch.uint8).view(8, 1, 1).expand(8, 28, 28)
    drawn = pixels(plotting.sheet(images, columns=3).axes[0].images[0])
    assert drawn.shape == (56, 84)
    assert (255 - drawn[::28, ::28]).tolist() == [[0, 1, 2], [3, 4, 5]]


# ---- predictions


def row(text="seven.png: 7 (99.8 %)", best=7):
    """A picture with one shape, in the middle of it."""
    seen = np.full((28, 28), 9, np.uint8)
    probabilities = np.full(10, 0.02)
    probabilities[best] = 0.82
    marks = [(np.array([0.2, 0.1, 0.8, 0.4]), str(best), 0.82)]
    picture = np.full((160, 80, 3), 200, np.uint8)
    return pages.Prediction(text, picture, marks, seen, probabilities)


def page_of(*answers):
    """A picture, 100 pixels high and 300 wide, with a shape for each (answer, probability)."""
    boxes_ = [np.array([0.1, 0.2 * n, 0.3, 0.2 * n + 0.1]) for n in range(len(answers))]
    marks = [(box, *answer) for box, answer in zip(boxes_, answers, strict=True)]
    return pages.Prediction("page.png: 12?", np.full((100, 300, 3), 200, np.uint8), marks)


def test_a_prediction_shows_picture_input_and_probabilities_under_their_heads():
    figure = pages.predictions([row(best=4)])
    (axes,) = figure.axes
    picture, seen = axes.images
    assert pixels(picture).shape == (160, 80, 3) and pixels(seen).shape == (28, 28)
    heights = [bar.get_height() for bar in bars(axes)[-10:]]
    np.testing.assert_allclose(np.divide(heights, sum(heights)), row(best=4).probabilities)
    assert len({bar.get_facecolor() for bar in bars(axes)[-10:]}) == 2
    middles = {text.get_text(): text.get_position()[0] for text in axes.texts}
    left, right, *_ = seen.get_extent()
    assert middles["the network sees"] == pytest.approx((left + right) / 2)
    assert middles["your picture"] == pytest.approx(0.5)
    centers = [bar.get_x() + bar.get_width() / 2 for bar in bars(axes)[-10:]]
    assert middles["probabilities"] == pytest.approx(np.mean(centers))


def test_a_picture_without_a_digit_is_drawn_alone():
    blank = pages.Prediction("blank.png: no digit found", row().picture)
    axes = pages.predictions([blank]).axes[0]
    assert len(axes.images) == 1 and not axes.patches


def test_a_box_lies_on_its_shape_in_the_color_of_how_sure_the_answer_is():
    page = page_of(("1", 0.99), ("2", 0.7), ("?", 0.95))
    axes = pages.predictions([page]).axes[0]
    left, right, low, high = axes.images[0].get_extent()
    width, height = right - left, high - low
    for number, (box, color, answer) in enumerate(
        zip(axes.patches, ("tab:green", "tab:orange", "tab:red"), "12?", strict=True)
    ):
        assert box.get_edgecolor() == matplotlib.colors.to_rgba(color)
        assert (box.get_x() - left) / width == pytest.approx(0.2 * number)
        assert box.get_width() / width == pytest.approx(0.1)
        assert (high - box.get_y() - box.get_height()) / height == pytest.approx(0.3)
        assert box.get_height() / height == pytest.approx(0.6)  # 0.2 of the longer side
        assert answer in texts(axes.figure)


@pytest.mark.parametrize("last", [row(), page_of(("1", 0.9), ("2", 0.9))], ids=["alone", "page"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_no_picture_is_cut_off(count, last):
    axes = pages.predictions([page_of(("1", 0.9), ("2", 0.9))] * count + [last]).axes[0]
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for image in axes.images:
        x0, x1, y0, y1 = image.get_extent()
        assert left <= x0 < x1 <= right and low <= y0 < y1 <= high
    assert all(text.get_position()[1] >= low + 0.05 for text in axes.texts)


def test_only_forty_pictures_are_drawn_and_the_figure_says_so():
    figure = pages.predictions([row(f"{n}.png: 7") for n in range(45)])
    written = texts(figure)
    assert "the first 40 of 45 pictures" in written
    assert "39.png: 7" in written and "40.png: 7" not in written
    assert "the first" not in " ".join(texts(pages.predictions([row()] * 40)))


@pytest.mark.parametrize("count", [1, 5, 45])
def test_the_texts_of_predictions_do_not_overlap(count):
    long = "a_picture_with_a_long_na.png: 7 (55.2 %) or 1 (41.1 %), the largest of 3 digits"
    figure = pages.predictions([row(long)] * count)
    found = boxes(figure, figure.axes[0].texts)
    for index, box in enumerate(found):
        assert not any(overlap(box, other) for other in found[index + 1 :])
        assert box[0] >= 0 and box[2] <= figure.get_size_inches()[0] * figure.dpi


# ---- what all of them share


def test_a_picture_is_written_whole_and_nothing_else_is(tmp_path):
    style.save(plotting.curves(TITLE, [history(5)]), tmp_path / "plots" / "run.png")
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["run.png"]
    with Image.open(tmp_path / "plots" / "run.png") as picture:
        assert picture.size == (1320, 576)


def test_every_function_writes_its_picture(tmp_path):
    logits, labels = answers([(3, 8, 5.0)])
    images = torch.zeros(40, 28, 28, dtype=torch.uint8)
    style.save(plotting.curves(TITLE, [history(1)], "validation"), tmp_path / "1.png")
    style.save(plotting.confusion(TITLE, logits, labels, note="one seed of 5"), tmp_path / "2.png")
    style.save(
        plotting.mistakes(TITLE, images, logits, labels, note="one seed of 5"), tmp_path / "3.png"
    )
    style.save(pages.predictions([row()]), tmp_path / "4.png")
    style.save(plotting.sheet(images), tmp_path / "5.png")
    for number in range(1, 6):
        Image.open(tmp_path / f"{number}.png").verify()


def test_a_picture_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        style.save(
            plotting.sheet(torch.zeros(25, 28, 28, dtype=torch.uint8)),
            tmp_path / "file" / "sheet.png",
        )


def test_odd_characters_in_names_are_drawn_as_they_are(tmp_path):
    odd = "数字 $\\frac$ 100 % _x^2_"
    style.save(plotting.curves((odd, odd), [history(5)]), tmp_path / "curves.png")
    style.save(pages.predictions([row(odd)]), tmp_path / "predictions.png")
    figure = plotting.curves((odd, odd), [history(5)], "test")
    assert figure.get_suptitle().replace(r"\$", "$") == odd


def test_a_long_heading_stays_in_the_picture():
    heading = "LeNet-5 on generated digits (not MNIST) from another folder, tested on MNIST"
    figure = plotting.confusion((heading, ""), *answers())
    (box,) = boxes(figure, [text for text in figure.texts if text.get_text() == heading])
    assert box[0] >= 0 and box[2] <= figure.get_size_inches()[0] * figure.dpi


CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
before = dict(os.environ)
from figures import study as charts, run as plotting, style
import matplotlib
row = {"train_loss": 0.1, "train_accuracy": 0.9, "test_loss": 0.1, "test_accuracy": 0.9}
style.save(plotting.curves(("数字 $", "种子"), [[row, row]], "test"), "curves.png")
style.save(charts.comparison({"数字": {0: [row]}, "_a": {0: [row], 1: [row]}}), "comparison.png")
assert dict(os.environ) == before
assert "matplotlib.pyplot" not in sys.modules
print("backend", matplotlib.rcParams._get("backend"))
"""


def drawn_by_a_child(folder, backend=None, rc=""):
    """Draw in a process whose warnings are errors; gives what it printed, and the pictures."""
    (folder / "matplotlibrc").write_text(rc)
    settings = {"MPLBACKEND": backend} if backend is not None else {}
    others = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, str(ROOT)],
        cwd=folder,
        env=others | settings | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout, [path.read_bytes() for path in sorted(folder.glob("*.png"))]


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The pictures that are drawn where nothing is set."""
    return drawn_by_a_child(tmp_path_factory.mktemp("usual"))[1]


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_pictures_need_no_backend(backend, usual, tmp_path):
    _, drawn = drawn_by_a_child(tmp_path, backend)
    assert len(drawn) == 2 and drawn == usual


def test_pictures_are_the_same_whatever_a_matplotlibrc_says(usual, tmp_path):
    rc = "text.usetex: True\nfigure.figsize: 1, 1\nsavefig.bbox: tight\nfont.size: 40\n"
    _, drawn = drawn_by_a_child(tmp_path, rc=rc)
    assert len(drawn) == 2 and drawn == usual


def test_a_backend_that_exists_stays_chosen_for_a_persons_own_figures(tmp_path):
    printed, _ = drawn_by_a_child(tmp_path, "svg")
    assert printed == "backend svg\n"


def test_a_persons_own_settings_are_theirs_again_afterwards(tmp_path):
    with matplotlib.rc_context({"font.size": 33}):
        style.save(plotting.curves(TITLE, [history(5)]), tmp_path / "curves.png")
        assert matplotlib.rcParams["font.size"] == 33


def test_fonts_need_no_network(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    style.save(plotting.curves(TITLE, [history(5)]), tmp_path / "curves.png")
    for weight in ("normal", "bold"):
        font = Path(findfont(FontProperties(weight=weight)))
        assert font.is_relative_to(matplotlib.get_data_path())
