"""Draws what is no digit: letters, signs, scribbles, blots, squared paper and digits that touch.

    draw(20_000, seed)              # pictures as a network learns from them
    draw(2_000, seed, use="test")   # only letters and signs of kinds that it never learns from

They have the form of MNIST's digits: light on black, 20 pixels long, in the middle of 28 x 28. A
network that learns to be unsure of them can refuse what is no digit. Letters and signs are drawn
with the pen of synthetic.py, from the skeletons in signs.txt.
"""

from pathlib import Path

from digits import synthetic
from digits.synthetic import BOX, SIDE, Skeleton, Skeletons, parse_skeleton
from files import DataError

import numpy as np
import torch
import torch.nn.functional as F

SIGNS = Path(__file__).with_name("signs.txt")
SHARES = {"signs": 0.6, "scribbles": 0.12, "papers": 0.05, "blots": 0.1, "pairs": 0.13}
GROUPS = 40  # of blots and of pairs; those of one group are equally coarse or equally far apart
PATTERNS = 200  # different scribbles and papers; each is drawn many times, never twice the same


def read_signs(use: str, path: Path = SIGNS) -> Skeletons:
    """The skeletons of each kind of letter or sign for one `use`, "learn" or "test"; DataError."""
    kinds: dict[str, list[Skeleton]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        try:
            kind, meant_for, strokes = line.split(maxsplit=2)
            skeleton = parse_skeleton(strokes)
        except ValueError as error:
            raise DataError(
                f'{path}, line {number}: not "kind use x,y x,y ..."; correct it'
            ) from error
        if meant_for == use:
            kinds.setdefault(kind, []).append(skeleton)
    return dict(enumerate(kinds.values()))


def draw(count: int, seed: int | np.random.SeedSequence, use: str = "learn") -> torch.Tensor:
    """`count` pictures (uint8, N x 28 x 28) without a digit; a seed gives the same ones.

    With `use` "test" all of them are letters and signs of the kinds that are not learned.
    """
    random = np.random.default_rng(seed)
    if use == "test":
        return synthetic.draw(count, random, read_signs(use))[0]
    ends = np.rint(np.cumsum(list(SHARES.values())) * count).astype(int)
    numbers = dict(zip(SHARES, np.diff(ends, prepend=0).tolist(), strict=True))
    patterns = {"signs": read_signs(use), "scribbles": scribbles(random), "papers": papers(random)}
    drawn = [synthetic.draw(numbers[kind], random, ways)[0] for kind, ways in patterns.items()]
    drawn += [blots(numbers["blots"], random), pairs(numbers["pairs"], random)]
    return torch.cat(drawn)[torch.from_numpy(random.permutation(count))]


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
    images = []
    middle = torch.arange(BOX) - (BOX - 1) / 2  # pixels from the middle of the box
    for part in np.array_split(np.arange(count), min(count, GROUPS)):
        points = int(random.integers(3, 10))  # fewer points make larger blots
        noise = synthetic.standard_normal(random, len(part), 1, points, points)
        field = F.interpolate(noise, size=(BOX, BOX), mode="bicubic")
        steepness = torch.from_numpy(random.choice([0.4, 1.5, 6.0], (len(part), 1, 1, 1))).float()
        radii = torch.from_numpy(random.uniform(4, 14, (len(part), 1, 2, 1))).float()
        y, x = (middle / radii).square().unbind(2)  # each N x 1 x BOX
        oval = (4 * (1.3 - y[..., None] - x[..., None, :])).clamp(0, 1)
        images.append((field * steepness + 0.4).clamp(0, 1) * oval)
    return centred(torch.cat(images))


def pairs(count: int, random: np.random.Generator) -> torch.Tensor:
    """Two digits that touch (uint8, N x 28 x 28), made as small as one digit."""
    images = []
    margin = (SIDE - BOX) // 2
    for part in np.array_split(np.arange(count), min(count, GROUPS)):
        digits = synthetic.draw(2 * len(part), random)[0].float().div(255)
        left, right = digits[:, None, margin:-margin, margin:-margin].split(len(part))
        apart = int(random.integers(9, 16))  # pixels from the left digit to the right one
        both = F.pad(left, (0, apart))
        both[..., apart:] = torch.maximum(both[..., apart:], right)
        height = round(BOX * BOX / (BOX + apart))
        small = F.interpolate(both, size=(height, BOX), mode="bilinear", antialias=True)
        above = (BOX - height) // 2
        images.append(F.pad((1.5 * small).clamp(0, 1), (0, 0, above, BOX - height - above)))
    return centred(torch.cat(images))


def centred(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes of ink (N x 1 x 20 x 20, 0 to 1) as pictures (uint8, N x 28 x 28), centred by mass.

    As in MNIST, they are moved by whole pixels.
    """
    images = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.uint8)
    for image, ink in zip(images, boxes.squeeze(1), strict=True):
        mass = ink.sum().clamp(min=1e-6)
        y = (ink.sum(1) * (torch.arange(BOX) + 0.5)).sum() / mass
        x = (ink.sum(0) * (torch.arange(BOX) + 0.5)).sum() / mass
        top, left = (round(float(SIDE / 2 - at)) for at in (y, x))
        top, left = (min(max(at, 0), SIDE - BOX) for at in (top, left))
        image[top : top + BOX, left : left + BOX] = ink.mul(255).round()
    return images
