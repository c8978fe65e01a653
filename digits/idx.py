"""MNIST's own format (IDX) and digests, and the other files in which people have it: npz and CSV.

Each reader gives images (uint8, N x 28 x 28) and labels (int64, N), or raises `DataError`.
"""

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from files import DataError

import numpy as np
import torch

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, scaled to [0, 1]
BLACK = torch.tensor((0 - MEAN) / STD)  # a pixel of 0, normalised
SHA256 = {  # published, of the uncompressed files; https://yann.lecun.com/exdb/mnist
    "train images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "test images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "test labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MAX_BYTES = 1024**3  # of a file, unpacked
OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


@contextlib.contextmanager
def naming(path: str | Path) -> Generator[None]:
    """Make one line, a DataError, of whatever the libraries raise about a file."""
    try:
        yield
    except Exception as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        if not isinstance(error, DataError | OSError):
            why = f"damaged, or not what its name says ({why or type(error).__name__})"
        raise DataError(f"{path}: {why}; none of it is used, put a good copy there") from error


def unpacked(content: bytes) -> bytes:
    """What a gzip, bzip2 or xz file holds, also if it was packed twice; others as they are."""
    for magic, opener in [*OPENERS.items()] * 2:
        if content.startswith(magic):
            with opener(io.BytesIO(content)) as file:
                content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise DataError("more than 1 GiB unpacked")
    return content


def unzipped(file: BinaryIO) -> Iterator[tuple[zipfile.ZipInfo, IO[bytes]]]:
    """Each entry of a zip archive and its file; at a file's end, zipfile compares its CRC."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        file.seek(-12 - len(archive.comment), os.SEEK_END)
        count = int.from_bytes(file.read(2), "little")
        if count not in (len(entries), 0xFFFF):  # 0xFFFF: too many for this field
            raise DataError("damaged: its directory is not whole")
        if sum(entry.file_size for entry in entries) > MAX_BYTES:
            raise DataError("more than 1 GiB unpacked")
        for entry in entries:
            if entry.file_size or not entry.is_dir():
                with archive.open(entry) as member:
                    yield entry, member


def parse_idx(content: bytes, rank: int) -> np.ndarray:
    """The values (uint8, `rank` dimensions) in the bytes of an IDX file; DataError, ValueError."""
    if content[:4] != bytes([0, 0, 8, rank]):  # 8: the values are unsigned bytes
        raise DataError(f"not an IDX file of {rank} dimensions: it begins with {content[:15]!r}")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()


def read_idx(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels: `path` is the file of images; both may be packed."""
    # A file may lie in a folder of its own name.
    labels = Path(re.sub("images([-.])idx3", r"labels\1idx1", str(path), flags=re.I))
    plain = labels.with_name(labels.name.removesuffix(".gz"))
    labels = plain if plain.exists() else plain.with_name(plain.name + ".gz")
    with naming(path):
        images = parse_idx(unpacked(path.read_bytes()), 3)
    with naming(labels):
        return tensors(images, parse_idx(unpacked(labels.read_bytes()), 1))


def read_arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of an npz file."""
    arrays = {}
    for entry, member in unzipped(file):
        name = entry.filename.removesuffix(".npy")
        arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):
            raise DataError(f"the array {name} is shorter than its file")
    return arrays


def read_npz(content: bytes, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of an npz file such as Keras' mnist.npz; `split` is "train" or "test"."""
    arrays = read_arrays(io.BytesIO(content))
    return tensors(arrays[f"x_{split}"], arrays[f"y_{split}"])


def read_csv(content: bytes) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of a CSV file: a label and 784 pixels in each row, below a header or not.

    A number that was changed into another cannot be noticed, nor that whole rows are missing.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    header = int(re.match(rb'"?[A-Za-z]', content) is not None)
    if not content.endswith((b"\n", b"\r")):
        raise DataError("its last row has no line end, so it may be cut off; if not, add one")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy warns of a number such as 1.0
        rows = np.loadtxt(
            io.BytesIO(content), np.uint8, delimiter=",", comments=None, skiprows=header, ndmin=2
        )
    if rows.shape[1] != 785:
        raise DataError(f"{rows.shape[1]} columns, not a label and 784 pixels (see --val-size)")
    return tensors(rows[:, 1:].reshape(-1, 28, 28), rows[:, 0])


def tensors(images: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Arrays as images (uint8, N x 28 x 28) and labels (int64, N), if that is what they are."""
    if images.shape != (len(labels), 28, 28) or labels.ndim != 1 or len(labels) == 0:
        raise DataError(f"{images.shape} pixels for {labels.shape} labels, not N x 28 x 28 for N")
    converted = []
    for name, values, most in (("pixels", images, 255), ("labels", labels, 9)):
        with np.errstate(invalid="ignore"):
            small = values.astype(np.uint8, order="C", copy=False)
        if small.max() > most or not (small is values or np.array_equal(small, values)):
            raise DataError(f"the {name} are not whole numbers from 0 to {most}")
        converted.append(torch.from_numpy(small))
    return converted[0], converted[1].long()


def digests(images: torch.Tensor, labels: torch.Tensor) -> list[str]:
    """SHA-256 of images (uint8, N x 28 x 28) and labels (N) in IDX form, as hexadecimal text."""
    digests = []
    for values in (images, labels.byte()):
        header = struct.pack(f">{1 + values.ndim}I", 2048 + values.ndim, *values.shape)
        digest = hashlib.sha256(header)
        digest.update(values.cpu().numpy())
        digests.append(digest.hexdigest())
    return digests


def published_digests(split: str) -> list[str]:
    """The digests of MNIST's own images and labels; `split` is "train" or "test"."""
    return [SHA256[f"{split} {kind}"] for kind in ("images", "labels")]
