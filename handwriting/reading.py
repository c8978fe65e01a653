"""Reads a person's picture: which of its shapes are digits, and which digits they are.

    read(network, page) -> rows from the top, each from left to right

A shape is a digit if the network's largest probability is at least SURE, whatever the network;
below it, the shape is no digit, or cannot be read. Shapes that are too wide for a digit are cut
where the network is surest of all pieces.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dataset import normalize
from handwriting import photo
from handwriting.mix import SURE
from handwriting.photo import Shape

import numpy as np
import torch
from PIL import Image
from torch import nn

WIDE, WIDE_ALONE = 0.9, 1.5  # widths in heights: shapes that are wider may be several digits
SURE_CUT = 0.8  # the least probability of the pieces of a shape that is cut
LEANS = (0, -0.25, 0.25)  # columns a row: of the cuts, which hands may need upright or slanting
NARROW = 0.45  # heights: the least mean width of such pieces; slivers of anything look like a 1


class Digit(NamedTuple):
    """A shape and what the network answers."""

    box: np.ndarray  # 4: top, left, bottom, right, in the page's pixels
    seen: np.ndarray  # 28 x 28 uint8
    probabilities: np.ndarray  # 10
    darkness: float = 1  # of its ink

    @property
    def sure(self) -> bool:
        """Whether it is a digit that can be read."""
        return bool(self.probabilities.max() >= SURE)

    def __str__(self) -> str:
        return str(self.probabilities.argmax()) if self.sure else "?"

    @property
    def weight(self) -> float:
        """How much it looks like writing: long, dark, and made of thin strokes."""
        solid = (self.seen > 127).sum() / 20**2
        return float(self.box[2] - self.box[0]) * self.darkness * (1 - solid) ** 2


Rows = list[list[Digit]]


def read(network: nn.Module, page: Image.Image) -> Rows:
    """The shapes of a picture with the network's answers, in reading order.

    `page` is what `picture.read` gives. Ink is what is dark, or what is light where that stands out
    more (`photo.best_channel`). It is the opposite only where that clearly is the writing, because
    the gaps in a letter may look like digits, too.
    """
    dark = first_read(answers(network, shapes) for shapes in photo.find(page))
    lighter = photo.find(page, light=True, brief=is_read(dark))
    light = first_read(answers(network, shapes) for shapes in lighter)
    return in_rows(light if is_read(light) and outweighs(light, dark, page) else dark)


def first_read(ways: Iterable[list[Digit]]) -> list[Digit]:
    """The first way to see a picture in which digits are read; else the first of all."""
    seen: list[list[Digit]] = []
    for digits in ways:
        if is_read(digits):
            return digits
        seen.append(digits)
    return seen[0] if seen else []


def outweighs(light: Sequence[Digit], dark: Sequence[Digit], page: Image.Image) -> bool:
    """Whether light ink is the writing, and not dark ink, which is more likely at first sight."""
    if any(digit.sure and fills(digit, page) for digit in light):
        return True  # what is dark are the gaps of a digit that fills the page
    read = [digit for digit in light if digit.sure and not is_cut_off(digit, page)]
    heaviest = max([0.0, *(digit.weight for digit in read)])
    if is_read(dark):
        return heaviest > 1.5 * sum(digit.weight for digit in dark)
    # The gaps in a letter may look like digits, too; each of them is less than the letter.
    limit = max([0.0, *(digit.weight for digit in dark)])
    return heaviest > 1.2 * limit or (len(read) > 3 and sum(digit.weight for digit in read) > limit)


def fills(digit: Digit, page: Image.Image) -> bool:
    """Whether a digit is as high and as wide as its page."""
    return bool((digit.box[2:] - digit.box[:2] > 0.9 * np.array(page.size[::-1])).all())


def is_cut_off(digit: Digit, page: Image.Image) -> bool:
    """Whether a shape reaches the edge of its page, as the ground does and writing does not."""
    height_and_width = np.array(page.size[::-1])
    margin = 0.01 * height_and_width.max()
    return bool((digit.box[:2] < margin).any() or (digit.box[2:] > height_and_width - margin).any())


def in_rows(digits: Sequence[Digit]) -> Rows:
    """The digits in reading order: rows from the top, each from left to right."""
    rows: Rows = []
    for digit in sorted(digits, key=lambda digit: digit.box[1]):
        shared = [shared_height(row[-1].box, digit.box) for row in rows]
        if max(shared, default=0) > 0.4:
            rows[np.argmax(shared)].append(digit)
        else:
            rows.append([digit])
    return sorted(rows, key=lambda row: np.mean([digit.box[0] + digit.box[2] for digit in row]))


def shared_height(one: np.ndarray, other: np.ndarray) -> float:
    """The height that two boxes have in common, as a share of the lower one's."""
    lower = min(one[2] - one[0], other[2] - other[0])
    return float(min(one[2], other[2]) - max(one[0], other[0])) / lower


def is_read(digits: Sequence[Digit]) -> bool:
    """Whether a picture has digits at all: they are two thirds of what looks like writing."""
    read = sum(digit.weight for digit in digits if digit.sure)
    return 1.5 * read > sum(digit.weight for digit in digits)


def as_text(rows: Rows) -> str:
    """What is written, a line for each row; "" where there is no digit."""
    if not is_read([digit for row in rows for digit in row]):
        return ""
    lines = ["".join(map(str, row)) for row in rows]
    return "\n".join(line for line in lines if line.strip("?"))


def answers(network: nn.Module, shapes: Sequence[Shape]) -> list[Digit]:
    """The network's answer to each shape, and to each piece of those that it cuts."""
    digits = classify(network, shapes)
    limit = WIDE if len(shapes) > 1 else WIDE_ALONE
    wide = [len(shape.ink[0]) > limit * len(shape.ink) for shape in shapes]
    others = [digit for digit, is_wide in zip(digits, wide, strict=True) if not is_wide]
    if others and not is_read(others):
        return digits  # this is no page of digits, and its wide shapes are none
    cut: list[Digit] = []
    for shape, whole, is_wide in zip(shapes, digits, wide, strict=True):
        pieces = split(network, shape) if is_wide else []
        least = min((piece.probabilities.max() for piece in pieces), default=0.0)
        cut += pieces if least > max(SURE_CUT, whole.probabilities.max()) else [whole]
    return cut


def classify(network: nn.Module, shapes: Sequence[Shape]) -> list[Digit]:
    """The network's answer to each shape, in one batch."""
    if not shapes:
        return []
    seen = np.stack([photo.like_mnist(shape.ink) for shape in shapes])
    with torch.inference_mode():
        probabilities = network(normalize(torch.from_numpy(seen))).softmax(dim=1).numpy()
    return [
        Digit(shape.box, *answer, shape.darkness)
        for shape, *answer in zip(shapes, seen, probabilities, strict=True)
    ]


def split(network: nn.Module, shape: Shape) -> list[Digit]:
    """The pieces of a shape, cut so that the least sure of them is as sure as can be."""
    height, width = shape.ink.shape
    best: tuple[float, list[Digit]] = (0.0, [])
    for lean in LEANS:
        pieces = photo.cuts(shape, lean)
        digits = zip(pieces, classify(network, list(pieces.values())), strict=True)
        # Up to each column, the best way to cut what is left of it, and its least probability.
        ways: dict[int, tuple[float, list[Digit]]] = {0: (1.0, [])}
        for (left, right), digit in sorted(digits, key=lambda item: item[0][1]):
            if left in ways:
                least, before = ways[left]
                least = min(least, float(digit.probabilities.max()))
                if right not in ways or least > ways[right][0]:
                    ways[right] = least, [*before, digit]
        least, cut = ways.get(width, best)
        if least > best[0] and 1 < len(cut) <= width / height / NARROW:
            best = least, cut
    return best[1]
