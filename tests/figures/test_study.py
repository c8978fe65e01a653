"""The pictures of many runs, read back from their figures."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from figures import study as charts
from figures import style

# Warnings of drawing are errors; that matplotlib uses deprecated libraries is not our affair.
pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning", "error::RuntimeWarning", "ignore::DeprecationWarning"
)

ROOT = Path(charts.__file__).parents[1]
PUBLISHED = {"lenet5": (0.0301, 99.06, 0.0363, 98.78), "best": None}


def history(accuracy, epochs=5):
    """A made-up run that ends at a test accuracy (a fraction)."""
    return [
        {
            "epoch": epoch,
            "lr": 0.01,
            "train_loss": 0.1 + 0.2 / epoch,
            "train_accuracy": accuracy - 0.02 / epoch,
            "test_loss": 0.1 + 0.1 / epoch,
            "test_accuracy": accuracy - 0.01 * (1 - epoch / epochs),
            "seconds": 1.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def runs(*accuracies, epochs=5):
    return {seed: history(accuracy, epochs) for seed, accuracy in enumerate(accuracies)}


RESULTS = {
    "lenet5": runs(0.987, 0.988, 0.989),
    "mlp": runs(0.955, 0.957),
    "best": runs(0.996, 0.9964, epochs=60),
}


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def points(line):
    """What a line connects (float64, N x 2)."""
    return np.asarray(line.get_xydata(), float)


def drawn(axes, marker):
    """The points with this marker: a list of (x, y)."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return [tuple(point) for line in lines for point in points(line).tolist()]


def in_view(axes):
    low, high = axes.get_xlim()
    return [tick for tick in axes.get_xticks() if low <= tick <= high]


# ---- errors


def test_every_seed_is_a_dot_and_every_mean_is_written():
    axes = charts.errors("MNIST", RESULTS, PUBLISHED).axes[0]
    expected = [(1.3, 0), (1.2, 0), (1.1, 0), (4.5, 1), (4.3, 1), (0.4, 2), (0.36, 2)]
    np.testing.assert_allclose(drawn(axes, "o"), expected)
    written = [text.get_text() for text in axes.texts]
    assert written == ["1.20 ± 0.10 %", "4.40 ± 0.14 %", "0.38 ± 0.03 %"]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["lenet5, 3 seeds", "mlp, 2 seeds", "best, 2 seeds"]


def test_a_published_result_is_a_cross_in_its_row():
    axes = charts.errors("MNIST", RESULTS, PUBLISHED).axes[0]
    np.testing.assert_allclose(drawn(axes, "x"), [(1.22, 0)])


def test_one_seed_has_no_deviation():
    figure = charts.errors("MNIST", {"lenet5": runs(0.988)}, PUBLISHED)
    written = texts(figure)
    assert "1.20 %" in written and "lenet5, 1 seed" in written


UNUSUAL = {
    "one experiment": {"lenet5": RESULTS["lenet5"]},
    "one seed": {"lenet5": runs(0.988)},
    "an experiment without published result": {"best": runs(0.996)},
    "equal seeds": {"best": runs(0.996, 0.996)},
    "without the MLP": {"lenet5": RESULTS["lenet5"], "best": RESULTS["best"]},
    "without LeNet-5": {"mlp": RESULTS["mlp"]},
    "a spread wider than the mean": {"best": runs(0.9999, 0.9, 0.9999)},
    "no image wrong": {"lenet5": runs(1.0)},
    "some seeds without a mistake": {"lenet5": runs(1.0, 0.99)},
    "nothing learned": {"lenet5": runs(0.988), "mlp": runs(0.1)},
    "one epoch": {"lenet5": runs(0.98, epochs=1), "mlp": runs(0.95, epochs=1)},
    "nothing": {},
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_results_are_drawn_without_a_warning(name, tmp_path):
    style.save(charts.errors("MNIST", UNUSUAL[name], PUBLISHED), tmp_path / "comparison.png")
    style.save(charts.models("MNIST", UNUSUAL[name]), tmp_path / "models.png")
    for path in tmp_path.iterdir():
        Image.open(path).verify()


@pytest.mark.parametrize("name", UNUSUAL)
def test_the_axis_of_errors_has_at_least_two_ticks_and_holds_every_dot(name):
    axes = charts.errors("MNIST", UNUSUAL[name], PUBLISHED).axes[0]
    assert len(in_view(axes)) >= 2
    low, high = axes.get_xlim()
    assert all(low < x < high for x, _ in drawn(axes, "o") + drawn(axes, "x"))
    assert min(in_view(axes)) >= 0  # there is no negative error


@pytest.mark.parametrize("error", [0.01, 0.25, 1.17, 7, 13, 42, 90])
def test_an_error_of_any_size_has_ticks_around_it(error):
    axes = charts.errors("MNIST", {"lenet5": runs(1 - error / 100)}, {}).axes[0]
    ticks = in_view(axes)
    assert ticks[0] <= 1.001 * error and error <= 1.001 * ticks[-1]


# ---- models


def test_models_are_means_over_their_seeds():
    loss, accuracy = charts.models("MNIST", RESULTS).axes
    ends = {line.get_label(): points(line)[-1, 1] for line in accuracy.lines}
    assert list(ends) == [
        "LeNet-5, training",
        "LeNet-5, test",
        "MLP, training",
        "MLP, test",
    ]
    assert ends["LeNet-5, test"] == pytest.approx(98.8)
    assert ends["MLP, test"] == pytest.approx(95.6)
    assert [len(points(line)) for line in loss.lines] == [5, 5, 5, 5]


def test_models_say_how_many_seeds_they_are_means_of():
    small_print = charts.models("MNIST", RESULTS).get_supxlabel()
    assert "LeNet-5, 3 seeds; MLP, 2 seeds" in small_print


def test_the_order_of_the_results_changes_neither_colours_nor_legend():
    def look(results):
        figure = charts.models("MNIST", results)
        legend = figure.axes[0].get_legend()
        assert legend is not None
        words = [text.get_text() for text in legend.get_texts()]
        return words, [(line.get_label(), line.get_color()) for line in figure.axes[0].lines]

    assert look(RESULTS) == look(dict(reversed(RESULTS.items())))


# ---- comparison


def test_a_comparison_has_one_colour_for_each_experiment_in_both_panels():
    figure = charts.comparison(RESULTS)
    loss, accuracy = figure.axes
    assert [points(line)[-1, 1] for line in accuracy.lines] == pytest.approx([98.8, 95.6, 99.62])
    assert [len(points(line)) for line in loss.lines] == [5, 5, 60]
    colors = [line.get_color() for line in loss.lines]
    assert len(set(colors)) == 3 and colors == [line.get_color() for line in accuracy.lines]
    (legend,) = figure.legends
    words = [text.get_text().strip() for text in legend.get_texts()]
    assert words == ["lenet5, 3 seeds", "mlp, 2 seeds", "best, 2 seeds"]


def test_several_seeds_have_a_band_and_one_seed_has_none():
    figure = charts.comparison({"one": runs(0.98), "three": runs(0.95, 0.96, 0.98)})
    (band,) = figure.axes[1].collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert heights.max() == pytest.approx(98) and "band" in figure.get_supxlabel()
    assert charts.comparison({"one": runs(0.98)}).get_supxlabel() == ""


def test_a_run_of_one_epoch_is_a_dot_beside_one_of_many():
    figure = charts.comparison({"fast": runs(0.98, epochs=1), "best": runs(0.99, epochs=60)})
    assert [line.get_marker() for line in figure.axes[0].lines] == ["o", "None"]


@pytest.mark.parametrize("evaluated", ["test", "validation"])
def test_a_comparison_names_the_images_that_were_tested(evaluated):
    figure = charts.comparison(RESULTS, evaluated, ["of different images"])
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == [f"{evaluated} cross-entropy loss", f"{evaluated} accuracy (%)"]
    assert "of different images" in figure.get_supxlabel()


def test_forty_experiments_with_long_and_odd_names_are_in_the_legend(tmp_path):
    names = [f"_数字${number}" + "_long" * 20 for number in range(40)]
    results = {name: runs(0.9 + number / 1000) for number, name in enumerate(names)}
    style.save(charts.comparison(results), tmp_path / "comparison.png")
    Image.open(tmp_path / "comparison.png").verify()
    figure = charts.comparison(results)
    legend = figure.legends[0]
    assert len(legend.get_texts()) == 40
    assert len({line.get_color() for line in figure.axes[0].lines}) == 40
    renderer = FigureCanvasAgg(figure).get_renderer()
    with style.own_settings():  # as in `save`: the font lacks some letters
        figure.draw(renderer)
        left, bottom, right, top = legend.get_window_extent(renderer).extents
    width, height = figure.get_size_inches() * figure.dpi
    assert left >= 0 and bottom >= 0 and right <= width and top <= height


def test_a_run_that_diverged_does_not_hide_the_others():
    results = {"good": runs(0.98), "bad": runs(0.1)}
    results["bad"][0][1]["test_loss"] = 1e6
    assert charts.comparison(results).axes[0].get_yscale() == "log"


# ---- all of them


def test_pictures_are_the_same_bytes_under_every_hash_seed(tmp_path):
    child = """
import sys
sys.path[:0] = sys.argv[1:3]
from figures import study as charts, run as plotting, style
from test_study import PUBLISHED, RESULTS
print(*RESULTS.keys() & {"lenet5", "mlp"})
style.save(charts.errors("MNIST", RESULTS, PUBLISHED), "comparison.png")
style.save(charts.models("MNIST", RESULTS), "models.png")
style.save(charts.comparison(RESULTS), "comparison_of_runs.png")
if "matplotlib.pyplot" in sys.modules:
    sys.exit("pyplot was imported")
"""
    orders, seeds = [], ("0", "5")  # they order a set differently in Python 3.10 to 3.13
    for seed in seeds:
        folder = tmp_path / seed
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", child, str(ROOT), str(Path(__file__).parent)],
            cwd=folder,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        orders.append(done.stdout)
    assert len(set(orders)) > 1, "these seeds order a set alike: choose others"
    for name in ("comparison.png", "models.png", "comparison_of_runs.png"):
        assert len({(tmp_path / seed / name).read_bytes() for seed in seeds}) == 1


def test_the_map_has_a_panel_for_each_length_and_a_line_for_each_weight_decay():
    points = {
        (epochs, dropout, decay): [epochs + dropout + decay, epochs + dropout - decay]
        for epochs in (5, 20)
        for dropout in (0, 0.5)
        for decay in (0.1, 0.3)
    }
    panels = charts.regularization(points).axes
    assert [axes.get_title() for axes in panels] == ["5 epochs", "20 epochs"]
    for axes, epochs in zip(panels, (5, 20), strict=True):
        assert len(axes.containers) == 2
        for line in (container.lines[0] for container in axes.containers):
            assert line.get_ydata().tolist() == pytest.approx([epochs, epochs + 0.5])


def test_pareto_places_every_program():
    points = {
        "ours": (2.0, [1.0, 3.0], "whole run"),
        "beside it": (2.1, [2.0], "training"),
        "theirs": (200.0, [4.0], "other program"),
    }
    (axes,) = charts.pareto(points).axes
    placed = {text.get_text(): text.xy for text in axes.texts}
    assert placed == {"ours": (2.0, 2.0), "beside it": (2.1, 2.0), "theirs": (200.0, 4.0)}
    one, other, _ = (text.get_window_extent() for text in axes.texts)
    assert not one.overlaps(other)
    assert len(axes.get_xticks()) >= 2 and len(axes.get_yticks()) >= 1


def test_the_hardest_images_are_those_that_every_network_reads_wrong():
    labels = torch.tensor([1, 2, 3, 4])
    answers = torch.tensor([[7, 2, 8, 9], [7, 3, 3, 9], [1, 2, 8, 0]])  # only the last one
    images = torch.zeros(4, 28, 28, dtype=torch.uint8)
    (axes,) = charts.hardest(images, labels, answers).axes
    assert [text.get_text() for text in axes.texts] == ["label 4\n9 (2), 0 (1)"]
