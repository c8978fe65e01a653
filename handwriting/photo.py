"""Finds what may be a digit in a person's picture, and makes it what MNIST's digits are.

MNIST's digits are light on black, the longer side 20 pixels, centred by mass in 28 x 28 pixels.
On the way there, "ink" is how much darker a pixel is than its paper; 1 is black on white:

    best_channel -> ink_of -> without_lines_and_grain -> shapes_in -> like_mnist

Each step is a function below, in this order; `find` calls those that lead to shapes. Whether a
shape is a digit, and where two digits that touch are cut, is for a network to say (predict.py). A
box is (top, left, bottom, right) in pixels; bottom and right are the first row and column after it.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from handwriting.picture import resized

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

SCALES = (320, 640, 960)  # pixels: the longer side of a picture while shapes are looked for
SMALL = 48  # pixels: where shapes are lower than this, the next scale shows more of them
LEAST_INK = 0.09  # fainter ink is paper
GAPS = (0.02, 0.25)  # heights of the writing: gaps in a stroke that are bridged, first and at last
TOUCHING = np.ones((3, 3))  # pixels that touch at a corner are connected, too


def is_mnist(pixels: np.ndarray) -> bool:
    """Whether a picture is like MNIST's already: 28 x 28, longer side 20, centred by mass."""
    if pixels.shape != (28, 28) or not pixels.any():
        return False
    y, x = np.nonzero(pixels)
    off_centre = np.abs(np.subtract(ndimage.center_of_mass(pixels), 14)).max()
    return bool(max(np.ptp(y), np.ptp(x)) == 19 and off_centre < 0.51)


def best_channel(page: Image.Image) -> np.ndarray:
    """The channel that separates ink from paper best (H x W, 0 to 1), with ink as the dark side.

    Ink is what differs most from its surroundings: the third moment tells by how much, and whether
    it is darker or lighter.
    """
    small = np.asarray(resized(page, 64), np.float32) / 255
    mixes = np.array([[0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    channels = small @ mixes.T  # grey counts more: it has the least noise
    detail = channels - ndimage.gaussian_filter(channels, (4, 4, 0))
    lighter = (detail**3).mean(axis=(0, 1))
    best = np.abs(lighter).argmax()
    channel = np.asarray(page, np.float32) @ mixes[best] / (255 * mixes[best].sum())
    if lighter[best] > 0:
        channel = 1 - channel
    return np.minimum(1, channel / max(0.25, np.percentile(channel, 98)))  # for dark exposures


def ink_of(channel: np.ndarray) -> np.ndarray:
    """Ink (H x W): how much darker a pixel is than the brightest around it, whatever the light."""
    picture = Image.fromarray(channel)
    small = np.asarray(resized(picture, 160).filter(ImageFilter.MedianFilter(3)))
    paper = ndimage.grey_closing(small, (49, 49))  # without what is darker than its surroundings
    paper = Image.fromarray(ndimage.minimum_filter(paper, 5))
    paper = np.asarray(paper.resize(picture.size, Image.Resampling.BILINEAR))
    white = max(0.1, np.percentile(paper, 95))
    # Paper in a shadow is made as bright as white paper, but what is below 0.4 is no shadow.
    return (paper - channel) / np.maximum(paper, 0.4 * white) * white


def without_lines_and_grain(ink: np.ndarray) -> np.ndarray:
    """Ink (H x W), smoothed, without thin straight lines through it: ruled and squared paper."""
    for _ in range(2):  # upright lines first, then level ones
        ink = np.ascontiguousarray(ink.T)
        thin = ink - ndimage.grey_opening(ink, (9, 1))
        # Paper bends: a line may pass two pixels higher or lower than a straight one.
        nearby = ndimage.maximum_filter1d(thin, 5, axis=0)
        slopes = np.linspace(-0.12, 0.12, 49)
        every = max(ink.shape) // 32  # columns, while the slope is looked for
        slope = max(slopes, key=lambda slope: (darkness(nearby, slope, every)[0] ** 2).sum())
        dark, shift = darkness(nearby, slope)
        rows = np.arange(len(ink))[:, None] - shift
        ink = ink - dark[np.clip(rows, 0, len(ink) - 1)]
    return ndimage.gaussian_filter(ink, 0.7)


def darkness(nearby: np.ndarray, slope: float, every: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """How dark the lines of one slope are (H), and by how many rows each column shifts them.

    Of the columns of `nearby` (H x W), each `every`th is read.
    """
    height, width = nearby.shape
    x = np.arange(0, width, every)
    shift = np.rint(slope * (x - width / 2)).astype(int)
    rows = np.clip(np.arange(height)[:, None] + shift, 0, height - 1)
    fifth = len(x) // 5  # a line is at least this dark in four fifths of the columns
    return np.partition(nearby[rows, x], fifth, axis=1)[:, fifth], shift


def parts_of(mask: np.ndarray, ink: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The N connected parts of a mask (H x W): their labels, boxes and scores.

    The labels (H x W) are each part's number, from 1 to N, and 0 outside all of them; the boxes are
    N x 4. The scores (N) are higher for longer and darker strokes; what cannot be a digit has 0.
    """
    labels, count = ndimage.label(mask, TOUCHING)
    ends = [(y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(labels)]
    boxes = np.array(ends, int).reshape(count, 4)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    height, width = (boxes[:, 2:] - boxes[:, :2]).T
    size = np.maximum(height, width)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    edges = np.hstack([boxes[:, :2] < 2, boxes[:, 2:] > np.array(mask.shape) - 2]).sum(axis=1)
    away = np.abs(middles / mask.shape - 0.5).max(axis=1)
    cut_off = (edges > 1) & (away > 0.2)  # but a digit may fill the picture
    solid = area / size**2  # high for a sheet of paper and for a 0's hole, low for strokes
    likely = (size > 0.03 * max(mask.shape)) & (area > 20) & (solid < 0.6) & ~cut_off
    # The desk around a sheet touches edges, and has the writing within its box.
    within = (boxes[:, None, :2] <= middles[likely]) & (middles[likely] < boxes[:, None, 2:])
    inside = within.all(axis=2).sum(axis=1)
    likely &= (edges == 0) | (inside < np.where(edges == 4, 2, 3))
    dark = ndimage.mean(ink, labels, np.arange(1, count + 1)) if count else np.zeros(0)
    return labels, boxes, likely * np.minimum(height, 8 * width) * dark / (1 + edges)


def writing_in(ink: np.ndarray, faintest: float) -> tuple[float, float, float]:
    """From which level on ink (H x W) is writing, how dark the writing is, and how high.

    It is what looks most like a digit at the lowest level, from `faintest` on, at which anything
    does. Gives (1, 0, 0) where nothing does.
    """
    for level in faintest * 1.4 ** np.arange(8):
        labels, boxes, scores = parts_of(ink > level, ink)
        if scores.any():
            main = scores.argmax()
            darkness = np.percentile(ink[labels == main + 1], 85)
            height = boxes[main, 2] - boxes[main, 0]
            return max(level, 0.25 * darkness), float(darkness), height
    return 1, 0, 0


class Shape(NamedTuple):
    """What may be a digit, or several that touch."""

    box: np.ndarray  # 4: where it is, in the picture's pixels; may end within a pixel
    ink: np.ndarray  # h x w, 0 to 1
    darkness: float = 1  # of the picture's ink, before the darkest became 1


def shapes_in(ink: np.ndarray, gap: float = GAPS[0]) -> list[Shape]:
    """The shapes in ink (H x W) that may be digits: as dark and as high as the rest of the page."""
    noise = 1.48 * np.median(np.abs(ink - np.median(ink)))  # the standard deviation of the grain
    faintest = np.clip(3.5 * noise, LEAST_INK, 0.3)
    level, darkness, height = writing_in(ink, faintest)
    if darkness < 1.5 * faintest:
        return []
    bridged = ndimage.binary_dilation(ink > level, iterations=int(1 + gap / 2 * height))
    labels, boxes, scores = parts_of(bridged, ink)
    heights, widths = (boxes[:, 2:] - boxes[:, :2]).T
    clearest = scores > 0.3 * scores.max(initial=0)
    usual = np.median(heights[clearest]) if clearest.any() else 0
    as_high = (0.45 * usual < heights) & (heights < 2.2 * usual) & (widths < 5 * heights)
    clear = np.clip((ink / darkness - 0.2) / 0.5, 0, 1)
    shapes = []
    for number in np.flatnonzero(as_high & (scores > 0)):
        top, left, bottom, right = boxes[number]
        around = slice(top, bottom), slice(left, right)
        if shape := trimmed(clear[around] * (labels[around] == number + 1)):
            box = shape.box + (top, left, top, left)
            shapes.append(Shape(box, shape.ink, darkness))
    return shapes


def trimmed(ink: np.ndarray) -> Shape | None:
    """What there is in ink (H x W, 0 to 1), without crumbs, in its box; None if there is none."""
    labels, _ = ndimage.label(ink > 0.4, TOUCHING)
    area = np.bincount(labels.ravel())
    area[0] = 0
    ink = ink * (area > 0.15 * area.max())[labels]  # what is less may be the end of a neighbour
    y, x = np.nonzero(ink > 0.4)
    if not len(y):
        return None
    box = np.array([y.min(), x.min(), y.max() + 1, x.max() + 1])
    return Shape(box, ink[box[0] : box[2], box[1] : box[3]])


def find(page: Image.Image, light: bool = False, brief: bool = False) -> Iterator[list[Shape]]:
    """The shapes that may be digits, in one or several ways to see them.

    `page` is what `picture.read` gives. Ink is what `best_channel` takes for it; with `light` it is
    the opposite, for what misleads there, such as a sheet on a dark desk. With `brief`, only large
    shapes are found.
    """
    grey = np.asarray(page.convert("L"))
    if is_mnist(grey):
        yield [] if light else [Shape(np.array([0, 0, 28, 28]), grey / 255)]
        return
    if min(page.size) < 8:  # noise in a strip that is as narrow looks like a 1
        return
    scales = [scale for scale in SCALES if scale <= max(page.size) and not brief] or SCALES[:1]
    enough = 0.0  # pixels: the scale at which the shapes are no longer small
    for longest in scales:
        if longest < min(enough, scales[-1]):
            continue
        channel = best_channel(resized(page, longest))
        ink = without_lines_and_grain(ink_of(1 - channel if light else channel))
        for gap in GAPS:
            found = shapes_in(ink, gap)
            enough = longest * SMALL / np.median([len(shape.ink) for shape in found] or [SMALL])
            if longest < min(enough, scales[-1]):
                break
            yield [shape._replace(box=shape.box * max(page.size) / longest) for shape in found]


def cuts(shape: Shape, lean: float) -> dict[tuple[int, int], Shape]:
    """The pieces of a shape between any two of many parallel cuts, by the columns of the two.

    The columns are those at half its height, from 0 to its width; from a row to the next one above
    a cut moves by `lean` columns. What is too narrow or too wide to be a digit is left out.
    """
    height, width = shape.ink.shape
    scale = (shape.box[2] - shape.box[0]) / height
    places = np.linspace(0, width, max(6, round(8 * width / height)) + 1).astype(int).tolist()
    columns = np.arange(width) + lean * (np.arange(height)[:, None] - height / 2)
    columns = columns.clip(0, width - 1)  # the outer pieces have all that is left of them
    pieces = {}
    for left, right in combinations(places, 2):
        as_wide = 0.2 * height <= right - left <= 1.2 * height
        if as_wide and (piece := trimmed(shape.ink * (left <= columns) * (columns < right))):
            box = np.tile(shape.box[:2], 2) + scale * piece.box
            pieces[left, right] = shape._replace(box=box, ink=piece.ink)
    return pieces


def stroke_width(mask: np.ndarray) -> float:
    """The mean width of a shape's (H x W) strokes, in pixels: twice its area by its rim."""
    rim = mask & ~ndimage.binary_erosion(mask)
    return 2 * mask.sum() / max(1, rim.sum())


def like_mnist(digit: np.ndarray) -> np.ndarray:
    """The digit 20 pixels long, its strokes at least 2 wide, centred by mass (28 x 28 uint8)."""
    if is_mnist(digit):
        return np.rint(255 * digit).astype(np.uint8)
    wider = max(0, 0.1 * max(digit.shape) - stroke_width(digit > 0.5)) / 2
    reach = np.arange(-int(wider), int(wider) + 1)
    disk = np.hypot(reach[:, None], reach) <= wider
    digit = ndimage.grey_dilation(np.pad(digit, int(wider)), footprint=disk, mode="constant")
    small = np.asarray(resized(Image.fromarray(np.uint8(255 * digit)), 20))
    height, width = small.shape
    y, x = ndimage.center_of_mass(small)
    top = np.clip(round(14 - y), 0, 28 - height)
    left = np.clip(round(14 - x), 0, 28 - width)
    image = np.zeros((28, 28), np.uint8)
    image[top : top + height, left : left + width] = small
    return image
