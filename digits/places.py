"""Finds MNIST, or other data in one of its forms, in a folder and in the folders in it."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from digits import archive, idx
from digits.cache import read_cached
from files import DataError

import torch

DEPTH = 4  # folders below the one that is searched
PACKED = r"(\.tar(\.gz|\.bz2|\.xz)?|\.tgz|\.tbz2|\.txz|\.zip)"
FORMS = (  # of names in lower case, the preferred ones first; a folder's name ends with "/"
    rf"(?P<split>train|test)(ing)?(set)?({PACKED}|/)",
    rf"(?P<split>)mnist_png{PACKED}",  # holds both splits
    r"(emnist-digits-)?(?P<split>train|test|t10k)-images[-.]idx3-ubyte(\.gz)?",
    r"(?P<split>)mnist\.npz",
    r"(.*mnist[-_])?(?P<split>train|test)\.csv",
)
READ = (
    "what is read are train and test as .tar, .tar.gz, .zip or folders of pictures, mnist_png, "
    "MNIST's four IDX files, mnist.npz, mnist_train.csv and mnist_test.csv; data/README.md has "
    "lines of Python that convert others; move what is none of these away to use MNIST"
)


def load(root: Path, split: str) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """The file, images (uint8, N x 28 x 28) and labels (int64, N) of a split; DataError."""
    results = []
    for path in find(root, split):
        is_idx = "ubyte" in path.name.lower()
        data = idx.read_idx(path) if is_idx else read_cached(path, split)
        results.append((path, *data))
        if not all(map(torch.equal, data, results[0][1:])):
            raise DataError(f"{results[0][0]} and {path}: hold different data; move one away")
    if not results:
        raise DataError(f"{root / split}.tar: not found; {READ}")
    return results[0]


def find(root: Path, split: str) -> list[Path]:
    """The files that hold a split, the preferred one first; of IDX files, those of the images.

    Both splits come from one form in one place: nobody's own set is completed with MNIST.
    """
    sets = defaultdict(lambda: defaultdict(list))  # {(rank, place): {split: files}}
    for path in entries(root):
        for rank, form in enumerate(FORMS):
            if match := re.fullmatch(form, path.name.lower() + "/" * path.is_dir()):
                name = match["split"].replace("t10k", "test")
                for part in [name] if name else ["train", "test"]:
                    sets[rank, place(path)][part].append(path)
    ranked = sorted(sets, key=lambda key: (-len(sets[key]), key))  # first those with both splits
    return [path for key in ranked if split in sets[ranked[0]] for path in sets[key].get(split, [])]


def place(path: Path) -> Path:
    """The folder that data are in: not `raw`, nor one that is called as the file in it."""
    own = path.name.removesuffix(".gz")
    inner = path.parent.name in ("raw", own, own.replace(".", "-"), own.partition(".")[0])
    return path.parent.parent if inner else path.parent


def entries(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The files, and the folders of pictures, in a folder and in the folders in it, in order.

    Notes, hidden files, caches and generated digits are left out.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if archive.LITTER.fullmatch(path.name) or path.name.endswith(".cache.npz"):
            continue
        is_set = re.fullmatch(FORMS[0], path.name.lower() + "/") and any(
            child.suffix.lower() in archive.PICTURES for child in path.rglob("*")
        )
        if is_set or not path.is_dir() or depth == 0:
            yield path
        elif path.name != "generated":
            yield from entries(path, depth - 1)
