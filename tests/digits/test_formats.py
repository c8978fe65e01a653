"""Every format gives the images that were put in, or one line; no damage differs in silence."""

import gzip
import os
import random
import struct
import tarfile
import zipfile

from digits import archive, idx, places
from files import DataError

import numpy as np
import pytest
import torch
from archives import (
    ARCHIVES,
    DATA,
    IMAGES,
    LABELS,
    assert_intact,
    csv_file,
    damaged,
    files_named,
    idx_file,
    idx_files,
    keras,
    lay,
    member,
    npz_file,
    png,
    tarred,
    zipped,
)
from PIL import Image

NUMBERED = files_named("train/{:05d}_{}.png")
TAR, ZIP, CSV = tarred(NUMBERED), zipped(NUMBERED), csv_file()
IDX = idx_files(splits=("train",))


@pytest.fixture
def read(tmp_path):
    """Read files as a start does; a refusal must be one harmless line that names the file."""

    def read(files):
        lay(tmp_path, files)
        try:
            return places.load(tmp_path, "train")[1:]
        except DataError as error:
            assert any(str(error).startswith(f"{path}: ") for path in tmp_path.iterdir())
            assert str(error).isprintable()
            raise

    return read


def count_refused(read, contents):
    """How many contents are refused in one harmless line; what is read of the others is right."""
    refused = 0
    for content in contents:
        try:
            with idx.naming("train"):
                data = read(content)
        except DataError as error:
            assert str(error).isprintable()
            refused += 1
        else:
            assert_intact(data)
    return refused


# Damage

FORMATS = {  # what reads it, a file, and how many of its bits must be noticed if turned over
    **{ending: (archive.decode, pack(NUMBERED), 1 / 3) for ending, pack in ARCHIVES.items()},
    "a picture in a folder": (lambda content: archive.decode({"5/0.png": content}), png(), 1),
    "npz": (lambda content: idx.read_npz(content, "train"), keras(), 0.8),
    "idx": (
        lambda content: idx.tensors(idx.parse_idx(idx.unpacked(content), 3), LABELS),
        gzip.compress(idx_file(IMAGES), mtime=0),
        0.8,
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_no_damage_differs_in_silence(name):
    read, content, share = FORMATS[name]
    bits = random.Random(1).sample(range(8 * len(content)), 600 if name == ".tar" else 300)
    assert count_refused(read, damaged(content, bits)) >= share * len(bits)
    cuts = {*range(0, len(content), 512), *range(len(content) - 1, 0, -(len(content) // 60))}
    assert count_refused(read, damaged(content, cuts=cuts)) == len(cuts)


def test_damage_to_several_bytes_of_a_zip_directory_never_differs_in_silence():
    """Names, places and lengths are there, which no checksum covers."""
    choice, copies = random.Random(2), []
    for _ in range(300):
        copy = bytearray(ZIP)
        for place in choice.sample(range(ZIP.index(b"PK\1\2"), len(ZIP)), choice.randint(1, 4)):
            copy[place] = choice.choice(b"\0\1/0159_P\xff")
        copies.append(bytes(copy))
    assert count_refused(archive.decode, copies) > 100


def test_no_cut_within_a_row_of_a_csv_differs_in_silence():
    """A row that is missing, or a digit that became another, cannot be noticed."""
    content = csv_file(IMAGES[:2], LABELS[:2])
    rows = {cut for cut in range(len(content)) if content[:cut].endswith(b"\n")}
    cuts = set(range(0, len(content) - 1, 13)) - rows
    assert count_refused(idx.read_csv, damaged(content, cuts=cuts)) == len(cuts)


# What cannot be used is named

LINK = member("9_9.png", kind=tarfile.SYMTYPE, link="00000_5.png")
HOLES = member("9_9.png", png(), tarfile.GNUTYPE_SPARSE, tarfile.GNU_FORMAT)
NAMES = (
    "1_10.png a/25/1.png 07/1.png five/1.png 5/1.bmp 5/1_6.png ٣_7.png 1_٣.png 1234567890_1.png "
    "1_.png x.png notes.txt 1_1.png,b/1_2.png a/5/1.png,a/5/1.png a\n\x1b[2J.png"
)
SOFT = Image.fromarray((np.add.outer(np.arange(28), np.arange(28)) * 4).astype(np.uint8))
PICTURES = [
    (png(np.zeros((32, 28), np.uint8)), "28 x 32 pixels instead of 28 x 28.*README.md"),
    (png(Image.new("RGB", (28, 28), (9, 9, 10))), "with colours"),
    (png(Image.new("RGBA", (28, 28), (9, 9, 9, 254))), "transparent"),
    (png(SOFT, transparency=0), "transparent"),
    (png()[:16] + struct.pack(">II", 60_000, 60_000) + png()[24:], "CRC"),
    (png(SOFT, "JPEG")[:300], "damaged"),
    (b"not a picture", "damaged"),
]


def of_names(names):
    """A tarball of pictures with these names."""
    return b"".join(member(name, png()) for name in names.split(",")) + bytes(1024)


def beside_a_good_one(bad):
    return tarred({"1_1.png": png(), "4_1.png": bad, "5_1.png": bad})


REFUSED = [  # a file, its content, words that the line holds
    ("train.tar", bytes(10240), "it holds no pictures"),
    ("train.tar", b"<!DOCTYPE html><html><body>404</body></html>", "damaged"),
    ("train.tar", TAR + bytes(1 << 20) + b"x", "does not end as a tar archive"),
    ("train.tar", TAR + TAR, "does not end as a tar archive"),
    ("train.tar", TAR[:1024] + bytes(1 << 20), "does not end as a tar archive"),
    ("train.tar", gzip.compress(TAR) + b"x", "Not a gzipped file"),
    ("train.tar", LINK + TAR, "not a regular file: '9_9.png'"),
    ("train.tar", HOLES + TAR, "not a regular file: '9_9.png'"),
    *(
        ("train.tar", of_names(names), "(not a picture named|a second picture).*cannot.*: 1")
        for names in NAMES.split(" ")
    ),
    *(
        ("train.tar", beside_a_good_one(bad), f"{why}.*'4_1.png' .files .* used: 2")
        for bad, why in PICTURES
    ),
    ("mnist_png.tar", of_names("m/5/0.png"), "neither in a folder training/ nor"),
    ("mnist_png.tar", of_names("m/Testing/5/0.png"), "it holds no pictures of the train split"),
    ("train-images-idx3-ubyte", b"<!DOCTYPE html><html>", "it begins with b'<!DOCTYPE html>'"),
    ("train-images-idx3-ubyte", idx_file(LABELS), "not an IDX file of 3 dimensions"),
    ("train-images-idx3-ubyte", idx_file(IMAGES)[:-1], "damaged.*array of size 9407"),
    ("train-images-idx3-ubyte", idx_file(IMAGES) + b"x", "damaged.*array of size 9409"),
    ("train-images-idx3-ubyte", idx_file(np.zeros((12, 8, 8))), "not N x 28 x 28"),
    ("train-images-idx3-ubyte", idx_file(IMAGES[1:]), "not N x 28 x 28"),
    ("train-labels-idx1-ubyte", b"", "labels-idx1-ubyte: not an IDX file of 1 dimensions"),
    ("train-labels-idx1-ubyte", idx_file(LABELS + 1), "labels are not whole numbers from 0 to 9"),
    ("mnist.npz", npz_file(images=IMAGES), "x_train"),
    ("mnist.npz", keras(IMAGES / 255), "pixels are not whole numbers from 0 to 255"),
    ("mnist.npz", keras(IMAGES * np.nan), "pixels are not whole numbers"),
    ("mnist.npz", keras(labels=-LABELS), "labels are not whole numbers from 0 to 9"),
    ("mnist.npz", keras(IMAGES.reshape(12, 784)), "not N x 28 x 28"),
    ("mnist.npz", b"x_train", "not a zip file"),
    ("train.csv", b"0," * 783 + b"0\n", "784 columns, not a label and 784 pixels .see --val-size"),
    ("train.csv", csv_file(IMAGES.astype(int) + 256), "256"),
    ("train.csv", CSV.replace(b"5,", b"5.0,", 1), "5.0|via a float"),
    ("train.csv", CSV.replace(b",0,", b",,", 1), "could not convert string ''"),
    ("train.csv", CSV.replace(b"5,", "٥,".encode(), 1), "could not convert"),
    ("train.csv", CSV[:-1], "no line end, so it may be cut off"),
    ("train.csv", CSV + b"1,2\n", "columns"),
    ("train.csv", b"label,pixel0\n", "no data"),
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: f"{row[0]}: {row[2]}")
def test_what_cannot_be_used_is_named(read, row):
    name, content, why = row
    with pytest.raises(DataError, match=why):
        read((IDX if "idx" in name else {}) | {name: content})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
@pytest.mark.parametrize("target", ["00000_5.png", "..", "a pipe"])
def test_links_and_pipes_in_a_folder_are_refused(read, tmp_path, target):
    place = lay(tmp_path, NUMBERED) / "train" / "99_9.png"
    os.mkfifo(place) if target == "a pipe" else place.symlink_to(target)
    with pytest.raises(DataError, match="not a regular file.*99_9.png"):
        read({})


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.bz2", ".tar.xz", ".zip"])
def test_no_more_is_unpacked_than_the_limit(read, monkeypatch, ending):
    monkeypatch.setattr(idx, "MAX_BYTES", 1 << 20)
    assert_intact(read({"train.tar": ARCHIVES[ending](NUMBERED)}))
    with pytest.raises(DataError, match="more than 1 GiB"):
        read({"train.tar": ARCHIVES[ending](NUMBERED | {".zeros": bytes(1 << 20)})})


# What is read; tests/digits/test_places.py has the usual files

LONG = [("long" * 40 + f"/ä/{name}", content) for name, content in NUMBERED.items()]
LITTER = {"a/._0_5.png": b"x", "__MACOSX/1_5.png": b"x", "README": b"x"}
OTHERS = {
    "more zeros": TAR + bytes(19 * 512),
    "packed in two parts": gzip.compress(TAR[:5000]) + gzip.compress(TAR[5000:]),
    "folders": member("a", kind=tarfile.DIRTYPE) + tarred(files_named("./a/b c/{}_{}.png")),
    "pax": b"".join(member(*file, layout=tarfile.PAX_FORMAT) for file in LONG) + bytes(1024),
    "litter": tarred(LITTER | NUMBERED),
    "zip, backslashes": zipped({n.replace("/", "\\"): png for n, png in NUMBERED.items()}),
    "zip, not compressed": zipped(NUMBERED, zipfile.ZIP_STORED),
    "zip, more files than can be counted": ZIP[:-14] + b"\xff" * 4 + ZIP[-10:],
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_other_archives_of_the_same_images_are_read(read, content):
    assert_intact(read({"train.tar": content}))


ORDERS = {
    "numbers go through": (["9/2.png", "x/0/10.png", "a/9/0.PNG"], [(2, 9), (0, 9), (1, 0)]),
    "numbers begin anew": (
        ["1/0.png", "1/1.png", "1/9.png", "1/10.png", "2/3.png", "2/10.png"],
        [(0, 1), (4, 2), (1, 1), (2, 1), (5, 2), (3, 1)],
    ),
    "names": (["7/img10.jpg", "7/img9.png", "3/Ä.jpeg"], [(1, 7), (2, 3), (0, 7)]),
    "both layouts": (["0/7.png", "2_5.png"], [(1, 5), (0, 0)]),
    "twice the same label": (["a/5/2_5.png", "1_3.png"], [(1, 3), (0, 5)]),
}


@pytest.mark.parametrize(("names", "expected"), ORDERS.values(), ids=ORDERS)
def test_labels_and_order_by_names(read, names, expected):
    grey = {name: png(np.full((28, 28), n, np.uint8)) for n, name in enumerate(names)}
    images, labels = read({"train.tar": tarred(grey)})
    assert list(zip(images[:, 0, 0].tolist(), labels.tolist(), strict=True)) == expected


MODES = [("PNG", mode) for mode in "1 L RGB RGBA LA P I;16".split()]


@pytest.mark.parametrize(("kind", "mode"), [*MODES, ("JPEG", "L"), ("JPEG", "RGB")])
def test_grey_pixels_are_read_in_every_mode(kind, mode):
    wide = Image.fromarray(np.asarray(SOFT).astype("u2") * 257)
    picture = wide if mode == "I;16" else SOFT.convert(mode)
    expected = SOFT.convert("1") if mode == "1" else SOFT
    images, _ = archive.decode({"1/1.JPG": png(picture, kind)})
    difference = images[0].numpy().astype(int) - np.asarray(expected.convert("L"))
    assert np.abs(difference).max() < (1 if kind == "PNG" else 9)


# Writing


def test_written_tarballs_read_back_here_and_by_an_independent_reader(tmp_path):
    path = tmp_path / "new" / "train.tar"
    archive.write_tarball(path, *DATA, "train")
    with tarfile.open(path) as oracle:
        assert oracle.getnames() == list(NUMBERED)
        for info, image in zip(oracle, IMAGES, strict=True):
            assert np.array_equal(Image.open(oracle.extractfile(info)), image)
    assert_intact(archive.read_tarball(path))
    path.write_bytes(TAR[:-512])
    with pytest.raises(DataError, match=f"{path}: damaged"):
        archive.read_tarball(path)


@pytest.mark.parametrize("labels", [[10] * 12, [-1] * 12, [1] * 11])
def test_labels_that_cannot_be_read_back_are_not_written(tmp_path, labels):
    with pytest.raises((DataError, ValueError)):
        archive.write_tarball(tmp_path / "train.tar", DATA[0], torch.tensor(labels), "a")
    assert not os.listdir(tmp_path)
