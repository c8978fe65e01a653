"""MNIST's published format (IDX), its digests, and the mean and deviation of its pixels."""

import hashlib
import math
import struct

import numpy as np
import torch

from files import DataError

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, scaled to [0, 1]
BLACK = torch.tensor((0 - MEAN) / STD)  # a pixel of 0, normalised
NAMES = {"train": "train", "test": "t10k"}  # our name of each split: MNIST's
SHA256 = {  # published, of the uncompressed files; https://yann.lecun.com/exdb/mnist
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def parse_idx(content: bytes, rank: int) -> torch.Tensor:
    """The values (uint8, `rank` dimensions) in the bytes of an IDX file, or DataError.

    The file holds 0, 0, 8 (unsigned bytes) and the rank; each dimension in 4 bytes, big-endian;
    then the values.
    """
    start = 4 + 4 * rank
    if content[:4] != bytes([0, 0, 8, rank]) or len(content) < start:
        raise DataError(f"IDX file: no header for {rank} dimensions; get the file again")
    shape = np.frombuffer(content, ">u4", rank, offset=4).tolist()
    if len(content) != start + math.prod(shape):
        raise DataError(f"IDX file: {len(content):,} bytes do not hold {shape}; get the file again")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def digests(images: torch.Tensor, labels: torch.Tensor) -> list[str]:
    """SHA-256 of images (uint8, N x 28 x 28) and labels (N) in IDX form, as hexadecimal text."""
    headers = struct.pack(">IIII", 2051, *images.shape), struct.pack(">II", 2049, len(labels))
    found = []
    for header, values in zip(headers, (images, labels.byte()), strict=True):
        digest = hashlib.sha256(header)
        digest.update(values.numpy())
        found.append(digest.hexdigest())
    return found


def published_digests(split: str) -> list[str]:
    """The digests of MNIST's own images and labels; `split` is "train" or "test"."""
    return [SHA256[f"{NAMES[split]}-{kind}-ubyte"] for kind in ("images-idx3", "labels-idx1")]
