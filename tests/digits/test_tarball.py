"""A tarball gives exactly the images that were put in, or DataError; every attempt is counted."""

import errno
import gzip
import io
import os
import random
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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from digits import tarball
from digits.tarball import decode_png, find_tarball, read_tarball, write_tarball
from files import DataError

ROOT = Path(__file__).parents[2]
END = bytes(1024)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8) * (RNG.random((6, 28, 28)) < 0.1)
LABELS = [5, 0, 4, 1, 9, 2]


def png(image=IMAGES[0], **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def with_chunk(kind, content):
    """A good PNG with one more chunk after its IHDR."""
    return png()[:33] + chunk(kind, content) + png()[33:]


def member(name, content=b"", kind=tarfile.REGTYPE, layout=tarfile.USTAR_FORMAT, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(layout, "utf-8") + content + bytes(-len(content) % 512)


def pax(name, content=b"", kind=tarfile.REGTYPE, **records):
    return member(name, content, kind, tarfile.PAX_FORMAT, pax_headers=records)


def tar(*members, end=END):
    return b"".join(members) + end


def images_named(pattern, header=member):
    """The members of all the images, by a pattern for their names."""
    pairs = enumerate(zip(IMAGES, LABELS, strict=True))
    return [header(pattern.format(n, label), png(image)) for n, (image, label) in pairs]


def own_and_pax_name(name, content):
    """As bsdtar writes long names: shortened in the header, whole in a pax record."""
    return pax("short/" + Path(name).name, content, path=name, mtime="1700000000.5")


PLAIN = tar(*images_named("train/{:05d}_{}.png"))
ARCHIVES = {
    "plain": PLAIN,
    "gzip": gzip.compress(PLAIN, mtime=0),
    "pax, not ASCII": tar(*images_named("zahlen-ä-数/{:05d}_{}.png", pax)),
    "pax, long": tar(*images_named("long" * 40 + "/{:05d}_{}.png", own_and_pax_name)),
}
GOOD = member("a/123456789_7.png", png())


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


def flipped(content, bits):
    """Copies of `content`, each with one bit turned over."""
    for bit in bits:
        copy = bytearray(content)
        copy[bit // 8] ^= 1 << bit % 8
        yield bytes(copy)


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
    bits = random.Random(1).sample(range(8 * len(content)), 2000)
    tried = Counter(map(outcome, flipped(content, bits)))
    assert tried.total() == 2000 and tried["refused"] > 800


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
    if base.startswith("."):
        return "skipped"
    number, _, rest = base.partition("_")
    digits = set("0123456789")
    image = 1 <= len(number) <= 9 and set(number) <= digits and rest[:1] in digits and rest[:1]
    return "image" if image and rest[1:] == ".png" and number != "123456789" else "refused"


KINDS = (
    [tarfile.REGTYPE] * 20 + [tarfile.DIRTYPE] * 4 + [bytes([kind]) for kind in b"\x001234567DMVZ?"]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
HARMLESS = ["", "a/", "./", "a/./b//", ".a/", "é/"]
FOLDERS = st.sampled_from(HARMLESS * 3 + ["../", "a/../", "/", "//s/", "C:/", "a\n\\/"])
NUMBERS = st.sampled_from(
    ["7", "00007", "123456789", "1234567890", "٣", "1_0", "-1", "+1", " 1", ""]
)
ENDS = st.sampled_from(
    ["_7.png", "_10.png", "_٣.png", "_.png", "_7.PNG", "_7.png\n", "_7.png/", ".png"]
)
NAMES = st.one_of(
    st.builds("{}{}_{}.png".format, FOLDERS, st.integers(0, 10**9), st.integers(0, 11)),
    st.builds("{}{}{}".format, FOLDERS, NUMBERS, ENDS),
    st.builds(
        "{}{}7_7.png".format, FOLDERS, st.sampled_from([".", "._", "..", "a\\", "\x1b[2J", "\n"])
    ),
    st.builds("{}{}/7_7.png".format, FOLDERS, TEXT),
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
        assert f": {shown!r} ({count} such members" in str(error.value)
        if expected == "refused":
            with pytest.raises(DataError):
                read(tar(GOOD, this))
        else:
            assert len(read(tar(GOOD, this))[0]) == 1 + (expected == "image")

    check()
    assert tried.total() >= 500 and min(tried.values()) >= 25 and len(tried) == 3, tried


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
    with pytest.raises(DataError, match=r"'x0' \(1,500 such members in all\)"):
        read(tar(GOOD, *[member(f"x{n}", b"x") for n in range(1500)]))


# Limits


def test_the_limits_are_those_promised():
    assert tarball.MAX_MEMBERS == 200_000
    assert tarball.MAX_MEMBER_BYTES == 64 * 1024
    assert tarball.MAX_TAR_BYTES == 1024**3


def test_no_more_members_than_the_limit(outcome, monkeypatch):
    monkeypatch.setattr(tarball, "MAX_MEMBERS", 6)
    assert outcome(PLAIN) == "same"
    monkeypatch.setattr(tarball, "MAX_MEMBERS", 5)
    assert outcome(PLAIN) == "refused"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("where", ["end", "dotfile", "directory"])
def test_no_more_bytes_unpacked_than_the_limit(outcome, monkeypatch, pack, where):
    monkeypatch.setattr(tarball, "MAX_TAR_BYTES", 1 << 20)
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
        print(error if type(error.__cause__) is DataError else repr(error.__cause__))
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


# PNGs


def test_every_truncation_of_a_png_is_refused():
    content = png()
    for cut in range(len(content)):
        with pytest.raises(DataError):
            decode_png(content[:cut])
    assert len(content) > 150
    assert decode_png(content) == IMAGES[0].tobytes()


def test_no_flip_in_a_png_differs_in_silence():
    content = png(RNG.integers(0, 256, (28, 28), dtype=np.uint8))
    bits = random.Random(2).sample(range(8 * len(content)), 1000)
    refused = 0
    for damaged in flipped(content, bits):
        with pytest.raises(DataError):
            decode_png(damaged)
        refused += 1
    assert refused == 1000


@pytest.mark.parametrize("options", [{"compress_level": 0}, {"optimize": True}, {"dpi": (72, 72)}])
def test_pngs_of_every_maker_decode(options):
    for image in IMAGES:
        assert decode_png(png(image, **options)) == image.tobytes()


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG"} | options)
    return buffer.getvalue()


GREY = Image.fromarray(IMAGES[0])
OTHERS = {
    "16-bit": saved(Image.fromarray(IMAGES[0].astype(np.uint16))),
    "colour": saved(GREY.convert("RGB")),
    "palette": saved(GREY.convert("P")),
    "alpha": saved(GREY.convert("LA")),
    "1-bit": saved(GREY.convert("1")),
    "27 wide": saved(GREY.crop((0, 0, 27, 28))),
    "29 high": saved(GREY.crop((0, 0, 28, 29))),
    "JPEG": saved(GREY, format="JPEG"),
    "animated": saved(GREY, save_all=True, append_images=[Image.fromarray(IMAGES[1])]),
    "two in one": png() + png(),
    "two headers": png()[:33] + png()[8:],
    "no pixels": png()[:33] + chunk(b"IEND", b""),
    "too few pixels": png()[:33] + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b""),
    "not deflated": png()[:33] + chunk(b"IDAT", b"x" * 99) + chunk(b"IEND", b""),
    "not first": png()[:8] + chunk(b"teSt", b"") + png()[8:],
    "no signature": b"x" + png()[1:],
    "empty": b"",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_images_are_refused(name):
    with pytest.raises(DataError):
        decode_png(OTHERS[name])


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


def test_find_tarball(tmp_path):
    assert find_tarball(tmp_path, "train") is None
    (tmp_path / "train.tar.gz").touch()
    assert find_tarball(tmp_path, "train") == tmp_path / "train.tar.gz"
    (tmp_path / "train.tar").touch()
    assert find_tarball(tmp_path, "train") == tmp_path / "train.tar"
    assert find_tarball(tmp_path, "test") is None
    (tmp_path / "test.tar").mkdir()
    with pytest.raises(DataError, match="not a file"):
        find_tarball(tmp_path, "test")
