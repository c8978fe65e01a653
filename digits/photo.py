"""Finds what may be a digit in a person's picture, and makes it what MNIST's digits are.

MNIST's digits are light on black, the longer side 20 pixels, centred by mass in 28 x 28 pixels.
On the way there, "ink" is how much darker a pixel is than its paper; 1 is black on white:

    best_channel -> ink_of -> without_ruled_lines -> smooth -> shapes_in -> rows -> like_mnist

Each step is a function below, in this order; `find` calls those that lead to shapes. Whether a
shape is a digit, and where two digits that touch are cut, is for a network to say (predict.py). A
box is (top, left, bottom, right) in pixels; bottom and right are the first row and column after it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from digits.picture import resized

SCALES = (320, 640, 960)  # pixels: the longer side of a picture while shapes are looked for
SMALL = 48  # pixels: where shapes are lower than this, the next scale shows more of them
LEAST_INK = 0.09  # fainter ink is paper
TOUCHING = np.ones((3, 3))  # pixels that touch at a corner are connected, too


def is_mnist(pixels: np.ndarray) -> bool:
    """Whether a picture is like MNIST's already: 28 x 28, longer side 20, centred by mass."""
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
    padded = padded.clip(values.min(), values.max())  # the mirror image of ink is no light
    eroded = ndimage.minimum_filter(padded, sizes)
    inside = [slice(n, n + length) for n, length in zip(margins, values.shape, strict=True)]
    return ndimage.maximum_filter(eroded[tuple(inside)], sizes, mode="nearest")


def ink_of(channel: np.ndarray) -> np.ndarray:
    """Ink (H x W): how much darker a pixel is than the brightest around it, whatever the light."""
    picture = Image.fromarray(channel)
    small = np.asarray(resized(picture, 160).filter(ImageFilter.MedianFilter(3)))
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
        every = max(ink.shape) // 32  # columns
        slope = max(slopes, key=lambda slope: (darkness(nearby, slope, every)[0] ** 2).sum())
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
    for axis in (0, 1):
        ink = ndimage.convolve1d(ink, np.array([0.25, 0.5, 0.25]), axis, mode="nearest")
    return ink


class Parts(NamedTuple):
    """The N connected parts of a mask."""

    labels: np.ndarray  # H x W: a part's number, from 1 to N; 0 outside all parts
    boxes: np.ndarray  # N x 4
    edges: np.ndarray  # N: how many edges of the picture it touches
    scores: np.ndarray  # N: how long and dark its strokes are; 0 if it cannot be a digit


def parts_of(mask: np.ndarray, ink: np.ndarray) -> Parts:
    """The connected parts of a mask (H x W), scored with their ink (H x W)."""
    labels, count = ndimage.label(mask, TOUCHING)
    ends = [(y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(labels)]
    boxes = np.array(ends, int).reshape(count, 4)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    height, width = (boxes[:, 2:] - boxes[:, :2]).T
    size = np.maximum(height, width)
    touched = np.hstack([boxes[:, :2] < 2, np.array(mask.shape) - boxes[:, 2:] < 2])
    edges = touched.sum(axis=1)
    away = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 / mask.shape - 0.5).max(axis=1)
    cut_off = (edges > 1) & (away > 0.2)  # but a digit may fill the picture
    solid = area / size**2  # high for a sheet of paper and for a 0's hole, low for strokes
    likely = (size > 0.03 * max(mask.shape)) & (area > 20) & (solid < 0.6) & ~cut_off
    # The desk around a sheet touches edges, and has the writing within its box.
    inside = np.array([contains(boxes[likely], box).sum() for box in boxes], int)
    likely &= (edges == 0) | (inside < np.where(edges == 4, 2, 3))
    dark = ndimage.mean(ink, labels, np.arange(1, count + 1)) if count else np.zeros(0)
    scores = likely * np.minimum(height, 8 * width) * dark / (1 + edges)
    return Parts(labels, boxes, edges, scores)


def contains(boxes: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """Which of the boxes (N x 4) lie within another; they may share edges."""
    within = np.hstack([boxes[:, :2] >= outer[:2], boxes[:, 2:] <= outer[2:]])
    return np.asarray(within.all(axis=1))


def strokes(ink: np.ndarray, faintest: float) -> tuple[Parts | None, float]:
    """The parts of ink (H x W) at the level where one of them looks most like a digit; the level.

    Gives (None, 0) where nothing looks like one. `faintest` is the least ink to look at.
    """
    best, best_score, best_level = None, 0.0, 0.0
    for level in faintest * 1.4 ** np.arange(8):
        parts = parts_of(ink > level, ink)
        if parts.scores.max(initial=0) > best_score:
            main = parts.scores.argmax()
            best, best_score, best_level = parts, parts.scores[main], level
            if not parts.edges[main]:
                break  # otherwise go on with darker ink, to which shadows do not belong
    return best, best_level


class Shape(NamedTuple):
    """What may be a digit, or several that touch."""

    box: np.ndarray  # 4: where it is, in the picture's pixels; may end within a pixel
    ink: np.ndarray  # h x w, 0 to 1
    darkness: float = 1  # of the picture's ink, before the darkest became 1


def shapes_in(ink: np.ndarray) -> list[Shape]:
    """The shapes in ink (H x W) that may be digits: as dark and as high as the rest of the page."""
    noise = 1.48 * np.median(np.abs(ink - np.median(ink)))  # the standard deviation of the grain
    faintest = np.clip(3.5 * noise, LEAST_INK, 0.3)
    parts, level = strokes(ink, faintest)
    if parts is None:
        return []
    typical = np.flatnonzero(parts.scores > 0.4 * parts.scores.max())
    size = np.median(parts.boxes[typical, 2] - parts.boxes[typical, 0])
    top = np.percentile(ink[np.isin(parts.labels, typical + 1)], 85)
    parts = parts_of(grow(ink > max(level, 0.25 * top), 1 + 0.01 * size), ink)
    heights, widths = (parts.boxes[:, 2:] - parts.boxes[:, :2]).T
    order = heights.argsort()
    longest = parts.scores[order].cumsum()
    if not longest.size or not longest[-1]:
        return []
    usual = heights[order][np.searchsorted(longest, longest[-1] / 2)]
    main = (0.45 * usual < heights) & (heights < 2.2 * usual) & (widths < 5 * heights)
    main &= parts.scores > 0.1 * parts.scores.max()
    clear = np.clip((ink / top - 0.2) / 0.5, 0, 1)
    shapes = []
    for number in np.flatnonzero(main):
        pieces = [is_piece(box, parts.boxes[number]) for box in parts.boxes[~main]]
        mine = np.array([number, *np.flatnonzero(~main)[pieces]])
        boxes = parts.boxes[mine]
        corner, end = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        around = slice(corner[0], end[0]), slice(corner[1], end[1])
        shape = trimmed(clear[around] * np.isin(parts.labels[around], mine + 1))
        if shape and is_clear(shape.ink, top / faintest):
            box = shape.box + np.tile(corner, 2)
            shapes.append(Shape(box, shape.ink, float(top)))
    return shapes


def trimmed(ink: np.ndarray) -> Shape | None:
    """What there is in ink (H x W, 0 to 1), in its box; None where there is nothing."""
    y, x = np.nonzero(ink > 0.4)
    if not len(y):
        return None
    box = np.array([y.min(), x.min(), y.max() + 1, x.max() + 1])
    return Shape(box, ink[box[0] : box[2], box[1] : box[3]])


def is_clear(ink: np.ndarray, contrast: float) -> bool:
    """Whether a shape (h x w, 0 to 1) stands out of the paper; `contrast` is to its grain.

    A thin and straight one must do so more: it may be a 1, or what is left of a ruled line.
    """
    mask, size = ink > 0.5, max(ink.shape)
    stroke = max(1, stroke_width(mask))
    straight = mask.sum() / stroke < 1.08 * size  # the length of its line, if it were straightened
    return contrast > (2 if straight and stroke < 0.05 * size else 1.5)


def is_piece(box: np.ndarray, main: np.ndarray) -> bool:
    """Whether the part in a box is a piece of the digit in `main`: its bar, a broken stroke."""
    size = (main[2:] - main[:2]).max()
    extent = box[2:] - box[:2]
    gap = np.maximum(0, np.maximum(box[:2] - main[2:], main[:2] - box[2:]))
    shared = np.minimum(box[3], main[3]) - np.maximum(box[1], main[1])  # columns
    reach = 0.2 if box[0] < main[0] else 0.06  # a bar is above; a part below may be an underline
    near = gap.max() <= 0.03 * size or (shared >= extent[1] / 2 and gap[0] <= reach * size)
    return near and 0.12 * size <= extent.max() <= 0.9 * size


def find(page: Image.Image, light: bool = False, brief: bool = False) -> Iterator[list[Shape]]:
    """The shapes that may be digits, in one or several ways to see them.

    `page` is what `picture.read` gives. Ink is what is darker than the paper at the picture's
    border; with `light` it is what is lighter, for a sheet on a darker desk and others whose border
    misleads. With `brief`, only large shapes are found.
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
        found = shapes_at(page, longest, light)
        height = np.median([len(shape.ink) for shape in found]) if found else SMALL
        enough = SMALL * longest / height
        if longest < min(enough, scales[-1]):
            continue
        scale = max(page.size) / longest
        found = [shape._replace(box=shape.box * scale) for shape in found]
        yield found
        if 1 < len(found) < 5 and not light:
            yield [together(found, scale)]


def shapes_at(page: Image.Image, longest: int, light: bool) -> list[Shape]:
    """The shapes in a picture whose longer side is reduced to so many pixels."""
    channel = best_channel(resized(page, longest))
    ink = ink_of(1 - channel if light else channel)
    return shapes_in(smooth(without_ruled_lines(ink)))


def together(shapes: list[Shape], scale: float) -> Shape:
    """Shapes as one: a digit whose strokes do not touch. `scale`: a pixel of ink, in the page's."""
    boxes = np.array([shape.box for shape in shapes])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    height, width = np.rint((box[2:] - box[:2]) / scale).astype(int)
    ink = np.zeros((height, width))
    for shape in shapes:
        top, left = np.rint((shape.box[:2] - box[:2]) / scale).astype(int)
        ink[top : top + len(shape.ink), left : left + len(shape.ink[0])] += shape.ink
    return Shape(box, ink.clip(max=1), max(shape.darkness for shape in shapes))


def rows(boxes: list[np.ndarray]) -> list[list[int]]:
    """The numbers of the boxes in reading order: rows from the top, each from left to right."""
    lines: list[list[int]] = []
    for number in sorted(range(len(boxes)), key=lambda n: boxes[n][1]):
        top, _, bottom, _ = boxes[number]

        def shared(line: list[int], top: float = top, bottom: float = bottom) -> float:
            """The share of the lower one of two neighbours' heights that they have in common."""
            last = boxes[line[-1]]
            low = min(bottom - top, last[2] - last[0])
            return (min(bottom, last[2]) - max(top, last[0])) / low

        nearest = max(lines, key=shared, default=None)
        if nearest and shared(nearest) > 0.4:
            nearest.append(number)
        else:
            lines.append([number])
    return sorted(lines, key=lambda line: np.mean([boxes[n][0] + boxes[n][2] for n in line]))


def cuts(shape: Shape) -> Iterator[tuple[int, dict[tuple[int, int], Shape]]]:
    """Ways to cut a shape at N + 1 places: N, and the piece between any two places.

    The cuts lean in one way in all pieces that are given together. A piece that is too narrow, too
    wide or too low to be a digit is left out.
    """
    height, width = shape.ink.shape
    places = max(6, round(8 * width / height))
    at = np.linspace(0, width, places + 1)
    at[0], at[-1] = -height, width + height  # the outer pieces have all that is left of them
    scale = (shape.box[2] - shape.box[0]) / height
    for lean in (0, -0.25, 0.25):
        across = np.arange(width) + lean * (np.arange(height)[:, None] - height / 2)
        pieces = {}
        for left in range(places):
            for right in range(left + 1, places + 1):
                if not 0.2 <= (right - left) * width / places / height <= 1.2:
                    continue
                ink = shape.ink * ((across >= at[left]) & (across < at[right]))
                piece = trimmed(without_crumbs(ink))
                if piece and len(piece.ink) >= 0.6 * height:
                    box = np.tile(shape.box[:2], 2) + scale * piece.box
                    pieces[left, right] = shape._replace(box=box, ink=piece.ink)
        yield places, pieces


def without_crumbs(ink: np.ndarray) -> np.ndarray:
    """Ink (h x w) without parts that are much smaller than its largest: ends of a neighbour."""
    labels, _ = ndimage.label(ink > 0.4, TOUCHING)
    area = np.bincount(labels.ravel())
    area[0] = 0
    return ink * (area > 0.15 * area.max())[labels]


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
    if is_mnist(digit):
        return np.rint(255 * digit).astype(np.uint8)
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
