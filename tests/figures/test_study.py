"""The figures of many runs, read back."""

import itertools

from figures import study

import numpy as np
import pytest
import torch
from test_run import boxes, history, pytestmark  # noqa: F401

PUBLISHED = {"lenet5": (0.0301, 99.06, 0.0363, 98.78), "best": None}


def runs(*accuracies, epochs=5):
    """{seed: a made-up history that ends at a test accuracy (a fraction)}."""
    return {seed: history(epochs, 1 / a - 1, gap=0) for seed, a in enumerate(accuracies)}


RESULTS = {
    "lenet5": runs(0.987, 0.988, 0.989),
    "mlp": runs(0.955, 0.957),
    "best": runs(0.996, 0.9964, epochs=60),
}
COUNTED = ["lenet5, 3 seeds", "mlp, 2 seeds", "best, 2 seeds"]
UNUSUAL = {
    "all": RESULTS,
    "one seed": {"lenet5": runs(0.988)},
    "equal seeds": {"best": runs(0.996, 0.996)},
    "a spread wider than the mean": {"best": runs(0.9999, 0.9, 0.9999)},
    "no image wrong": {"lenet5": runs(1.0)},
    "some seeds without a mistake": {"lenet5": runs(1.0, 0.99)},
    "nothing learned": {"lenet5": runs(0.988), "mlp": runs(0.1)},
    "one epoch": {"lenet5": runs(0.98, epochs=1), "mlp": runs(0.95, 0.96, epochs=1)},
    "tiny": {"lenet5": runs(0.9999)},
}


def drawn(axes, marker):
    """The points with this marker: a list of (x, y)."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return [tuple(point) for line in lines for point in line.get_xydata().tolist()]


def test_every_seed_is_a_dot_every_mean_is_written_and_a_published_result_is_a_cross():
    figure = study.errors("MNIST", RESULTS, PUBLISHED, "mlp56: large")
    (axes,) = figure.axes
    expected = [(1.3, 0), (1.2, 0), (1.1, 0), (4.5, 1), (4.3, 1), (0.4, 2), (0.36, 2)]
    np.testing.assert_allclose(drawn(axes, "o"), expected)
    np.testing.assert_allclose(drawn(axes, "x"), [(1.22, 0)])
    assert [t.get_text() for t in axes.texts] == ["1.20 ± 0.10 %", "4.40 ± 0.14 %", "0.38 ± 0.03 %"]
    assert [label.get_text() for label in axes.get_yticklabels()] == COUNTED
    assert "mlp56: large" in figure.get_supxlabel()


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_results_are_drawn_without_a_warning_within_axes_that_have_ticks(name):
    results = UNUSUAL[name]
    figure = study.errors("MNIST", results, PUBLISHED)
    for each in (figure, study.comparison(results, training=True)):
        boxes(each, [])
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    assert all(low < x < high for x, _ in drawn(axes, "o") + drawn(axes, "x"))
    assert any(low <= tick <= high for tick in axes.get_xticks())


def test_a_comparison_has_one_colour_for_each_experiment_in_both_panels():
    figure = study.comparison(RESULTS, training=True)
    loss, accuracy = figure.axes
    (tests, training) = (accuracy.lines[::2], accuracy.lines[1::2])
    assert [line.get_ydata()[-1] for line in tests] == pytest.approx([98.8, 95.6, 99.62])
    assert [len(line.get_xdata()) for line in tests] == [5, 5, 60]
    assert [line.get_xdata()[0] for line in accuracy.lines] == [1, 0.5] * 3
    colors = [line.get_color() for line in tests]
    assert len(set(colors)) == 3 and colors == [line.get_color() for line in training]
    assert colors == [line.get_color() for line in loss.lines[::2]]
    assert [text.get_text().strip() for text in figure.legends[0].get_texts()] == COUNTED
    assert len(study.comparison(RESULTS).axes[0].lines) == 3


def test_a_comparison_names_its_images_and_runs_of_one_epoch_stand_beside_each_other():
    figure = study.comparison(UNUSUAL["one seed"], "validation", ["of different images"])
    assert figure.legends[0].get_title().get_text() == "Validation loss and accuracy"
    assert figure.get_supxlabel() == "of different images"
    figure = study.comparison(UNUSUAL["one epoch"])
    assert "range" in figure.get_supxlabel()
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize("count", [1, 3, 40])
def test_experiments_with_long_and_odd_names_are_in_the_legend(count):
    names = [f"_$\\x{number}" + "_long" * (20 if count == 40 else 2) for number in range(count)]
    figure = study.comparison({name: runs(0.9 + n / 1000) for n, name in enumerate(names)})
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [f" {n}, 1 seed" for n in names]
    assert len({tuple(line.get_color()) for line in figure.axes[0].lines}) == count
    (left, bottom, right, top), *panels = boxes(figure, [legend, *figure.axes])
    width, height = figure.get_size_inches() * figure.dpi
    assert left >= 0 and right <= width and top <= height
    assert all(panel[3] <= bottom and panel[3] - panel[1] > 0.2 * height for panel in panels)


def test_the_map_has_a_panel_for_each_length_with_means_and_deviations_in_its_cells():
    settings = itertools.product((5, 20), (0, 0.5), (0.1, 0.3))
    points = {(e, dropout, w): [e + dropout + w, e + dropout - w] for e, dropout, w in settings}
    panels = study.regularization(points).axes
    assert [axes.get_title() for axes in panels] == ["5 epochs", "20 epochs"]
    for axes, epochs in zip(panels, (5, 20), strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), [[epochs] * 2, [epochs + 0.5] * 2])
        cells = [text.get_text() for text in axes.texts]
        assert cells[0] == f"{epochs:.2f}\n± 0.14" and cells[3] == f"{epochs + 0.5:.2f}\n± 0.42"
        weights = [text.get_fontweight() for text in axes.texts]
        assert weights[0] == "bold" and weights[2:] == ["normal"] * 2


def test_labels_of_times_and_errors_stand_beside_their_places_and_hide_no_bar():
    points = {
        "lenet5": (20.0, [1.1, 1.3]),
        "regularized": (20.9, [1.2, 1.35]),
        "modern": (21.3, [0.6, 0.7]),
        "mlp": (2.0, [4.0]),
    }
    figure = study.pareto(points)
    (axes,) = figure.axes
    labels = boxes(figure, axes.texts)
    for text, (name, (seconds, errors)) in zip(axes.texts, points.items(), strict=True):
        assert text.get_text().strip() == name
        assert text.get_position() == pytest.approx((seconds, np.mean(errors)))
        ends = [(seconds, error) for error in (min(errors), max(errors))]
        (x, low), (_, high) = axes.transData.transform(ends)
        for left, bottom, right, top in labels:
            assert x < left + 1 or right - 1 < x or top < low or high < bottom


def test_the_hardest_images_are_those_that_every_network_reads_wrong():
    labels = torch.tensor([1, 2, 3, 4])
    answers = torch.tensor([[7, 2, 8, 9], [7, 3, 3, 9], [1, 2, 8, 0]])  # only the last one
    images = torch.zeros(4, 28, 28, dtype=torch.uint8)
    (axes,) = study.hardest(images, labels, answers).axes
    assert [text.get_text() for text in axes.texts] == ["label 4,\nread as 9 or 0"]
    everything = study.hardest(images.repeat(5, 1, 1), labels.repeat(5), 0 * answers.repeat(1, 5))
    places = [text.get_position() for text in everything.axes[0].texts]
    assert len({x for x, _ in places}) * len({y for _, y in places}) - len(places) < 3  # full rows


def test_speed_has_a_bar_for_each_program_from_the_fastest_repetition_to_the_slowest():
    times = {"LeNet-5": {"this project": [3, 2, 2.5], "loop": [9, 8]}, "MLP": {"ours $": [1]}}
    figure = study.speed(times, "1 thread")
    assert [axes.get_title() for axes in figure.axes] == list(times)
    for axes, programs in zip(figure.axes, times.values(), strict=True):
        assert [label.get_text() for label in axes.get_yticklabels()] == list(programs)
        bars = axes.containers[-1]
        medians = [np.median(seconds) for seconds in programs.values()]
        assert [bar.get_width() for bar in bars] == pytest.approx(medians)
        ends = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()]
        assert ends == [[min(seconds), max(seconds)] for seconds in programs.values()]
        assert all(axes.get_xlim()[1] > max(seconds) for seconds in programs.values())
    assert "1 thread" in figure.get_supxlabel()
