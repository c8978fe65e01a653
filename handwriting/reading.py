"""Reads a person's picture: which of its shapes are digits, and which digits they are.

    read(network, page) -> rows from the top, each from left to right

A shape is a digit if the largest probability is at least SURE; below it, it is none, or cannot be
read. Shapes that are too wide for a digit are cut where the network is surest of all pieces.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from dataset import normalize
from handwriting import photo
from handwriting.mix import SURE
from handwriting.picture import resized

import numpy as np
import torch
from PIL import Image
from torch import nn

WIDE = 0.9  # heights: shapes that are wider may be several digits
SURE_ALONE = 0.9  # the least probability of the pieces of the only shape of a page
LEANS = (0, -0.25, 0.25)  # columns a row: of the cuts, which hands may need upright or slanting
SAME_HEIGHT = 0.75  # of two pieces beside each other: what they share, in heights of the higher
TURNS = (0, 10, -10)  # degrees: what is a digit is one, too, when it is turned a little
MOST_PIECES = 800  # of the shapes of one picture that are cut
SMALL = 48  # pixels: where digits are lower than this, the larger scale shows more of them
LIGHT, BRIDGED = 0.5, 0.9  # how much less usual readings count as evidence


class Digit(NamedTuple):
    """A shape and what the network answers."""

    box: np.ndarray  # 4: top, left, bottom, right, in the page's pixels
    seen: np.ndarray  # 28 x 28 uint8
    probabilities: np.ndarray  # 10
    sureness: float  # from 0 to 1: that it is a digit
    length: float  # of its strokes, in the page's pixels; 0 for a dot or a minus

    @property
    def sure(self) -> bool:
        """Whether it is a digit that can be read."""
        return self.sureness >= SURE

    def __str__(self) -> str:
        return str(self.probabilities.argmax()) if self.sure else "?"


Rows = list[list[Digit]]


def read(network: nn.Module, page: Image.Image, judge: nn.Module | None = None) -> Rows:
    """The shapes of a picture with the network's answers, in reading order.

    `page` is what `picture.read` gives. A `judge` decides whether a shape is a digit, for a network
    that has never seen anything else.
    """
    return in_rows(Reader(network, judge or network).read(page))


def evidence(digits: Sequence[Digit]) -> float:
    """How much ink is read, and how surely, less twice the ink that looks like writing and is not.

    This decides between readings, and whether there is a digit at all: then it is above 0.
    """
    return sum(d.length * (d.sureness**4 if d.sure else 2 * (d.sureness - 1)) for d in digits)


def has_inside(letter: Digit, digits: Sequence[Digit]) -> bool:
    """Whether the middle of a digit lies in the box of a shape."""
    middles = [(d.box[:2] + d.box[2:]) / 2 for d in digits if d.sure]
    return any(((letter.box[:2] < m) & (m < letter.box[2:])).all() for m in middles)


class Reader:
    """Reads one picture."""

    def __init__(self, network: nn.Module, judge: nn.Module):
        self.network, self.judge, self.pieces = network, judge, 0

    def read(self, page: Image.Image) -> list[Digit]:
        """The digits of the reading with the most evidence.

        Ink is dark or light, gaps in it are bridged or not, the picture is seen small or large.
        """
        grey = np.asarray(page.convert("L"))
        if photo.is_mnist(grey):
            return self.classify([photo.Shape(np.array([0, 0, 28, 28]), grey / 255)])
        if min(page.size) < 8:  # noise in a strip that is as narrow looks like a 1
            return []
        best, digits, lights = 0.0, [], [False, True]
        for longest in photo.SCALES:
            scale, dark = max(page.size) / longest, []
            heights = [digit.box[2] - digit.box[0] for digit in digits if digit.length]
            if heights and np.median(heights) > SMALL * max(page.size) / photo.SCALES[0]:
                break
            channel = photo.best_channel(resized(page, longest))
            for light in lights:
                ink = photo.without_lines_and_grain(photo.ink_of(1 - channel if light else channel))
                for number, shapes in enumerate(photo.shapes_in(ink)):
                    seen = self.answers([s._replace(box=s.box * scale) for s in shapes])
                    weight = (LIGHT if light else 1) * BRIDGED**number
                    # The gaps of a letter may look like digits: they are less than the letter.
                    letters = [digit for digit in dark if light and has_inside(digit, seen)]
                    score = weight * evidence(seen) + evidence(letters)
                    if not light and number == 0:
                        dark = [digit for digit in seen if not digit.sure]
                    if score > best:
                        best, digits, lights = score, seen, [light]
        return digits

    def answers(self, shapes: Sequence[photo.Shape]) -> list[Digit]:
        """The network's answer to each shape, and to each piece of those that it cuts."""
        digits = self.classify(shapes)
        writing = [shape for shape in shapes if not shape.mark]
        wide = [not s.mark and len(s.ink[0]) > WIDE * len(s.ink) for s in shapes]
        others = [digit for digit, is_wide in zip(digits, wide, strict=True) if not is_wide]
        if any(digit.length for digit in others) and evidence(others) <= 0:
            return digits  # this is no page of digits, and its wide shapes are none
        answers: list[Digit] = []
        for shape, whole, is_wide in zip(shapes, digits, wide, strict=True):
            pieces = self.split(shape) if is_wide else []
            enough = max(SURE if len(writing) > 1 else SURE_ALONE, whole.sureness)
            surely = min((piece.sureness for piece in pieces), default=0) > enough
            answers += pieces if surely and are_side_by_side(pieces) else [whole]
        return answers

    def classify(self, shapes: Sequence[photo.Shape], turns: Sequence[int] = TURNS) -> list[Digit]:
        """The networks' answers to each shape: the mean over so many turns, in one batch."""
        if not shapes:
            return []
        seen = np.stack([photo.like_mnist(shape.ink) for shape in shapes])
        pictures = list(map(Image.fromarray, seen))
        views = [p.rotate(turn, Image.Resampling.BILINEAR) for turn in turns for p in pictures]
        images = normalize(torch.from_numpy(np.stack(list(map(np.asarray, views)))))
        with torch.inference_mode():
            each = {net: net(images).softmax(dim=1) for net in {self.network, self.judge}}
        mean = {net: p.view(len(turns), -1, 10).mean(dim=0).numpy() for net, p in each.items()}
        probabilities, sureness = mean[self.network], mean[self.judge].max(axis=1)
        sizes = [np.ptp(shape.box.reshape(2, 2), axis=0).max() / 20 for shape in shapes]
        lengths = photo.stroke_lengths(seen > 127) * sizes * [shape.darkness for shape in shapes]
        marks = [shape.mark for shape in shapes]
        boxes = [shape.box for shape in shapes]
        sureness[marks] = lengths[marks] = 0
        return list(map(Digit, boxes, seen, probabilities, sureness.tolist(), lengths.tolist()))

    def split(self, shape: photo.Shape) -> list[Digit]:
        """The pieces of a shape, cut so that the least sure of them is as sure as can be."""
        best: tuple[float, list[Digit]] = (0.0, [])
        for lean in LEANS:
            pieces = photo.cuts(shape, lean) if self.pieces < MOST_PIECES else {}
            if not pieces or best[0] > SURE_ALONE:
                break
            self.pieces += len(pieces)
            digits = zip(pieces, self.classify(list(pieces.values()), (0,)), strict=True)
            # Up to each column, the best way to cut what is left of it, and its least probability.
            cuts: dict[int, tuple[float, list[Digit]]] = {0: (1.0, [])}
            for (left, right), digit in sorted(digits, key=lambda item: item[0][1]):
                if left in cuts:
                    least, before = cuts[left]
                    least = min(least, digit.sureness)
                    if right not in cuts or least > cuts[right][0]:
                        cuts[right] = least, [*before, digit]
            least, cut = cuts.get(max(right for _, right in pieces), best)
            if least > best[0] and len(cut) > 1:
                best = least, cut
        return best[1]


def are_side_by_side(pieces: Sequence[Digit]) -> bool:
    """Whether pieces are about as high as their neighbours, unlike a letter's loop and tail."""
    tops, _, bottoms, _ = np.array([piece.box for piece in pieces]).T
    shared = np.minimum(bottoms[1:], bottoms[:-1]) - np.maximum(tops[1:], tops[:-1])
    heights = bottoms - tops
    return bool((shared > SAME_HEIGHT * np.maximum(heights[1:], heights[:-1])).all())


def in_rows(digits: Sequence[Digit]) -> Rows:
    """The digits in reading order: rows from the top, each from left to right."""
    rows: Rows = []
    for digit in sorted((digit for digit in digits if digit.length), key=lambda d: d.box[1]):
        shared = [shared_height(row[-1].box, digit.box) for row in rows]
        if max(shared, default=0) > 0.4:
            rows[np.argmax(shared)].append(digit)
        else:
            rows.append([digit])
    for mark in (digit for digit in digits if not digit.length):
        for row in rows:
            if is_between(mark.box, np.array([digit.box for digit in row])):
                row.append(mark)
                break
    rows = [sorted(row, key=lambda digit: digit.box[1]) for row in rows]
    return sorted(rows, key=lambda row: np.mean([digit.box[0] + digit.box[2] for digit in row]))


def shared_height(box: np.ndarray, other: np.ndarray) -> float:
    """The height that two boxes have in common, as a share of the lower one's."""
    lower = min(box[2] - box[0], other[2] - other[0])
    return float(min(box[2], other[2]) - max(box[0], other[0])) / lower


def is_between(box: np.ndarray, row: np.ndarray) -> bool:
    """Whether a mark belongs to a row (N x 4): before, between or after its digits, not above."""
    height = np.median(row[:, 2] - row[:, 0])
    apart = ((row[:, 3] <= box[1]) | (box[3] <= row[:, 1])).all()
    near = row[:, 1].min() - height < box[1] and box[3] < row[:, 3].max() + height
    return bool(apart and near and row[:, 0].min() < box[[0, 2]].mean() < row[:, 2].max() + 1)


def as_text(rows: Rows) -> str:
    """What is written, a line for each row; "" where there is no digit."""
    if evidence(sum(rows, [])) <= 0:
        return ""
    lines = []
    for row in rows:
        line = str(row[0])
        for left, right in pairwise(row):
            gap, height = right.box[1] - left.box[3], left.box[2] - left.box[0]
            line += f" {right}" if left.length and gap > height else str(right)
        lines.append(line)
    return "\n".join(line for line in lines if line.strip("? "))
