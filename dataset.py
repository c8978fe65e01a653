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
CACHE_VERSION = 1

AUGMENTATIONS = ("none", "affine", "elastic")  # elastic is affine, too
BACKGROUND = (0 - MEAN) / STD  # a black pixel, normalised
# Strengths; the first four are half-widths of uniform distributions.
ROTATION = math.radians(10)
SCALE = 0.1  # of each axis by itself
SHEAR = 0.15  # pixels sideways for each pixel down
SHIFT = 2.0  # pixels
ELASTIC = 1.0  # pixels, the standard deviation of an elastic shift
KNOTS = 6  # the elastic field is drawn on KNOTS x KNOTS points, one every 5.4 pixels


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
    images = pixels.unsqueeze(-3).float()
    return images.mul_(1 / (255 * STD)).sub_(MEAN / STD)  # in place: temporaries cost page faults


def count_common(train, test):
    """How many images of one data set are in the other, too."""
    seen = {image.tobytes() for image in test.data.numpy()}
    return sum(image.tobytes() in seen for image in train.data.numpy())


@functools.cache
def _displacement_basis(device):
    """What every distortion is a sum of, (3 + KNOTS²) x 784: one, x, y and a bump at each knot."""
    pixel = torch.arange(28.0, device=device) - 13.5
    knot = torch.linspace(-13.5, 13.5, KNOTS, device=device)
    bump = torch.exp(-(((pixel - knot[:, None]) / (knot[1] - knot[0])) ** 2))
    bump /= bump.square().sum(0).sqrt()  # so that knots of N(0, 1) add up to N(0, 1)
    bumps = torch.einsum("iy,jx->ijyx", bump, bump).reshape(-1, 784)
    y, x = torch.meshgrid(pixel, pixel, indexing="ij")
    return torch.cat([torch.stack([torch.ones_like(x), x, y]).reshape(3, 784), bumps])


def augment(images, kind):
    """Distort each image of a normalised batch (N x 1 x 28 x 28) in its own random way."""
    if kind == "none":
        return images
    n, device = len(images), images.device
    angle, shear, scale_x, scale_y, shift_x, shift_y = torch.rand(6, n, device=device) * 2 - 1
    angle, shear = angle * ROTATION, shear * SHEAR
    weights = torch.zeros(n, 2, 3 + KNOTS**2, device=device)  # of the basis, for x and for y
    weights[:, :, 0] = torch.stack([shift_x, shift_y], 1) * SHIFT
    weights[:, 0, 1] = (1 + scale_x * SCALE) * angle.cos()
    weights[:, 0, 2] = shear - angle.sin()
    weights[:, 1, 1] = angle.sin()
    weights[:, 1, 2] = (1 + scale_y * SCALE) * angle.cos()
    if kind == "elastic":
        weights[:, :, 3:].normal_(0, ELASTIC)
    grid = (weights @ _displacement_basis(device)).mul_(1 / 14)  # from pixels to -1 ... 1
    grid = grid.transpose(1, 2).reshape(n, 28, 28, 2)
    # What lies outside an image is sampled as 0, so 0 has to mean background.
    return F.grid_sample(images - BACKGROUND, grid, align_corners=False).add_(BACKGROUND)
