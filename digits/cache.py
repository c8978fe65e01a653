"""Keeps a decoded tarball as arrays beside it, so that later starts need not decode the PNGs."""

import hashlib
import io
import sys
from pathlib import Path

import numpy as np
import torch

from digits.tarball import read_tarball
from files import write_whole

CACHE_VERSION = 1  # is part of each cache's key: a new version makes older caches stale


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, as hexadecimal text; OSError."""
    digest, buffer = hashlib.sha256(), bytearray(1 << 18)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def read_cached(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """What `read_tarball` gives, from the cache beside the tarball if that belongs to it.

    A cache that is missing, stale or damaged is written again. Errors: DataError; OSError if the
    tarball cannot be read.
    """
    key = f"{CACHE_VERSION} {sha256(path)}"
    cache = path.with_name(path.name.split(".")[0] + ".cache.npz")
    if cache.is_file():
        try:
            with np.load(cache, allow_pickle=False) as arrays:
                images, labels = arrays["images"], arrays["labels"]
                sound = images.dtype == labels.dtype == np.uint8 and images.ndim == 3
                # numpy may stop reading before the end of an array, where zipfile compares the CRC
                sound = sound and arrays.zip.testzip() is None
                if sound and str(arrays["key"]) == key and len(images) == len(labels):
                    return torch.from_numpy(images), torch.from_numpy(labels).long()
            why = "belongs to another tarball"
        except Exception as error:  # a foreign or damaged file can make numpy raise anything
            why = f"damaged ({type(error).__name__})"
        print(f"note: {cache}: {why}; reading {path.name} again", file=sys.stderr)
    images, labels = read_tarball(path)
    try:
        arrays = io.BytesIO()
        np.savez(arrays, images=images.numpy(), labels=labels.byte().numpy(), key=np.array(key))
        write_whole(cache, arrays.getvalue())
    except OSError as error:
        print(f"warning: {cache}: {error.strerror}; continuing without a cache", file=sys.stderr)
    return images, labels
