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

DEFAULT = Path("data")  # the only folder that need not be there for generated digits
SPLITS = tuple(idx.NAMES)
TIMEOUT = 10  # seconds that a server may send nothing
NOTICE = "THESE DIGITS ARE GENERATED, NOT MNIST. Results from them are NOT MNIST results.\n"
CONVERT = {  # what makes mnist.npz of files that are not read, as a command for the shell
    ".pt": "import numpy, torch; (a, b), (c, d) = (torch.load('{folder}/' + n) for n in "
    "('training.pt', 'test.pt')); "
    "numpy.savez('{root}/mnist.npz', x_train=a, y_train=b, x_test=c, y_test=d)",
    ".parquet": "import glob, io, numpy, pandas; from PIL import Image; d = {{s: "
    "pandas.read_parquet(glob.glob('{folder}/' + s + '*')[0]) for s in ('train', 'test')}}; "
    "numpy.savez('{root}/mnist.npz', **{{'x_' + s: [numpy.asarray(Image.open(io.BytesIO("
    "i['bytes']))) for i in t.image] for s, t in d.items()}}, **{{'y_' + s: t.label for s, t in "
    "d.items()}})",
}


class Unavailable(DataError):
    """MNIST cannot be had. Only then does `auto` draw digits instead."""


def ensure(root: str | Path, data: str = "auto", splits: Sequence[str] = SPLITS) -> Path:
    """A folder with the data of `splits`: `root`, or `root/generated` for generated digits.

    `data`: "mnist", "generated", or "auto", which is MNIST if it can be had, else generated digits.
    What is already in `root` is used or named in an error, and never changed. Errors: DataError.
    """
    root = Path(root).expanduser()
    folder = root / "generated" if data == "generated" else root
    if filled(folder, splits):
        return folder
    may_draw = data == "generated" or (data == "auto" and (root.is_dir() or root == DEFAULT))
    name = hashlib.sha256(f"{Path.home()} {root.resolve()}".encode()).hexdigest()
    with FileLock(Path(tempfile.gettempdir(), f"mnist-{name}.lock")):
        if filled(folder, splits):  # by the process that had the lock
            return folder
        if data != "generated":
            refuse_what_is_not_read(root)
            try:
                download(root)
                return root
            except Unavailable as error:
                cure = f"put train.tar and test.tar into {root.absolute()}, or try again later"
                if not may_draw:
                    raise DataError(f"{error}; {cure}, or use --data generated") from error
                told = f"{NOTICE}  What failed: {error}.\n  To get MNIST: {cure}."
                print(told, file=sys.stderr, flush=True)
        folder = root / "generated"
        if not filled(folder):
            print(f"{folder}: drawing digits, which takes a minute", file=sys.stderr, flush=True)
            synthetic.generate(folder)
        write_whole(folder / "README.txt", NOTICE.encode())
    return folder


def filled(folder: Path, splits: Sequence[str] = SPLITS) -> bool:
    """Whether a folder has the data of these splits."""
    return all(find(folder, split) for split in splits)


def refuse_what_is_not_read(root: Path) -> None:
    """Raise DataError unless a folder is empty."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: a file, not a folder; --data-dir takes the folder it is in")
    for split, other in (SPLITS, SPLITS[::-1]):
        for path in find(root, split):
            raise DataError(
                f"{root / other}.tar: missing, but there is {path}; put it there, or move that "
                "away to use MNIST in place of both (--val-size needs no test set)"
            )
    if files := list(entries(root)):
        first = next((path for path in files if path.suffix in CONVERT), files[0])
        cure = "move it away to use MNIST"
        if command := CONVERT.get(first.suffix):
            names = {"folder": first.parent.as_posix(), "root": root.as_posix()}
            cure = f'this makes mnist.npz of it: python -c "{command.format(**names)}"'
        raise DataError(f"{first}: not used, because of its name or kind; {READ}; {cure}")


def download(root: Path) -> None:
    """Write MNIST's train.tar and test.tar, by torchvision; Unavailable, OSError."""
    print(f"{root}: downloading MNIST, 12 MB", file=sys.stderr, flush=True)
    try:
        from torchvision.datasets import MNIST  # here, because it takes over a second
    except Exception as error:  # one that was built for another torch can raise anything
        raise Unavailable(
            f"torchvision, which downloads MNIST, cannot be imported ({printable(error)}); try "
            "pip install --force-reinstall torch torchvision (both, so that they match)"
        ) from error
    failures = []
    for mirror in MNIST.mirrors:
        try:
            sets = fetch(type("MNIST", (MNIST,), {"mirrors": [mirror]}))
        except Exception as error:  # urllib, http, ssl and socket raise a dozen unrelated kinds
            failures.append(f"{mirror}: {printable(error)}")
            continue
        tarballs = {split: pack(*data, split) for split, data in sets.items()}
        for split, content in tarballs.items():  # one soon after the other
            write_whole(root / f"{split}.tar", content)
        return
    raise Unavailable(f"MNIST cannot be downloaded ({'; '.join(failures)})")


def fetch(mnist: type) -> dict:
    """What torchvision's class downloads: images and labels of each split, which are MNIST's."""
    timeout, sets = socket.getdefaulttimeout(), {}
    quiet = io.StringIO() if not sys.stderr.isatty() else sys.stderr  # its bar would fill a log
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(quiet):
            for split in SPLITS:
                dataset = mnist(folder, train=split == "train", download=True)
                sets[split] = dataset.data, dataset.targets
    finally:
        socket.setdefaulttimeout(timeout)
    for split, data in sets.items():
        if idx.digests(*data) != idx.published_digests(split):
            raise DataError("the digests are not MNIST's")
    return sets


def printable(error: Exception) -> str:
    """An error in one short line, whatever a server may have put into it."""
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else " " for c in text)[:200]
