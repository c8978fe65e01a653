"""Finds the digit in a person's picture and makes it what MNIST's digits are.

MNIST's digits are light on black, the longer side 20 pixels, centred by mass in 28 x 28 pixels.
On the way there, "ink" is how much darker a pixel is than its paper; 1 is black on white:

    best_channel -> ink_of -> without_ruled_lines -> smooth -> find_digit -> like_mnist

Each step is a function below, in this order; `prepare`, at the end, calls them all. A box is
(top, left, bottom, right) in pixels; bottom and right are the first row and column after it.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from digits.picture import resized
from files import PictureError

SIDE = 320  # pixels: the longer side of a picture while its digit is looked for
LEAST_SCORE = 1.2  # a part that scores less is no digit
LEAST_INK = 0.09  # fainter ink is paper
TOUCHING = np.ones((3, 3))  # pixels that touch at a corner are connected, too


def is_mnist(grey: Image.Image) -> bool:
    """Whether a picture is like MNIST's already: 28 x 28, longer side 20, centred by mass."""
    pixels = np.asarray(grey, float)
    if pixels.shape != (28, 28) or not pixels.any():
        return False
    y, x = np.nonzero(pixels)
    off_centre = np.abs(np.subtract(ndimage.center_of_mass(pixels), 14)).max()
    return bool(max(np.ptp(y), np.ptp(x)) == 19 and off_centre < 0.51)


def paper_seen_at_border(channel: np.ndarray) -> np.ndarray:
    """Brightness of the paper (H x W): the quadratic surface that fits the picture's border."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in channel.shape), indexing="ij")
    terms = np.stack([x**0, x, y, x * x, x * y, y * y], axis=-1)
    ring = np.maximum(np.abs(x), np.abs(y)) > 0.8
    weight = np.ones((ring.sum(), 1))
    for _ in range(8):  # the least absolute deviations, nearly: other objects count little
        left, right = terms[ring] * weight, channel[ring, None] * weight
        surface = np.linalg.lstsq(left, right, rcond=None)[0]
        weight = (np.abs(terms[ring] @ surface - channel[ring, None]) + 0.02) ** -0.5
    return (terms @ surface)[..., 0]


def best_channel(page: Image.Image) -> np.ndarray:
    """The channel that separates ink from paper best (H x W, 0 to 1), with ink as the dark side."""
    small = np.asarray(resized(page, 64), np.float32) / 255
    best_lighter, best_mix = 0.0, None
    for mix in ([0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1]):  # grey first: least noise
        channel = small @ np.array(mix, np.float32)
        coarse = Image.fromarray(channel).resize((6, 6), Image.Resampling.BOX)
        blurred = np.asarray(coarse.resize(small.shape[1::-1], Image.Resampling.BILINEAR))
        detail = (channel - blurred) ** 2  # large at strokes, small where only the light changes
        lighter = ((channel - paper_seen_at_border(channel)) * detail).mean()
        if best_mix is None or abs(lighter) > abs(best_lighter):
            best_lighter, best_mix = lighter, mix
    channel = np.asarray(page, np.float32) @ np.array(best_mix, np.float32) / (255 * sum(best_mix))
    channel = np.minimum(1, channel / max(0.25, np.percentile(channel, 98)))  # a dark exposure
    return 1 - channel if best_lighter > 0 else channel


def opening(values: np.ndarray, sizes: tuple[int, int]) -> np.ndarray:
    """A picture (H x W) without what is brighter than its surroundings and smaller than `sizes`.

    `sizes`: height and width, odd numbers. scipy's grey_opening has no border that suits light:
    outside the picture, it goes on getting brighter or darker as it did at the edge.
    """
    margins = [n // 2 for n in sizes]
    padded = np.pad(values, [(n, n) for n in margins], "reflect", reflect_type="odd")
    eroded = ndimage.minimum_filter(padded, sizes)
    inside = [slice(n, n + length) for n, length in zip(margins, values.shape, strict=True)]
    return ndimage.maximum_filter(eroded[tuple(inside)], sizes, mode="nearest")


def ink_of(channel: np.ndarray) -> np.ndarray:
    """Ink (H x W): how much darker a pixel is than the brightest around it, whatever the light."""
    picture = Image.fromarray(channel)
    small = np.asarray(resized(picture, SIDE // 2).filter(ImageFilter.MedianFilter(3)))
    paper = -opening(-small, (49, 49))  # without what is darker than its surroundings
    paper = Image.fromarray(ndimage.minimum_filter(paper, 5, mode="nearest"))
    paper = np.asarray(paper.resize(picture.size, Image.Resampling.BILINEAR))
    white = max(0.1, np.percentile(paper, 95))
    # Paper in a shadow is made as bright as white paper, but what is below 0.4 is no shadow.
    return (paper - channel) / np.maximum(paper, 0.4 * white) * white


def without_ruled_lines(ink: np.ndarray) -> np.ndarray:
    """Ink (H x W) without thin straight lines through the whole picture: ruled, squared paper."""
    for _ in range(2):  # upright lines first, then level ones
        ink = np.ascontiguousarray(ink.T)
        thin = np.pad(ink - opening(ink, (9, 1)), ((2, 2), (0, 0)), "edge")
        # Paper bends: a line may pass two pixels higher or lower than a straight one.
        nearby = ndimage.maximum_filter1d(thin, 5, axis=0, mode="nearest")
        slopes = np.linspace(-0.12, 0.12, 49)
        slope = max(slopes, key=lambda slope: (darkness(nearby, slope, every=10)[0] ** 2).sum())
        dark, shift = darkness(nearby, slope)
        rows = np.arange(len(ink))[:, None] - shift
        ink = ink - dark[np.clip(rows, 0, len(ink) - 1)]
    return ink


def darkness(nearby: np.ndarray, slope: float, every: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """How dark the lines of one slope are (H), and by how many rows each column shifts them.

    `nearby` (H + 4 x W) has two more rows above and two below. Of its columns, each `every`th is
    read.
    """
    height, width = len(nearby) - 4, nearby.shape[1]
    x = np.arange(0, width, every)
    shift = np.rint(slope * (x - width / 2)).astype(int)
    rows = np.clip(np.arange(2, height + 2)[:, None] + shift, 0, height + 3)
    fifth = len(x) // 5  # a line is at least this dark in four fifths of the columns
    return np.partition(nearby[rows, x], fifth, axis=1)[:, fifth], shift


def smooth(ink: np.ndarray) -> np.ndarray:
    """Ink (H x W) without grain: a mean with the neighbours, weighted 1 2 1 in both directions."""
    # scipy's correlate1d sums in double precision, which changes a few pixels by one grey level.
    for _ in range(2):
        padded = np.pad(ink, ((1, 1), (0, 0)), "edge")
        ink = ((padded[:-2] + 2 * ink + padded[2:]) / 4).T
    return ink


class Parts(NamedTuple):
    """The N connected parts of a mask."""

    labels: np.ndarray  # H x W: a part's number, 0 to N - 1; -1 outside all parts
    boxes: np.ndarray  # N x 4
    at_edge: np.ndarray  # N: whether it touches the picture's edge
    scores: np.ndarray  # N: how much it looks like the digit that is meant


def parts_of(mask: np.ndarray, ink: np.ndarray) -> Parts:
    """The connected parts of a mask (H x W), scored with their ink (H x W).

    The digit that is meant is large, dark, near the centre, made of strokes, and not cut off.
    """
    labels, count = ndimage.label(mask, TOUCHING)
    ends = [(y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(labels)]
    boxes = np.array(ends, int).reshape(count, 4)
    area = np.bincount(labels.ravel())[1:]
    dark = ndimage.mean(ink, labels, np.arange(1, count + 1))
    height, width = (boxes[:, 2:] - boxes[:, :2]).T
    size = np.maximum(height, width)
    at_edge = (np.minimum(boxes[:, :2], np.array(mask.shape) - boxes[:, 2:]) < 5).any(axis=1)
    away = np.hypot(*((boxes[:, :2] + boxes[:, 2:]) / 2 / mask.shape - 0.5).T)  # from the centre
    solid = area / size**2  # high for a sheet of paper and for a 0's hole, low for strokes
    scores = size * dark * (1 - away) * np.maximum(0, 1 - solid) ** 2 / (1 + at_edge)
    scores *= np.minimum(1, 8 * np.minimum(height, width) / size)  # low for a rest of a ruled line
    too_small = size < 0.025 * max(mask.shape)
    scores[too_small | (width > 2 * height) | at_edge & (dark < 0.3)] = 0
    return Parts(labels - 1, boxes, at_edge, scores)


def likeliest_part(ink: np.ndarray, faintest: float) -> tuple[np.ndarray | None, float]:
    """The mask (H x W) of what is probably the digit, or most of it, and its score.

    Gives (None, 0) where nothing looks like a digit. `faintest` is the least ink to look at.
    """
    best, best_score = None, 0.0
    for level in faintest * 1.4 ** np.arange(8):
        parts = parts_of(ink > level, ink)
        if not len(parts.scores):
            continue
        main = parts.scores.argmax()
        if parts.scores[main] > best_score:
            best, best_score = parts.labels == main, parts.scores[main]
            if not parts.at_edge[main]:
                break  # otherwise go on with darker ink, to which shadows do not belong
    return best, best_score


def is_piece(box: np.ndarray, main: np.ndarray) -> bool:
    """Whether the part in a box is a piece of the digit in `main`: its bar, a broken stroke."""
    size = (main[2:] - main[:2]).max()
    extent = box[2:] - box[:2]
    gap = np.maximum(0, np.maximum(box[:2] - main[2:], main[:2] - box[2:]))
    shared = np.minimum(box[3], main[3]) - np.maximum(box[1], main[1])  # columns
    reach = 0.2 if box[0] < main[0] else 0.06  # a bar is above; a part below may be an underline
    near = gap.max() <= 0.03 * size or (shared >= extent[1] / 2 and gap[0] <= reach * size)
    return near and 0.12 * size <= extent.max() <= 0.9 * size


class Found(NamedTuple):
    """The likeliest digit of a picture."""

    score: float  # how likely it is; 0 when there is none
    digit: np.ndarray  # h x w, 0 to 1
    box: np.ndarray  # where it was
    others: int  # how many digits more there are


NOTHING = Found(0, np.zeros((0, 0)), np.zeros(4, int), 0)


def find_digit(ink: np.ndarray) -> Found:
    """The likeliest digit in ink (H x W)."""
    noise = 1.48 * np.median(np.abs(ink - np.median(ink)))  # the standard deviation of the grain
    faintest = np.clip(3.5 * noise, LEAST_INK, 0.3)
    seed, score = likeliest_part(ink, faintest)
    if seed is None:
        return NOTHING
    top = np.percentile(ink[seed], 85)
    size = np.ptp(np.nonzero(seed), axis=1).max()
    parts = parts_of(grow(ink > 0.4 * top, 1 + 0.01 * size), ink)
    main = np.bincount(parts.labels[seed & (parts.labels >= 0)]).argmax()
    mine = np.array([is_piece(box, parts.boxes[main]) for box in parts.boxes]) & ~parts.at_edge
    mine[main] = True
    heights = parts.boxes[:, 2] - parts.boxes[:, 0]
    others = ~mine & ~parts.at_edge & (heights > heights[main] / 2)
    digit = np.clip((ink / top - 0.2) / 0.5, 0, 1) * np.isin(parts.labels, np.flatnonzero(mine))
    y, x = np.nonzero(digit > 0.4)
    box = np.array([y.min(), x.min(), y.max() + 1, x.max() + 1])
    digit = digit[box[0] : box[2], box[1] : box[3]]
    # Something faint at the edge is the end of a shadow: a digit that is cut off would be darker.
    shadow = parts.at_edge[main] and top < 0.4
    if shadow or not is_written(digit, top / faintest):
        score = 0
    return Found(score, digit, box, int(others.sum()))


def is_written(digit: np.ndarray, contrast: float) -> bool:
    """Whether a shape (h x w, 0 to 1) has strokes as digits have; `contrast` is to the grain.

    Measured on every 20th MNIST training image: the widest stroke is 0.32 of the digit's longer
    side, the longest line is 3.22 times that side, and at most 0.58 of its square is filled. All
    of them are within the limits below.
    """
    mask, size = digit > 0.5, max(digit.shape)
    solid = mask.sum() / size**2
    stroke = stroke_width(mask) / size
    line = solid / stroke  # its length, if it were straightened
    hairline = line < 1.08 and stroke < 0.05  # straight: a 1, or a line of the paper?
    return stroke < 0.36 and line < 4 and solid < 0.6 and contrast > (2 if hairline else 1.5)


def has_patch(mask: np.ndarray) -> bool:
    """Whether a solid rectangle fits into a shape (H x W): the rest of a shadow often has one.

    It is two fifths of the longer side high, and a quarter to two fifths of that side wide. Of
    every 20th MNIST training image (3,000), it fits into 8.
    """
    height, width = mask.shape
    high = int(0.4 * max(height, width)) + 1
    wide = int(0.4 * max(height - high + 1, width)) + 1
    return bool(ndimage.minimum_filter(mask, (high, wide), mode="constant").any())


def stroke_width(mask: np.ndarray) -> float:
    """The mean width of a shape's (H x W) strokes, in pixels: twice its area by its rim."""
    rim = mask & ~ndimage.binary_erosion(mask)
    return 2 * mask.sum() / max(1, rim.sum())


def grow(marks: np.ndarray, radius: float) -> np.ndarray:
    """The marks (H x W, at least 0), each made wider by a disk of `radius` pixels."""
    reach = np.arange(-int(radius), int(radius) + 1)
    disk = np.hypot(reach[:, None], reach) <= radius
    return ndimage.grey_dilation(marks, footprint=disk, mode="constant")


def like_mnist(digit: np.ndarray) -> np.ndarray:
    """The digit 20 pixels long, its strokes at least 2 wide, centred by mass (28 x 28 uint8)."""
    wider = max(0, 0.1 * max(digit.shape) - stroke_width(digit > 0.5)) / 2
    digit = grow(np.pad(digit, int(wider)), wider)
    small = np.asarray(resized(Image.fromarray(np.uint8(255 * digit)), 20))
    height, width = small.shape
    y, x = ndimage.center_of_mass(small)
    top = np.clip(round(14 - y), 0, 28 - height)
    left = np.clip(round(14 - x), 0, 28 - width)
    image = np.zeros((28, 28), np.uint8)
    image[top : top + height, left : left + width] = small
    return image


def score_needed(expected: Found, opposite: Found, shape: tuple[int, int]) -> float:
    """The score above which the opposite of what the border says is the digit.

    `expected` has what is darker than the border's paper as ink, `opposite` what is lighter.
    """
    if expected.score and opposite.score:
        thin, wide = (stroke_width(found.digit > 0.5) for found in (opposite, expected))
        if contains(expected.box, opposite.box) and 3 * thin < wide:  # a line, and its sheet
            return 0.8 * expected.score
        if contains(opposite.box, np.array([0, 0, *shape])):  # it is the border, too
            return expected.score
    return 2 * expected.score


def contains(outer: np.ndarray, inner: np.ndarray) -> bool:
    """Whether one box lies within another; they may share edges."""
    return bool((outer[:2] <= inner[:2]).all() and (inner[2:] <= outer[2:]).all())


def prepare(page: Image.Image) -> tuple[np.ndarray, int]:
    """What the network sees of a picture (28 x 28 uint8) and how many more digits there are.

    `page` is what `picture.read` gives. Raises PictureError where there is no digit.
    """
    grey = page.convert("L")
    if is_mnist(grey):
        return np.asarray(grey), 0
    channel = best_channel(resized(page, SIDE))
    expected, opposite = (
        find_digit(smooth(without_ruled_lines(ink_of(dark)))) for dark in (channel, 1 - channel)
    )
    needed = score_needed(expected, opposite, channel.shape)
    found = opposite if opposite.score > needed else expected
    narrow = min(page.size) < 8  # pixels: noise in such a strip looks like a 1
    shadow = found.score < 8 * LEAST_SCORE and has_patch(found.digit > 0.5)
    if found.score < LEAST_SCORE or narrow or shadow:
        raise PictureError("no digit found; fill more of the picture with it, in darker ink")
    return like_mnist(found.digit), found.others
