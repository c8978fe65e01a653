"""The figures of pictures that were read, read back; steps are in tests/study/test_tables.py."""

from figures import page
from handwriting import reading

import matplotlib
import numpy as np
import pytest
from PIL import Image
from test_run import boxes, pytestmark  # noqa: F401

GREEN, ORANGE, RED = (matplotlib.colors.to_rgba(f"tab:{n}") for n in ("green", "orange", "red"))


def row(text="seven.png: 7 (99.8 %)", best=7):
    """A picture with one shape, in the middle of it."""
    probabilities = np.full(10, 0.02)
    probabilities[best] = 0.82
    box, seen = np.array([32, 16, 128, 64]), np.full((28, 28), 9, np.uint8)
    digit = reading.Digit(box, seen, probabilities, sureness=1.0, length=100)
    return page.answered(text, Image.new("RGB", (80, 160), "silver"), [[digit]])


def page_of(*answers):
    """A picture, 100 pixels high and 300 wide, with a shape for each (answer, probability)."""
    places = [np.array([30, 60 * n, 90, 60 * n + 30]) for n in range(len(answers))]
    marks = [(box, *answer) for box, answer in zip(places, answers, strict=True)]
    return page.Prediction("page.png: 12?", np.full((100, 300, 3), 200, np.uint8), marks)


TWO = page_of(("1", 0.9), ("2", 0.9))
BLANK = page.Prediction("blank.png: no digit found", row().picture)


@pytest.mark.parametrize("others", [[], [TWO]], ids=["alone", "beside a page"])
def test_a_digit_has_its_picture_input_and_probabilities_under_their_heads(others):
    (axes,) = page.predictions([row(best=4), *others]).axes
    photograph, seen = axes.images[:2]
    assert photograph.get_array().shape == (160, 80, 3) and seen.get_array().shape == (28, 28)
    bars = [patch for patch in axes.patches if patch.get_width() == pytest.approx(0.07)]
    heights = [bar.get_height() for bar in bars]
    np.testing.assert_allclose(np.divide(heights, sum(heights)), row(best=4).alone.probabilities)
    assert len({bar.get_facecolor() for bar in bars}) == 2
    middles = {text.get_text(): text.get_position()[0] for text in axes.texts}
    left, right, *_ = seen.get_extent()
    assert middles["the network sees"] == pytest.approx((left + right) / 2)
    centers = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    assert middles["probabilities"] == pytest.approx(np.mean(centers))


def test_a_box_lies_on_its_shape_in_the_color_of_how_sure_the_answer_is():
    (axes,) = page.predictions([page_of(("1", 0.99), ("2", 0.7), ("?", 0.95))]).axes
    left, right, low, high = axes.images[0].get_extent()
    width, height = right - left, high - low
    assert width > 0.9 * np.ptp(axes.get_xlim())  # a page fills the figure
    frame, *boxes = axes.patches
    assert frame.get_bbox().extents == pytest.approx([left, low, right, high])
    for number, (box, color) in enumerate(zip(boxes, (GREEN, ORANGE, RED), strict=True)):
        assert box.get_edgecolor() == color
        assert (box.get_x() - left) / width == pytest.approx(0.2 * number)
        assert box.get_width() / width == pytest.approx(0.1)
        assert (high - box.get_y() - box.get_height()) / height == pytest.approx(0.3)
        assert box.get_height() / height == pytest.approx(0.6)  # 0.2 of the longer side
    answers = [text for text in axes.texts if text.get_text() in "12?"]
    assert [matplotlib.colors.to_rgba(text.get_color()) for text in answers] == [GREEN, ORANGE, RED]
    assert all(text.get_path_effects() for text in answers)  # readable on dark paper, too


LONG = row("a_picture_$with_a_long_na.png: 7 (55.2 %) or 1 (41.1 %), the largest of 3 digits")


@pytest.mark.parametrize(
    "rows",
    [[LONG], [BLANK, TWO], [TWO] * 3 + [LONG], [LONG] * 5, [LONG] * 9, [TWO, BLANK, row()] * 6],
)
def test_no_picture_or_text_is_cut_off_or_covers_another(rows):
    figure = page.predictions(rows)
    (axes,) = figure.axes
    width, height = figure.get_size_inches() * figure.dpi
    for artists in (axes.images, axes.texts):
        drawn = boxes(figure, artists)
        for number, (left, bottom, right, top) in enumerate(drawn):
            assert 0 <= left < right <= width and 0 <= bottom < top <= height
            for a, b, c, d in drawn[:number]:
                assert right <= a or c <= left or top <= b or d <= bottom


def test_the_grid_shows_each_cell_once():
    columns = "rows columns row column pictures read".split()
    rows = "kind ground row plain 8 6".split(), "kind ground page dark 2 2".split()
    figure = page.grid([dict(zip(columns, row, strict=True)) for row in rows])
    (axes,) = figure.axes
    assert len(boxes(figure, axes.texts)) == 4
    assert [text.get_text() for text in axes.texts] == ["75", "", "", "100"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["row", "page"]
