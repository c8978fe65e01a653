"""Distorts a batch of images, each image in its own way."""

import functools
import math

from digits.idx import BLACK, STD

import torch
import torch.nn.functional as F

AUGMENTATIONS = ("none", "affine", "elastic")  # elastic includes affine
# Each image gets its own rotation, scales, shear, shift and boldness, uniform within +- these:
ROTATION = math.radians(10)
SCALE = 0.1  # of width and height, each by itself
SHEAR = 0.15  # pixels sideways for each pixel down
SHIFT = 1.0  # pixels
BOLDNESS = 0.3  # of full black to white: how much mid-greys, the edges of strokes, change
ELASTIC = 0.8  # pixels: the standard deviation of a smooth random field of shifts ...
KNOTS = 6  # ... which is drawn at 6 x 6 points, 5.4 pixels apart


@functools.cache
def _fields(device: torch.device) -> torch.Tensor:
    """The (3 + 36) x 784 fields whose sum is a distortion: 1, x, y, and a bump at each knot."""
    pixels, knots = (torch.linspace(-13.5, 13.5, n, device=device) for n in (28, KNOTS))
    bumps = torch.exp(-(((pixels - knots[:, None]) / (knots[1] - knots[0])) ** 2))
    bumps /= bumps.norm(dim=0)  # bumps weighted by N(0, 1) then add up to N(0, 1) at every pixel
    one = torch.ones_like(pixels)
    planes = [torch.outer(one, one), torch.outer(one, pixels), torch.outer(pixels, one)]
    return torch.cat([torch.stack(planes).flatten(1), torch.kron(bumps, bumps)])


def augment(images: torch.Tensor, kind: str) -> torch.Tensor:
    """Distort normalised images (float32, N x 1 x 28 x 28) at random; `kind`: AUGMENTATIONS."""
    if kind not in AUGMENTATIONS:
        raise ValueError(f"{kind!r} is none of {', '.join(AUGMENTATIONS)}")
    if kind == "none":
        return images
    n, device = len(images), images.device
    angle, shear, wide, high, dx, dy, bold = torch.empty(7, n, device=device).uniform_(-1, 1)
    sin, cos = (angle * ROTATION).sin(), (angle * ROTATION).cos()
    weights = torch.zeros(2, 3 + KNOTS**2, n, device=device)  # of the fields, for x and for y
    weights[0, :3] = torch.stack([dx * SHIFT, (1 + wide * SCALE) * cos, shear * SHEAR - sin])
    weights[1, :3] = torch.stack([dy * SHIFT, sin, (1 + high * SCALE) * cos])
    if kind == "elastic":
        weights[:, 3:].normal_(0, ELASTIC)
    grid = torch.einsum("cfn,fp->npc", weights, _fields(device)).reshape(n, 28, 28, 2).div_(14)
    # grid_sample reads 0 outside an image, so the background has to be 0 meanwhile.
    ink = F.grid_sample(images - BLACK, grid, "bicubic", align_corners=False).mul_(STD).clamp_(0, 1)
    edges = ink * (1 - ink) * 4  # 1 for mid-grey, 0 for black and white
    ink = torch.addcmul(ink, edges, BOLDNESS * bold.view(n, 1, 1, 1)).clamp_(0, 1)
    return ink.div_(STD).add_(BLACK)
