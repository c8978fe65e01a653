"""Keeps decoded images beside their source, so that later starts need not decode them again."""

import contextlib
import hashlib
import io
import sys
from pathlib import Path

from digits import archive, idx
from files import DataError, write_whole

import numpy as np
import torch

CACHE_VERSION = 1  # is part of each cache's key: a new version makes older caches stale
LARGE = 5_000_000  # bytes: reading them takes seconds, so a line says what is done


def read_cached(path: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of an archive, a folder, an npz or a CSV file, or of its cache; DataError.

    `split` ("train" or "test") says what is read of a file that holds both. A cache that is
    missing, stale or damaged is written again.
    """
    both = path.suffix.lower() == ".npz" or path.name.lower().startswith("mnist_png")
    name = path.name.removesuffix(".tar") + ".folder" * path.is_dir() + f".{split}" * both
    cache = path.with_name(f"{name}.cache.npz")
    with idx.naming(path):
        key = f"{CACHE_VERSION} {_sha256(path)}" + f" {split}" * both
        if cache.is_file():
            # a foreign or damaged file can raise anything
            with contextlib.suppress(Exception), cache.open("rb") as file:
                arrays = idx.read_arrays(file)
                if str(arrays["key"]) == key:
                    return idx.tensors(arrays["images"], arrays["labels"])
            print(f"note: {cache}: stale or damaged; it is made anew", file=sys.stderr)
        if path.is_dir() or path.stat().st_size > LARGE:
            print(f"{path}: reading the images, once", file=sys.stderr, flush=True)
        if path.suffix.lower() == ".npz":
            data = idx.read_npz(path.read_bytes(), split)
        elif path.suffix.lower() == ".csv":
            data = idx.read_csv(path.read_bytes())
        else:
            data = archive.decode(archive.load(path), split * both)
        if not key.startswith(f"{CACHE_VERSION} {_sha256(path)}"):
            raise DataError("changed while it was read; start again")
    try:
        content, (images, labels) = io.BytesIO(), data
        np.savez(content, images=images.numpy(), labels=labels.byte().numpy(), key=np.array(key))
        write_whole(cache, content.getvalue())
    except OSError as error:
        print(f"warning: {cache}: {error.strerror}; continuing without a cache", file=sys.stderr)
    return data


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    if path.is_dir():
        for name, content in archive.walk(path):
            digest.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape") + content)
    else:
        with path.open("rb") as file:
            while block := file.read(1 << 18):
                digest.update(block)
    return digest.hexdigest()
