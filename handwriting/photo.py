"""Finds what may be a digit in a person's picture, and makes it what MNIST's digits are.

MNIST's digits are light on black, the longer side 20 pixels, centred by mass in 28 x 28 pixels.
On the way there, "ink" is how much darker a pixel is than its paper; 1 is black on white:

    best_channel -> ink_of -> without_lines_and_grain -> shapes_in -> like_mnist

Each step is a function below, in this order. Whether a shape is a digit, and where two digits that
touch are cut, is for a network to say (reading.py). A box is (top, left, bottom, right) in pixels;
bottom and right are the first row and column after it.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from handwriting.picture import resized

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

SCALES = (320, 960)  # pixels: the longer side of a picture while shapes are looked for
LOWEST = 0.03  # of the longer side: what is lower is no digit
MOST_SHAPES, MOST_MARKS, MOST_FRAMES, MOST_COVERED = 600, 100, 40, 3
AT_EDGE, AT_EDGES = 0.55, 0.95  # heights and widths along the picture's edge, the latter for what
# fills the picture: what lies there for longer is the ground
CUT_HEIGHT, SEEN = 40, 100  # pixels: a shape is reduced to it before it is cut, or thickened
LEAST_INK = 0.06  # fainter ink is paper
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
    # Without what is darker than its surroundings. Each edge goes on outside: mirrored there, as
    # scipy does it, the tip of a shadow would be a dark spot.
    reach = 24
    paper = ndimage.grey_closing(np.pad(small, reach, mode="edge"), 2 * reach + 1)
    paper = paper[reach:-reach, reach:-reach]
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
        shifts = np.rint(slopes[:, None] * (np.arange(ink.shape[1]) - ink.shape[1] / 2)).astype(int)
        every = max(ink.shape) // 32  # columns are enough to find the slope
        shift = max(shifts, key=lambda shift: (darkness(nearby, shift, every) ** 2).sum())
        rows = np.arange(len(ink))[:, None] - shift
        ink = ink - darkness(nearby, shift, max(1, every // 8))[np.clip(rows, 0, len(ink) - 1)]
    return ndimage.gaussian_filter(ink, 0.7)


def darkness(nearby: np.ndarray, shift: np.ndarray, every: int) -> np.ndarray:
    """How dark the lines (H) are that each `every`th column (of W) shifts by so many rows."""
    rows = np.arange(len(nearby))[:, None] + shift[::every]
    columns = np.take_along_axis(nearby[:, ::every], rows.clip(0, len(nearby) - 1), axis=0)
    fifth = columns.shape[1] // 5  # a line is at least this dark in four fifths of the columns
    return np.partition(columns, fifth, axis=1)[:, fifth]


def grown(mask: np.ndarray, times: int = 1) -> np.ndarray:
    """A mask (H x W) and the pixels right beside it, above and below, so many times."""
    for _ in range(times):
        edged = np.pad(mask, 1)
        mask = mask | edged[2:, 1:-1] | edged[:-2, 1:-1] | edged[1:-1, 2:] | edged[1:-1, :-2]
    return mask


class Parts(NamedTuple):
    """The N connected parts of a mask (H x W)."""

    labels: np.ndarray  # H x W: each part's number, from 1 to N; 0 outside all of them
    boxes: np.ndarray  # N x 4
    scores: np.ndarray  # N: high for long and dark strokes; 0 for what cannot be a digit

    @property
    def sizes(self) -> np.ndarray:
        """Height and width (N x 2)."""
        return self.boxes[:, 2:] - self.boxes[:, :2]


def parts_of(mask: np.ndarray, ink: np.ndarray, most_solid: float) -> Parts:
    """The connected parts of a mask (H x W), where ink is known.

    What is small, or filled by ink to more than `most_solid`, or lies along the edges of the
    picture, cannot be a digit.
    """
    labels, count = ndimage.label(mask, TOUCHING)
    ends = [(y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(labels)]
    boxes = np.array(ends, int).reshape(count, 4)
    height, width = (boxes[:, 2:] - boxes[:, :2]).T
    numbers = labels[mask]
    area, total = (np.bincount(numbers, weights, count + 1)[1:] for weights in (None, ink[mask]))
    rim = np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()])
    at_edge = np.bincount(rim, minlength=count + 1)[1:] / (height + width)
    size = np.maximum(height, width)
    likely = (size > LOWEST * max(mask.shape)) & (area > 20)
    fills = (height > 0.9 * mask.shape[0]) & (width > 0.9 * mask.shape[1])
    likely &= (area < most_solid * size**2) & (at_edge < np.where(fills, AT_EDGES, AT_EDGE))
    scores = likely * np.minimum(height, 8 * width) * (total / area) / (1 + 2 * at_edge)
    covered = (height * width)[scores > 0].sum() / mask.size  # stripes and rings overlap
    if (scores > 0).sum() > MOST_SHAPES or covered > MOST_COVERED:  # this is no page of digits
        scores = np.zeros(count)
    return Parts(labels, boxes, scores)


def frames_in(parts: Parts) -> np.ndarray:
    """A mask of the parts that have other parts in their holes: frames, rings, a desk."""
    middles = (parts.boxes[:, :2] + parts.boxes[:, 2:]) // 2
    frames = np.zeros(parts.labels.shape, bool)
    edged = np.pad(parts.labels, 1, constant_values=-1)
    for outer in np.argsort(-parts.sizes.min(axis=1, initial=0))[:MOST_FRAMES]:
        top, left, bottom, right = box = parts.boxes[outer]
        inside = ((box[:2] < middles) & (middles < box[2:])).all(axis=1) & (parts.scores > 0)
        inside &= (parts.sizes < parts.sizes[outer]).all(axis=1)
        high = parts.sizes[:, 0] > 0.25 * (bottom - top)
        if not (inside & high).any() and inside.sum() < 2:
            continue
        around = edged[top : bottom + 2, left : right + 2]
        walls = (around == outer + 1) | (around == -1)  # the edge of the picture closes it, too
        free = np.pad(~walls, 1, constant_values=True)  # its first part, 1, is what lies outside
        holes = ndimage.label(free)[0][1:-1, 1:-1] > 1
        enclosed = [n for n in np.flatnonzero(inside) if holes[tuple(middles[n] - box[:2] + 1)]]
        if high[enclosed].any() or len(enclosed) > 1:
            frames[top:bottom, left:right] |= walls[1:-1, 1:-1]
    return frames


def writing_in(ink: np.ndarray, faintest: float) -> tuple[float, float]:
    """From which level on ink (H x W) is writing, and how dark the writing is.

    It is what looks most like a digit at the lowest level, from `faintest` on, at which anything
    does. Gives (1, 0) where nothing does.
    """
    for level in faintest * 1.4 ** np.arange(8):
        parts = parts_of(grown(ink > level), ink, 0.6)
        if parts.scores.any():
            main = (parts.labels == parts.scores.argmax() + 1) & (ink > level)
            darkness = np.percentile(ink[main], 85)
            if darkness >= 1.5 * faintest:
                return max(level, 0.25 * darkness), float(darkness)
    return 1, 0


class Shape(NamedTuple):
    """What may be a digit, or several that touch."""

    box: np.ndarray  # 4: where it is, in the picture's pixels; may end within a pixel
    ink: np.ndarray  # h x w, 0 to 1
    darkness: float = 1  # of the picture's ink, before the darkest became 1
    mark: bool = False  # too small for a digit, but as dark: a dot, a minus


def shapes_in(ink: np.ndarray) -> Iterator[list[Shape]]:
    """The shapes in ink (H x W) that may be digits, for each of GAPS that is bridged.

    They are as dark and as high as the rest of the page; what is as dark and lower is a mark.
    """
    noise = 1.48 * np.median(np.abs(ink - np.median(ink)))  # the standard deviation of the grain
    faintest = np.clip(3.5 * noise, LEAST_INK, 0.3)
    level, darkness = writing_in(ink, faintest)
    frames = frames_in(parts_of(grown(ink > level), ink, 0.9))
    if frames.any():
        ink = np.where(ndimage.binary_dilation(frames, TOUCHING, 2), 0, ink)
        level, darkness = writing_in(ink, faintest)
    mask = ink > level
    height = usual_height(parts_of(mask, ink, 0.6)) or usual_height(parts_of(mask, ink, 0.9))
    clear = np.clip((ink / max(darkness, LEAST_INK) - 0.2) / 0.5, 0, 1)
    count = 0
    for gap in GAPS if darkness else ():
        parts = parts_of(grown(mask, int(1 + gap / 2 * height)), ink, 0.9)
        if len(parts.boxes) == count:
            break  # nothing was bridged, so that the shapes would be the same
        count = len(parts.boxes)
        usual = usual_height(parts)
        heights, widths = parts.sizes.T
        as_high = (0.45 * usual < heights) & (heights < 2.2 * usual) & (widths < 5 * heights)
        marks = (heights <= 0.45 * usual) & (widths < usual) & (heights + widths > 0.2 * usual)
        marks &= marks.sum() < MOST_MARKS
        shapes = []
        for number in np.flatnonzero(as_high & (parts.scores > 0) | marks):
            top, left, bottom, right = parts.boxes[number]
            around = slice(top, bottom), slice(left, right)
            part = clear[around] * (parts.labels[around] == number + 1)
            if (not marks[number] or part.max() > 0.9) and (shape := trimmed(part)):
                box = shape.box + (top, left, top, left)
                shapes.append(Shape(box, shape.ink, darkness, bool(marks[number])))
        yield shapes


def usual_height(parts: Parts) -> float:
    """The median height of what looks most like writing; 0 where nothing does."""
    clearest = parts.scores > 0.3 * parts.scores.max(initial=0)
    return float(np.median(parts.sizes[clearest, 0])) if clearest.any() else 0


def trimmed(ink: np.ndarray) -> Shape | None:
    """What there is in ink (H x W, 0 to 1), without crumbs, in its box; None if there is none."""
    labels, _ = ndimage.label(ink > 0.4, TOUCHING)
    area = np.bincount(labels.ravel())
    area[0] = 0
    ink = ink * (area > 0.15 * area.max())[labels]  # what is less may be the end of a neighbour
    y, x = (np.flatnonzero(ink.max(axis=axis) > 0.4) for axis in (1, 0))
    if not len(y):
        return None
    box = np.array([y[0], x[0], y[-1] + 1, x[-1] + 1])
    return Shape(box, ink[box[0] : box[2], box[1] : box[3]])


def reduced(ink: np.ndarray, longest: int) -> np.ndarray:
    """Ink (H x W), made smaller where it is longer than `longest`."""
    longest = min(longest, max(ink.shape))
    return np.asarray(resized(Image.fromarray(ink.astype(np.float32)), longest))


def cuts(shape: Shape, lean: float) -> dict[tuple[int, int], Shape]:
    """The pieces of a shape between any two of many parallel cuts, by the columns of the two.

    The columns are those at half its height, from 0 to its width; from a row to the next one above
    a cut moves by `lean` columns. What is too narrow or too wide to be a digit is left out.
    """
    ink = reduced(shape.ink, CUT_HEIGHT * max(shape.ink.shape) // len(shape.ink))
    height, width = ink.shape
    scale = (shape.box[2] - shape.box[0]) / height
    places = np.linspace(0, width, max(6, round(7 * width / height)) + 1).astype(int).tolist()
    columns = np.arange(width) + lean * (np.arange(height)[:, None] - height / 2)
    columns = columns.clip(0, width - 1)  # the outer pieces have all that is left of them
    pieces = {}
    for left, right in combinations(places, 2):
        as_wide = 0.2 * height <= right - left <= 1.2 * height
        if as_wide and (piece := trimmed(ink * (left <= columns) * (columns < right))):
            box = np.tile(shape.box[:2], 2) + scale * piece.box
            pieces[left, right] = shape._replace(box=box, ink=piece.ink)
    return pieces


def stroke_lengths(masks: np.ndarray) -> np.ndarray:
    """How long the strokes of shapes (N x H x W) are, in pixels: half their rims."""
    inner = ndimage.binary_erosion(masks, ndimage.generate_binary_structure(2, 1)[None])
    return (masks & ~inner).sum(axis=(1, 2)) / 2


def like_mnist(digit: np.ndarray) -> np.ndarray:
    """The digit 20 pixels long, its strokes at least 2 wide, centred by mass (28 x 28 uint8)."""
    if is_mnist(digit):
        return np.rint(255 * digit).astype(np.uint8)
    digit = reduced(digit, SEEN)
    mask = digit > 0.5
    width = mask.sum() / max(0.5, stroke_lengths(mask[None])[0])  # of the strokes: area by length
    wider = max(0, 0.1 * max(digit.shape) - width) / 2
    if wider >= 1:
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
