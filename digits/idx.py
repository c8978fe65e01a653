"""MNIST's published format (IDX), its digests, and the mean and deviation of its pixels."""

import gzip
import hashlib
import io
import math
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from files import DataError

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, scaled to [0, 1]
BLACK = torch.tensor((0 - MEAN) / STD)  # a pixel of 0, normalised
NAMES = {"train": "train", "test": "t10k"}  # our name of each split: MNIST's
KINDS = ("images-idx3", "labels-idx1")  # of files; the last character is the number of dimensions
SHA256 = {  # published, of the uncompressed files; https://yann.lecun.com/exdb/mnist
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
PLACES = ("", "raw", "MNIST/raw")  # where torchvision puts the files, and their folder itself
MAX_FILE_BYTES = 1024**3  # unpacked


def parse_idx(content: bytes, rank: int) -> torch.Tensor:
    """The values (uint8, `rank` dimensions) in the bytes of an IDX file, or DataError.

    The file holds 0, 0, 8 (unsigned bytes) and the rank; each dimension in 4 bytes, big-endian;
    then the values.
    """
    start = 4 + 4 * rank
    if content[:4] != bytes([0, 0, 8, rank]) or len(content) < start:
        raise DataError(f"IDX file: no header for {rank} dimensions; get the file again")
    shape = np.frombuffer(content, ">u4", rank, offset=4).tolist()
    if len(content) != start + math.prod(shape):
        raise DataError(f"IDX file: {len(content):,} bytes do not hold {shape}; get the file again")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def rank(name: str) -> int:
    """The number of dimensions that the name of one of the four files tells."""
    return 3 if "images" in name else 1


def unpack(content: bytes, limit: int = MAX_FILE_BYTES) -> bytes:
    """The content, unpacked if it is gzip; DataError if it is damaged or longer than `limit`."""
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"damaged gzip ({error})") from error
    if len(content) > limit:
        raise DataError(f"more than {limit:,} bytes")
    return content


def read_file(path: Path) -> bytes:
    """The unpacked bytes of one of the four files, which is whole; DataError."""
    try:
        with open(path, "rb") as file:
            content = unpack(file.read(MAX_FILE_BYTES + 1))
        parse_idx(content, rank(path.name))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; make it readable") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return content


def stored(folder: Path, name: str) -> list[Path]:
    """The files in a folder that hold the IDX file `name`, unpacked or packed."""
    return [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]


def everywhere(root: Path, names: Iterable[str] = SHA256) -> list[Path]:
    """All files in `root`, and where torchvision would put them, that hold these IDX files."""
    return [path for place in PLACES for name in names for path in stored(root / place, name)]


def find(root: Path, split: str) -> Path | None:
    """The images' IDX file of a split, if it and the labels' are there and look whole.

    Both splits come from one folder: the first one that has any of the four files.
    """
    files = everywhere(root)
    if not files:
        return None
    pair = [_whole(files[0].parent, f"{NAMES[split]}-{kind}-ubyte") for kind in KINDS]
    return pair[0] if all(pair) else None


def is_idx(path: Path) -> bool:
    """Whether a path is one that `find` gives."""
    return path.name.removesuffix(".gz") in SHA256


def _whole(folder: Path, name: str) -> Path | None:
    """The first file that holds the IDX file `name` and looks whole."""
    return next((path for path in stored(folder, name) if looks_whole(path)), None)


def looks_whole(path: Path) -> bool:
    """Whether an IDX file is as long as its header says; only its ends are read."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(-4, os.SEEK_END)
            last_number = int.from_bytes(file.read(), "little")
            length = last_number if packed else file.tell()
            file.seek(0)
            header = (gzip.GzipFile(fileobj=file) if packed else file).read(4 + 4 * rank(path.name))
        shape = struct.unpack_from(f">{rank(path.name)}I", header, 4)
    except (OSError, EOFError, zlib.error, struct.error):
        return False
    return length == (len(header) + math.prod(shape)) % 2**32  # gzip keeps no more of a length


def read_split(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (uint8, N x 28 x 28) and labels (int64, N) of the images' file; DataError.

    The labels are in the same folder, in the file that `find` has looked at.
    """
    name = path.name.removesuffix(".gz").replace(*KINDS)
    beside = _whole(path.parent, name)
    if beside is None:
        raise DataError(f"{path.with_name(name)}: missing or damaged; put it there")
    images, labels = (parse_idx(read_file(one), rank(one.name)) for one in (path, beside))
    if images.shape != (len(labels), 28, 28) or len(labels) == 0:
        shape = " x ".join(f"{size:,}" for size in images.shape)
        raise DataError(f"{path}: {shape} pixels for {len(labels):,} labels, not N x 28 x 28 for N")
    if labels.max() > 9:
        raise DataError(f"{beside}: the label {labels.max()}, but labels are 0 to 9")
    return images, labels.long()


def contradiction(root: Path, split: str, used: Path, digests: Iterable[str]) -> Path | None:
    """A whole IDX file in `root` itself that holds something else than what is `used`.

    `digests` are those of the images and the labels that are used.
    """
    for kind, digest in zip(KINDS, digests, strict=True):
        for path in stored(root, f"{NAMES[split]}-{kind}-ubyte"):
            try:
                if path != used and hashlib.sha256(read_file(path)).hexdigest() != digest:
                    return path
            except DataError:  # a damaged file contradicts nothing
                continue
    return None


def digests(images: torch.Tensor, labels: torch.Tensor) -> list[str]:
    """SHA-256 of images (uint8, N x 28 x 28) and labels (N) in IDX form, as hexadecimal text."""
    headers = struct.pack(">IIII", 2051, *images.shape), struct.pack(">II", 2049, len(labels))
    found = []
    for header, values in zip(headers, (images, labels.byte()), strict=True):
        digest = hashlib.sha256(header)
        digest.update(values.cpu().numpy())
        found.append(digest.hexdigest())
    return found


def published_digests(split: str) -> list[str]:
    """The digests of MNIST's own images and labels; `split` is "train" or "test"."""
    return [SHA256[f"{NAMES[split]}-{kind}-ubyte"] for kind in KINDS]
