"""A tarball gives exactly the images that were put in, or DataError; every attempt is counted.

What zip archives, folders and other ways of packing add is in test_archive.py.
"""

import errno
import gzip
import io
import os
import random
import re
import struct
import subprocess
import sys
import tarfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import (
    END,
    GOOD,
    IMAGES,
    LABELS,
    chunk,
    flipped,
    images_named,
    member,
    own_and_pax_name,
    pax,
    png,
    tar,
    with_chunk,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from digits import archive, tarball
from digits.png import decode_png
from digits.tarball import find_data, read_tarball, write_tarball
from files import DataError

ROOT = Path(__file__).parents[2]
PLAIN = tar(*images_named("train/{:05d}_{}.png"))
ARCHIVES = {
    "plain": PLAIN,
    "gzip": gzip.compress(PLAIN, mtime=0),
    "pax, not ASCII": tar(*images_named("zahlen-ä-数/{:05d}_{}.png", pax)),
    "pax, long": tar(*images_named("long" * 40 + "/{:05d}_{}.png", own_and_pax_name)),
}


@pytest.fixture
def read(tmp_path):
    """Read these bytes as a tarball: a refusal must be one harmless line that names the file."""
    path = tmp_path / "train.tar"

    def read(content):
        path.write_bytes(content)
        try:
            return read_tarball(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")
            assert str(error).isprintable(), "a line end or a control character"
            raise

    return read


@pytest.fixture
def outcome(read):
    """'same' or 'refused'; fails where the images or labels differ in silence."""

    def outcome(content):
        try:
            images, labels = read(content)
        except DataError:
            return "refused"
        assert np.array_equal(images.numpy(), IMAGES), "SILENT difference in images"
        assert labels.tolist() == LABELS, "SILENT difference in labels"
        return "same"

    return outcome


# Whole or not at all


@pytest.mark.parametrize("name", ARCHIVES)
def test_what_is_put_in_comes_out(read, name):
    images, labels = read(ARCHIVES[name])
    assert images.dtype == torch.uint8 and images.shape == (6, 28, 28)
    assert labels.dtype == torch.int64 and labels.tolist() == LABELS
    assert np.array_equal(images.numpy(), IMAGES)


def test_agrees_with_an_independent_reader(read):
    images, labels = read(PLAIN)
    with tarfile.open(fileobj=io.BytesIO(PLAIN)) as oracle:
        for info, image, label in zip(oracle, images, labels, strict=True):
            assert np.array_equal(np.asarray(Image.open(oracle.extractfile(info))), image)
            assert int(Path(info.name).stem.split("_")[1]) == label


@pytest.mark.parametrize("name", ARCHIVES)
def test_every_truncation_is_refused(outcome, name):
    content = ARCHIVES[name]
    cuts = sorted({*range(0, len(content), 32), *range(len(content) - 40, len(content))})
    tried = Counter(outcome(content[:cut]) for cut in cuts)
    assert tried == {"refused": len(cuts)} and len(cuts) > len(content) // 32


@pytest.mark.parametrize("name", ARCHIVES)
def test_no_bit_flip_differs_in_silence(outcome, name):
    content = ARCHIVES[name]
    bits = random.Random(1).sample(range(8 * len(content)), 1000)
    tried = Counter(map(outcome, flipped(content, bits)))
    assert tried.total() == 1000 and tried["refused"] > 400


def test_no_byte_changed_in_pax_records_differs_in_silence(outcome):
    content = ARCHIVES["pax, not ASCII"]
    start = content.index(b" path=") - 2
    size = int(content[start : start + 2])
    tried = Counter(
        outcome(content[:position] + bytes([byte]) + content[position + 1 :])
        for position in range(start, start + size)
        for byte in b"\0\n ./0159_=\\aLs\x80\xff"
    )
    assert tried.total() == 17 * size and tried["refused"] and tried["same"]


@pytest.mark.parametrize("name", [".00001_0.png", "._00001_0.png", "x", "0_0.png", "00001_1.png"])
def test_a_pax_record_cannot_hide_or_rename_an_image(read, name):
    with pytest.raises(DataError):
        read(tar(GOOD, pax("a/00001_0.png", png(), path=f"a/{name}")))


@pytest.mark.parametrize("size", ["0", "1", "1024", "-1024", "9" * 4000, "nan", ""])
def test_a_pax_record_cannot_set_the_size(read, size):
    with pytest.raises(DataError):
        read(tar(GOOD, pax("a/00001_0.png", png(), size=size), member("a/00002_0.png", png())))


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_name_that_no_checksum_covers_is_refused(read, layout):
    with pytest.raises(DataError, match="shorten the folder"):
        read(tar(member("folder/" * 20 + "00001_0.png", png(), layout=layout)))


@pytest.mark.parametrize(
    "content",
    {
        "empty": b"",
        "zeros": bytes(10240),
        "text": b"not a tarball\n" * 100,
        "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
        "no images": tar(member("train", kind=tarfile.DIRTYPE)),
        "garbage after the end": PLAIN + b"x",
        "zeros where images were": tar(*images_named("{}_{}.png")[:3]) + bytes(10240),
        "garbage after zeros": PLAIN + bytes(1 << 20) + b"x",
        "two archives": PLAIN + PLAIN,
        "half of the end": PLAIN[:-512],
        "gzip of nothing": gzip.compress(b""),
        "garbage after gzip": ARCHIVES["gzip"] + b"x",
        "gzip twice": gzip.compress(ARCHIVES["gzip"]),
    }.items(),
    ids=lambda item: item[0],
)
def test_other_content_is_refused(read, content):
    with pytest.raises(DataError):
        read(content[1])


@pytest.mark.parametrize(
    "content",
    {
        "zeros to a record's end": PLAIN + bytes(19 * 512),
        "gzip in two parts": gzip.compress(PLAIN[:5000]) + gzip.compress(PLAIN[5000:]),
        "folders": tar(member("a", kind=tarfile.DIRTYPE), *images_named("./a/b c/{}_{}.png")),
        "dotfiles": tar(
            member(".", kind=tarfile.DIRTYPE),
            member("a/.DS_Store", b"x" * 99_999),
            *images_named("a/{:05d}_{}.png"),
            member("a/._00000_5.png", b"resource fork"),
            pax("a/._é", b"x"),
        ),
        "in reverse": tar(*images_named("{}_{}.png")[::-1]),
        "numbers with gaps": tar(*images_named("{0}00_{1}.png")),
        "a global pax header": tar(
            member("pax", b"17 comment=hello\n", tarfile.XGLTYPE), *images_named("{}_{}.png")
        ),
    }.items(),
    ids=lambda item: item[0],
)
def test_other_forms_of_the_same_images_are_read(outcome, content):
    assert outcome(content[1]) == "same"


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("missing.tar", "folder"):
        with pytest.raises(DataError, match=name):
            read_tarball(tmp_path / name)


def test_a_skipped_member_cannot_swallow_an_image(read):
    for kind in (tarfile.REGTYPE, tarfile.DIRTYPE):
        image = member("a/00000_0.png", png())
        with pytest.raises(DataError, match="a size that no checksum covers"):
            read(tar(pax(".a", kind=kind, size=str(len(image))), image, GOOD))


# Names and kinds of members


def is_folder(name, kind):
    return kind == tarfile.DIRTYPE or (kind == tarfile.AREGTYPE and name.endswith("/"))


def verdict(name, kind):
    """What the specification says of a member, in other words than those of tarball.py."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    base = parts[-1] if parts else ""
    drive = name[:1].isalpha() and name[:1].isascii() and name[1:2] == ":"
    if name.startswith("/") or ".." in parts or "\\" in name or drive:
        return "refused"
    if is_folder(name, kind):
        return "skipped"
    if kind not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return "refused"
    litter = ("readme", "license", ".")
    if base.lower().startswith(litter) or base.lower() in ("thumbs.db", "desktop.ini"):
        return "skipped"
    number, _, rest = base.partition("_")
    digits, folder = set("0123456789"), parts[-2] if len(parts) > 1 else ""
    label, ending = rest[:-4], rest[-4:]
    numbered = 1 <= len(number) <= 9 and set(number) <= digits and label and set(label) <= digits
    if numbered and ending == ".png":
        one_label = len(label) == 1 and (folder not in digits or folder == label)
        return "image" if one_label and number != "123456789" else "refused"
    in_label_folder = folder in digits and base.endswith(".png")
    return "image of the other layout" if in_label_folder else "refused"


KINDS = (
    [tarfile.REGTYPE] * 20 + [tarfile.DIRTYPE] * 4 + [bytes([kind]) for kind in b"\x001234567DMVZ?"]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
HARMLESS = ["", "a/", "./", "a/./b//", ".a/", "é/", "7/", "a/5/", "77/"]
FOLDERS = st.sampled_from(HARMLESS * 3 + ["../", "a/../", "/", "//s/", "C:/", "a\n\\/"])
NUMBERS = st.sampled_from(
    ["7", "00007", "123456789", "1234567890", "٣", "1_0", "-1", "+1", " 1", ""]
)
ENDS = st.sampled_from(
    ["_7.png", "_10.png", "_٣.png", "_.png", "_7.PNG", "_7.png\n", "_7.png/", ".png"]
)
LITTER = ["README.md", "LICENSE", "Thumbs.db", "desktop.ini", ".DS_Store", "._1_7.png", "notes.md"]
NAMES = st.one_of(
    st.builds("{}{}_{}.png".format, FOLDERS, st.integers(0, 10**9), st.integers(0, 11)),
    st.builds("{}{}{}".format, FOLDERS, NUMBERS, ENDS),
    st.builds(
        "{}{}7_7.png".format, FOLDERS, st.sampled_from([".", "._", "..", "a\\", "\x1b[2J", "\n"])
    ),
    st.builds("{}{}/7_7.png".format, FOLDERS, TEXT),
    st.builds("{}{}".format, FOLDERS, st.sampled_from(LITTER)),
    st.builds("{}{}/{}.png".format, FOLDERS, st.integers(0, 11), st.integers(0, 10**9) | TEXT),
    st.builds("{}/{}_{}.png".format, st.integers(0, 3), st.integers(0, 9), st.integers(0, 3)),
    TEXT,
)


def test_every_name_and_kind_is_read_skipped_or_refused(read):
    tried = Counter()

    @settings(
        max_examples=500,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(NAMES, st.sampled_from(KINDS))
    def check(name, kind):
        regular = kind in (tarfile.REGTYPE, tarfile.AREGTYPE) and not is_folder(name, kind)
        this = member(name, png() if regular else b"", kind)
        expected = verdict(name, kind)
        tried[expected] += 1
        first, count = (name, 2) if expected == "refused" else ("other.txt", 1)
        with pytest.raises(DataError) as error:  # names the first offender, and counts them
            read(tar(GOOD, this, member("other.txt", b"x")))
        shown = first.rstrip("/") if is_folder(first, kind) else first
        assert f": {shown!r} (files that cannot be used: {count})" in str(error.value)
        if expected == "refused":
            with pytest.raises(DataError):
                read(tar(GOOD, this))
        elif expected == "image of the other layout":
            with pytest.raises(DataError, match="choose one way"):
                read(tar(GOOD, this))
            assert len(read(tar(this))[0]) == 1
        else:
            assert len(read(tar(GOOD, this))[0]) == 1 + (expected == "image")

    check()
    assert tried.total() >= 500 and min(tried.values()) >= 25 and len(tried) == 4, tried


def old_gnu_sparse(extended):
    header = bytearray(member("1_1.png", png(), tarfile.GNUTYPE_SPARSE, tarfile.GNU_FORMAT))
    header[482] = extended
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


SPARSE_1_0 = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
SPARSE_1_0 |= {"GNU.sparse.name": "1_1.png", "GNU.sparse.realsize": str(len(png()))}
SPARSE = {
    "old GNU": old_gnu_sparse(0),
    "old GNU, cut off": old_gnu_sparse(1)[:512],
    "pax 0.1": pax("1_1.png", png(), **{"GNU.sparse.map": f"0,{len(png())}"}),
    "pax 0.1, nonsense": pax("1_1.png", png(), **{"GNU.sparse.map": "a,b"}),
    "pax 1.0": pax("1_1.png", b"1\n0\n784\n".ljust(512, b"\0") + png(), **SPARSE_1_0),
    "pax 1.0, nonsense": pax("1_1.png", b"x" * 512, **SPARSE_1_0),
}


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_members_are_refused(read, name):
    end = b"" if "cut" in name else END
    with pytest.raises(DataError, match=None if "," in name else "not a regular file: '1_1.png'"):
        read(tar(GOOD, SPARSE[name], end=end))


@pytest.mark.parametrize("size", [0, 64 * 1024, 64 * 1024 + 1])
def test_members_have_1_byte_to_64_kib(read, size):
    padding = bytes(max(0, size - len(png()) - 12))
    content = with_chunk(b"teSt", padding) if size else b""
    assert len(content) == size
    if size == 64 * 1024:
        assert np.array_equal(read(tar(member("1_1.png", content)))[0][0], IMAGES[0])
    else:
        with pytest.raises(DataError, match=f"{size:,} bytes"):
            read(tar(GOOD, member("1_1.png", content)))


@pytest.mark.parametrize("second", ["1_1.png", "1_2.png", "b/00001_1.png"])
def test_a_number_occurs_once(read, second):
    with pytest.raises(DataError, match=f"number 1: '{second}'"):
        read(tar(member("1_1.png", png()), member(second, png())))


def test_how_many_offenders_there_are_is_said(read):
    with pytest.raises(DataError, match=r"'x0' \(files that cannot be used: 1,500\)"):
        read(tar(GOOD, *[member(f"x{n}", b"x") for n in range(1500)]))


# Limits


def test_the_limits_are_those_promised():
    assert archive.MAX_MEMBERS == 200_000
    assert archive.MAX_MEMBER_BYTES == 64 * 1024
    assert archive.MAX_BYTES == 1024**3


def test_no_more_members_than_the_limit(outcome, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 6)
    assert outcome(PLAIN) == "same"
    monkeypatch.setattr(archive, "MAX_MEMBERS", 5)
    assert outcome(PLAIN) == "refused"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("where", ["end", "dotfile", "directory"])
def test_no_more_bytes_unpacked_than_the_limit(outcome, monkeypatch, pack, where):
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 20)
    zeros = bytes(1 << 20)
    extra = {
        "end": zeros,
        "dotfile": member(".zeros", zeros),
        "directory": member("zeros", zeros, tarfile.DIRTYPE),
    }
    bomb = PLAIN + zeros if where == "end" else tar(extra[where], PLAIN, end=b"")
    assert outcome(pack(PLAIN)) == "same"
    assert outcome(pack(bomb)) == "refused"


EXTENDED = [tarfile.XHDTYPE, tarfile.XGLTYPE, b"X", b"L", b"K"]


@pytest.mark.parametrize("kind", EXTENDED)
def test_chained_headers_are_refused(read, kind):
    for count in (200, 2_000, 20_000):
        with pytest.raises(DataError):
            read(tar(member("h", kind=kind) * count, GOOD))


def repeated(start, block, mebibytes):
    """A gzip file, small, that unpacks to `start` and so many MiB of `block`."""
    return gzip.compress(start) + gzip.compress(block * ((8 << 20) // len(block))) * (
        mebibytes // 8
    )


def claims(kind):
    """An extended header that says it goes on for 7 GiB."""
    info = tarfile.TarInfo("h")
    info.type, info.size = kind, 7 << 30
    return info.tobuf(tarfile.USTAR_FORMAT) + bytes(512)


def bombs():
    """Small files that a careless reader unpacks to more than 512 MiB."""
    sparse_map = struct.pack("12s12s", b"%011o" % 8, b"%011o" % 8) * 21 + b"\1"
    sparse_1_0 = pax("1_1.png", comment="x", **SPARSE_1_0) + b"999999999\n" + b"0\n" * 251
    huge = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    zeros = zlib.compress(bytes(60_000_000), 9)
    pngs = {
        "IHDR": png()[:8] + huge + png()[33:],
        "IDAT": png()[:33] + chunk(b"IDAT", zeros) + chunk(b"IEND", b""),
        "zTXt": with_chunk(b"zTXt", b"k\0\0" + zeros),
        "iTXt": with_chunk(b"iTXt", b"k\0\1\0\0\0" + zeros),
        "iCCP": with_chunk(b"iCCP", b"k\0\0" + zeros),
    }
    return {
        **{f"header {kind}": GOOD + claims(kind) for kind in EXTENDED},
        **{f"packed {kind}": repeated(GOOD + claims(kind), bytes(512), 800) for kind in EXTENDED},
        "old GNU sparse": repeated(
            GOOD + old_gnu_sparse(1)[:512], sparse_map.ljust(512, b"\0"), 160
        ),
        "pax sparse": repeated(GOOD + sparse_1_0, b"0\n", 160),
        "chain": repeated(GOOD, member("h", kind=b"L"), 160),
        **{name: tar(GOOD, member("1_1.png", content)) for name, content in pngs.items()},
    }


UNDER_A_LIMIT = """
import resource, sys
import PIL.PngImagePlugin
from digits.tarball import read_tarball
from files import DataError
used = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmData" in line)
resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + (512 << 20),) * 2)
for path in sys.argv[1:]:
    try:
        print(len(read_tarball(path)[0]), "images")
    except DataError as error:
        print(error if isinstance(error.__cause__, DataError) else repr(error.__cause__))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_bombs_do_not_fill_the_memory(tmp_path):
    paths = [tmp_path / f"{name}.tar" for name in bombs()]
    for path, content in zip(paths, bombs().values(), strict=True):
        path.write_bytes(content)
    run = subprocess.run(
        [sys.executable, "-c", UNDER_A_LIMIT, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    refused = 0
    for path, line in zip(paths, run.stdout.splitlines(), strict=True):
        if path.stem != "IDAT":  # Pillow decodes its 28 rows and no more
            assert line.startswith(f"{path}: ") and "Memory" not in line, line
            refused += 1
    assert refused == 17


# Writing


def test_written_tarballs_read_back(tmp_path):
    path = tmp_path / "new" / "train.tar"
    write_tarball(path, torch.from_numpy(IMAGES), torch.tensor(LABELS), "train")
    images, labels = read_tarball(path)
    assert np.array_equal(images, IMAGES) and labels.tolist() == LABELS
    with tarfile.open(path) as oracle:
        assert oracle.getnames()[-1] == "train/00005_2.png"
    assert os.listdir(path.parent) == ["train.tar"]


def fails(error):
    def fail(*_):
        raise error

    return fail


def reads_differently(path):
    images, labels = read_tarball(path)
    return images ^ 1, labels


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("old", [True, False], ids=["over an old file", "first"])
@pytest.mark.parametrize(
    ("place", "fault", "raised"),
    [
        ("files.os.fsync", fails(FULL), OSError),
        ("files.os.replace", fails(FULL), OSError),
        ("files.os.fsync", fails(KeyboardInterrupt()), KeyboardInterrupt),
        ("digits.tarball.read_tarball", fails(DataError("damaged")), DataError),
        ("digits.tarball.read_tarball", reads_differently, DataError),
    ],
)
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, old, place, fault, raised):
    path = tmp_path / "train.tar"
    if old:
        path.write_bytes(b"old")
    monkeypatch.setattr(place, fault)
    with pytest.raises(raised):
        write_tarball(path, torch.from_numpy(IMAGES), torch.tensor(LABELS), "train")
    assert os.listdir(tmp_path) == ["train.tar"] * old
    assert not old or path.read_bytes() == b"old"


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as POSIX does")
def test_a_disk_that_takes_only_part_leaves_what_was_there(tmp_path):
    import resource

    path = tmp_path / "train.tar"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError):
            write_tarball(path, torch.from_numpy(IMAGES), torch.tensor(LABELS), "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["train.tar"] and path.read_bytes() == b"old"


@pytest.mark.parametrize("labels", [[10] * 6, [-1] * 6, LABELS[:5]])
def test_labels_that_cannot_be_read_back_are_not_written(tmp_path, labels):
    with pytest.raises((DataError, ValueError)):
        write_tarball(tmp_path / "train.tar", torch.from_numpy(IMAGES), torch.tensor(labels), "a")
    assert not os.listdir(tmp_path)


# What names mean


def images_in(files):
    """A tar archive of one image for each name; the images have the numbers 0, 1, 2 as pixels."""
    return tar(*(member(name, grey(number)) for number, name in enumerate(files)))


def grey(value):
    return png(np.full((28, 28), value, np.uint8))


def read_in_order(read, files):
    """Which of these files come, in the order in which they come, with their labels."""
    images, labels = read(images_in(files))
    return [
        (files[image[0, 0]], label) for image, label in zip(images, labels.tolist(), strict=True)
    ]


def test_labels_may_be_folders_with_numbers_that_go_through(read):
    files = ["9/00002.png", "x/0/00010.png", "train/9/00000.png"]
    assert read_in_order(read, files) == [(files[2], 9), (files[0], 9), (files[1], 0)]


def test_where_numbers_begin_anew_the_labels_are_mixed_evenly(read):
    ones, twos = [f"1/{n}.png" for n in (0, 1, 9, 10)], [f"2/{n}.png" for n in (3, 10)]
    expected = [ones[0], twos[0], ones[1], ones[2], twos[1], ones[3]]
    for files in (ones + twos, twos[::-1] + ones[::-1]):
        in_order = [name for name, _ in read_in_order(read, files)]
        assert in_order == expected


def test_names_in_label_folders_need_not_be_numbers(read):
    files = ["7/img10.png", "7/img9.png", "3/Ä b_1.png", "7/5_7.txt.png", "3/12345678901.png"]
    found = dict(read_in_order(read, files))
    assert found == {name: int(name[0]) for name in files}
    in_order = [name for name, _ in read_in_order(read, files)]
    assert in_order.index("7/img9.png") < in_order.index("7/img10.png")


def test_the_order_does_not_depend_on_bytes_that_no_checksum_covers(read):
    """A pax record may give another name; the order follows the name in the header."""
    names = enumerate("xay")
    files = [pax(f"a/5/image{n}.png", grey(n), path=f"a/5/{name}.png") for n, name in names]
    images, _ = read(tar(*files))
    assert images[:, 0, 0].tolist() == [0, 1, 2]


def test_a_pax_record_cannot_change_a_label_that_is_a_folder(read):
    for path in ("a/6/1.png", "a/5/2.png", "a/55/1.png", "a/5/b/1.png", "5/._1.png", "1_5.png"):
        with pytest.raises(DataError, match="no checksum covers|label 55|not named"):
            read(tar(pax("a/5/1.png", png(), path=path)))


OTHER_NAMES = {
    "mixture": (["0/1.png", "2_0.png"], "choose one way"),
    "two labels": (["5/1_6.png"], "its folder says the label 5, its name says 6"),
    "label 10": (["1_10.png"], "the label 10, but labels are 0 to 9"),
    "label 25": (["a/25/1.png"], "the label 25, but labels are 0 to 9"),
    "label 07": (["07/1.png"], "the label 07, but labels are 0 to 9"),
    "no label": (["five/1.png"], "not named"),
    "JPEG by name": (["5/1.jpg"], "not named"),
}


@pytest.mark.parametrize(("files", "why"), OTHER_NAMES.values(), ids=OTHER_NAMES)
def test_other_names_are_refused_with_words_that_say_what_is_wanted(read, files, why):
    with pytest.raises(DataError, match=why) as error:
        read(images_in(files))
    for words in ("28 x 28", "grey", "PNG", "labels 0 to 9", "python -c", "convert('L')"):
        assert words in str(error.value)


def test_the_same_file_occurs_once(read):
    for names in (["5/1.png", "5/1.png"], ["5/1.png", "./5//1.png"]):
        with pytest.raises(DataError, match="a second image has the name 5/1.png"):
            read(images_in(names))
    assert len(read(images_in(["a/5/1.png", "b/5/1.png"]))[0]) == 2


@pytest.mark.parametrize(
    "content",
    {
        "colour": png(np.zeros((28, 28, 3), np.uint8)),
        "32 x 32": png(np.zeros((32, 32), np.uint8)),
        "JPEG": b"\xff\xd8\xff\xe0" * 99,
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_no_such_picture_is_refused_with_a_command_that_converts(read, content):
    with pytest.raises(DataError, match="python -c") as error:
        read(tar(member("5/1.png", content[1])))
    assert str(error.value).count("\n") == 0
    with pytest.raises(DataError) as error:  # what is damaged is not to be converted
        read(tar(member("5/1.png", png()[:-20])))
    assert "python -c" not in str(error.value) and "good copy" in str(error.value)


def test_the_command_that_converts_does_so(tmp_path):
    command = re.search(r'python -c "(.*)"', tarball.WANTED)[1]
    Image.fromarray(np.full((50, 40, 3), 200, np.uint8)).save(tmp_path / "in.jpg")
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    content = (tmp_path / "out.png").read_bytes()
    assert set(decode_png(content)) == {200}


def test_litter_is_passed_over_with_one_line_that_counts_it(read, capsys):
    names = [".DS_Store", "a/._1_5.png", "__MACOSX/a/1_5.png", "Thumbs.db", "x/desktop.ini"]
    names += ["README", "readme.txt", "LICENSE.md"]
    images, _ = read(tar(*(member(name, b"litter") for name in names), GOOD))
    assert len(images) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "passed over 8 files such as '.DS_Store'" in told
    read(tar(GOOD))
    assert capsys.readouterr().err == ""


# One file for both splits

BOTH = ["mnist_png/training/5/0.png", "mnist_png/testing/7/0.png", "mnist_png/training/4/1.png"]


def test_a_file_with_both_splits_gives_the_one_that_is_asked_for(tmp_path):
    path = tmp_path / "mnist_png.tar"
    path.write_bytes(images_in(BOTH))
    for split, pixels, labels in (("train", [0, 2], [5, 4]), ("test", [1], [7])):
        images, found = read_tarball(path, split)
        assert images[:, 0, 0].tolist() == pixels and found.tolist() == labels


@pytest.mark.parametrize("split", ["train", "test"])
def test_in_a_file_with_both_splits_every_image_is_in_one(tmp_path, split):
    path = tmp_path / "mnist_png.tar"
    path.write_bytes(images_in([*BOTH, "mnist_png/5/9.png"]))
    with pytest.raises(DataError, match="neither in a folder training/ nor"):
        read_tarball(path, split)
    path.write_bytes(images_in(["train/5/9.png"]))
    if split == "test":
        with pytest.raises(DataError, match="it holds no images of the test split"):
            read_tarball(path, split)


# What lies in a folder


def names_of(split):
    stems = {"train": ["train", "training"], "test": ["test", "testing"]}[split]
    endings = ".tar .tar.gz .tgz .tar.bz2 .tbz2 .tar.xz .txz .zip".split()
    return [stem + ending for stem in (*stems, "mnist_png", "Mnist_PNG") for ending in endings]


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_form_is_found(tmp_path, split):
    assert find_data(tmp_path, split) is find_data(tmp_path / "nowhere", split) is None
    for name in names_of(split):
        (tmp_path / name).touch()
        assert find_data(tmp_path, split) == tmp_path / name
        assert (find_data(tmp_path, "test" if split == "train" else "train") is None) != (
            name.lower().startswith("mnist_png")
        )
        (tmp_path / name).unlink()
    for name in (split, f"{split}ing".replace("training", "training"), "mnist_png"):
        (tmp_path / name).mkdir()
        assert find_data(tmp_path, split) == tmp_path / name
        (tmp_path / name).rmdir()


@pytest.mark.parametrize("second", ["train.tar.gz", "train.zip", "train", "mnist_png.zip"])
def test_two_things_that_could_be_meant_are_refused(tmp_path, second):
    (tmp_path / "train.tar").touch()
    path = tmp_path / second
    path.touch() if path.suffix else path.mkdir()
    with pytest.raises(DataError, match="could both be meant; move one of them away") as error:
        find_data(tmp_path, "train")
    assert "train.tar and " in str(error.value) or " and train.tar " in str(error.value)
    assert second in str(error.value)


def test_what_has_the_name_but_not_the_kind_is_refused(tmp_path):
    (tmp_path / "train.tar").mkdir()
    (tmp_path / "test").touch()
    with pytest.raises(DataError, match="train.tar: not a file"):
        find_data(tmp_path, "train")
    with pytest.raises(DataError, match="test: not a folder"):
        find_data(tmp_path, "test")
    (tmp_path / "train.tar").rmdir()
    try:
        (tmp_path / "train.tar").symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.raises(DataError, match="train.tar: not a file"):
        find_data(tmp_path, "train")


def test_other_names_are_not_found(tmp_path):
    for name in ("train.cache.npz", "train.rar", "trains.tar", "train.tar.old", "generated", "x"):
        (tmp_path / name).touch()
    assert find_data(tmp_path, "train") is None
