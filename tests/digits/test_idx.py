"""MNIST's own format is read whole or not at all, and its digests are the published ones."""

import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from digits import idx
from digits.tarball import find_tarball, read_tarball
from files import DataError


def idx_file(array):
    """An array of bytes in MNIST's format."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


GOOD = idx_file(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


def test_the_values_that_were_put_in_come_out():
    assert torch.equal(idx.parse_idx(GOOD, 3), torch.arange(24).view(2, 3, 4).byte())


def test_every_truncation_addition_and_flip_in_the_header_is_refused():
    damaged = [GOOD[:size] for size in range(len(GOOD))] + [GOOD + b"\0"]
    for position in range(16):  # the header
        for bit in range(8):
            changed = bytearray(GOOD)
            changed[position] ^= 1 << bit
            damaged.append(bytes(changed))
    for content in damaged:
        with pytest.raises(DataError):
            idx.parse_idx(content, 3)
    assert len(damaged) == 41 + 16 * 8


def test_another_number_of_dimensions_is_refused():
    with pytest.raises(DataError):
        idx.parse_idx(GOOD, 1)


def test_digests_are_those_of_the_files():
    images = torch.arange(2 * 784).view(2, 28, 28).byte()
    labels = torch.tensor([3, 9])
    files = idx_file(images.numpy()), idx_file(labels.byte().numpy())
    assert idx.digests(images, labels) == [hashlib.sha256(file).hexdigest() for file in files]


def test_names_of_files_are_torchvisions():
    datasets = pytest.importorskip("torchvision.datasets")
    names = [name for name, _ in datasets.MNIST.resources]
    assert names == [f"{name}.gz" for name in idx.SHA256]


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR does not name the real MNIST")
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_real_mnist_has_the_published_digests(split):
    images, labels = read_tarball(find_tarball(Path(os.environ["MNIST_DIR"]), split))
    files = idx_file(images.numpy()), idx_file(labels.byte().numpy())
    found = [hashlib.sha256(file).hexdigest() for file in files]
    assert found == idx.digests(images, labels) == idx.published_digests(split)
