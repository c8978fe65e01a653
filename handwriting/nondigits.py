"""Draws what is no digit: letters, signs, scribbles, blots, squared paper and digits that touch.

    draw(20_000, seed)              # pictures as a network learns from them
    draw(2_000, seed, use="test")   # only letters and signs of kinds that it never learns from

They have the form of MNIST's digits: light on black, 20 pixels long, in the middle of 28 x 28. A
network that learns to be unsure of them can refuse what is no digit. Letters and signs are drawn
with the pen of synthetic.py, from the skeletons in signs.txt, and printed in matplotlib's fonts.
"""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from digits import synthetic
from digits.synthetic import BOX, SIDE, Skeletons, read_skeletons
from handwriting import photo

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import font_manager, get_data_path
from PIL import Image, ImageDraw, ImageFont

SIGNS = Path(__file__).with_name("signs.txt")
NEW_SIGNS = Path(__file__).with_name("newsigns.txt")  # of kinds that are not learned
SHARES = (0.3, 0.08, 0.03, 0.4, 0.09, 0.1)  # of signs, scribbles, papers, prints, blots, pairs
FONTS = ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSerif", "STIXGeneral", "STIXGeneralItalic")
# Latin, Greek and Cyrillic, Hebrew, arrows and mathematics, chessmen and notes, Fraktur and script:
SCRIPTS = "21-52F 5D0-5EA 1D00-23FF 2600-2775 2900-2AFF 1D400-1D7CB"  # code points of Unicode
LIKE_DIGITS = "0123456789bgiloqszBDGIOQSZ|!ıƷƼƽƧƨƄƅƖɩʃʅʒǀǁȢȣÐðđΒΘΙΟβδθιοσςБВЗОЭбвзоэЅІЈѕіј"
WRONG = 0.4  # of the pairs are cut, through the middle of a digit
GROUPS = 40  # of blots; those of one group are equally coarse
PATTERNS = 200  # different scribbles and papers; each is drawn many times, never twice the same


def draw(count: int, seed: int | np.random.SeedSequence, use: str = "learn") -> torch.Tensor:
    """`count` pictures (uint8, N x 28 x 28) without a digit; a seed gives the same ones.

    With `use` "test" all of them are letters and signs of the kinds that are not learned.
    """
    random = np.random.default_rng(seed)
    if use == "test":
        return synthetic.draw(count, random, read_skeletons(NEW_SIGNS))[0]
    counts = np.diff(np.rint(np.cumsum([0, *SHARES]) * count).astype(int)).tolist()
    skeletons = read_skeletons(SIGNS), scribbles(random), papers(random)
    drawn = [synthetic.draw(counts[k], random, kinds)[0] for k, kinds in enumerate(skeletons)]
    drawn += [make(counts[k], random) for k, make in enumerate((prints, blots, pairs), 3)]
    return torch.cat(drawn)[torch.from_numpy(random.permutation(count))]


def prints(count: int, random: np.random.Generator) -> torch.Tensor:
    """Letters and signs of many scripts (uint8, N x 28 x 28) in five fonts, thin and thick."""
    ends = [part.split("-") for part in SCRIPTS.split()]
    codes = {code for first, last in ends for code in range(int(first, 16), int(last, 16) + 1)}
    glyphs, drawn = [], []
    for name in FONTS:
        path = Path(get_data_path(), "fonts", "ttf", f"{name}.ttf")
        font = ImageFont.truetype(path, 60, layout_engine=ImageFont.Layout.BASIC)
        for letter in map(chr, sorted(codes & font_manager.get_font(path).get_charmap().keys())):
            left, top, right, bottom = font.getbbox(letter)
            usual = 25 < bottom - top < 90 and 10 < right - left < 2 * (bottom - top)
            if usual and unicodedata.normalize("NFKD", letter)[0] not in LIKE_DIGITS:
                glyphs.append((letter, font))
    for number in random.integers(len(glyphs), size=count):
        letter, font = glyphs[number]
        page = Image.new("L", (200, 200))
        thicker = int(random.integers(3))  # pixels, on either side of a stroke
        ImageDraw.Draw(page).text((50, 50), letter, 255, font, stroke_width=thicker)
        drawn.append(np.asarray(page) / 255)
    return as_seen(drawn)


def scribbles(random: np.random.Generator) -> Skeletons:
    """Paths of a pen that goes to and fro at random."""
    skeletons = []
    for _ in range(PATTERNS):
        lengths = random.integers(3, 12, size=random.integers(1, 4))
        strokes = [random.uniform(0, 1, (length, 2)).tolist() for length in lengths]
        skeletons.append([[(x, y) for x, y in stroke] for stroke in strokes])
    return {0: skeletons}


def papers(random: np.random.Generator) -> Skeletons:
    """Level and upright lines, as on ruled and squared paper; at least three of them."""
    skeletons = []
    for _ in range(PATTERNS):
        level, upright = random.integers(2, 5), random.integers(1, 5)
        skeleton = [[(0.0, y), (1.0, y)] for y in np.linspace(0.05, 0.95, level).tolist()]
        skeleton += [[(x, 0.0), (x, 1.0)] for x in np.linspace(0.1, 0.9, upright).tolist()]
        skeletons.append(skeleton)
    return {0: skeletons}


def blots(count: int, random: np.random.Generator) -> torch.Tensor:
    """Parts of objects and scenery (uint8, N x 28 x 28): smooth noise in an oval."""
    drawn: list[np.ndarray] = []
    middle = torch.arange(BOX) - (BOX - 1) / 2  # pixels from the middle of the box
    for part in np.array_split(np.arange(count), min(count, GROUPS)):
        points = int(random.integers(3, 10))  # fewer points make larger blots
        noise = synthetic.standard_normal(random, len(part), 1, points, points)
        field = F.interpolate(noise, size=(BOX, BOX), mode="bicubic")[:, 0]
        steepness = torch.from_numpy(random.choice([0.4, 1.5, 6.0], (len(part), 1, 1))).float()
        radii = torch.from_numpy(random.uniform(4, 14, (len(part), 2, 1))).float()
        y, x = (middle / radii).square().unbind(1)  # each N x BOX
        oval = (4 * (1.3 - y[:, :, None] - x[:, None])).clamp(0, 1)
        drawn.extend(((field * steepness + 0.4).clamp(0, 1) * oval).numpy())
    return as_seen(drawn)


def pairs(count: int, random: np.random.Generator) -> torch.Tensor:
    """Two digits that touch (uint8, N x 28 x 28), or what a cut through one of them leaves."""
    margin = (SIDE - BOX) // 2
    digits = synthetic.draw(2 * count, random)[0].numpy() / 255
    drawn = []
    for left, right in digits[:, margin:-margin, margin:-margin].reshape(count, 2, BOX, BOX):
        apart = int(random.integers(9, 16))  # pixels from the left digit to the right one
        left, right = np.pad(left, ((0, 0), (0, apart))), np.pad(right, ((0, 0), (apart, 0)))
        both = np.maximum(left, right)
        if random.random() < WRONG:
            columns = np.flatnonzero((left, right)[random.integers(2)].max(axis=0) > 0.5)
            column = int(np.quantile(columns, random.uniform(0.35, 0.65)))
            both = (both[:, :column], both[:, column:])[random.integers(2)]
        drawn.append(both)
    return as_seen(drawn)


def as_seen(drawn: Iterable[np.ndarray]) -> torch.Tensor:
    """What a network sees of ink (each H x W, 0 to 1) in a picture (uint8, N x 28 x 28)."""
    empty = np.zeros((SIDE, SIDE), np.uint8)
    shapes = map(photo.trimmed, drawn)
    return torch.from_numpy(np.stack([photo.like_mnist(s.ink) if s else empty for s in shapes]))
