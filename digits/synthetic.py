"""Draws handwriting-like digits, in MNIST's format, for when MNIST itself cannot be had.

    generate("data/generated")  ->  train.tar with 60,000 digits, test.tar with 10,000

Each digit is drawn from a skeleton: the path of the pen in one of the ways in which people write
it (strokes.txt). The control points of the skeleton are moved at random, and a smooth curve is laid
through them. The curve is slanted, turned and stretched, and a trembling pen of random width
follows it. Only MNIST's published format is copied: the longer side of a digit is 20 pixels, and
its centre of mass is in the middle of 28 x 28.
"""

import math
from pathlib import Path

from digits.archive import progress, write_tarball

import numpy as np
import torch

STROKES = Path(__file__).with_name("strokes.txt")
SIDE, BOX = 28, 20  # pixels: the side of a picture, and the longer side of the digit in it
SEGMENTS = 88  # straight pieces that each pen path is cut into
CHUNK = 256  # digits drawn at a time: their temporaries fit into the processor's cache

# How much digits differ: standard deviations; SHAKE and WARP in sides of the skeleton's square.
SHAKE = 0.055  # of each control point by itself
WARP, REACH = 0.065, 0.35  # of all points together: points nearer than REACH move much alike
CARE = 0.6  # both are multiplied by 0.4 to 1.6: people write more or less carefully
LEAN, SLANT, TURN, STRETCH = 0.12, 0.25, 0.12, 0.2  # most people lean to the right, by LEAN
PEN, PEN_SPREAD = 1.25, 0.4  # pixels from the middle of a stroke to its edge; log-normal spread
THINNEST, THICKEST = 0.7, 3.4  # pixels: the limits of the same distance
INK = 210  # square pixels: a limit on the ink of one digit, because a thick pen fills small loops
KNOTS, TREMOR, PRESSURE = 16, 0.45, 0.28  # the pen's wobble (pixels) and change of width (log)
SHARPNESS = 1.4  # how steep the edge of a stroke is

Point = tuple[float, float]  # x to the right and y downwards, in sides of the skeleton's square
Skeleton = list[list[Point]]  # its strokes
Seed = int | np.random.SeedSequence | np.random.Generator
Skeletons = dict[int, list[Skeleton]]  # the ways to write each digit, or each kind of sign


def read_skeletons(path: Path = STROKES) -> Skeletons:
    """The skeletons of each digit, or of signs, numbered as they come; as often as weights say."""
    skeletons: Skeletons = {}
    signs: dict[str, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            kind, weight, strokes = line.split(maxsplit=2)
            number = int(kind) if kind.isdecimal() else signs.setdefault(kind, len(signs))
            skeletons.setdefault(number, []).extend([parse_skeleton(strokes)] * int(weight))
    return skeletons


def parse_skeleton(strokes: str) -> Skeleton:
    """The strokes of a skeleton; ValueError if the text is not "x,y x,y / x,y x,y ..."."""
    skeleton = []
    for stroke in strokes.split("/"):
        pairs = [point.split(",") for point in stroke.split()]
        if len(pairs) < 2:
            raise ValueError("a stroke has at least two points")
        skeleton.append([(int(x) / 100, int(y) / 100) for x, y in pairs])
    return skeleton


def curve_matrices(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """A smooth (Catmull-Rom) curve through the points of each stroke, as matrices.

    Gives the distinct control points (K x 2), and the matrix (2 x SEGMENTS x K) that makes of them
    the start and the end of each segment.
    """
    points = sorted({point for stroke in skeleton for point in stroke})
    reaches = [np.cumsum([0, *map(math.dist, stroke, stroke[1:])]) for stroke in skeleton]
    cuts = np.cumsum([0, *(reach[-1] for reach in reaches)])
    cuts = np.round(cuts / cuts[-1] * SEGMENTS).astype(int)
    segments = []
    for stroke, reach, count in zip(skeleton, reaches, np.diff(cuts), strict=True):
        rows = np.eye(len(points))[[points.index(point) for point in stroke]]
        # A closed stroke begins again at its end; an open one is continued in a straight line.
        if stroke[0] == stroke[-1]:
            before, after = rows[-2], rows[1]
        else:
            before, after = 2 * rows[0] - rows[1], 2 * rows[-1] - rows[-2]
        rows = np.stack([before, *rows, after])
        where = np.interp(np.linspace(0, reach[-1], count + 1), reach, range(len(stroke)))
        i = np.minimum(where.astype(int), len(stroke) - 2)
        t = (where - i)[:, None]
        a, b, c, d = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        path = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        segments.append(np.stack([path[:-1], path[1:]]))
    return np.array(points), np.concatenate(segments, 1)


def standard_normal(random: np.random.Generator, *shape: int) -> torch.Tensor:
    """Standard normal numbers (float32) of this shape."""
    return torch.from_numpy(random.standard_normal(shape, dtype=np.float32))


def pen_paths(
    points: torch.Tensor,
    matrix: torch.Tensor,
    count: int,
    random: np.random.Generator,
    unrest: float = 1,
) -> torch.Tensor:
    """`count` different pen paths of one skeleton, from its `curve_matrices`.

    Gives the starts and the ends of segments, count x 2 x SEGMENTS x 2.
    """
    alike = torch.exp(-0.5 * (torch.cdist(points, points) / REACH) ** 2)
    covariance = WARP**2 * alike + SHAKE**2 * torch.eye(len(points))
    moves = torch.linalg.cholesky(covariance) @ standard_normal(random, count, len(points), 2)
    care = torch.from_numpy(random.uniform(1 - CARE, 1 + CARE, (count, 1, 1))).float()
    path = torch.einsum("esk,nkc->nesc", matrix, points + unrest * care * moves)
    strengths = torch.tensor([[SLANT], [TURN], [STRETCH]])
    slant, turn, stretch = standard_normal(random, 3, count) * strengths
    cos, sin = torch.cos(turn), torch.sin(turn)
    shear = torch.stack([stretch.exp(), torch.zeros(count), -LEAN - slant, torch.ones(count)], 1)
    rotate = torch.stack([cos, sin, -sin, cos], 1)
    return path @ (shear.view(-1, 1, 2, 2) @ rotate.view(-1, 1, 2, 2))


def rasterise(path: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Pictures (N x 28 x 28, 0 to 1) of what a pen leaves along paths (N x 2 x SEGMENTS x 2).

    Each segment leaves a round Gaussian blot. A blot is the product of a function of x and a
    function of y, so one matrix product adds up all the blots of a picture.
    """
    count = len(path)
    path = path * (BOX / (path.amax((1, 2)) - path.amin((1, 2))).amax(1).view(-1, 1, 1, 1))
    middle, step = path.mean(1), path[:, 1] - path[:, 0]  # N x SEGMENTS x 2
    length = step.norm(dim=2, keepdim=True)
    pen = PEN * torch.exp(PEN_SPREAD * standard_normal(random, count, 1, 1))
    pen = torch.minimum(pen, INK / 2 / length.sum(1, keepdim=True)).clamp(THINNEST, THICKEST)

    # Tremor and pressure are random at KNOTS points of the path and change evenly between them.
    along, knots = torch.linspace(0, KNOTS - 1, SEGMENTS), torch.arange(KNOTS)
    between = (1 - (along[:, None] - knots).abs()).clamp(min=0)  # SEGMENTS x KNOTS
    middle = middle + TREMOR * (between @ standard_normal(random, count, KNOTS, 2))
    width = pen * torch.exp(PRESSURE * (between @ standard_normal(random, count, KNOTS, 1)))

    # A stroke is as wide as the pen across its direction, and ends where its path ends.
    reach = width * step.flip(2).abs() / length
    low, high = (middle - reach).amin(1, keepdim=True), (middle + reach).amax(1, keepdim=True)
    scale = BOX / (high - low).amax(2, keepdim=True)
    middle = (middle - low) * scale
    mass = (middle * length).sum(1, keepdim=True) / length.sum(1, keepdim=True)
    middle = middle + torch.round(SIDE / 2 - mass)  # MNIST's digits were moved by whole pixels

    spread = width * scale / 1.18  # the Gaussian falls to a half at one width from the middle
    blots = middle[..., None] - (torch.arange(SIDE) + 0.5)  # N x SEGMENTS x 2 x 28
    blots = blots.square_().mul_(-0.5 / spread.square()[..., None]).exp_()
    x, y = blots.unbind(2)
    # With this weight, the middle of a long stroke has the value 1.
    weight = length * scale / (spread * math.sqrt(2 * math.pi))
    ink = (y * weight).transpose(1, 2) @ x
    contrast = (SHARPNESS * pen * scale).clamp(min=1)
    return ink.sub_(0.5).mul_(contrast).add_(0.5).clamp_(0, 1)


def draw(
    count: int, seed: Seed, skeletons: Skeletons | None = None, unrest: float = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` digits (uint8, N x 28 x 28) and their labels (int64, N); a seed gives the same ones.

    `skeletons` are those of strokes.txt, or others with labels from 0 on. `unrest` multiplies how
    far the control points move.
    """
    skeletons = skeletons or read_skeletons()
    random = np.random.default_rng(seed)
    labels = random.permutation(count) % len(skeletons)
    images = torch.empty(count, SIDE, SIDE, dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(min(2, threads))  # operations as small as these lose time with more
    bar = progress(total=count, unit=" digits")
    try:
        for label in range(len(skeletons)):
            ways = skeletons[label]
            where = np.flatnonzero(labels == label)
            styles = random.integers(len(ways), size=len(where))
            for style in np.unique(styles):
                curves = curve_matrices(ways[style])
                points, matrix = (torch.from_numpy(array).float() for array in curves)
                for part in torch.from_numpy(where[styles == style]).split(CHUNK):
                    paths = pen_paths(points, matrix, len(part), random, unrest)
                    pictures = rasterise(paths, random)
                    images[part] = pictures.mul_(255).round_().to(torch.uint8)
                    bar.update(len(part))
    finally:
        bar.close()
        torch.set_num_threads(threads)
    return images, torch.from_numpy(labels)


def generate(root: str | Path, train: int = 60_000, test: int = 10_000, seed: int = 0) -> None:
    """Draw both sets and write them to `root`/train.tar and `root`/test.tar."""
    for split, (name, count) in enumerate([("train", train), ("test", test)]):
        images, labels = draw(count, np.random.SeedSequence([seed, split]))
        write_tarball(Path(root) / f"{name}.tar", images, labels, name)
