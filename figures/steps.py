"""Shows step by step what predict.py makes of a page, on a page that is drawn here.

draw("plots/handwriting.png")
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from digits import synthetic
from figures import page as pages
from figures import style
from figures.page import Step
from handwriting import photo, picture, reading

LINES = ("2 718", "314 A", "90 52")  # digits without a space between them may touch
LETTER = synthetic.parse_skeleton("10,100 50,0 50,0 90,100 / 26,62 74,62")  # an A: no digit
WIDTH, HEIGHT = 640, 480  # pixels of the page
SIZE, STEP = 88, 168  # pixels: the height of a digit, and from one to the next
BLUE_RULE, PEN = (150, 170, 210), (40, 45, 70)


def page(seed: int = 5) -> Image.Image:
    """A photograph of ruled paper with three lines of digits, in the shadow of a hand."""
    random = np.random.default_rng(seed)
    sheet = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), (236, 233, 222))
    pen = ImageDraw.Draw(sheet)
    for y in range(70, 2 * HEIGHT, 72):
        pen.line([(0, y), (2 * WIDTH, y + 16)], fill=BLUE_RULE, width=4)
    skeletons = synthetic.read_skeletons()
    for row, line in enumerate(LINES):
        for column, digit in enumerate(line):
            if digit != " ":
                skeleton = LETTER if digit == "A" else skeletons[int(digit)][0]
                write(pen, skeleton, (160 + STEP * column, 90 + 300 * row), random)
    photograph = np.asarray(sheet.resize((WIDTH, HEIGHT)), float)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    shadow = 0.62 + 0.38 / (1 + np.exp((x - 0.7 * y - 330) / 40))
    photograph = photograph * shadow[..., None] + random.normal(0, 4, photograph.shape)
    return Image.fromarray(photograph.clip(0, 255).astype(np.uint8))


def write(
    pen: ImageDraw.ImageDraw,
    skeleton: synthetic.Skeleton,
    place: tuple[int, int],
    random: np.random.Generator,
) -> None:
    """Write a digit whose upper left corner is at `place` (x, y)."""
    points, matrix = (torch.from_numpy(a).float() for a in synthetic.curve_matrices(skeleton))
    path = synthetic.pen_paths(points, matrix, 1, random, unrest=0.4)[0]  # 2 x SEGMENTS x 2
    path = 2 * SIZE * (path - path.amin((0, 1))) / float(np.ptp(path.numpy()[..., 1]))
    for start, end in zip(*(path + torch.tensor(place)).tolist(), strict=True):
        pen.line([tuple(start), tuple(end)], fill=PEN, width=11)
        pen.ellipse([end[0] - 5, end[1] - 5, end[0] + 5, end[1] + 5], fill=PEN)


def steps(network: nn.Module, photograph: Image.Image) -> list[Step]:
    """The steps from a photograph to what is read of it."""
    small = picture.resized(photograph, photo.SCALES[1])
    channel = photo.best_channel(small)
    ink = photo.ink_of(channel)
    clean = photo.without_lines_and_grain(ink)
    shapes = next(photo.find(photograph))
    rows = reading.read(network, photograph)
    digits = [digit for row in rows for digit in row]
    seen = np.zeros((28 * len(rows), 28 * max(map(len, rows))), np.uint8)
    for y, row in enumerate(rows):
        for x, digit in enumerate(row):
            seen[28 * y : 28 * (y + 1), 28 * x : 28 * (x + 1)] = digit.seen
    return [
        Step("1. the picture", np.asarray(photograph)),
        Step("2. ink: how much darker than the paper", 255 - as_bytes(ink)),
        Step("3. without ruled lines and grain", 255 - as_bytes(clean)),
        Step("4. shapes", 255 - as_bytes(clean), tuple((one.box, "") for one in shapes)),
        Step("5. answers, in rows", np.asarray(photograph), tuple((d.box, str(d)) for d in digits)),
        Step("6. what the network sees", 255 - seen),
    ]


def as_bytes(ink: np.ndarray) -> np.ndarray:
    """Ink (H x W) from 0 to 1 as grey levels from 0 to 255."""
    return (255 * ink.clip(0, 1)).astype(np.uint8)


def draw(path: str | Path, network: nn.Module) -> None:
    """Draw the steps into a PNG file; OSError."""
    style.save(pages.steps(steps(network, page())), path)
