"""Makes the data appear: what lies in the folder, MNIST from the network, or generated digits."""

import contextlib
import hashlib
import io
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from digits import idx, synthetic
from digits.archive import pack
from digits.places import READ, entries, find
from files import DataError, write_whole

from filelock import FileLock

SPLITS = ("train", "test")
DEFAULT = Path("data")  # the only folder that need not be there for generated digits
TIMEOUT = 10  # seconds that a server may send nothing
NOTICE = "THESE DIGITS ARE GENERATED, NOT MNIST. Results from them are NOT MNIST results.\n"


def ensure(root: str | Path, data: str = "auto", splits: Sequence[str] = SPLITS) -> Path:
    """A folder with the data of `splits`: `root`, or `root/generated` for generated digits.

    `data`: "mnist", "generated", or "auto", which is MNIST if it can be had, else generated digits.
    What is already in `root` is used or named in an error, and never changed. Errors: DataError.
    """
    root = Path(root).expanduser()
    folder = root / "generated" if data == "generated" else root
    if filled(folder, splits):
        return folder
    name = hashlib.sha256(f"{Path.home()} {root.resolve()}".encode()).hexdigest()
    with FileLock(Path(tempfile.gettempdir(), f"mnist-{name}.lock")):
        if filled(folder, splits):  # by the process that had the lock
            return folder
        if data != "generated":
            refuse_what_is_not_read(root)
            try:
                download(root)
                return root
            except DataError as error:
                if data == "mnist" or not (root.is_dir() or root == DEFAULT):
                    raise
                print(f"{NOTICE}  What failed: {error}", file=sys.stderr, flush=True)
        folder = root / "generated"
        if not filled(folder, splits):
            print(f"{folder}: drawing digits, which takes a minute", file=sys.stderr, flush=True)
            synthetic.generate(folder)
        write_whole(folder / "README.txt", NOTICE.encode())
    return folder


def filled(folder: Path, splits: Sequence[str]) -> bool:
    """Whether a folder has the data of these splits."""
    return all(find(folder, split) for split in splits)


def refuse_what_is_not_read(root: Path) -> None:
    """Raise DataError unless a folder is empty, or is not there."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: a file, not a folder; --data-dir takes the folder it is in")
    for split, other in (SPLITS, SPLITS[::-1]):
        for path in find(root, split):
            raise DataError(
                f"{root / other}.tar: missing, but there is {path}; put it there (--val-size "
                "needs no test set), or move that away to use MNIST in place of both"
            )
    for path in entries(root):
        raise DataError(f"{path}: not used, because of its name or kind; {READ}")


def download(root: Path) -> None:
    """Write MNIST's train.tar and test.tar, from torchvision's mirrors; DataError, OSError."""
    print(f"{root}: downloading MNIST, 12 MB", file=sys.stderr, flush=True)
    failures, timeout = [], socket.getdefaulttimeout()
    quiet = sys.stderr if sys.stderr.isatty() else io.StringIO()  # its bars would fill a log
    try:
        from torchvision.datasets import MNIST  # here, because it takes over a second
    except Exception as error:  # one that was built for another torch can raise anything
        raise DataError(
            f"torchvision, which downloads MNIST, cannot be imported ({printable(error)}); try "
            "pip install --force-reinstall torch torchvision (both, so that they match)"
        ) from error
    for mirror in MNIST.mirrors:
        socket.setdefaulttimeout(TIMEOUT)
        try:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(quiet):
                one_mirror = type("MNIST", (MNIST,), {"mirrors": [mirror]})
                tarballs = {}
                for split in SPLITS:
                    dataset = one_mirror(folder, train=split == "train", download=True)
                    if idx.digests(dataset.data, dataset.targets) != idx.published_digests(split):
                        raise DataError("the digests are not MNIST's")
                    tarballs[split] = pack(dataset.data, dataset.targets, split)
        except Exception as error:  # urllib, http, ssl and socket raise a dozen unrelated kinds
            failures.append(f"{mirror}: {printable(error)}")
        else:
            for split, content in tarballs.items():  # one soon after the other
                write_whole(root / f"{split}.tar", content)
            return
        finally:
            socket.setdefaulttimeout(timeout)
    raise DataError(
        f"MNIST cannot be downloaded ({'; '.join(failures)}); put train.tar and test.tar into "
        f"{root.absolute()}, try again later, or use --data generated"
    )


def printable(error: Exception) -> str:
    """An error in one short line, whatever a server may have put into it."""
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else " " for c in text)[:200]
