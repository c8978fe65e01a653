"""IDX, npz and CSV files are read strictly: what is damaged, missing or out of range is named."""

import gzip
import hashlib
import random

from digits import idx
from files import DataError

import numpy as np
import pytest
import torch
from archives import (
    IMAGES,
    LABELS,
    assert_intact,
    csv_file,
    damaged,
    idx_file,
    idx_files,
    keras,
    npz_file,
)

SMALL = IMAGES[:2], LABELS[:2]


@pytest.fixture
def read(tmp_path):
    """Read a form's bytes: of "idx" those of the images, or of the labels as the second."""

    def read(form, content, labels=None):
        path = tmp_path / "images-idx3"
        path.write_bytes(content)
        if form == "csv":
            return idx.read_csv(content)
        if form == "npz":
            return idx.read_npz(path, "train")
        (tmp_path / "labels-idx1").write_bytes(idx_file(LABELS) if labels is None else labels)
        return idx.read_idx(path)

    return read


GOOD = {"idx": idx_file(IMAGES), "npz": keras(), "csv": csv_file()}


OTHER_SHAPES = [
    ("csv", csv_file(header="")),
    ("csv", b"\xef\xbb\xbf" + csv_file(header='"label","1x1"\n')),
    ("csv", csv_file().replace(b"\n", b"\r\n")),
    ("npz", keras(IMAGES.astype(float), LABELS.astype(np.int64))),
]


@pytest.mark.parametrize(("form", "content"), [*GOOD.items(), *OTHER_SHAPES])
def test_each_form_gives_the_same_data(read, form, content):
    data = read(form, content)
    assert_intact(data)
    assert all(tensor.is_contiguous() for tensor in data)


def test_the_idx_files_of_these_tests_are_what_torchvision_reads(tmp_path):
    torchvision = pytest.importorskip("torchvision.datasets.mnist")
    (tmp_path / "images-idx3-ubyte").write_bytes(GOOD["idx"])
    images = torchvision.read_image_file(str(tmp_path / "images-idx3-ubyte"))
    assert torch.equal(images, torch.from_numpy(IMAGES))


BAD = {
    "idx, empty": ("idx", b"", "not an IDX file of 3 dimensions: it begins with b''"),
    "idx, HTML": ("idx", b"<!DOCTYPE html><html></html>", "it begins with b'<!DOCTYPE html>'"),
    "idx, labels": ("idx", idx_file(LABELS), "not an IDX file of 3 dimensions"),
    "idx, cut off": ("idx", GOOD["idx"][:-1], "damaged: 9,423 bytes do not hold"),
    "idx, too long": ("idx", GOOD["idx"] + b"x", "damaged"),
    "idx, other sizes": ("idx", idx_file(np.zeros((12, 8, 8))), "not N x 28 x 28"),
    "idx, fewer": ("idx", idx_file(IMAGES[1:]), "not N x 28 x 28"),
    "npz, other names": ("npz", npz_file(images=IMAGES), "x_train"),
    "npz, no labels": ("npz", npz_file(x_train=IMAGES), "y_train"),
    "npz, 0 to 1": ("npz", keras(IMAGES / 255), "pixels are not whole numbers from 0 to 255"),
    "npz, nan": ("npz", keras(IMAGES * np.nan), "pixels are not whole numbers"),
    "npz, 256": ("npz", keras(IMAGES.astype(int) + 256), "pixels are not whole numbers"),
    "npz, negative": ("npz", keras(labels=-LABELS), "labels are not whole numbers from 0 to 9"),
    "npz, letters": ("npz", keras(labels=LABELS + 1), "labels are not whole numbers from 0 to 9"),
    "npz, flat": ("npz", keras(IMAGES.reshape(12, 784)), "not N x 28 x 28"),
    "npz, text": ("npz", b"x_train", "not a zip file"),
    "csv, no labels": (
        "csv",
        b"0," * 783 + b"0\n",
        "784 columns, not a label and 784 pixels .see --val-size",
    ),
    "csv, 256": ("csv", csv_file(IMAGES.astype(int) + 256), "256"),
    "csv, -1": ("csv", csv_file(labels=-LABELS), "-5"),
    "csv, a label of 10": ("csv", csv_file(labels=LABELS + 1), "labels are not whole numbers"),
    "csv, 1.0": ("csv", csv_file().replace(b"5,", b"5.0,", 1), "5.0|via a float"),
    "csv, a gap": ("csv", csv_file().replace(b",0,", b",,", 1), "could not convert string ''"),
    "csv, cut off": ("csv", csv_file()[:-1], "no line end, so it may be cut off"),
    "csv, a short row": ("csv", csv_file() + b"1,2\n", "columns"),
    "csv, only a header": ("csv", b"label,pixel0\n", "no data"),
    "csv, other digits": ("csv", csv_file().replace(b"5,", "٥,".encode(), 1), "could not convert"),
}


@pytest.mark.parametrize(("form", "content", "why"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_named(read, form, content, why):
    error = DataError if form == "idx" else Exception  # `read_cached` makes a DataError of all
    with pytest.raises(error, match=why):
        read(form, content)


def test_labels_of_an_idx_pair_are_checked_too(read):
    for labels in (idx_file(LABELS + 1), idx_file(LABELS)[:-1], idx_file(LABELS[1:]), b""):
        with pytest.raises(DataError, match="(images-idx3|labels-idx1): "):
            read("idx", GOOD["idx"], labels)


PACKED = {"idx": gzip.compress(GOOD["idx"], mtime=0), "npz": GOOD["npz"]}


@pytest.mark.parametrize(("form", "content"), PACKED.items())
def test_no_damage_differs_in_silence(read, form, content):
    bits = random.Random(3).sample(range(8 * len(content)), 300)
    copies = [*damaged(content, bits, range(0, len(content), len(content) // 60))]
    refused = 0
    for copy in copies:
        try:
            data = read(form, copy)
        except Exception:
            refused += 1
        else:
            assert_intact(data)
    assert refused > 0.8 * len(copies) > 280


def test_no_cut_within_a_row_of_a_csv_differs_in_silence(read):
    """A row that is missing, or a digit that became another, cannot be noticed."""
    content = csv_file(*SMALL)
    rows = {cut for cut in range(len(content)) if content[:cut].endswith(b"\n")}
    for cut in set(range(0, len(content) - 1, 13)) - rows:
        with pytest.raises(Exception, match="."):
            read("csv", content[:cut])


def test_digests_are_those_of_the_idx_files():
    files = idx_files(splits=("train",))
    expected = [hashlib.sha256(content).hexdigest() for content in files.values()]
    assert idx.digests(torch.from_numpy(IMAGES), torch.from_numpy(LABELS)) == expected
    assert len({*idx.published_digests("train"), *idx.published_digests("test")}) == 4
