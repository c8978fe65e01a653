"""Reads images and labels from tar and zip archives and folders of pictures, and writes tarballs.

What was put in comes out, or `DataError` is raised: tarfile takes a damaged archive for a shorter
one, zipfile does not count, Pillow compares no checksums; this file does. A picture's label is in
its name, `{number}_{label}.png`, or is its folder's name, `{label}/{name}.png`.
"""

import io
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from digits.idx import MAX_BYTES, unpacked, unusable
from files import DataError, write_whole

import numpy as np
import torch
from tqdm import tqdm

PICTURES = (".png", ".jpg", ".jpeg")
PNG = b"\x89PNG\r\n\x1a\n"
NEARLY = 16  # how far the channels of a grey JPEG may lie apart
NAME = re.compile(  # a folder that is a label; a number, perhaps with a label, or any name
    r"((.*/)?(?P<folder>[0-9])/|.*/)?((?P<number>[0-9]{1,9})(_(?P<label>[0-9]))?|[^/]*)"
    r"\.(png|jpe?g)",
    re.I | re.S,
)
SPLIT = re.compile(r"(.*/)?(train|test)(ing)?/.*", re.I | re.S)
LITTER = re.compile(
    r"(.*/)?(\.[^/]*|__macosx/.*|thumbs\.db|desktop\.ini|(readme|license)[^/]*)", re.I | re.S
)
Files = bytes | list[tuple[str, bytes]]  # of an archive, or the names and contents of a folder
Picture = tuple[int, int, str, bytes]  # its number, -1 if it has none; label, name, 784 pixels
progress = partial(tqdm, delay=2, leave=False, disable=None)  # a bar for what takes over 2 s


def read_tarball(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (uint8, N x 28 x 28) and labels (int64, N) of an archive or a folder; DataError."""
    try:
        return decode(load(Path(path)))
    except Exception as error:  # the libraries raise almost anything
        raise unusable(path, error) from error


def load(path: Path) -> Files:
    """All bytes of an archive, or name and content of each file in a folder; DataError, OSError."""
    if not path.is_dir():
        return path.read_bytes()
    files = []
    for place, folders, names in os.walk(path):  # in a third of rglob's time
        folders.sort()
        inner = Path(place).relative_to(path).as_posix()
        for name in sorted([*names, *folders]):
            file, name = f"{place}/{name}", f"{inner}/{name}".removeprefix("./")
            mode = os.lstat(file).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise DataError(f"not a regular file (links are not followed): {name!r}")
            if stat.S_ISREG(mode) and not LITTER.fullmatch(name):
                files.append((name, Path(file).read_bytes()))
    return files


def members(files: Files) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in a tar archive, packed or not, a zip archive or a folder."""
    if isinstance(files, list):
        yield from files
    elif files.startswith(b"PK\3\4"):
        with zipfile.ZipFile(io.BytesIO(files)) as archive:
            entries, end = archive.infolist(), len(files) - 22 - len(archive.comment)
            count = int.from_bytes(files[end + 10 : end + 12], "little")
            if count not in (len(entries), 0xFFFF):  # 0xFFFF: too many for this field
                raise DataError("damaged: its directory is not whole")
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise DataError("more than 1 GiB unpacked")
            for entry in entries:
                if entry.file_size or not entry.is_dir():
                    with archive.open(entry) as file:  # read() without a size has no limit
                        yield entry.filename.replace("\\", "/"), file.read(entry.file_size)
    else:
        content = unpacked(files)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for member in tar:
                if member.isfile() and not member.issparse():
                    start = member.offset_data
                    yield member.name, content[start : start + member.size]
                elif not member.isdir():
                    raise DataError(f"not a regular file: {member.name[:200]!r}")
            end = content[tar.offset :]
        if len(end) < 1024 or end.count(0) != len(end):
            raise DataError("damaged: it does not end as a tar archive, images may be missing")


def decode(files: Files, split: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    """Images (uint8, N x 28 x 28) and labels (int64, N); of both splits, the one that is named.

    If no two pictures have the same number, they come in the order of the numbers. Otherwise each
    label's come in the order of their names, and the labels are mixed evenly, so that the last ones
    (`--val-size`) show all digits.
    """
    pictures: list[Picture] = []
    keys, offenders = set(), []
    for name, content in progress(members(files), unit=" files"):
        if LITTER.fullmatch(name):
            continue
        try:
            if split:
                folder = SPLIT.fullmatch(name)
                if not folder:
                    raise DataError("neither in a folder training/ nor in a folder testing/")
                if folder[2].lower() != split:
                    continue
            key, number, label = _meaning(name)
            if key in keys:
                raise DataError(f"a second picture with the number or the name {key!r}")
            keys.add(key)
            pictures.append((number, label, name, _pixels(content)))
        except Exception as error:
            why = error if isinstance(error, DataError) else f"damaged ({type(error).__name__})"
            offenders.append(f"{why}: {name[:200]!r}")  # a name may hold control characters
    if offenders:
        raise DataError(f"{offenders[0]} (files that cannot be used: {len(offenders):,})")
    if not pictures:
        raise DataError(f"it holds no pictures{f' of the {split} split' if split else ''}")
    numbers = {number for number, *_ in pictures} - {-1}
    pictures = sorted(pictures) if len(numbers) == len(pictures) else _mixed(pictures)
    pixels = bytearray().join(pixels for *_, pixels in pictures)
    labels = torch.tensor([label for _, label, *_ in pictures])
    return torch.frombuffer(pixels, dtype=torch.uint8).view(-1, 28, 28), labels


def _meaning(name: str) -> tuple[int | str, int, int]:
    """The number or name that no other picture may have, the number or -1, and the label."""
    match = NAME.fullmatch(name)
    labels = {match["folder"], match["label"]} - {None} if match else set()
    if match is None or len(labels) != 1:
        raise DataError("not a picture named {number}_{0 to 9}.png or {0 to 9}/{name}.png")
    number = int(match["number"] or -1)
    return number if match["label"] else name, number, int(labels.pop())


def _pixels(content: bytes) -> bytes:
    """The 784 bytes of a PNG or JPEG of 28 x 28 pixels without colours."""
    from PIL.JpegImagePlugin import JpegImageFile  # much faster than Image.open
    from PIL.PngImagePlugin import PngImageFile

    if is_png := content.startswith(PNG):
        offset, kind = len(PNG), b""
        while kind != b"IEND":
            length, kind = struct.unpack_from(">I4s", content, offset)
            end = offset + 8 + length
            if struct.unpack_from(">I", content, end)[0] != zlib.crc32(content[offset + 4 : end]):
                raise DataError("a damaged PNG (CRC)")
            offset = end + 4
    picture = (PngImageFile if is_png else JpegImageFile)(io.BytesIO(content))
    if picture.size != (28, 28):
        size = f"{picture.width} x {picture.height}"
        raise DataError(f"{size} pixels instead of 28 x 28, data/README.md converts a folder")
    if picture.mode == "L" and "transparency" not in picture.info:
        return picture.tobytes()
    if picture.mode.startswith("I"):  # 16 bits
        return (np.asarray(picture) / 257).round().astype(np.uint8).tobytes()
    channels = np.asarray(picture.convert("RGBA")).astype(int)
    if channels[..., 3].min() < 255 or np.ptp(channels[..., :3], 2).max() > NEARLY * (not is_png):
        raise DataError("a picture with colours or transparent pixels, make it grey")
    return channels[..., 1].astype(np.uint8).tobytes()


def _mixed(pictures: list[Picture]) -> list[Picture]:
    """The pictures with their labels mixed evenly, each label's in the order of their names."""
    pictures = sorted(pictures, key=lambda picture: picture[2])
    # 9.png comes before 10.png
    pictures.sort(key=lambda picture: re.sub("[0-9]+", lambda n: n[0].zfill(20), picture[2]))
    places = []
    for label in range(10):
        group = [picture for picture in pictures if picture[1] == label]
        places += [((n + 0.5) / len(group), picture) for n, picture in enumerate(group)]
    return [picture for _, picture in sorted(places, key=lambda place: place[0])]


def write_tarball(
    path: str | Path, images: torch.Tensor, labels: torch.Tensor, folder: str
) -> None:
    """Write images (uint8, N x 28 x 28) and labels (N) as `{folder}/{number}_{label}.png`."""
    write_whole(path, pack(images, labels, folder))


def pack(images: torch.Tensor, labels: torch.Tensor, folder: str) -> bytes:
    """The bytes of such a tarball; DataError, ValueError if they would not read back the same."""
    from PIL import Image

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        pairs = zip(images.numpy(), labels.tolist(), strict=True)
        for number, (image, label) in enumerate(progress(pairs, unit=" images")):
            png, member = io.BytesIO(), tarfile.TarInfo(f"{folder}/{number:05d}_{label}.png")
            Image.fromarray(image).save(png, "PNG", compress_level=1)
            member.size = png.tell()
            png.seek(0)
            tar.addfile(member, png)
    if not all(map(torch.equal, decode(buffer.getvalue()), (images, labels))):
        raise DataError(f"{folder}: a tarball of these images would not read back the same")
    return buffer.getvalue()
