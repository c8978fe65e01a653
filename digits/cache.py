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
        source = archive.load(path)
        key = f"{CACHE_VERSION} {_sha256(source)}" + f" {split}" * both
        if cache.is_file():
            # a foreign or damaged file can raise anything
            with contextlib.suppress(Exception), cache.open("rb") as file:
                arrays = idx.read_arrays(file)
                if str(arrays["key"]) == key:
                    return idx.tensors(arrays["images"], arrays["labels"])
            print(f"note: {cache}: stale or damaged; it is made anew", file=sys.stderr)
        if isinstance(source, dict) or len(source) > LARGE:
            print(f"{path}: reading the images, once", file=sys.stderr, flush=True)
        if isinstance(source, bytes) and path.suffix.lower() == ".npz":
            data = idx.read_npz(source, split)
        elif isinstance(source, bytes) and path.suffix.lower() == ".csv":
            data = idx.read_csv(source)
        else:
            data = archive.decode(source, split * both)
        if archive.load(path) != source:
            raise DataError("changed while it was read; start again")
    try:
        content, (images, labels) = io.BytesIO(), data
        np.savez(content, images=images.numpy(), labels=labels.byte().numpy(), key=np.array(key))
        write_whole(cache, content.getvalue())
    except OSError as error:
        print(f"warning: {cache}: {error.strerror}; continuing without a cache", file=sys.stderr)
    return data


def _sha256(source: archive.Files) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    digest = hashlib.sha256()
    for name, content in source.items():
        digest.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape") + content)
    return digest.hexdigest()
