"""Makes a person's picture of a digit into what MNIST is; NumPy and Pillow are enough for it.

MNIST's digits are light on black, the longer side 20 pixels, centred by mass in 28 x 28. On the
way there, "ink" is how far a pixel is from its paper, on a scale where 1 is black on white:

    read -> opaque -> best_channel -> flatten -> without_rules -> smooth -> find -> like_mnist
"""

import io
import stat
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps

MAX_BYTES, MAX_PIXELS = 20_000_000, 16_000_000
FORMATS = ["PNG", "JPEG", "BMP", "GIF", "WEBP"]
SIDE = 320  # pixels: the longer side of a picture while its digit is looked for
LEAST = 1.2  # score: what is less like a digit is none
GRAIN = 0.09  # ink: what is fainter is paper


class PictureError(Exception):
    """Why a picture has no answer and what to do, in one line."""


def read(path):
    """The picture in a file: upright, opaque, RGB, of at most 4 * SIDE pixels a side."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
            raise PictureError("no picture in it; give a picture or a folder of them")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise PictureError("more than 20 MB; save it smaller")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of many pixels: those we refuse
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.draft("RGB", (4 * SIDE, 4 * SIDE))  # a JPEG is decoded no larger than needed
            return opaque(ImageOps.exif_transpose(image))
    except PictureError:
        raise
    except Exception as error:  # noqa: BLE001 - of damaged files, decoders raise nearly anything
        raise PictureError(reason(error)) from None


def reason(error):
    """Why a file could not be read and what to do, for people."""
    if isinstance(error, Image.DecompressionBombError):
        return "more than 16 megapixels; save it smaller"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a PNG, JPEG, BMP, GIF or WebP; save it as one"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}; check its name and permissions"
    return "damaged, cannot be decoded; save it again"


def opaque(image):
    """The picture in RGB; what is transparent becomes paper, or the opposite of ink alone."""
    if image.mode[0] in "IF":  # 16 bits hold 10, 12 or 16, and convert("L") would clip them
        levels = np.asarray(image, np.float32)
        bits = max(8, int(levels.max()).bit_length())
        image = Image.fromarray((levels / 2 ** (bits - 8)).astype(np.uint8))
    image = image.convert("RGBA")
    image.thumbnail((4 * SIDE, 4 * SIDE))
    pixels = np.asarray(image)
    visible = pixels[pixels[..., 3] > 127, :3]
    if 2 * len(visible) > pixels[..., 3].size:
        ground = np.median(visible, axis=0)
    else:
        ground = [0 if len(visible) and visible.mean() > 127 else 255] * 3
    page = Image.new("RGBA", image.size, tuple(map(int, ground)))
    return Image.alpha_composite(page, image).convert("RGB")


def is_mnist(grey):
    """Whether a picture is as MNIST's already: 28 x 28, the longer side 20, centred by mass."""
    pixels = np.asarray(grey, float)
    if pixels.shape != (28, 28) or not pixels.any():
        return False
    y, x = np.nonzero(pixels)
    centre = [np.average(axis, weights=pixels[y, x]) for axis in (y, x)]
    return max(np.ptp(y), np.ptp(x)) == 19 and np.abs(np.subtract(centre, 14)).max() < 0.51


def fit(image, side):
    """The picture with its longer side `side` pixels."""
    scale = side / max(image.size)
    size = [max(1, round(n * scale)) for n in image.size]
    return image.resize(size, Image.Resampling.BILINEAR if scale < 1 else Image.Resampling.BICUBIC)


def paper_seen_at_border(channel):
    """Brightness of the paper (H x W): the quadratic surface that fits the picture's border."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in channel.shape), indexing="ij")
    terms = np.stack([x**0, x, y, x * x, x * y, y * y], axis=-1)
    ring = np.maximum(abs(x), abs(y)) > 0.8
    weight = np.ones((ring.sum(), 1))
    for _ in range(8):  # towards least absolute deviations: junk at the border gets no say
        left, right = terms[ring] * weight, channel[ring, None] * weight
        surface = np.linalg.lstsq(left, right, rcond=None)[0]
        weight = (np.abs(terms[ring] @ surface - channel[ring, None]) + 0.02) ** -0.5
    return (terms @ surface)[..., 0]


def best_channel(page):
    """The channel that tells ink from paper best (H x W, 0 to 1), turned so that ink is dark."""
    small = np.asarray(fit(page, 64), np.float32) / 255
    best = 0, None
    for mix in ([0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1]):  # grey first: least noise
        channel = small @ np.array(mix, np.float32)
        blurred = Image.fromarray(channel).resize((6, 6), Image.Resampling.BOX)
        blurred = blurred.resize(channel.shape[::-1], Image.Resampling.BILINEAR)
        detail = (channel - blurred) ** 2  # where strokes are; light only fades
        lighter = ((channel - paper_seen_at_border(channel)) * detail).mean()
        if best[1] is None or abs(lighter) > abs(best[0]):
            best = lighter, mix
    lighter, mix = best
    channel = np.asarray(page, np.float32) @ np.array(mix, np.float32) / (255 * sum(mix))
    channel = np.minimum(1, channel / max(0.25, np.percentile(channel, 98)))  # a dark exposure
    return 1 - channel if lighter > 0 else channel


def flatten(channel):
    """Ink (H x W): how much darker a pixel is than the brightest around it, whatever the light."""
    picture = Image.fromarray(channel)
    small = np.asarray(fit(picture, SIDE // 2).filter(ImageFilter.MedianFilter(3)))
    paper = Image.fromarray(-opening(-small, 49, axes=(0, 1))).filter(ImageFilter.MinFilter(5))
    paper = np.asarray(paper.resize(picture.size, Image.Resampling.BILINEAR))
    white = max(0.1, np.percentile(paper, 95))
    return (paper - channel) / np.maximum(paper, 0.4 * white) * white  # what is darker is no shadow


def without_rules(ink):
    """Ink less what runs thin and straight through the whole picture: ruled and squared paper."""
    for _ in range(2):
        ink = np.ascontiguousarray(ink.T)
        thin = ink - opening(ink, 9)
        slopes = np.linspace(-0.12, 0.12, 49)
        slope = max(slopes, key=lambda slope: (rules(thin, slope, every=10)[0] ** 2).sum())
        level, shift = rules(thin, slope)
        rows = np.arange(len(ink))[:, None] - shift
        ink = ink - level[np.clip(rows, 0, len(ink) - 1)]
    return ink


def rules(ink, slope, every=1):
    """How dark the thin lines of one slope are (H), and how far each column shifts them (W)."""
    height, width = ink.shape
    x = np.arange(0, width, every)
    shift = np.rint(slope * (x - width / 2)).astype(int)
    rows = np.clip(np.arange(-2, height + 2)[:, None] + shift, 0, height - 1)
    along = swept(np.maximum, ink[rows, x], 5, 0)  # paper bends: look two pixels up and down
    return np.partition(along, len(x) // 5, axis=1)[:, len(x) // 5], shift  # on four fifths of it


def swept(extreme, values, size, axis):
    """The extreme of every `size` neighbours along an axis, which becomes size - 1 shorter."""
    values = np.moveaxis(values, axis, 0)
    done = 1
    while done < size:
        step = min(done, size - done)
        values = extreme(values[:-step], values[step:])
        done += step
    return np.moveaxis(values, 0, axis)


def opening(values, size, axes=(0,)):
    """A picture (H x W) without what stands out of it and is narrower than `size` (odd)."""
    margin = [(size // 2,) * 2 if axis in axes else (0, 0) for axis in range(values.ndim)]
    values = np.pad(values, margin, "reflect", reflect_type="odd")  # light fades on outside
    for axis in axes:
        values = swept(np.minimum, values, size, axis)
    values = np.pad(values, margin, "edge")
    for axis in axes:
        values = swept(np.maximum, values, size, axis)
    return values


def smooth(ink):
    """Ink without grain: each pixel averaged with its neighbours, 1 2 1 each way (H x W)."""
    for _ in range(2):
        padded = np.pad(ink, ((1, 1), (0, 0)), "edge")
        ink = ((padded[:-2] + 2 * ink + padded[2:]) / 4).T
    return ink


def components(mask):
    """For each pixel of a mask, in np.nonzero's order, the number of its connected part (N)."""
    count = np.count_nonzero(mask)
    index = np.full(np.add(mask.shape, 2), -1)
    index[1:-1, 1:-1][mask] = np.arange(count)
    here = index[1:-1, 1:-1]
    links = []
    for other in (index[1:-1, 2:], index[2:, 1:-1], index[2:, 2:], index[2:, :-2]):
        both = (here >= 0) & (other >= 0)
        links.append([here[both], other[both]])
    links = np.concatenate(links, axis=1)
    part = np.arange(count)
    while True:
        low, high = np.sort(part[links], axis=0)
        if (low == high).all():
            return np.unique(part, return_inverse=True)[1]
        np.minimum.at(part, high, low)
        while (part != part[part]).any():
            part = part[part]


class Parts(NamedTuple):
    """The connected parts of a mask."""

    labels: np.ndarray  # H x W: a part's number, -1 outside
    boxes: np.ndarray  # N x 4: top, left, bottom, right
    edge: np.ndarray  # N: touches the picture's edge
    score: np.ndarray  # N: how much it looks like the digit that is meant


def parts_of(mask, ink):
    """The parts of a mask; the digit that is meant is large, dark, central, of strokes, whole."""
    y, x = np.nonzero(mask)
    part = components(mask)
    area = np.bincount(part)
    ends = np.stack([-y, -x, y + 1, x + 1], axis=1)
    boxes = np.full((len(area), 4), -max(mask.shape))
    np.maximum.at(boxes, part, ends)
    boxes[:, :2] *= -1
    high, wide = (boxes[:, 2:] - boxes[:, :2]).T
    size = np.maximum(high, wide)
    edge = (np.minimum(boxes[:, :2], np.array(mask.shape) - boxes[:, 2:]) < 5).any(axis=1)
    away = np.hypot(*((boxes[:, :2] + boxes[:, 2:]) / 2 / mask.shape - 0.5).T)
    dark = np.bincount(part, ink[mask]) / area
    solid = area / size**2  # a sheet of paper is, and a 0's hole; strokes are not
    score = size * dark * (1 - away) * np.maximum(0, 1 - solid) ** 2 / (1 + edge)
    score *= np.minimum(1, 8 * np.minimum(high, wide) / size)  # a rule that is left
    score[(size < 0.025 * max(mask.shape)) | (wide > 2 * high) | edge & (dark < 0.3)] = 0
    labels = np.full(mask.shape, -1)
    labels[mask] = part
    return Parts(labels, boxes, edge, score)


def seed_of(ink, floor):
    """The pixels (H x W) of what is likeliest the digit, or most of it, and how likely it is."""
    best = None, 0
    for level in floor * 1.4 ** np.arange(8):
        parts = parts_of(ink > level, ink)
        main = parts.score.argmax() if len(parts.score) else None
        if main is not None and parts.score[main] > best[1]:
            best = parts.labels == main, parts.score[main]
            if not parts.edge[main]:  # else higher, where shadows and desks come off the digit
                break
    return best


def belongs(box, main):
    """Whether the part in a box is a piece of the digit in another: its bar, a broken stroke."""
    size = (main[2:] - main[:2]).max()
    extent = box[2:] - box[:2]
    gap = np.maximum(0, np.maximum(box[:2] - main[2:], main[:2] - box[2:]))
    shared = np.minimum(box[3], main[3]) - np.maximum(box[1], main[1])
    reach = 0.2 if box[0] < main[0] else 0.06  # a bar is above; what is below underlines
    near = gap.max() <= 0.03 * size or (shared >= extent[1] / 2 and gap[0] <= reach * size)
    return near and 0.12 * size <= extent.max() <= 0.9 * size


class Found(NamedTuple):
    """The likeliest digit of a picture."""

    score: float = 0  # how likely it is; 0 when there is none
    digit: np.ndarray = None  # h x w, 0 to 1
    box: np.ndarray = None  # top, left, -bottom, -right, where it was
    others: int = 0  # how many digits more there are


def find(ink):
    """The likeliest digit in ink (H x W)."""
    noise = 1.48 * np.median(np.abs(ink - np.median(ink)))
    floor = np.clip(3.5 * noise, GRAIN, 0.3)
    seed, score = seed_of(ink, floor)
    if seed is None:
        return Found()
    top = np.percentile(ink[seed], 85)
    size = np.ptp(np.nonzero(seed), axis=1).max()
    parts = parts_of(grow(ink > 0.4 * top, 1 + 0.01 * size), ink)
    main = np.bincount(parts.labels[seed & (parts.labels >= 0)]).argmax()
    mine = np.array([belongs(box, parts.boxes[main]) for box in parts.boxes]) & ~parts.edge
    mine[main] = True
    heights = parts.boxes[:, 2] - parts.boxes[:, 0]
    others = ~mine & ~parts.edge & (heights > heights[main] / 2)
    digit = np.clip((ink / top - 0.2) / 0.5, 0, 1) * np.isin(parts.labels, np.flatnonzero(mine))
    y, x = np.nonzero(digit > 0.4)
    box = np.array([y.min(), x.min(), -y.max() - 1, -x.max() - 1])
    digit = digit[box[0] : -box[2], box[1] : -box[3]]
    cut = parts.edge[main] and top < 0.4  # a shadow's end: a digit that is cut would be darker
    score *= not cut and is_written(digit, top / floor)
    return Found(score, digit, box, int(others.sum()))


def is_written(digit, contrast):
    """Whether a shape (h x w, 0 to 1) has strokes as digits have; `contrast` is to the grain.

    Of every 20th MNIST training image, the widest stroke is 0.32 of the digit's longer side, the
    longest line 3.22 times it, and the most of its square that is filled 0.58: all are within.
    """
    mask, size = digit > 0.5, max(digit.shape)
    solid = mask.sum() / size**2
    stroke = stroke_width(mask) / size
    line = solid / stroke  # how long, if it were straightened
    ruled = line < 1.08 and stroke < 0.05  # a straight hairline: is it a 1, or the paper's?
    return stroke < 0.36 and line < 4 and solid < 0.6 and contrast > (2 if ruled else 1.5)


def has_patch(mask):
    """Whether a square of two fifths of its longer side fits into a shape (H x W).

    It does in none of every 20th MNIST training image; what is left of a shadow may be one.
    """
    for axis in (0, 1):
        mask = swept(np.minimum, mask, int(0.4 * max(mask.shape)) + 1, axis)
    return mask.any()


def stroke_width(mask):
    """How wide a shape's (H x W) strokes are, on average, in pixels: twice its area by its rim."""
    wide = np.pad(mask, 1)
    inner = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return 2 * mask.sum() / max(1, (mask & ~inner).sum())


def grow(marks, radius):
    """The marks (H x W, any dtype), each wider by a disk of `radius` pixels."""
    height, width = marks.shape
    reach = int(radius)
    padded, grown = np.pad(marks, reach), marks.copy()
    for dy in range(-reach, reach + 1):
        across = int((radius**2 - dy**2) ** 0.5)
        for dx in range(reach - across, reach + across + 1):
            np.maximum(grown, padded[reach + dy :, dx:][:height, :width], out=grown)
    return grown


def like_mnist(digit):
    """The digit 20 pixels long, its strokes at least 2 wide, centred by mass (28 x 28 uint8)."""
    wider = max(0, 0.1 * max(digit.shape) - stroke_width(digit > 0.5)) / 2
    digit = grow(np.pad(digit, int(wider)), wider)
    small = fit(Image.fromarray(np.uint8(255 * digit)), 20)
    pixels = np.asarray(small, float)
    image = Image.new("L", (28, 28))
    corner = []
    for axis, n in enumerate(small.size):
        centre = np.average(np.arange(n), weights=pixels.sum(axis=axis))
        corner.append(int(np.clip(round(14 - centre), 0, 28 - n)))
    image.paste(small, tuple(corner))
    return np.asarray(image)


def needed(expected, opposite, shape):
    """The score above which the opposite of what the border says is the digit."""
    if expected.score and opposite.score:
        thin, wide = (stroke_width(found.digit > 0.5) for found in (opposite, expected))
        if (opposite.box >= expected.box).all() and 3 * thin < wide:  # a line, and its sheet
            return 0.8 * expected.score
        if (np.abs(opposite.box) == (0, 0, *shape)).all():  # it fills the picture, the border too
            return expected.score
    return 2 * expected.score


def prepare(page):
    """What the network sees of a picture (28 x 28 uint8) and how many more digits there are."""
    if is_mnist(page.convert("L")):
        return np.asarray(page.convert("L")), 0
    channel = best_channel(fit(page, SIDE))
    expected, opposite = (
        find(smooth(without_rules(flatten(dark)))) for dark in (channel, 1 - channel)
    )
    found = opposite if opposite.score > needed(expected, opposite, channel.shape) else expected
    narrow = min(page.size) < 8  # pixels: in such a strip, noise looks like a 1
    if found.score < LEAST or narrow or found.score < 8 * LEAST and has_patch(found.digit > 0.5):
        raise PictureError("no digit found; fill more of the picture with it, in darker ink")
    return like_mnist(found.digit), found.others
