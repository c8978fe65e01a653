"""A grid of drawn pictures: what predict.py reads, and what it does not, at a glance.

    PYTHONPATH=. python tests/scenes.py docs/handwriting.csv --count 2000 --test

reads a seeded sample of scenes and counts those that are read, by height, stroke, ground and kind.
Digits are drawn from strokes.txt while one develops; with --test, once, from other hands, seeds and
grounds.
"""

import argparse
import csv
import functools
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from digits import synthetic
from handwriting import labelled, mix, nondigits, picture, reading
from predict import SHIPPED
from training.checkpoint import load, network

import numpy as np
import pictures
from PIL import Image, ImageDraw, ImageFilter

HEIGHTS = (0.1, 0.2, 0.4, 0.7, 1.0)  # of a digit, in heights of the picture; upper ends
STROKES = (0.02, 0.04, 0.08, 0.15, 0.22, 0.3)  # in heights of the digit
GROUNDS = "plain grain gradient shadow ruled squared boxes desk dark".split()
DIGITS = {"one digit": 0.5, "row": 0.1, "rows": 0.06, "column": 0.03, "page": 0.03, "pair": 0.06}
OTHERS = {"signs": 0.12, "foliage": 0.04, "stripes": 0.02, "lines": 0.02, "blank": 0.02}


class Scene(NamedTuple):
    """A picture, what is written on it, and its cell in the grid."""

    image: Image.Image
    label: str  # rows of digits, with a space between two
    kind: str
    height: float
    stroke: float
    ground: str


@functools.cache
def hands(test):
    """Curves (points in boxes 1 wide and 1.5 high) of each digit, and of signs."""

    def curves(skeleton):
        parts = []
        for stroke in skeleton:
            points = [(0.95 * x, 1.5 * y) for x, y in stroke]
            corners = [0, *(n for n in range(1, len(points)) if points[n] == points[n - 1])]
            ends = zip(corners, [*corners[1:], len(points)], strict=True)
            parts += [points[a:b] for a, b in ends if b - a > 1]
        return parts

    skeletons = synthetic.read_skeletons(mix.HANDS if test else synthetic.STROKES)
    digits = {digit: [curves(s) for s in skeletons[digit]] for digit in range(10)}
    if test:
        digits = {digit: [*digits[digit], pictures.CURVES[digit]] for digit in range(10)}
    signs = synthetic.read_skeletons(nondigits.NEW_SIGNS if test else nondigits.SIGNS)
    return digits, [curves(skeleton) for group in signs.values() for skeleton in group]


def draw(pen, curves, x, y, height, width, g):
    """Draw curves with a round pen around a point; uneven, and slanted as people write."""
    slant, stretch = g.normal(0.08, 0.1), g.uniform(0.85, 1.15)
    for curve in curves:
        points = pictures.curve_through(np.array(curve) + g.normal(0, 0.02, (len(curve), 2)))
        points = (points - [0.5, 0.75]) @ [[stretch, 0], [-slant, 1]] * height / 1.5 + [x, y]
        pen.line([tuple(point) for point in points], fill=255, width=max(1, round(width)))
        r = width / 2
        for a, b in points if width > 2 else []:
            pen.ellipse((a - r, b - r, a + r, b + r), fill=255)


def scene(number, test=False):
    """The scene of a number: always the same."""
    g = np.random.default_rng([number, 7 + test])
    digits, signs = hands(test)
    kinds = DIGITS | OTHERS
    kind = str(g.choice(list(kinds), p=np.array([*kinds.values()]) / sum(kinds.values())))
    ground = str(g.choice(GROUNDS))
    share, stroke = np.exp(g.uniform(np.log((0.05, 0.01)), np.log((1.0, 0.3))))
    rows, columns, step = 1, 1, g.uniform(0.9, 1.4)  # from digit to digit, in heights
    if kind in ("row", "rows", "page", "pair"):
        rows = {"rows": g.integers(2, 5), "page": 10}.get(kind, 1)
        columns = {"page": 10, "pair": 2}.get(kind, g.integers(2, 8))
        step = {"pair": g.uniform(0.5, 0.62)}.get(kind, g.uniform(0.72, 1.1))
    elif kind == "column":
        rows = g.integers(2, 6)
    if kind != "one digit":
        stroke = min(stroke, 0.15)
    pitch = 1.05 + 2 * stroke if kind == "one digit" else 1.5
    inner = 0.88 if ground == "desk" else 1  # of the picture: the sheet
    share = min(share, inner / (rows * pitch), 1.2 / (columns * step + 0.3))
    side = int(g.choice([120, 240, 480, 900]))
    side = int(min(1500, max(side, 24 / share)))  # pixels: no digit is lower than 24
    height = share * side
    width = int(max(side * g.uniform(0.75, 1.4), (columns * step + 0.3) * height / inner))
    size = (2 * width, 2 * side)
    ink = Image.new("L", size)
    pen, pitch, text = ImageDraw.Draw(ink), pitch * height, []
    edge = (1 - inner) / 2
    spare = inner * side - rows * pitch, inner * width - columns * step * height
    top, left = (g.uniform(0.02, 0.98) * max(0, room) for room in spare)
    top, left = top + edge * side, left + edge * width
    for row in range(rows):
        text.append("")
        for column in range(columns):
            digit = int(g.integers(10))
            text[-1] += str(digit)
            shapes = digits[digit] if kind in DIGITS else signs
            x, y = left + (column + 0.5) * step * height, top + (row + 0.5) * pitch
            if kind in DIGITS or kind == "signs":
                curves = shapes[g.integers(len(shapes))]
                draw(pen, curves, 2 * x, 2 * y, 2 * height, 2 * stroke * height, g)
    angle = g.uniform(-15, 15) * min(1, 3 / columns)
    ink = ink.rotate(angle, Image.Resampling.BILINEAR).resize((width, side), Image.Resampling.BOX)
    if share > 0.7 and kind == "one digit" and ground not in ("desk", "boxes"):  # cut to its ink
        a, b, c, d = ink.getbbox() or (0, 0, width, side)
        margin = int(g.integers(0, 4))
        ink = ink.crop((a - margin, b - margin, c + margin, d + margin))
    image = on_paper(np.asarray(ink, np.float32) / 255, ground, kind, height, g, test)
    label = " ".join(text) if kind in DIGITS else ""
    return Scene(image, label, kind, share, stroke, ground)


def on_paper(ink, ground, kind, height, g, test):
    """A photograph of ink (H x W, 0 to 1) on some ground."""
    size = ink.shape[::-1]
    level = g.uniform(20, 70) if ground == "dark" else g.uniform(150, 250)
    page, blue = pictures.sheet(size, level + g.uniform(-12, 12, 3)), g.uniform(90, 160, 3)
    period = g.uniform(0.35, 1.5) * height
    if kind == "foliage":
        leaves = sum(pictures.grain(g, size, spot, 0.5 * spot**0.5) for spot in (3, 9, 27, 81))
        page = page + 20 * leaves
    elif kind == "stripes":
        page = pictures.inked(page, pictures.lines(size, period, period / 2, g.uniform(-1, 1)), 40)
    elif kind == "lines":
        page = pictures.squared(page, 0.9, period, g.uniform(-0.05, 0.05), 60)
    if ground in ("grain", "desk") or test:
        page = page + pictures.grain(g, size, g.uniform(1, 30), g.uniform(1, 5))
    if ground == "ruled":
        page = pictures.inked(page, 0.7 * pictures.lines(size, period, 2, 0.03), blue)
    elif ground == "squared":
        page = pictures.squared(page, 0.6, period, g.uniform(-0.05, 0.05), blue)
    elif ground == "boxes":
        frames = Image.new("L", size)
        if kind == "one digit":
            middle = np.array(np.nonzero(ink > 0.5) or [[0], [0]]).mean(1)[::-1]
            half = np.array([0.6, 0.75]) * 1.3 * height
            corners = (*(middle - half), *(middle + half))
            ImageDraw.Draw(frames).rectangle(corners, outline=255, width=max(1, int(height / 25)))
        page = pictures.inked(page, np.asarray(frames) / 255, g.uniform(30, 110))
    contrast = g.uniform(0.3, 0.95)
    colour = level + (255 - level) * contrast if ground == "dark" else level * (1 - contrast)
    page = pictures.inked(page, ink, colour + g.uniform(-15, 15, 3))
    if ground == "desk":
        desk = pictures.sheet(size, g.uniform(30, 90)) + pictures.grain(g, size, 15, 6)
        cut = [(0.03, 0.02), (0.97, 0.04), (0.98, 0.97), (0.02, 0.95)]
        inside = pictures.polygon(size, [(x * size[0], y * size[1]) for x, y in cut])
        page = np.where(inside[..., None] > 0, page, desk)
    if ground in ("gradient", "desk"):
        page = pictures.lit(page, g, g.uniform(0.1, 0.6), g.uniform(0, 0.5))
    elif ground == "shadow":
        page = pictures.shaded(page, g, g.uniform(0.2, 0.6), np.exp(g.uniform(-6, -3)))
    image = Image.fromarray(page.clip(0, 255).astype(np.uint8))
    blur = float(g.uniform(0, 0.02) * height * (g.random() < 0.5))
    image = image.filter(ImageFilter.GaussianBlur(blur))
    noise = g.uniform(0, 8) * (g.random() < 0.6)
    return pictures.picture(np.asarray(image, np.float32), g, noise)


def cells(scene):
    """The cells of the grid in which a scene lies: rows, columns, row, column."""
    yield "kind", "ground", scene.kind, scene.ground
    if scene.kind == "one digit":
        height = next(end for end in HEIGHTS if scene.height <= end + 1e-9)
        stroke = next(end for end in STROKES if scene.stroke <= end + 1e-9)
        yield "height, of the picture", "stroke, of the height", f"{height:.0%}", f"{stroke:.0%}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--test", action="store_true")
    options = parser.parse_args()
    weights = network(load(SHIPPED))
    drawn, read = Counter(), Counter()
    for number in range(options.count):
        picture_of = scene(number, options.test)
        text = reading.as_text(reading.read(weights, picture.opaque(picture_of.image)))
        for cell in cells(picture_of):
            drawn[cell] += 1
            read[cell] += labelled.is_read(picture_of.label, text)
    low = [cell for cell in drawn if read[cell] < 0.98 * drawn[cell]]
    print("\n".join(f"{read[cell]} of {drawn[cell]}: {', '.join(cell)}" for cell in low))
    ends = [f"{end:.0%}" for end in (*HEIGHTS, *STROKES)]
    place = [*DIGITS, *OTHERS, *GROUNDS, *ends].index
    cells_in_order = sorted(drawn, key=lambda cell: (cell[0], place(cell[2]), place(cell[3])))
    with options.csv.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["rows", "columns", "row", "column", "pictures", "read"])
        table.writerows([*cell, drawn[cell], read[cell]] for cell in cells_in_order)


if __name__ == "__main__":
    main()
