"""digits/photo.py: what is found on a page is as MNIST has it; where no digit is, none is found.

That the network then reads the digits rightly is tested in tests/test_predict.py.
"""

import numpy as np
import pictures
import pytest
from PIL import Image

from digits import photo
from digits.picture import opaque
from files import PictureError


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", pictures.BLANKS)
def test_blank_picture_has_no_digit(name, random):
    page = opaque(pictures.blank(name, random))
    with pytest.raises(PictureError, match="no digit found"):
        photo.prepare(page)


def test_mnist_image_passes_unchanged():
    digit = np.zeros((28, 28), np.uint8)
    digit[4:24, 11:17] = np.arange(120, dtype=np.uint8).reshape(20, 6) + 100
    digit = np.roll(digit, round(14 - np.average(np.arange(28), weights=digit.sum(axis=1))), 0)
    seen, others = photo.prepare(opaque(Image.fromarray(digit)))
    assert (seen == digit).all() and others == 0


def test_what_the_network_sees_is_as_mnist_has_it(random):
    page = pictures.marker_on_whiteboard(3, random)
    seen, _ = photo.prepare(opaque(page))
    y, _ = np.nonzero(seen > 20)
    assert seen.shape == (28, 28) and seen.dtype == np.uint8
    assert 18 <= np.ptp(y) + 1 <= 20
    for axis in (0, 1):
        assert abs(np.average(np.arange(28), weights=seen.sum(axis=1 - axis)) - 14) < 1
    assert seen.max() > 240 and (seen[0] == 0).all()


def test_several_digits_are_counted_and_the_largest_is_taken(random):
    size = (700, 400)
    ink = pictures.strokes(1, size, (120, 200), 180, 12, random)
    ink = np.maximum(ink, pictures.strokes(0, size, (350, 200), 280, 14, random))
    ink = np.maximum(ink, pictures.strokes(1, size, (580, 200), 180, 12, random))
    page = Image.fromarray(np.uint8(255 - 255 * ink)).convert("RGB")
    seen, others = photo.prepare(page)
    assert others == 2
    assert seen[14, 14] < 50 < seen[14].max()  # the hole of the 0


def test_the_box_of_a_found_digit_is_top_left_bottom_right():
    ink = np.zeros((200, 320))
    ink[40:160, 100:110] = 1  # a long upright stroke ...
    ink[150:160, 100:170] = 1  # ... and its foot
    found = photo.find_digit(ink)
    assert found.box.tolist() == [40, 100, 160, 170]
    assert found.digit.shape == (120, 70)


@pytest.mark.parametrize(
    ("inner", "within"),
    [
        ((2, 3, 8, 9), True),
        ((1, 2, 9, 10), True),
        ((0, 3, 8, 9), False),
        ((2, 1, 8, 9), False),
        ((2, 3, 10, 9), False),
        ((2, 3, 8, 11), False),
    ],
)
def test_a_box_contains_what_lies_within_its_four_sides(inner, within):
    assert photo.contains(np.array([1, 2, 9, 10]), np.array(inner)) == within


def flood_filled(mask):
    """The connected parts of a mask as sets of pixels, found one pixel at a time."""
    left, parts = set(zip(*map(list, np.nonzero(mask)), strict=True)), []
    while left:
        part = edge = {left.pop()}
        while edge:
            near = {(y + dy, x + dx) for y, x in edge for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
            edge = near & left
            left -= edge
            part = part | edge
        parts.append(part)
    return parts


def test_parts_are_connected_at_sides_and_corners_and_have_their_boxes(random):
    mask = random.random((40, 60)) < 0.25
    parts = photo.parts_of(mask, random.random(mask.shape))
    expected = flood_filled(mask)
    assert len(expected) == len(parts.boxes) > 10
    assert ((parts.labels >= 0) == mask).all()
    for pixels in expected:
        y, x = np.array(sorted(pixels)).T
        (number,) = np.unique(parts.labels[y, x])
        assert parts.boxes[number].tolist() == [y.min(), x.min(), y.max() + 1, x.max() + 1]


def test_a_mask_without_pixels_has_no_parts():
    parts = photo.parts_of(np.zeros((20, 30), bool), np.zeros((20, 30)))
    assert parts.boxes.shape == (0, 4) and len(parts.scores) == 0


def extreme_of_neighbours(values, sizes, extreme):
    """The extreme in a window around each pixel, one at a time; the result is smaller."""
    height, width = (n - size + 1 for n, size in zip(values.shape, sizes, strict=True))
    rows, columns = sizes
    windows = [
        [extreme(values[y : y + rows, x : x + columns]) for x in range(width)]
        for y in range(height)
    ]
    return np.array(windows)


@pytest.mark.parametrize("sizes", [(9, 1), (5, 7)])
def test_opening_takes_away_what_is_smaller_than_its_window(sizes, random):
    values = random.random((17, 23))
    margins = [(n // 2, n // 2) for n in sizes]
    padded = np.pad(values, margins, "reflect", reflect_type="odd")
    eroded = np.pad(extreme_of_neighbours(padded, sizes, np.min), margins, "edge")
    assert (photo.opening(values, sizes) == extreme_of_neighbours(eroded, sizes, np.max)).all()


@pytest.mark.parametrize("kind", [bool, float])
@pytest.mark.parametrize("radius", [0, 0.9, 1, 2.5, 5])
def test_growing_paints_a_disk_around_each_mark(radius, kind, random):
    marks = (random.random((20, 30)) * (random.random((20, 30)) < 0.05)).astype(kind)
    y, x = np.mgrid[:20, :30]
    expected = np.zeros_like(marks)
    for row, column in np.argwhere(marks):
        near = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        expected[near] = np.maximum(expected[near], marks[row, column])
    assert (photo.grow(marks, radius) == expected).all()


def test_stroke_width_of_a_bar_and_of_a_ring():
    bar = np.ones((100, 10), bool)
    ring = np.ones((60, 60), bool)
    ring[8:-8, 8:-8] = False
    assert photo.stroke_width(bar) == pytest.approx(10, rel=0.15)
    assert photo.stroke_width(ring) == pytest.approx(8, rel=0.15)


def test_a_solid_rectangle_is_a_patch_and_strokes_are_none():
    strokes = np.zeros((100, 60), bool)
    strokes[:, 20:35] = strokes[80:, :] = True
    assert not photo.has_patch(strokes)
    shadow = strokes.copy()
    shadow[30:75, 10:45] = True
    assert photo.has_patch(shadow)
