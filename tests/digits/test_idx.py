"""MNIST's own format is read whole or not at all, and its digests are the published ones."""

import gzip
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


def put(folder, count=4, packed=False, **changes):
    """A split in MNIST's format: the images and labels of `count` digits; gives the folder."""
    arrays = {
        "images": np.arange(count * 784).reshape(count, 28, 28).astype(np.uint8),
        "labels": np.arange(count, dtype=np.uint8),
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in arrays.items():
        content = idx_file(array) if isinstance(array, np.ndarray) else array
        name = f"train-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
def test_a_split_is_found_and_read(tmp_path, place, packed):
    put(tmp_path / place, packed=packed)
    path = idx.find(tmp_path, "train")
    assert path is not None and path.parent == tmp_path / place and idx.is_idx(path)
    images, labels = idx.read_split(path)
    assert images.shape == (4, 28, 28) and labels.tolist() == [0, 1, 2, 3]
    assert labels.dtype == torch.int64
    assert idx.find(tmp_path, "test") is None


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_truncated_file_is_not_taken_for_whole(tmp_path, kind, packed):
    path = next(put(tmp_path, packed=packed).glob(f"*{kind}*"))
    content, looked = path.read_bytes(), 0
    assert idx.looks_whole(path)
    for cut in range(0, len(content), 3 if kind == "labels" else 97):
        path.write_bytes(content[:cut])
        assert not idx.looks_whole(path) and idx.find(tmp_path, "train") is None
        looked += 1
    assert looked > 3


def test_damage_within_a_packed_file_is_refused_when_it_is_read(tmp_path):
    path = next(put(tmp_path, packed=True).glob("*images*"))
    content, refused = path.read_bytes(), 0
    for position in range(20, len(content) - 4, 5):
        changed = bytearray(content)
        changed[position] ^= 16
        path.write_bytes(changed)
        with pytest.raises(DataError, match="^[^\n]*images-idx3-ubyte.gz: damaged"):
            idx.read_split(path)
        refused += 1
    assert refused > 50


OTHERS = {
    "label 10": ({"labels": np.array([0, 1, 10, 2], np.uint8)}, "label 10, but .* 0 to 9"),
    "too few labels": ({"labels": np.zeros(3, np.uint8)}, "for 3 labels"),
    "other size": ({"images": np.zeros((4, 32, 32), np.uint8)}, "4 x 32 x 32 pixels"),
    "none": ({"images": np.zeros((0, 28, 28), np.uint8), "labels": b""}, "labels.*missing"),
    "empty": (
        {"images": np.zeros((0, 28, 28), np.uint8), "labels": np.zeros(0, np.uint8)},
        "0 x",
    ),
}


@pytest.mark.parametrize(("changes", "why"), OTHERS.values(), ids=OTHERS)
def test_other_images_and_labels_are_refused(tmp_path, changes, why):
    put(tmp_path, **changes)
    with pytest.raises(DataError, match=why):
        idx.read_split(tmp_path / "train-images-idx3-ubyte")


def test_both_splits_come_from_one_folder(tmp_path):
    put(tmp_path)
    put(tmp_path / "MNIST" / "raw")
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        path.rename(path.with_name(path.name.replace("train", "t10k")))
    assert idx.find(tmp_path, "train") is not None
    assert idx.find(tmp_path, "test") is None


def test_what_contradicts_is_found(tmp_path):
    path = put(tmp_path) / "train-images-idx3-ubyte"
    digests = idx.digests(*idx.read_split(path))
    tar = tmp_path / "train.tar"
    assert idx.contradiction(tmp_path, "train", tar, digests) is None
    assert idx.contradiction(tmp_path, "train", tar, digests[::-1]) == path
    assert idx.contradiction(tmp_path, "train", path, [digests[1], digests[1]]) is None
    path.write_bytes(path.read_bytes()[:-1])  # damaged, so it says nothing
    assert idx.contradiction(tmp_path, "train", tar, ["another", digests[1]]) is None


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
