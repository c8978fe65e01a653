"""Keeps decoded images as arrays in the data folder, so that later starts need not decode PNGs."""

import hashlib
import io
import os
import sys
from pathlib import Path

import numpy as np
import torch

from digits import idx
from digits.archive import members
from digits.tarball import holds_both, is_litter, read_tarball
from files import DataError, write_whole

CACHE_VERSION = 1  # is part of each cache's key: a new version makes older caches stale


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, or of the names and contents in a folder, as hexadecimal text; OSError."""
    digest, buffer = hashlib.sha256(), bytearray(1 << 18)
    if Path(path).is_dir():
        for member in members(path):
            if is_litter(member.parts):
                continue
            try:
                content = b"whole" + member.read()
            except DataError as error:  # such a folder is refused when it is read
                content = b"refused" + str(error).encode()
            name = os.fsencode(f"{member.name}\0{member.problem}\0{len(content)}\0")
            digest.update(name + content)
        return digest.hexdigest()
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def read_cached(path: Path, split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    """What `read_tarball` gives, from the cache beside it if that belongs to it.

    `split` ("train" or "test") is what is read of an archive that holds both. A cache that is
    missing, stale or damaged is written again. IDX files need none: they are read as they are.
    Errors: DataError; OSError if the path cannot be read.
    """
    if idx.is_idx(path):
        return idx.read_split(path)
    part = split if holds_both(path) else None
    content = sha256(path)
    key = f"{CACHE_VERSION} {content}" + (f" {part}" if part else "")
    cache = path.with_name(f"{part or path.name.split('.')[0]}.cache.npz")
    if cache.is_file():
        try:
            with np.load(cache, allow_pickle=False) as arrays:
                images, labels = arrays["images"], arrays["labels"]
                sound = images.dtype == labels.dtype == np.uint8 and images.ndim == 3
                # numpy may stop reading before the end of an array, where zipfile compares the CRC
                sound = sound and arrays.zip.testzip() is None
                if sound and str(arrays["key"]) == key and len(images) == len(labels):
                    return torch.from_numpy(images), torch.from_numpy(labels).long()
            why = "belongs to other data"
        except Exception as error:  # a foreign or damaged file can make numpy raise anything
            why = f"damaged ({type(error).__name__})"
        print(f"note: {cache}: {why}; reading {path.name} again", file=sys.stderr)
    images, labels = read_tarball(path, split=part) if part else read_tarball(path)
    if sha256(path) != content:
        raise DataError(f"{path}: changed while it was read; start again")
    try:
        arrays = io.BytesIO()
        np.savez(arrays, images=images.numpy(), labels=labels.byte().numpy(), key=np.array(key))
        write_whole(cache, arrays.getvalue())
    except OSError as error:
        print(f"warning: {cache}: {error.strerror}; continuing without a cache", file=sys.stderr)
    return images, labels
