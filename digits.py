"""Draws handwriting-like digits, in MNIST's format, for when MNIST itself cannot be had.

    generate("data/generated")  ->  train.tar with 60,000 digits, test.tar with 10,000

Each digit is a skeleton: the path of the pen in one of several ways in which people write it.
Its control points are moved at random, a smooth curve is laid through them, the whole is slanted,
turned and stretched, and a trembling pen of random width follows it.  Nothing of MNIST is used but
its published format: the longer side is 20 pixels, the centre of mass is in the middle of 28 x 28.
"""

import math
from pathlib import Path

import numpy as np
import torch

from tarball import write_tarball

# For each digit, the ways of writing it.  Points are "x,y" in percent of a square, x to the right
# and y downwards; "/" lifts the pen; a point given twice in succession is a sharp corner.
# Points of a skeleton with the same coordinates stay together when they are moved at random.
SKELETONS = {
    0: [
        "55,30 50,4 20,20 6,55 25,92 60,96 90,65 85,25 55,2 30,10",
        "30,24 40,4 70,4 94,36 84,80 50,100 14,84 6,46 26,12 60,6 80,20",
        *["50,0 26,8 12,28 8,50 12,72 26,92 50,100 74,92 88,72 92,50 88,28 74,8 50,0"] * 2,
        *["68,2 45,8 25,32 16,60 20,88 38,98 62,88 80,62 84,35 80,10 68,2"] * 2,
        "50,0 22,14 12,50 22,86 50,100 78,86 88,50 78,14 50,0",
        *["88,2 60,10 34,36 16,66 12,92 24,100 50,88 74,58 90,26 88,2"] * 2,
        "62,4 35,5 15,40 20,82 50,100 80,80 86,40 70,10 48,2 36,16",
        "58,0 27,18 15,58 33,96 63,92 85,55 77,15 45,6",
        "70,0 40,15 22,55 25,90 45,100 65,80 78,40 75,10 60,4",
        "38,14 62,2 85,25 85,65 60,98 28,92 12,60 18,25 45,5 72,10",
        "50,8 18,20 4,50 18,80 50,92 82,80 96,50 82,20 50,8",
        "45,0 20,30 16,70 40,100 72,86 84,45 66,10 45,0",
    ],
    1: [
        *["50,0 50,100"] * 5,
        "50,0 50,50 50,100",
        "54,0 48,50 50,100",
        "28,24 52,0 52,0 52,50 52,100",
        "35,16 50,0 50,0 50,50 50,100",
        "26,24 52,0 52,0 52,50 52,100 / 24,100 52,100 82,100",
        "50,0 50,50 50,100 / 26,100 50,100 76,100",
    ],
    2: [
        "10,36 24,8 60,2 76,24 60,62 24,98 6,88 20,74 50,82 100,90",
        "15,22 40,0 75,12 75,40 45,72 10,98 10,98 45,98 90,98",
        "15,20 45,0 76,15 72,45 45,78 20,98 8,86 25,75 50,86 75,98 95,90",
        "12,18 40,0 70,12 70,45 42,82 18,98 6,84 24,70 55,80 95,82",
        "10,8 40,4 76,6 78,12 45,55 10,98 10,98 50,98 90,98",
        "18,25 40,2 70,8 72,38 45,70 12,95 12,95 35,86 65,97 92,92",
        "32,32 14,24 30,4 62,2 80,25 62,58 12,96 12,96 50,92 95,96",
        "22,24 40,2 66,6 70,40 56,78 30,100 8,90 20,70 50,78 98,96",
        "6,30 30,6 64,2 78,24 70,60 40,92 16,98 10,84 28,76 60,90 100,86",
        "20,20 45,0 70,15 65,45 40,75 22,92 10,100 20,78 45,86 80,100",
    ],
    3: [
        "10,30 26,4 66,0 80,20 46,44 46,44 84,54 82,88 46,100 16,94 10,78",
        "20,6 62,2 74,20 44,38 44,38 70,48 68,80 30,100",
        "10,16 40,0 70,14 56,44 56,44 84,60 70,94 20,94",
        "15,12 45,0 78,12 74,36 42,48 42,48 80,58 85,82 50,100 12,88",
        "15,8 50,0 76,18 60,42 38,48 60,50 82,72 62,97 15,95",
        "15,15 42,0 72,12 70,35 48,50 38,46 50,44 78,60 78,86 45,100 12,86",
        "15,3 50,3 80,3 80,3 42,42 42,42 75,50 85,75 55,100 12,90",
        "20,5 60,0 78,15 55,42 55,42 78,62 60,92 20,100",
        "10,18 40,0 80,8 80,32 50,44 70,50 90,70 70,98 25,98 5,80",
        "16,10 50,2 76,8 70,26 46,42 46,42 74,54 66,84 40,96 6,100",
        "24,14 50,0 72,10 64,34 40,46 40,46 70,46 76,66 60,86 10,84",
    ],
    4: [
        "22,0 15,30 14,56 14,56 50,55 88,50 / 76,4 70,50 66,100",
        "25,5 15,45 28,58 60,55 80,45 / 80,0 76,50 68,100",
        "62,0 35,32 8,64 8,64 50,64 92,64 / 62,0 62,50 62,100",
        "18,0 14,42 38,54 74,40 80,0 80,0 76,50 70,100",
        "70,0 40,20 14,58 14,58 50,60 72,50 72,50 74,0 74,0 70,50 68,100",
        "30,10 12,60 12,60 55,58 95,58 / 66,30 62,65 60,100",
        "20,4 12,50 12,50 50,50 84,44 / 84,0 64,50 46,100",
        "30,0 10,45 30,58 60,48 90,34 / 82,8 62,55 50,100",
        "14,6 12,34 34,46 70,30 82,2 82,2 74,52 64,100",
        "40,0 22,28 10,60 10,60 50,58 90,52 / 58,34 54,70 52,100",
    ],
    5: [
        "84,4 40,6 30,40 30,40 62,36 84,62 66,96 24,98 10,78",
        "70,6 36,4 28,36 28,36 60,34 74,62 56,96 30,94 16,76",
        "92,0 60,8 40,20 38,40 58,60 54,84 20,98",
        "24,14 18,50 18,50 54,44 66,66 48,92 10,100 / 26,12 60,4 100,0",
        "25,4 22,24 20,44 20,44 55,38 82,62 68,94 12,96 / 25,4 55,4 86,2",
        "85,3 55,4 28,5 28,5 25,25 20,45 20,45 55,40 80,62 66,94 15,95",
        "85,5 45,4 24,26 45,46 74,62 68,90 40,100 12,92",
        "30,8 22,44 22,44 50,44 72,60 68,88 40,100 10,86 / 34,6 60,8 95,0",
        "95,0 65,6 38,6 38,6 30,42 30,42 62,50 66,76 45,98 10,92",
        "80,2 50,2 40,4 40,4 30,38 30,38 55,46 65,68 50,94 20,100 5,84",
        "30,14 24,46 24,46 52,38 74,58 62,88 30,100 8,88 / 30,14 60,8 100,0",
        "40,2 30,34 30,34 68,34 88,62 74,92 40,100 10,88 / 40,2 60,0 82,2",
        "92,6 46,6 34,24 28,42 52,44 66,62 56,86 28,98 4,94",
    ],
    6: [
        "20,0 12,60 30,98 64,94 70,70 48,62 28,92",
        "50,0 30,40 24,84 48,100 80,86 84,62 58,60 32,90",
        "70,0 38,25 16,65 32,98 65,95 82,72 60,55 30,64 20,80",
        "55,0 28,30 18,70 35,98 66,94 75,70 50,58 24,72",
        "80,4 45,12 18,45 18,85 50,100 80,80 72,55 40,55 20,76",
        "45,0 28,40 26,80 45,100 68,88 68,68 46,62 28,80",
        "90,0 55,20 25,55 15,85 35,100 60,88 62,70 42,68 18,84",
        "28,0 20,50 26,90 54,100 76,80 60,60 24,76",
        "66,0 28,25 12,62 26,98 64,98 82,72 60,54 32,62 18,80",
        "80,0 50,26 30,64 30,92 48,100 64,86 54,72 32,82",
    ],
    7: [
        "10,12 30,4 84,6 60,50 40,100 / 40,58 84,54",
        "8,40 18,10 18,10 50,6 86,0 86,0 66,50 50,100",
        "0,20 40,4 90,6 96,20 76,50 56,76",
        "10,10 82,4 82,4 46,100 / 24,60 74,54",
        "10,8 45,6 85,4 85,4 62,48 45,100",
        "10,8 45,6 85,4 85,4 62,48 45,100 / 35,52 62,50 90,48",
        "12,22 14,4 14,4 50,6 84,4 84,4 60,50 48,100",
        "10,12 40,2 78,6 76,30 55,65 45,100",
        "12,10 45,4 82,4 82,4 70,50 68,100",
        "8,14 40,8 80,2 84,10 55,55 30,100",
        "10,14 40,4 82,4 80,14 58,55 48,100 / 32,56 60,52 86,50",
        "14,26 18,6 18,6 50,6 82,4 82,4 76,50 72,100",
        "14,28 24,6 48,2 74,8 74,38 60,68 54,100",
        "0,12 50,8 100,2 100,2 72,46 54,100",
        "10,16 30,4 66,2 82,14 76,45 64,100",
    ],
    8: [
        "66,20 46,2 30,22 50,42 82,70 56,98 18,80 48,42 64,22 60,10",
        "72,12 45,0 22,18 45,45 75,68 68,94 40,100 20,82 38,54 66,34 78,14 70,4",
        "50,48 24,30 26,8 50,0 74,8 76,30 50,48 22,66 20,90 50,100 80,90 78,66 50,48",
        "80,8 50,0 26,18 48,46 70,70 60,96 32,98 26,76 50,48 82,10",
        "50,44 32,26 50,2 70,22 50,44 / 50,44 22,72 48,100 78,72 50,44",
        "66,2 38,8 32,30 56,48 72,72 56,98 30,92 30,68 58,44 74,22 66,2",
        "72,10 46,0 22,16 40,40 62,60 66,84 48,100 34,84 46,60 78,30 78,10",
        "60,8 46,2 36,14 52,34 78,64 66,98 30,98 16,76 44,46 62,26 58,6",
        "86,14 60,2 24,6 16,28 46,46 64,66 56,96 34,92 36,68 60,42 94,4",
        "62,0 40,12 40,34 58,50 66,76 50,100 32,90 36,64 62,42 74,20 62,0",
    ],
    9: [
        "80,2 54,6 30,24 40,40 70,32 76,22 66,60 46,100",
        "80,20 50,2 14,18 12,50 42,60 76,30 84,6 84,6 82,56 84,100",
        "78,14 50,0 22,18 28,44 60,44 78,14 78,14 76,55 70,100",
        "72,8 42,4 20,28 35,50 65,38 76,8 76,8 72,55 50,88 20,98",
        "70,20 48,2 22,22 30,48 56,42 72,16 72,16 66,60 56,100",
        "66,30 66,8 44,0 24,20 34,44 60,40 70,20 70,55 62,100",
        "75,5 40,5 15,28 30,45 60,40 80,10 80,10 60,50 40,100",
        "72,18 50,0 26,18 36,42 62,38 74,20 82,50 74,84 50,100 24,88",
        "72,22 50,0 22,16 20,40 48,48 72,24 / 74,2 74,50 72,100",
        "70,10 50,0 34,14 42,30 62,26 70,10 70,10 66,60 58,100",
        "90,18 55,4 12,26 24,50 60,46 90,14 90,14 78,60 60,100",
        "70,30 50,46 26,36 30,10 56,0 76,16 76,50 62,80 30,100",
        "84,4 50,2 26,24 46,42 76,24 76,24 66,60 48,100",
    ],
}  # fmt: skip

SIDE, BOX = 28, 20  # pixels: the picture, and the longer side of the digit in it
SEGMENTS = 88  # short pieces that every pen path is cut into
CHUNK = 256  # digits drawn at a time: their temporaries stay in the processor's cache

# How much digits differ: standard deviations, the first two in sides of the skeleton's square.
SHAKE = 0.055  # of each control point by itself
WARP, REACH = 0.065, 0.35  # of all points together, those nearer than REACH much alike
CARE = 0.6  # from 0.4 to 1.6 times as much of both: people write more or less carefully
LEAN, SLANT, TURN, STRETCH = 0.12, 0.25, 0.12, 0.2  # most people lean to the right by LEAN
PEN, PEN_SPREAD = 1.25, 0.4  # pixels from the middle of a stroke to its edge; log-normal spread
THINNEST, THICKEST = 0.7, 3.4  # pixels, likewise
INK = 210  # square pixels: a pen is no thicker than leaves this much, or loops would fill
KNOTS, TREMOR, PRESSURE = 16, 0.45, 0.28  # the pen's wobble (pixels) and change of width (log)
SHARPNESS = 1.4  # how steep the edge of a stroke is


def curve(strokes):
    """Catmull-Rom curves through `strokes` as matrices: control points to ends of segments.

    Gives the distinct control points (K x 2) and the matrix (2 x SEGMENTS x K).
    """
    points = sorted({point for stroke in strokes for point in stroke})
    lengths = [sum(map(math.dist, stroke, stroke[1:])) for stroke in strokes]
    cuts = np.round(np.cumsum([0, *lengths]) / sum(lengths) * SEGMENTS).astype(int)
    starts, ends = [], []
    for stroke, count in zip(strokes, np.diff(cuts), strict=True):
        rows = np.zeros((len(stroke), len(points)))
        rows[range(len(stroke)), [points.index(point) for point in stroke]] = 1
        # A closed stroke goes round again; beyond its ends an open one goes on as it came.
        if stroke[0] == stroke[-1]:
            before, after = rows[-2], rows[1]
        else:
            before, after = 2 * rows[0] - rows[1], 2 * rows[-1] - rows[-2]
        rows = np.stack([before, *rows, after])
        reach = np.cumsum([0, *map(math.dist, stroke, stroke[1:])])
        where = np.interp(np.linspace(0, reach[-1], count + 1), reach, range(len(stroke)))
        i = np.minimum(where.astype(int), len(stroke) - 2)
        t = (where - i)[:, None]
        a, b, c, d = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        path = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        starts.append(path[:-1])
        ends.append(path[1:])
    return np.array(points), np.stack([np.concatenate(starts), np.concatenate(ends)])


def parse(skeleton):
    """The strokes of a skeleton: lists of points in the unit square."""
    return [
        [tuple(int(number) / 100 for number in point.split(",")) for point in stroke.split()]
        for stroke in skeleton.split("/")
    ]


def normal(random, *shape):
    """Standard normal numbers as a float32 tensor."""
    return torch.from_numpy(random.standard_normal(shape, dtype=np.float32))


def write(points, matrix, count, random):
    """`count` different pen paths of one skeleton: ends of segments, count x 2 x SEGMENTS x 2."""
    alike = torch.exp(-0.5 * (torch.cdist(points, points) / REACH) ** 2)
    covariance = WARP**2 * alike + SHAKE**2 * torch.eye(len(points))
    moves = torch.linalg.cholesky(covariance) @ normal(random, count, len(points), 2)
    care = torch.from_numpy(random.uniform(1 - CARE, 1 + CARE, (count, 1, 1))).float()
    path = torch.einsum("esk,nkc->nesc", matrix, points + care * moves)
    slant, turn, stretch = normal(random, 3, count) * torch.tensor([[SLANT], [TURN], [STRETCH]])
    cos, sin = torch.cos(turn), torch.sin(turn)
    shear = torch.stack([stretch.exp(), torch.zeros(count), -LEAN - slant, torch.ones(count)], 1)
    rotate = torch.stack([cos, sin, -sin, cos], 1)
    return path @ (shear.view(-1, 1, 2, 2) @ rotate.view(-1, 1, 2, 2))


def rasterise(path, random):
    """Pictures (N x 28 x 28, 0 to 1) of what a pen leaves along paths (N x 2 x SEGMENTS x 2).

    Each segment leaves a round Gaussian blot.  A blot is the product of a function of x and one of
    y, so that one matrix product adds up all the blots of a picture.
    """
    count = len(path)
    path = path * (BOX / (path.amax((1, 2)) - path.amin((1, 2))).amax(1).view(-1, 1, 1, 1))
    middle, step = path.mean(1), path[:, 1] - path[:, 0]  # N x SEGMENTS x 2
    length = step.norm(dim=2, keepdim=True)
    pen = PEN * torch.exp(PEN_SPREAD * normal(random, count, 1, 1))
    pen = torch.minimum(pen, INK / 2 / length.sum(1, keepdim=True)).clamp(THINNEST, THICKEST)

    # Tremor and pressure are random at KNOTS along the path and change evenly between them.
    along, knots = torch.linspace(0, KNOTS - 1, SEGMENTS), torch.arange(KNOTS)
    between = (1 - (along[:, None] - knots).abs()).clamp(min=0)  # SEGMENTS x KNOTS
    middle = middle + TREMOR * (between @ normal(random, count, KNOTS, 2))
    width = pen * torch.exp(PRESSURE * (between @ normal(random, count, KNOTS, 1)))

    # A stroke is as wide as the pen across its direction and ends where its path ends.
    reach = width * step.flip(2).abs() / length
    low, high = (middle - reach).amin(1, keepdim=True), (middle + reach).amax(1, keepdim=True)
    scale = BOX / (high - low).amax(2, keepdim=True)
    middle = (middle - low) * scale
    mass = (middle * length).sum(1, keepdim=True) / length.sum(1, keepdim=True)
    middle = middle + torch.round(SIDE / 2 - mass)  # MNIST's boxes were moved by whole pixels

    spread = width * scale / 1.18  # at one width from the middle the Gaussian is at a half
    blots = middle[..., None] - (torch.arange(SIDE) + 0.5)  # N x SEGMENTS x 2 x 28
    blots = blots.square_().mul_(-0.5 / spread.square()[..., None]).exp_()
    x, y = blots.unbind(2)
    weight = length * scale / (spread * math.sqrt(2 * math.pi))  # a long stroke's middle is 1
    ink = (y * weight).transpose(1, 2) @ x
    contrast = (SHARPNESS * pen * scale).clamp(min=1)
    return ink.sub_(0.5).mul_(contrast).add_(0.5).clamp_(0, 1)


def draw(count, seed):
    """`count` digits (uint8, N x 28 x 28) and their labels (int64, N), the same for one `seed`."""
    random = np.random.default_rng(seed)
    labels = random.permutation(count) % 10
    images = torch.empty(count, SIDE, SIDE, dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(min(2, threads))  # operations so small lose by waiting for more
    try:
        for digit, skeletons in SKELETONS.items():
            where = np.flatnonzero(labels == digit)
            styles = random.integers(len(skeletons), size=len(where))
            for style, skeleton in enumerate(skeletons):
                points, matrix = (torch.from_numpy(a).float() for a in curve(parse(skeleton)))
                for part in torch.from_numpy(where[styles == style]).split(CHUNK):
                    pictures = rasterise(write(points, matrix, len(part), random), random)
                    images[part] = pictures.mul_(255).round_().to(torch.uint8)
    finally:
        torch.set_num_threads(threads)
    return images, torch.from_numpy(labels)


def generate(root, train=60_000, test=10_000, seed=0):
    """Draws both sets and writes them to `root`/train.tar and `root`/test.tar."""
    for split, (name, count) in enumerate([("train", train), ("test", test)]):
        images, labels = draw(count, np.random.SeedSequence([seed, split]))
        write_tarball(Path(root) / f"{name}.tar", images, labels, name)
