"""Every way of packing gives the images that were put in, or DataError; attempts are counted."""

import errno
import gzip
import os
import random
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path

from digits import archive, idx
from digits.archive import read_tarball, write_tarball
from files import DataError

import numpy as np
import pytest
import torch
from archives import (
    CONTAINERS,
    IMAGES,
    LABELS,
    LAYOUTS,
    assert_intact,
    damaged,
    files_named,
    member,
    png,
    put,
    raising,
    tarred,
    zipped,
)
from PIL import Image

NUMBERED = files_named(LAYOUTS["labels in names"])
PACKED = [ending for ending, pack in CONTAINERS.items() if pack]
TAR, END = tarred(NUMBERED), bytes(1024)


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
def outcome(read):
    """'same' or 'refused'; fails where the images or labels differ in silence."""

    def outcome(content):
        try:
            data = read(content)
        except DataError:
            return "refused"
        assert_intact(data)
        return "same"

    return outcome


# Whole or not at all


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ending", CONTAINERS)
def test_what_is_put_in_comes_out_in_the_order_of_the_numbers(tmp_path, ending, layout):
    files = list(files_named(LAYOUTS[layout]).items())
    assert_intact(read_tarball(put(tmp_path / "train", ending, dict(files))))
    random.Random(0).shuffle(files)
    assert_intact(read_tarball(put(tmp_path / "x" / "train", ending, dict(files))))


@pytest.mark.parametrize("ending", PACKED)
def test_no_damage_differs_in_silence(outcome, ending):
    content = CONTAINERS[ending](NUMBERED)
    choice = random.Random(1)
    bits = choice.sample(range(8 * len(content)), 600 if ending == ".tar" else 200)
    tried = Counter(map(outcome, damaged(content, bits)))
    assert tried.total() == len(bits) and tried["refused"] > len(bits) // 3
    cuts = {*range(0, len(content), max(1, len(content) // 60)), *range(len(content) - 20, 0, -997)}
    assert set(map(outcome, damaged(content, cuts=cuts | {len(content) - 1}))) == {"refused"}


def test_no_damage_to_a_file_in_a_folder_differs_in_silence(tmp_path):
    folder, choice, tried = put(tmp_path / "train", "", NUMBERED), random.Random(1), 0
    for name, content in NUMBERED.items():
        bits = choice.sample(range(8 * len(content)), 20)
        for copy in damaged(content, bits, [choice.randrange(len(content))]):
            (folder / name).write_bytes(copy)
            with pytest.raises(DataError, match=name):
                read_tarball(folder)
            tried += 1
        (folder / name).write_bytes(content)
    assert tried == 12 * 21
    assert_intact(read_tarball(folder))


def test_damage_to_several_bytes_of_a_zip_directory_never_differs_in_silence(outcome):
    """Names, places and lengths are there, which no checksum covers."""
    content, choice, tried = zipped(NUMBERED), random.Random(2), Counter()
    start = content.index(b"PK\1\2")
    for _ in range(300):
        copy = bytearray(content)
        for _ in range(choice.randint(1, 4)):
            copy[choice.randrange(start, len(content))] = choice.choice(b"\0\1/0159_P\xff")
        tried[outcome(bytes(copy))] += 1
    assert tried.total() == 300 and tried["refused"] > 100


def test_a_file_that_the_directory_of_a_zip_has_lost_is_missed(read):
    """A name of 18 bytes makes an entry of 64: one bit in the length of a comment swallows it."""
    content = bytearray(zipped(files_named("train/{:06d}_{}.png")))
    content[content.index(b"PK\1\2") + 32] ^= 64
    with pytest.raises(DataError, match="its directory is not whole"):
        read(bytes(content))


@pytest.mark.parametrize(
    "content",
    {
        "empty": b"",
        "zeros": bytes(10240),
        "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
        "no pictures": member("train", kind=tarfile.DIRTYPE) + END,
        "garbage after the end": TAR + b"x",
        "garbage after zeros": TAR + bytes(1 << 20) + b"x",
        "two archives": TAR + TAR,
        "half of the end": TAR[:-512],
        "a part of gzip": gzip.compress(TAR[:2048]),
        "garbage after gzip": gzip.compress(TAR) + b"x",
        "a link": member("9_9.png", kind=tarfile.SYMTYPE, linkname="00000_5.png") + TAR,
        "sparse": member("9_9.png", png(), tarfile.GNUTYPE_SPARSE, tarfile.GNU_FORMAT) + TAR,
    }.items(),
    ids=lambda item: item[0],
)
def test_other_content_is_refused(read, content):
    with pytest.raises(DataError):
        read(content[1])


@pytest.mark.parametrize(
    "content",
    {
        "zeros to a record's end": TAR + bytes(19 * 512),
        "gzip in two parts": gzip.compress(TAR[:5000]) + gzip.compress(TAR[5000:]),
        "packed twice": gzip.compress(gzip.compress(TAR)),
        "folders": member("a", kind=tarfile.DIRTYPE) + tarred(files_named("./a/b c/{}_{}.png")),
        "names in pax records": b"".join(
            member("long" * 40 + f"/ä/{name[6:]}", content, layout=tarfile.PAX_FORMAT)
            for name, content in NUMBERED.items()
        )
        + END,
        "litter": tarred(
            dict.fromkeys(["a/._0_5.png", "__MACOSX/1_5.png", "README"], b"x") | NUMBERED
        ),
        "from Windows": zipped({name.replace("/", "\\"): png for name, png in NUMBERED.items()}),
        "zip, not packed": zipped(NUMBERED, zipfile.ZIP_STORED),
    }.items(),
    ids=lambda item: item[0],
)
def test_other_forms_of_the_same_images_are_read(outcome, content):
    assert outcome(content[1]) == "same"


def test_agrees_with_an_independent_reader(tmp_path):
    path = put(tmp_path / "train", ".tar", NUMBERED)
    images, labels = read_tarball(path)
    with tarfile.open(path) as oracle:
        for info, image, label in zip(oracle, images, labels, strict=True):
            assert np.array_equal(np.asarray(Image.open(oracle.extractfile(info))), image)
            assert int(Path(info.name).stem.split("_")[1]) == label


def test_the_zip_program_makes_archives_that_are_read(tmp_path):
    put(tmp_path / "train", "", NUMBERED)
    try:
        subprocess.run(["zip", "-qr", "train.zip", "train"], cwd=tmp_path, check=True)
    except FileNotFoundError:
        pytest.skip("there is no zip program")
    assert_intact(read_tarball(tmp_path / "train.zip"))


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.bz2", ".tar.xz", ".zip"])
def test_no_more_is_unpacked_than_the_limit(read, monkeypatch, ending):
    bomb = CONTAINERS[ending](NUMBERED | {".zeros": bytes(1 << 20)})
    for module in (idx, archive):
        monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    assert_intact(read(CONTAINERS[ending](NUMBERED)))
    with pytest.raises(DataError, match="more than 1 GiB"):
        read(bomb)
    assert idx.MAX_BYTES == 1 << 20


def test_a_zip_member_that_says_less_than_it_holds_is_refused(read):
    content = bytearray(zipped({"9_9.png": bytes(60_000_000)}))
    at = content.index(b"PK\1\2")
    struct.pack_into("<I", content, at + 16, zlib.crc32(bytes(1000)) ^ 1)
    struct.pack_into("<I", content, at + 24, 1000)
    with pytest.raises(DataError):
        read(bytes(content))


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


def in_order(read, names):
    """These names in the order in which their images come, with their labels."""
    grey = [png(np.full((28, 28), n, np.uint8)) for n in range(len(names))]
    images, labels = read(tarred(dict(zip(names, grey, strict=True))))
    return list(zip([names[n] for n in images[:, 0, 0]], labels.tolist(), strict=True))


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
    assert in_order(read, names) == [(names[n], label) for n, label in expected]


@pytest.mark.parametrize(
    "names",
    "1_10.png a/25/1.png 07/1.png five/1.png 5/1.bmp 5/1_6.png ٣_7.png 1_٣.png 1234567890_1.png "
    "1_.png x.png notes.txt 1_1.png,b/1_2.png a/5/1.png,a/5/1.png a\n\x1b[2J.png".split(" "),
)
def test_other_names_are_refused_with_words_that_say_what_is_wanted(read, names):
    files = b"".join(member(name, png()) for name in names.split(",")) + END
    with pytest.raises(DataError, match="not a picture named|a second picture") as error:
        read(files)
    assert "(files that cannot be used: 1)" in str(error.value)


def test_of_an_archive_with_both_splits_one_is_read():
    names = ["m/training/5/0.png", "m/testing/7/0.png", "m/Training/4/1.png"]
    content = tarred({name: png() for name in names})
    assert archive.decode(content, "train")[1].tolist() == [5, 4]
    assert archive.decode(content, "test")[1].tolist() == [7]
    with pytest.raises(DataError, match="neither in a folder training/ nor"):
        archive.decode(tarred({"m/5/0.png": png()}), "train")
    with pytest.raises(DataError, match="it holds no pictures of the test split"):
        archive.decode(tarred({names[0]: png()}), "test")


# Pictures

GREY = Image.fromarray(IMAGES[0])
BLACK_AND_WHITE = Image.fromarray(np.where(IMAGES[0] > 0, 255, 0).astype(np.uint8))
PALETTE = GREY.convert("P")
SOFT = Image.fromarray(np.add.outer(np.arange(28), np.arange(28)).astype(np.uint8) * 4)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "I;16"])
def test_grey_pixels_are_read_in_every_mode(read, mode):
    picture, expected = GREY.convert(mode if mode != "I;16" else "L"), GREY
    if mode == "1":
        picture, expected = BLACK_AND_WHITE.convert("1"), BLACK_AND_WHITE
    elif mode == "I;16":
        picture = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
    images, _ = read(tarred({"1_1.png": png(picture)}))
    assert np.array_equal(images[0], np.asarray(expected))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpegs_are_read(read, mode):
    images, _ = read(tarred({"1/1.JPG": png(SOFT.convert(mode), "JPEG", quality=95)}))
    assert np.abs(images[0].numpy().astype(int) - np.asarray(SOFT)).max() < 8


def test_pictures_of_other_sizes_are_counted_and_can_be_converted(read, tmp_path):
    files = {f"{n}_1.png": png(np.zeros((32, 28), np.uint8)) for n in (4, 5)}
    why = r"28 x 32 pixels instead of 28 x 28.*README.md.*'4_1.png' \(files .* used: 2\)"
    with pytest.raises(DataError, match=why):
        read(tarred({"1_1.png": png()} | files))


@pytest.mark.parametrize(
    ("content", "why"),
    {
        "colours": (png(Image.new("RGB", (28, 28), (9, 9, 10))), "with colours"),
        "transparent": (png(Image.new("RGBA", (28, 28), (9, 9, 9, 254))), "transparent"),
        "transparent grey": (png(GREY, transparency=0), "transparent"),
        "CRC": (png()[:-5] + bytes(5), "CRC"),
        "cut off": (png()[:-12], "damaged"),
        "a large header": (png()[:16] + struct.pack(">II", 60_000, 60_000) + png()[24:], "CRC"),
        "JPEG cut off": (png(SOFT, "JPEG")[:300], "damaged"),
        "text": (b"not a picture", "damaged"),
        "nothing": (b"", "damaged"),
    }.values(),
)
def test_other_pictures_are_refused(read, content, why):
    with pytest.raises(DataError, match=why):
        read(tarred({"1_1.png": content}))


# Writing


def test_written_tarballs_read_back(tmp_path):
    path = tmp_path / "new" / "train.tar"
    write_tarball(path, torch.from_numpy(IMAGES), torch.from_numpy(LABELS), "train")
    assert_intact(read_tarball(path))
    with tarfile.open(path) as oracle:
        assert oracle.getnames()[-1] == "train/00011_9.png"
    assert os.listdir(path.parent) == ["train.tar"]


@pytest.mark.parametrize("labels", [[10] * 12, [-1] * 12, [1] * 11])
def test_labels_that_cannot_be_read_back_are_not_written(tmp_path, labels):
    with pytest.raises((DataError, ValueError)):
        write_tarball(tmp_path / "train.tar", torch.from_numpy(IMAGES), torch.tensor(labels), "a")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("place", ["files.os.fsync", "files.os.replace"])
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, place):
    path = tmp_path / "train.tar"
    path.write_bytes(b"old")
    monkeypatch.setattr(place, raising(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError):
        write_tarball(path, torch.from_numpy(IMAGES), torch.from_numpy(LABELS), "train")
    assert os.listdir(tmp_path) == ["train.tar"] and path.read_bytes() == b"old"
