"""handwriting/photo.py: what is found on a page is where it was drawn, and as MNIST has it.

That the network then reads the digits rightly is tested in test_reading.py.
"""

from handwriting import photo
from handwriting.picture import opaque, resized

import numpy as np
import pictures
import pytest
from PIL import Image, ImageDraw, ImageOps


def shapes_of(image):
    """The shapes of the darker ink in a picture."""
    page = resized(opaque(image), max(image.size))
    ink = photo.ink_of(photo.best_channel(page))
    return next(photo.shapes_in(photo.without_lines_and_grain(ink)))


def drawn(*digits, size=(700, 400)):
    """Black ink on white: (digit, centre, height) each."""
    random = np.random.default_rng(0)
    ink = [pictures.strokes(d, size, at, height, height / 20, random) for d, at, height in digits]
    return pictures.eight_bits(255 - 255 * np.max(ink, axis=0)).convert("RGB")


def test_what_the_network_sees_is_as_mnist_has_it():
    (shape,) = shapes_of(pictures.marker_on_whiteboard(3, np.random.default_rng(0)))
    seen = photo.like_mnist(shape.ink)
    y, _ = np.nonzero(seen > 20)
    assert seen.shape == (28, 28) and seen.dtype == np.uint8
    assert 18 <= np.ptp(y) + 1 <= 20
    for axis in (0, 1):
        assert abs(np.average(np.arange(28), weights=seen.sum(axis=1 - axis)) - 14) < 1
    assert seen.max() > 240 and (seen[0] == 0).all()


FEW = [(1, (120, 200), 180), (0, (350, 200), 200), (4, (580, 200), 180)]
MANY = [(n % 10, (60 + 100 * (n % 10), 80 + 90 * (n // 10)), 45) for n in range(60)]


@pytest.mark.parametrize(("digits", "size"), [(FEW, (700, 400)), (MANY, (1060, 620))])
def test_each_digit_is_a_shape_where_it_was_drawn(digits, size):
    found = [shape.box for shape in shapes_of(drawn(*digits, size=size))]
    assert len(found) == len(digits)
    for _, (x, y), height in digits:
        at_x = [box for box in found if box[1] < x + 20 and box[3] > x - 20]
        ((top, _, bottom, _),) = [box for box in at_x if abs((box[0] + box[2]) / 2 - y) < 12]
        assert abs(bottom - top - height) < 25


@pytest.mark.parametrize("frame", ["box", "ring", "cut box", "desk"])
def test_what_has_writing_in_its_hole_is_no_shape(frame):
    image = drawn((8, (350, 200), 150))
    draw = ImageDraw.Draw(image)
    if frame == "ring":
        draw.ellipse((200, 50, 500, 350), outline=0, width=9)
    elif frame == "desk":
        image = ImageOps.expand(image, 40, (50, 40, 30))
    else:
        draw.rectangle((200, 50, 900 if frame == "cut box" else 500, 350), outline=0, width=9)
    (shape,) = shapes_of(image)
    assert 140 < shape.box[2] - shape.box[0] < 165


def test_a_dot_and_a_minus_are_marks_and_dirt_is_none():
    image = drawn((3, (200, 200), 180), (1, (500, 200), 180))
    for place in ((340, 270, 355, 285), (60, 195, 110, 204), (600, 100, 603, 103)):
        ImageDraw.Draw(image).rectangle(place, fill=0)
    assert sorted(shape.mark for shape in shapes_of(image)) == [False, False, True, True]


def test_the_box_of_a_shape_is_top_left_bottom_right():
    ink = np.zeros((200, 320))
    ink[40:160, 100:110] = 1  # a long upright stroke ...
    ink[150:160, 100:170] = 1  # ... and its foot
    (shape,) = next(photo.shapes_in(ink))
    assert shape.box.tolist() == [40, 100, 160, 170]
    assert shape.ink.shape == (120, 70) and shape.darkness == 1


def halves(ink, lean):
    """The pieces of a shape in this ink, and the two of a cut in the middle of 60 columns."""
    pieces = photo.cuts(photo.Shape(np.array([100, 200, 140, 260]), ink), lean)
    middle = min((right for _, right in pieces), key=lambda column: abs(column - 30))
    return pieces, pieces[0, middle], pieces[middle, 60]


@pytest.mark.parametrize("lean", [0, -0.2, 0.2])
def test_two_digits_that_touch_can_be_cut_between_them(lean):
    ink = np.zeros((40, 60))
    ink[:, 5:10] = ink[:, 45:50] = 1  # two upright strokes ...
    ink[18:20, 5:50] = 1  # ... and what joins them
    pieces, left, right = halves(ink, lean)
    assert left.box[1] >= 200 and left.box[3] <= right.box[1] + 8 and right.box[3] <= 260
    assert left.ink[:, :8].sum() > 100 and right.ink[:, -8:].sum() > 100
    assert all(8 <= right - left <= 48 for left, right in pieces)  # 0.2 to 1.2 heights


def test_a_cut_leans_to_the_right_above_where_the_strokes_do():
    slash = np.eye(40)[:, ::-1]  # from the lower left to the upper right
    ink = np.maximum(np.pad(slash, ((0, 0), (0, 20))), np.pad(slash, ((0, 0), (20, 0))))
    for piece in halves(np.maximum(ink, np.roll(ink, 1, axis=1)), 1)[1:]:
        assert len(piece.ink) >= 39 and ((piece.ink > 0).sum(axis=1) <= 2).all()  # one stroke


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


@pytest.mark.parametrize(("share", "least"), [(0.25, 11), (0, 0)])
def test_parts_are_connected_at_sides_and_corners_and_have_their_boxes(share, least):
    random = np.random.default_rng(0)
    mask = random.random((40, 60)) < share
    labels, boxes, scores = photo.parts_of(mask, random.random(mask.shape), 0.9)
    expected = flood_filled(mask)
    assert len(expected) == len(boxes) == len(scores) >= least and boxes.shape[1] == 4
    assert ((labels > 0) == mask).all()
    for pixels in expected:
        y, x = np.array(sorted(pixels)).T
        (number,) = np.unique(labels[y, x])
        assert boxes[number - 1].tolist() == [y.min(), x.min(), y.max() + 1, x.max() + 1]


def test_a_line_of_any_length_and_of_one_pixel_fits_into_mnists_form():
    for length in range(1, 400):
        for shape in ((length, 1), (1, length)):
            assert photo.like_mnist(np.ones(shape)).max() > 200


def test_the_channel_is_one_in_which_ink_and_paper_differ():
    """Red and blue-green of the same grey: in grey nothing would be seen."""
    page = np.full((200, 300, 3), (90, 160, 170), np.uint8)
    page[40:160, 140:150] = (200, 100, 120)
    assert abs(page[0, 0].mean() - page[100, 145].mean()) < 1
    channel = photo.best_channel(Image.fromarray(page))
    assert channel[100, 145] < channel[0, 0] - 0.2


def test_length_of_the_strokes_of_a_bar_and_of_a_ring():
    bar, ring = np.ones((100, 10), bool), np.ones((60, 60), bool)
    ring[8:-8, 8:-8] = False
    assert photo.stroke_lengths(bar[None]) == pytest.approx([bar.sum() / 10], rel=0.15)
    assert photo.stroke_lengths(ring[None]) == pytest.approx([ring.sum() / 8], rel=0.15)
