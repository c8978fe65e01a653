"""Every way of packing gives the images that were put in, or DataError; attempts are counted."""

import gzip
import os
import random
import struct
import tarfile
import zipfile

from digits import archive, idx
from digits.archive import read_tarball, write_tarball
from files import DataError

import numpy as np
import pytest
import torch
from archives import (
    CONTAINERS,
    DATA,
    IMAGES,
    LAYOUTS,
    PACKED,
    assert_intact,
    damaged,
    files_named,
    member,
    png,
    put,
    tarred,
    zipped,
)
from PIL import Image

NUMBERED = files_named(LAYOUTS["labels in names"])
TAR, ZIP, END = tarred(NUMBERED), zipped(NUMBERED), bytes(1024)


@pytest.fixture
def read(tmp_path):
    """Read these bytes; a refusal must be one harmless line that names the file."""
    path = tmp_path / "train.tar"

    def read(content):
        path.write_bytes(content)
        try:
            return read_tarball(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: ") and str(error).isprintable()
            raise

    return read


@pytest.fixture
def is_refused(read):
    """Whether these bytes are; fails where the images or labels differ in silence."""

    def is_refused(content):
        try:
            assert_intact(read(content))
        except DataError:
            return True
        return False

    return is_refused


# Whole or not at all


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ending", CONTAINERS)
def test_what_is_put_in_comes_out_in_the_order_of_the_numbers(tmp_path, ending, layout):
    files = list(files_named(LAYOUTS[layout]).items())
    assert_intact(read_tarball(put(tmp_path / "train", ending, dict(files))))
    random.Random(0).shuffle(files)
    assert_intact(read_tarball(put(tmp_path / "x" / "train", ending, dict(files))))


@pytest.mark.parametrize("ending", PACKED)
def test_no_damage_differs_in_silence(is_refused, ending):
    content = CONTAINERS[ending](NUMBERED)
    bits = random.Random(1).sample(range(8 * len(content)), 600 if ending == ".tar" else 200)
    assert sum(map(is_refused, damaged(content, bits))) > len(bits) // 3
    cuts = {*range(0, len(content), max(1, len(content) // 60)), *range(len(content) - 20, 0, -997)}
    assert all(map(is_refused, damaged(content, cuts=cuts | {len(content) - 1})))


def test_no_damage_to_a_file_in_a_folder_differs_in_silence(tmp_path):
    folder, (name, content) = put(tmp_path / "train", "", NUMBERED), next(iter(NUMBERED.items()))
    for copy in damaged(content, range(0, 8 * len(content), 7), range(0, len(content), 9)):
        (folder / name).write_bytes(copy)
        with pytest.raises(DataError, match=name):
            read_tarball(folder)


def test_damage_to_several_bytes_of_a_zip_directory_never_differs_in_silence(is_refused):
    """Names, places and lengths are there, which no checksum covers."""
    choice, refused = random.Random(2), 0
    for _ in range(300):
        copy = bytearray(ZIP)
        for _ in range(choice.randint(1, 4)):
            copy[choice.randrange(ZIP.index(b"PK\1\2"), len(ZIP))] = choice.choice(
                b"\0\1/0159_P\xff"
            )
        refused += is_refused(bytes(copy))
    assert refused > 100


# A name of 18 bytes makes an entry of 64: one bit in the length of a comment swallows the next.
LONGER = zipped(files_named("train/{:06d}_{}.png"))
LENGTH = 8 * (LONGER.index(b"PK\1\2") + 32)


@pytest.mark.parametrize(
    "content",
    [
        *damaged(LONGER, [LENGTH + 6]),
        b"",
        bytes(10240),
        b"<!DOCTYPE html><html><body>404</body></html>",
        member("train", kind=tarfile.DIRTYPE) + END,
        TAR + b"x",
        TAR + bytes(1 << 20) + b"x",
        TAR + TAR,
        TAR[:-512],
        gzip.compress(TAR[:2048]),
        gzip.compress(TAR) + b"x",
        member("9_9.png", kind=tarfile.SYMTYPE, linkname="00000_5.png") + TAR,
        member("9_9.png", png(), tarfile.GNUTYPE_SPARSE, tarfile.GNU_FORMAT) + TAR,
    ],
)
def test_other_content_is_refused(is_refused, content):
    assert is_refused(content)


LONG = [("long" * 40 + f"/ä/{name[6:]}", png) for name, png in NUMBERED.items()]


@pytest.mark.parametrize(
    "content",
    [
        TAR + bytes(19 * 512),
        gzip.compress(TAR[:5000]) + gzip.compress(TAR[5000:]),
        gzip.compress(gzip.compress(TAR)),
        member("a", kind=tarfile.DIRTYPE) + tarred(files_named("./a/b c/{}_{}.png")),
        b"".join(member(*file, layout=tarfile.PAX_FORMAT) for file in LONG) + END,
        tarred({"a/._0_5.png": b"x", "__MACOSX/1_5.png": b"x", "README": b"x"} | NUMBERED),
        zipped({name.replace("/", "\\"): png for name, png in NUMBERED.items()}),
        zipped(NUMBERED, zipfile.ZIP_STORED),
    ],
)
def test_other_forms_of_the_same_images_are_read(is_refused, content):
    assert not is_refused(content)


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.bz2", ".tar.xz", ".zip"])
def test_no_more_is_unpacked_than_the_limit(read, monkeypatch, ending):
    bomb = CONTAINERS[ending](NUMBERED | {".zeros": bytes(1 << 20)})
    for module in (idx, archive):
        monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    assert_intact(read(CONTAINERS[ending](NUMBERED)))
    with pytest.raises(DataError, match="more than 1 GiB"):
        read(bomb)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
@pytest.mark.parametrize("kind", ["link", "link to a folder", "pipe"])
def test_links_and_pipes_in_a_folder_are_refused(tmp_path, kind):
    folder = put(tmp_path / "train", "", NUMBERED)
    place = folder / "train" / "99_9.png"
    os.mkfifo(place) if kind == "pipe" else place.symlink_to(
        tmp_path if kind == "link to a folder" else folder / "train" / "00000_5.png"
    )
    with pytest.raises(DataError, match="not a regular file.*99_9.png"):
        read_tarball(folder)


# What names mean


@pytest.mark.parametrize(
    ("names", "expected"),
    {
        "numbers go through": (["9/2.png", "x/0/10.png", "a/9/0.PNG"], [(2, 9), (0, 9), (1, 0)]),
        "numbers begin anew": (
            ["1/0.png", "1/1.png", "1/9.png", "1/10.png", "2/3.png", "2/10.png"],
            [(0, 1), (4, 2), (1, 1), (2, 1), (5, 2), (3, 1)],
        ),
        "names": (["7/img10.jpg", "7/img9.png", "3/Ä.jpeg"], [(1, 7), (2, 3), (0, 7)]),
        "both layouts": (["0/7.png", "2_5.png"], [(1, 5), (0, 0)]),
        "twice the same label": (["a/5/2_5.png", "1_3.png"], [(1, 3), (0, 5)]),
    }.values(),
)
def test_labels_and_order_by_names(read, names, expected):
    grey = {name: png(np.full((28, 28), n, np.uint8)) for n, name in enumerate(names)}
    images, labels = read(tarred(grey))
    assert list(zip(images[:, 0, 0].tolist(), labels.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    "names",
    "1_10.png a/25/1.png 07/1.png five/1.png 5/1.bmp 5/1_6.png ٣_7.png 1_٣.png 1234567890_1.png "
    "1_.png x.png notes.txt 1_1.png,b/1_2.png a/5/1.png,a/5/1.png a\n\x1b[2J.png".split(" "),
)
def test_other_names_are_refused_with_words_that_say_what_is_wanted(read, names):
    files = b"".join(member(name, png()) for name in names.split(",")) + END
    with pytest.raises(DataError, match="(not a picture named|a second picture).*cannot.*: 1"):
        read(files)


@pytest.mark.parametrize(
    ("name", "why"),
    {
        "m/5/0.png": "neither in a folder training/ nor",
        "m/Training/5/0.png": "it holds no pictures of the test split",
    }.items(),
)
def test_an_archive_without_the_split_that_is_asked_for_is_refused(name, why):
    with pytest.raises(DataError, match=why):
        archive.decode(tarred({name: png()}), "test")


# Pictures

SLOPE = np.add.outer(np.arange(28), np.arange(28)) * 4
SOFT, WIDE = Image.fromarray(SLOPE.astype(np.uint8)), Image.fromarray((SLOPE * 257).astype("u2"))


MODES = [("PNG", mode) for mode in "1 L RGB RGBA LA P I;16".split()]


@pytest.mark.parametrize(("kind", "mode"), [*MODES, ("JPEG", "L"), ("JPEG", "RGB")])
def test_grey_pixels_are_read_in_every_mode(kind, mode):
    picture = WIDE if mode == "I;16" else SOFT.convert(mode)
    expected = SOFT.convert("1") if mode == "1" else SOFT
    images, _ = archive.decode(tarred({"1/1.JPG": png(picture, kind)}))
    difference = images[0].numpy().astype(int) - np.asarray(expected.convert("L"))
    assert np.abs(difference).max() < (1 if kind == "PNG" else 9)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (png(np.zeros((32, 28), np.uint8)), "28 x 32 pixels instead of 28 x 28.*README.md"),
        (png(Image.new("RGB", (28, 28), (9, 9, 10))), "with colours"),
        (png(Image.new("RGBA", (28, 28), (9, 9, 9, 254))), "transparent"),
        (png(SOFT, transparency=0), "transparent"),
        (png()[:-5] + bytes(5), "CRC"),
        (png()[:16] + struct.pack(">II", 60_000, 60_000) + png()[24:], "CRC"),
        (png()[:-12], "damaged"),
        (png(SOFT, "JPEG")[:300], "damaged"),
        (b"not a picture", "damaged"),
        (b"", "damaged"),
    ],
)
def test_other_pictures_are_refused_and_counted(read, content, why):
    with pytest.raises(DataError, match=rf"{why}.*'4_1.png' \(files .* used: 2\)"):
        read(tarred({"1_1.png": png(), "4_1.png": content, "5_1.png": content}))


# Writing


def test_written_tarballs_read_back_here_and_by_an_independent_reader(tmp_path):
    path = tmp_path / "new" / "train.tar"
    write_tarball(path, *DATA, "train")
    assert_intact(read_tarball(path))
    with tarfile.open(path) as oracle:
        assert oracle.getnames() == list(NUMBERED)
        for info, image in zip(oracle, IMAGES, strict=True):
            assert np.array_equal(Image.open(oracle.extractfile(info)), image)
    assert os.listdir(path.parent) == ["train.tar"]


@pytest.mark.parametrize("labels", [[10] * 12, [-1] * 12, [1] * 11])
def test_labels_that_cannot_be_read_back_are_not_written(tmp_path, labels):
    with pytest.raises((DataError, ValueError)):
        write_tarball(tmp_path / "train.tar", DATA[0], torch.tensor(labels), "a")
    assert not os.listdir(tmp_path)
