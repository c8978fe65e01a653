"""Every way of packing gives the images that were put in, or DataError; attempts are counted."""

import bz2
import gzip
import io
import lzma
import os
import random
import re
import stat
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import (
    CONTAINERS,
    IMAGES,
    LABELS,
    LAYOUTS,
    PACKERS,
    Unseekable,
    files_named,
    flipped,
    member,
    png,
    put,
    tarred,
    zipped,
)

from digits import archive
from digits.tarball import read_tarball
from files import DataError

ROOT = Path(__file__).parents[2]
FILES = {layout: files_named(pattern) for layout, pattern in LAYOUTS.items()}
NUMBERED = FILES["labels in names"]
PACKED = [container for container in CONTAINERS if container != "folder"]


def outcome(path):
    """'same' or 'refused', in one line that names the file; fails where something differs."""
    try:
        images, labels = read_tarball(path)
    except DataError as error:
        assert str(error).startswith(f"{path}: ") and str(error).isprintable()
        return "refused"
    assert np.array_equal(images.numpy(), IMAGES), "SILENT difference in images"
    assert labels.tolist() == LABELS, "SILENT difference in labels"
    return "same"


def refused(path, why):
    with pytest.raises(DataError, match=why) as error:
        read_tarball(path)
    assert str(error.value).isprintable()


# Whole or not at all


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_what_is_put_in_comes_out(tmp_path, container, layout):
    path = put(tmp_path / "train", container, FILES[layout])
    images, labels = read_tarball(path)
    assert images.dtype == torch.uint8 and labels.dtype == torch.int64
    assert outcome(path) == "same"


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_order_in_which_images_were_put_in_does_not_matter(tmp_path, container):
    files = list(NUMBERED.items())
    random.Random(0).shuffle(files)
    assert outcome(put(tmp_path / "train", container, dict(files))) == "same"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("container", PACKED)
def test_no_damage_differs_in_silence(tmp_path, container, layout):
    path = tmp_path / "train"
    content = PACKERS[container](FILES[layout])
    bits = random.Random(1).sample(range(8 * len(content)), 300)
    tried = Counter()
    for damaged in flipped(content, bits):
        path.write_bytes(damaged)
        tried[outcome(path)] += 1
    assert tried.total() == 300 and tried["refused"] > 100
    cuts = [*range(0, len(content), max(1, len(content) // 50)), len(content) - 1]
    for cut in cuts:
        path.write_bytes(content[:cut])
        assert outcome(path) == "refused"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_damage_to_a_file_in_a_folder_differs_in_silence(tmp_path, layout):
    put(tmp_path / "train", "folder", FILES[layout])
    choice, tried = random.Random(1), Counter()
    for name, content in FILES[layout].items():
        path = tmp_path / "train" / name
        for damaged in flipped(content, choice.sample(range(8 * len(content)), 50)):
            path.write_bytes(damaged)
            tried[outcome(tmp_path / "train")] += 1
        path.write_bytes(content[: choice.randrange(len(content))])
        tried[outcome(tmp_path / "train")] += 1
        path.write_bytes(content)
    assert tried == {"refused": 6 * 51}


@pytest.mark.parametrize("container", PACKED)
def test_bytes_around_an_archive_are_refused(tmp_path, container):
    path, content = tmp_path / "train", PACKERS[container](NUMBERED)
    for changed in (content + b"x", content + content, b"x" + content, content + content[:99]):
        path.write_bytes(changed)
        assert outcome(path) == "refused"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_may_have_several_parts(tmp_path, pack):
    path, content = tmp_path / "train", tarred(NUMBERED)
    path.write_bytes(pack(content[:2000]) + pack(content[2000:]))
    assert outcome(path) == "same"
    path.write_bytes(pack(content[:2048]))
    assert outcome(path) == "refused"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_to_several_bytes_of_a_zip_directory_never_differs_in_silence(tmp_path, layout):
    """Names, places and lengths are there, which no checksum covers."""
    path = tmp_path / "train.zip"
    content = zipped(FILES[layout])
    start = content.index(b"PK\1\2")
    choice, tried = random.Random(2), Counter()
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(choice.randint(1, 4)):
            damaged[choice.randrange(start, len(content))] = choice.choice(b"\0\1/0159_P\xff")
        path.write_bytes(damaged)
        tried[outcome(path)] += 1
    assert tried.total() == 300 and tried["refused"] > 100


# zip


def test_a_member_that_the_directory_has_lost_is_missed(tmp_path):
    content = bytearray(zipped(NUMBERED))
    first, second = content.index(b"PK\1\2"), content.index(b"PK\1\2", content.index(b"PK\1\2") + 4)
    end = content.index(b"PK\5\6")
    del content[first:second]
    end -= second - first
    count, size = 5, end - first
    struct.pack_into("<2HI", content, end + 8, count, count, size)
    path = tmp_path / "train.zip"
    path.write_bytes(content)
    assert len(zipfile.ZipFile(path).namelist()) == 5  # the library does not notice
    refused(path, "does not begin as a zip archive")


def test_names_in_the_directory_and_at_the_members_agree(tmp_path):
    path = tmp_path / "train.zip"
    content = zipped(NUMBERED)
    for changed in (b"00000_6", b"00000_\0", b"00000/5", b"00000_5".replace(b"_", b"\xc3")):
        at = content.rindex(b"00000_5")  # in the directory
        path.write_bytes(content[:at] + changed + content[at + 7 :])
        refused(path, "do not agree")


def test_windows_folders_and_comments_are_read(tmp_path):
    path = tmp_path / "train.zip"
    files = {
        name.replace("/", "\\"): content for name, content in FILES["labels as folders"].items()
    }
    path.write_bytes(zipped({zipfile.ZipInfo("5\\"): b""} | files))
    assert outcome(path) == "same"
    path.write_bytes(zipped(NUMBERED))
    with zipfile.ZipFile(path, "a") as added:
        added.comment = b"made by hand"
    assert outcome(path) == "same"


def test_the_zip_program_makes_archives_that_are_read(tmp_path):
    put(tmp_path / "train", "folder", FILES["labels as folders"])
    (tmp_path / "train" / ".DS_Store").write_bytes(b"x")
    try:
        subprocess.run(["zip", "-qr", "train.zip", "train"], cwd=tmp_path, check=True)
    except FileNotFoundError:
        pytest.skip("there is no zip program")
    assert outcome(tmp_path / "train.zip") == "same"


def entry(name, **fields):
    info = zipfile.ZipInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


LINK = {"create_system": 3, "external_attr": (stat.S_IFLNK | 0o777) << 16}


HARMFUL = {
    "leads out": (entry("../9_9.png"), "leads out"),
    "leads out, Windows": (entry("a\\..\\..\\9_9.png"), "leads out"),
    "absolute": (entry("/9_9.png"), "leads out"),
    "drive": (entry("C:/9_9.png"), "leads out"),
    "litter that leads out": (entry("../.DS_Store"), "leads out"),
    "link": (entry("9_9.png", **LINK), "not a regular file"),
    "folder with content": (entry("a/"), "not a regular file"),
    "bzip2": (entry("9_9.png", compress_type=zipfile.ZIP_BZIP2), "other than deflate"),
    "lzma": (entry("9_9.png", compress_type=zipfile.ZIP_LZMA), "other than deflate"),
}


@pytest.mark.parametrize(("bad", "why"), HARMFUL.values(), ids=HARMFUL)
def test_members_that_could_do_harm_are_refused(tmp_path, bad, why):
    path = tmp_path / "train.zip"
    path.write_bytes(zipped(NUMBERED | {bad: png()}))
    refused(path, f"{why}.*cannot be used: 1")


def test_encrypted_members_are_refused(tmp_path):
    content = bytearray(zipped(NUMBERED))
    at = content.index(b"PK\1\2")
    content[at + 8] |= 1
    (tmp_path / "train.zip").write_bytes(content)
    refused(tmp_path / "train.zip", "encrypted; pack it again without a password")


@pytest.mark.parametrize("stream", [io.BytesIO, Unseekable], ids=["sizes before", "sizes after"])
@pytest.mark.parametrize("size", [0, 64 * 1024 + 1, 300_000_000])
def test_zip_members_have_1_byte_to_64_kib(tmp_path, size, stream):
    path = tmp_path / "train.zip"
    path.write_bytes(zipped(NUMBERED | {"9_9.png": bytes(size)}, stream=stream))
    refused(path, f"{size:,} bytes instead of 1 to 65,536")


def test_a_zip_member_that_says_less_than_it_holds_is_refused(tmp_path):
    path, zeros = tmp_path / "train.zip", bytes(60_000_000)
    content = bytearray(zipped({"9_9.png": zeros}))
    at = content.index(b"PK\1\2")
    struct.pack_into("<I", content, at + 16, zlib.crc32(zeros[:1000]))
    struct.pack_into("<I", content, at + 24, 1000)
    path.write_bytes(content)
    refused(path, r"damaged \(CRC\)")


# Limits


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_limits_hold_for_every_container(tmp_path, monkeypatch, container):
    path = put(tmp_path / "train", container, NUMBERED | {".zeros": bytes(50_000)})
    limits = {"MAX_MEMBERS": 10 if container == "folder" else 7, "MAX_BYTES": 60_000}
    for name, limit in limits.items():
        monkeypatch.setattr(archive, name, limit)
    assert outcome(path) == "same"
    monkeypatch.setattr(archive, "MAX_MEMBERS", 6)
    refused(path, "members or 1 GiB unpacked")
    monkeypatch.setattr(archive, "MAX_MEMBERS", 10)
    monkeypatch.setattr(archive, "MAX_BYTES", 50_000)
    refused(path, "members or 1 GiB unpacked")


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


def with_a_large_dictionary():
    """An xz file for whose reading 1.5 GiB of memory would be reserved."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0}]
    content = bytearray(lzma.compress(tarred(NUMBERED), filters=filters))
    header = content[12:24]  # of the block: its size, flags, one filter, the dictionary's size, CRC
    assert header[2:4] == b"\x21\x01"
    header[4] = 39
    content[12:24] = header[:8] + struct.pack("<I", zlib.crc32(header[:8]))
    return bytes(content)


def with_a_large_directory():
    """A zip file with 2,000,000 members in its directory, all of them the same."""
    content = zipped({"1_1.png": png()})
    first, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    directory = content[first:end] * 2_000_000
    tail = bytearray(content[end:])
    struct.pack_into("<I", tail, 12, len(directory))
    return content[:first] + directory + tail


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_bombs_do_not_fill_the_memory(tmp_path):
    zeros, headers = bytes(1 << 20), member("h", kind=b"L") * 40_000
    bombs = {
        "bzip2": bz2.compress(tarred(NUMBERED)) + bz2.compress(zeros) * 1500,
        "bzip2 of headers": bz2.compress(b"") + bz2.compress(headers) * 80,
        "xz": lzma.compress(tarred(NUMBERED)) + lzma.compress(zeros) * 1500,
        "xz dictionary": with_a_large_dictionary(),
        "zip directory": with_a_large_directory(),
    }
    paths = [tmp_path / f"{name}.tar" for name in bombs]
    for path, content in zip(paths, bombs.values(), strict=True):
        path.write_bytes(content)
    run = subprocess.run(
        [sys.executable, "-c", UNDER_A_LIMIT, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    lines = dict(zip(bombs, run.stdout.splitlines(), strict=True))
    for name, line in lines.items():
        assert "MemoryError" not in line and not re.fullmatch(r"\d+ images", line), name
    assert "Memory usage limit" in lines["xz dictionary"]
    assert "more than 200,000 members" in lines["zip directory"]


# Folders


def test_links_in_a_folder_are_not_followed(tmp_path):
    path = put(tmp_path / "train", "folder", NUMBERED)
    (tmp_path / "9_9.png").write_bytes(png())
    for target in (tmp_path / "9_9.png", tmp_path, tmp_path / "nowhere"):
        try:
            (path / "link").symlink_to(target)
        except OSError:
            pytest.skip("this system makes no links")
        refused(path, "links are not followed")
        (path / "link").unlink()
    assert outcome(path) == "same"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs in folders")
@pytest.mark.parametrize("when", ["before", "after the folder was listed"])
def test_a_fifo_in_a_folder_does_not_hang(tmp_path, monkeypatch, when):
    path = put(tmp_path / "train", "folder", NUMBERED)
    fifo = path / "train" / "00005_2.png"
    raised = []

    def replace():
        fifo.unlink()
        os.mkfifo(fifo)

    def listed_first(*arguments):
        replace()
        return content(*arguments)

    content = archive._file_content
    if when == "before":
        replace()
    else:
        os.unlink(path / "train" / "00000_5.png")
        monkeypatch.setattr(archive, "_file_content", lambda path: listed_first(path))

    def start():
        with pytest.raises(DataError) as error:
            read_tarball(path)
        raised.append(str(error.value))

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    thread.join(30)
    assert len(raised) == 1 and "not a regular file" in raised[0]


@pytest.mark.parametrize("change", ["longer", "shorter", "other bytes"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, change):
    path = put(tmp_path / "train", "folder", {"1_1.png": png()})
    file, fstat, calls = path / "1_1.png", os.fstat, []

    def changing(number):
        found = fstat(number)
        calls.append(number)
        if len(calls) == 2 or (len(calls) == 1 and change != "other bytes"):
            content = {"longer": png() + b"x", "shorter": png()[:-1]}.get(change, png()[::-1])
            file.write_bytes(content)
            os.utime(file, ns=(0, len(calls)))
        return fstat(number) if len(calls) == 2 else found

    monkeypatch.setattr(archive.os, "fstat", changing)
    refused(path, "changed while it was read")


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = put(tmp_path / "train", "folder", NUMBERED)

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(archive.os, "open", denied)
    refused(path, "Permission denied: 'train/00000_5.png'")


def test_an_empty_folder_and_one_of_litter_hold_no_images(tmp_path):
    path = tmp_path / "train"
    path.mkdir()
    refused(path, "it holds no images")
    (path / "5").mkdir()
    (path / "5" / ".DS_Store").touch()
    refused(path, "it holds no images")


def test_nothing_is_written_into_a_folder(tmp_path):
    path = put(tmp_path / "train", "folder", NUMBERED)
    before = sorted((one, one.stat().st_mtime_ns) for one in path.rglob("*"))
    read_tarball(path)
    assert sorted((one, one.stat().st_mtime_ns) for one in path.rglob("*")) == before
