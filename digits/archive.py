"""Reads images and labels from tar and zip archives and folders of pictures, and writes tarballs.

What was put in comes out, or `DataError` is raised: tarfile takes a damaged archive for a shorter
one and Pillow compares no checksums; this file does. A picture's label is in its name,
`{number}_{label}.png`, or is its folder's name, `{label}/{name}.png`.
"""

import io
import os
import re
import struct
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from digits.idx import naming, unpacked, unzipped
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
Files = bytes | dict[str, bytes]  # an archive, or names and contents of the files in a folder
progress = partial(tqdm, delay=2, leave=False, disable=None)  # a bar for what takes over 2 s


def read_tarball(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (uint8, N x 28 x 28) and labels (int64, N) of an archive or a folder; DataError."""
    with naming(path):
        return decode(load(Path(path)))


def load(path: Path) -> Files:
    """All bytes of a file, or name and content of each file in a folder; DataError, OSError."""
    return dict(walk(path)) if path.is_dir() else path.read_bytes()


def walk(folder: str | Path, inside: str = "") -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in a folder and the folders in it; `inside` begins names."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = inside + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path, f"{name}/")
        elif not entry.is_file(follow_symlinks=False):
            raise DataError(f"not a regular file (links are not followed): {name!r}")
        elif not LITTER.fullmatch(name):
            yield name, Path(entry.path).read_bytes()


def members(files: Files) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in a tar archive, packed or not, a zip archive or a folder."""
    if isinstance(files, dict):
        yield from files.items()
    elif files.startswith(b"PK\3\4"):
        for entry, file in unzipped(io.BytesIO(files)):
            content = file.read(entry.file_size)  # read() without a size has no limit
            yield entry.filename.replace("\\", "/"), content
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
        # More zeros than fill a record of 10,240 bytes stand where images were.
        if not 1024 <= len(end) < 1024 + 10_240 or end.strip(b"\0"):
            raise DataError("damaged: it does not end as a tar archive, images may be missing")


def decode(files: Files, split: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    """Images (uint8, N x 28 x 28) and labels (int64, N); of both splits, the one that is named.

    If no two pictures have the same number, they come in the order of the numbers. Otherwise each
    label's come in the order of their names, and the labels are mixed evenly, so that the last ones
    (`--val-size`) show all digits.
    """
    pictures, offenders = {}, []  # {number or name: (number or -1, label, name, pixels)}
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
            if key in pictures:
                raise DataError(f"a second picture with the number or the name {key!r}")
            pictures[key] = number, label, name, _pixels(content)
        except Exception as error:
            why = error if isinstance(error, DataError) else f"damaged ({type(error).__name__})"
            offenders.append(f"{why}: {name[:200]!r}")  # a name may hold control characters
    if offenders:
        raise DataError(f"{offenders[0]} (files that cannot be used: {len(offenders):,})")
    if not pictures:
        raise DataError(f"it holds no pictures{f' of the {split} split' if split else ''}")
    numbers, labels, names, pixels = zip(*pictures.values(), strict=True)
    are_unique = len({*numbers} - {-1}) == len(numbers)
    order = np.argsort(numbers) if are_unique else _mixed(labels, names)
    return torch.from_numpy(np.stack(pixels)[order]), torch.tensor(labels)[order]


def _meaning(name: str) -> tuple[int | str, int, int]:
    """The number or name that no other picture may have, the number or -1, and the label."""
    match = NAME.fullmatch(name)
    labels = {match["folder"], match["label"]} - {None} if match else set()
    if match is None or len(labels) != 1:
        raise DataError("not a picture named {number}_{0 to 9}.png or {0 to 9}/{name}.png")
    number = int(match["number"] or -1)
    return number if match["label"] else name, number, int(labels.pop())


def _mixed(labels: Sequence[int], names: Sequence[str]) -> list[int]:
    """An order that mixes the labels evenly and keeps each label's pictures in that of their names.

    9.png comes before 10.png.
    """
    padded = [re.sub("[0-9]+", lambda number: number[0].zfill(20), name) for name in names]
    order = sorted(range(len(names)), key=lambda n: (padded[n], names[n]))
    counts, seen, places = Counter(labels), Counter(), {}
    for n in order:
        places[n] = (seen[labels[n]] + 0.5) / counts[labels[n]]
        seen[labels[n]] += 1
    return sorted(order, key=lambda n: (places[n], labels[n]))


def _pixels(content: bytes) -> np.ndarray:
    """The pixels (uint8, 28 x 28) of a PNG or JPEG without colours."""
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
        return np.asarray(picture)
    if picture.mode.startswith("I"):  # 16 bits
        return (np.asarray(picture) / 257).round().astype(np.uint8)
    channels = np.asarray(picture.convert("RGBA"))
    if channels[..., 3].min() < 255 or np.ptp(channels[..., :3], 2).max() > NEARLY * (not is_png):
        raise DataError("a picture with colours or transparent pixels, make it grey")
    return channels[..., 1]


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
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG", compress_level=1)
            member = tarfile.TarInfo(f"{folder}/{number:05d}_{label}.png")
            member.size = png.tell()
            png.seek(0)
            tar.addfile(member, png)
    if not all(map(torch.equal, decode(buffer.getvalue()), (images, labels))):
        raise DataError(f"{folder}: a tarball of these images would not read back the same")
    return buffer.getvalue()
