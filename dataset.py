"""MNIST in memory: two tarballs, their decoded cache, normalised batches, augmentation.

`MNIST("data", train=True)` reads `data/train.tar` (or `train.tar.gz`), whose members are
`{number}_{label}.png`, once; later starts read a verified copy of the decoded arrays. The images
stay in memory as uint8, on the training device, and a batch is one indexing operation.
"""

import copy
import functools
import hashlib
import io
import math
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tarball import DataError, find_tarball, read_tarball, write_whole

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, scaled to [0, 1]
SHA256 = {  # published, of the uncompressed files; https://yann.lecun.com/exdb/mnist
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
BLACK = torch.tensor((0 - MEAN) / STD)  # a pixel of 0, normalised
CACHE_VERSION = 1

AUGMENTATIONS = ("none", "affine", "elastic")  # elastic is affine, too
# Each image's own rotation, scales, shear, shift, boldness: uniform between minus and plus these.
ROTATION = math.radians(10)
SCALE = 0.1  # of width and height, each by itself
SHEAR = 0.15  # pixels sideways for each pixel down
SHIFT = 1.0  # pixels
BOLDNESS = 0.3  # of full black to white: mid-greys, which are the strokes' edges, change by this
ELASTIC = 0.8  # pixels, the standard deviation of a smooth random field of shifts ...
KNOTS = 6  # ... drawn at 6 x 6 points, 5.4 pixels apart


def sha256(path):
    """SHA-256 of a file, as hexadecimal text."""
    digest, buffer = hashlib.sha256(), bytearray(1 << 18)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def read_cached(path):
    """What `read_tarball` gives, from the verified cache beside the tarball where there is one."""
    key = f"{CACHE_VERSION} {sha256(path)}"
    cache = path.with_name(path.name.split(".")[0] + ".cache.npz")
    if cache.is_file():
        try:
            with np.load(cache, allow_pickle=False) as arrays:
                images, labels = arrays["images"], arrays["labels"]
                sound = images.dtype == labels.dtype == np.uint8 and images.ndim == 3
                sound = sound and arrays.zip.testzip() is None  # numpy need not read to the CRCs
                if sound and str(arrays["key"]) == key and len(images) == len(labels):
                    return torch.from_numpy(images), torch.from_numpy(labels).long()
            why = "belongs to another tarball"
        except Exception as error:  # whatever a foreign or damaged file makes numpy raise
            why = f"damaged ({type(error).__name__})"
        print(f"note: {cache}: {why}; reading {path.name} again", file=sys.stderr)
    images, labels = read_tarball(path)
    try:
        arrays = io.BytesIO()
        np.savez(arrays, images=images.numpy(), labels=labels.byte().numpy(), key=np.array(key))
        write_whole(cache, arrays.getbuffer())
    except OSError as error:
        print(f"warning: {cache}: {error.strerror}; going on without a cache", file=sys.stderr)
    return images, labels


class MNIST(torch.utils.data.Dataset):
    """Images and labels of one tarball, decoded, in memory.

    `data` (uint8, N x 28 x 28) and `targets` (int64, N) are torchvision's. `dataset[i]` is a
    normalised image (float32, 1 x 28 x 28) and its label; `dataset[indices]` a whole batch.
    `digests` are the SHA-256 of images and labels in MNIST's own IDX form; `published` says
    whether they are those of the genuine MNIST. Errors: DataError.
    """

    def __init__(self, root="data", train=True):
        split = "train" if train else "test"
        self.path = find_tarball(root, split)
        if self.path is None:
            raise DataError(f"{Path(root, split)}.tar: not found; put it or {split}.tar.gz there")
        try:
            self.data, self.targets = read_cached(self.path)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}; make it readable") from error
        images = struct.pack(">IIII", 2051, *self.data.shape), self.data.numpy()
        labels = struct.pack(">II", 2049, len(self)), self.targets.byte().numpy()
        self.digests = []
        for header, content in (images, labels):
            digest = hashlib.sha256(header)
            digest.update(content)
            self.digests.append(digest.hexdigest())
        prefix = "train" if train else "t10k"
        names = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        self.published = self.digests == [SHA256[name] for name in names]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        if torch.is_tensor(index) and index.dtype == torch.int64 and index.ndim == 1:
            rows = index.to(self.data.device)  # index_select takes a seventh of data[rows]' time
            return normalize(self.data.index_select(0, rows)), self.targets.index_select(0, rows)
        labels = self.targets[index]
        return normalize(self.data[index]), labels if labels.ndim else int(labels)

    def part(self, start, stop):
        """The images from number `start` to `stop` as a dataset of their own."""
        part = copy.copy(self)
        part.data, part.targets = self.data[start:stop], self.targets[start:stop]
        return part

    def to(self, device):
        """The same data set on another device."""
        moved = copy.copy(self)
        moved.data, moved.targets = self.data.to(device), self.targets.to(device)
        return moved

    def class_counts(self):
        """How many images each of the ten digits has."""
        return torch.bincount(self.targets, minlength=10).tolist()


def normalize(pixels):
    """Pixels (uint8, ... x 28 x 28) as the networks take them (float32, ... x 1 x 28 x 28)."""
    # one operation, so one temporary: black + pixel / (255 STD)
    return torch.add(BLACK, pixels.unsqueeze(-3), alpha=1 / (255 * STD))


def count_common(train, test):
    """How many images of one data set are in the other, too."""
    seen = {image.tobytes() for image in test.data.numpy()}
    return sum(image.tobytes() in seen for image in train.data.numpy())


@functools.cache
def _fields(device):
    """The (3 + 36) x 784 fields that every distortion is a sum of: 1, x, y, a bump at each knot."""
    pixels, knots = (torch.linspace(-13.5, 13.5, n, device=device) for n in (28, KNOTS))
    bumps = torch.exp(-(((pixels - knots[:, None]) / (knots[1] - knots[0])) ** 2))
    bumps /= bumps.norm(dim=0)  # bumps weighted by N(0, 1) then add up to N(0, 1) at every pixel
    one = torch.ones_like(pixels)
    planes = [torch.outer(one, one), torch.outer(one, pixels), torch.outer(pixels, one)]
    return torch.cat([torch.stack(planes).flatten(1), torch.kron(bumps, bumps)])


def augment(images, kind):
    """Distort each normalised image (N x 1 x 28 x 28) at random: none, affine or elastic (both)."""
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
    # grid_sample takes what lies outside an image for 0, so 0 has to be the background meanwhile.
    ink = F.grid_sample(images - BLACK, grid, "bicubic", align_corners=False).mul_(STD).clamp_(0, 1)
    edges = ink * (1 - ink) * 4  # 1 for mid-grey, 0 for black and white
    ink = torch.addcmul(ink, edges, BOLDNESS * bold.view(n, 1, 1, 1)).clamp_(0, 1)
    return ink.div_(STD).add_(BLACK)
