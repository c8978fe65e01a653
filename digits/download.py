"""Makes the data appear: what lies in the folder, MNIST from the network, or generated digits.

`ensure("data")` gives `data` when it holds images or MNIST was downloaded into it, and
`data/generated` when MNIST could not be had; a notice on stderr then says so. Whatever fails, no
unfinished file is left behind.
"""

import hashlib
import os
import re
import shutil
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout
from tqdm import tqdm

from digits import idx, synthetic
from digits.tarball import find_data, write_tarball
from files import DataError

SPLITS = tuple(idx.NAMES)
MAX_FILE_BYTES = 50_000_000  # packed or unpacked: the largest file of MNIST has 47,040,016
PATIENCE = {"auto": 20, "mnist": 120}  # seconds in all, shared equally by the attempts
# Bytes per second. An attempt gets one more second for each so many bytes that it has received.
MIN_SPEED = {"auto": 100_000, "mnist": 10_000}
ADVICE = "put train.tar and test.tar, or the four IDX files, into {root}, or try again later"
LOCK = ".download.lock"
CERTIFICATES = (
    "this Python cannot check the server's certificate; on macOS run 'Install Certificates.command'"
    " in the folder Applications/Python, elsewhere install the system's ca-certificates"
)
LOOKS_LIKE_DATA = re.compile(  # what is refused where it would otherwise be ignored in silence
    r"(train|test|mnist_png)([^a-z].*|ing.*)?"
    r"|[0-9]"
    r"|[0-9]+_[0-9]+\.png"
    r"|.*\.(tar|tgz|tbz2?|txz|gz|bz2|xz|zip|rar|7z|npz|npy|pkl|mat|csv|parquet)"
    r"|.*idx[13]-ubyte",
    re.IGNORECASE,
)
NOTICE = """\
THESE DIGITS ARE GENERATED, NOT MNIST. Results from them are NOT MNIST results.
  What failed: {error}.
  To get MNIST: {advice}."""


class Unavailable(DataError):
    """MNIST, or one of its files, cannot be had. Only then does `auto` draw digits instead."""


def ensure(
    root: str | Path,
    data: str = "auto",
    splits: Sequence[str] = SPLITS,
    fall_back: bool = True,
) -> Path:
    """A folder with the data of `splits`: `root`, or `root/generated` for generated digits.

    `data`: "mnist", "generated", or "auto", which is MNIST if it can be had, else generated digits.
    What is already in `root` is used, whatever it is, and never changed. With `fall_back` False,
    "auto" puts no generated digits into a `root` that did not exist: that is an error, and `root`
    is gone again. If several processes ask at the same time, one of them works and the others wait.
    Errors: DataError.
    """
    try:
        root = Path(root).expanduser()
    except RuntimeError as error:
        raise DataError(f"{root}: there is no such user; write the folder's whole path") from error
    began = time.time()
    folder = root / "generated" if data == "generated" else root
    if is_filled(folder, splits):
        return folder
    try:
        if root.exists() and not root.is_dir():
            raise DataError(f"{root}: a file, not a folder; --data-dir takes the folder it is in")
        may_draw = data == "generated" or fall_back or root.exists()
        with made_for_now(root), download_lock(root):
            if is_filled(folder, splits):
                return folder
            return make_tarballs(root, data, began, splits, may_draw)
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: {error.strerror or error}; make sure that {root} is a "
            "folder that can be written, on a disk with free space, or choose another one with "
            "--data-dir"
        ) from error


def is_filled(folder: Path, splits: Sequence[str] = SPLITS) -> bool:
    """Whether a folder has the data of these splits; DataError if it is not clear which."""
    return all(find_data(folder, split) for split in splits)


@contextmanager
def made_for_now(root: Path) -> Generator[None, None, None]:
    """Make a folder, and the folders above it; remove again what was made if the body fails."""
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):  # another process has put something there
            if made:
                (root / LOCK).unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()
        raise


@contextmanager
def download_lock(root: Path) -> Generator[None, None, None]:
    """Let one process at a time into the body, after removing what a killed one left in `root`."""
    lock = FileLock(root / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        notify(f"{root}: another process is getting the data; waiting for it")
        lock.acquire()
    try:
        for stale in root.glob(".download-*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield
    finally:
        lock.release()


def make_tarballs(
    root: Path, data: str, began: float, splits: Sequence[str], may_draw: bool
) -> Path:
    """Make the tarballs and give their folder; `began` is when this process asked for them."""
    generated = root / "generated"
    readme, notice = generated / "README.txt", None
    if data == "auto" and readme.exists() and readme.stat().st_mtime >= began:
        # This process has waited for another one, which has just tried and failed.
        notify(readme.read_text(encoding="utf-8"))
        return generated
    if data != "generated":
        try:
            files = mnist_files(root, data)
            publish(root, root, lambda folder: write_mnist(folder, files))
            return root
        except Unavailable as error:
            advice = ADVICE.format(root=root.absolute())
            if data == "mnist":
                raise DataError(f"{error}; {advice}") from error
            if not may_draw:
                raise DataError(
                    f"{root}: this folder did not exist, and {error}; check its name, or {advice}, "
                    "or add --data generated"
                ) from error
            notice = NOTICE.format(error=error, advice=ADVICE.format(root=root))
            notify(notice)
    if not is_filled(generated, splits):
        notify(f"{generated}: drawing digits")
        publish(root, generated, synthetic.generate)
    if notice:
        readme.write_text(notice + "\n", encoding="utf-8")
    return generated


def publish(root: Path, folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make both tarballs in a temporary folder in `root`; move them to `folder`."""
    with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary:
        write(Path(temporary))
        folder.mkdir(exist_ok=True)
        for split in SPLITS:
            there = find_data(folder, split)
            if there is None or idx.is_idx(there):  # the user may have put one there meanwhile
                (Path(temporary) / f"{split}.tar").replace(folder / f"{split}.tar")


def mnist_files(root: Path, data: str) -> dict[str, bytes]:
    """{name: content} of the four IDX files, all verified: from `root`, else from the network.

    Errors: Unavailable; DataError if `root` has other data, which MNIST must not be mixed with.
    """
    for split, other in (("train", "test"), ("test", "train")):
        if (found := find_data(root, split)) and not idx.is_idx(found):
            raise DataError(
                f"{root / other}.tar: missing, but there is {found.name}; put {other}.tar there "
                f"(or a .zip, or a folder), or move {found.name} away to use MNIST in place of both"
            )
    files = local_files(root)
    refuse_what_is_not_read(root)
    if len(files) < len(idx.SHA256):
        notify(f"{root}: downloading MNIST, 12 MB")
        download(files, PATIENCE[data], MIN_SPEED[data])
    return files


def local_files(root: Path) -> dict[str, bytes]:
    """Those of MNIST's four IDX files that are in `root`, or where torchvision would put them.

    Damaged files are named and left out. Errors: DataError if one is whole but not MNIST's.
    """
    files: dict[str, bytes] = {}
    others: dict[str, Path] = {}
    for path in idx.everywhere(root):
        name = path.name.removesuffix(".gz")
        if name in files:
            continue
        try:
            content = idx.read_file(path)
        except DataError as error:
            notify(f"not used: {error}")
            continue
        if hashlib.sha256(content).hexdigest() == idx.SHA256[name]:
            files[name] = content
        else:
            others[name] = path
    if foreign := [path for name, path in others.items() if name not in files]:
        lacking = [name for name in idx.SHA256 if name not in files | others]
        why = f"{lacking[0]} is missing or damaged" if lacking else "the others are elsewhere"
        raise DataError(
            f"{foreign[0]}: not MNIST's, and {why}; put all four IDX files into one folder, or "
            "move this file away to use MNIST"
        )
    return files


def refuse_what_is_not_read(root: Path) -> None:
    """Raise DataError if something in `root` looks like data, but has no name that is read."""
    for name in sorted(os.listdir(root)):
        path = root / name
        if (
            LOOKS_LIKE_DATA.fullmatch(name)
            and not name.startswith(".")
            and not name.endswith(".cache.npz")
            and not idx.is_idx(path)
        ):
            raise DataError(
                f"{path}: not used, because of its name or kind; what is read is train and test "
                "as .tar, .tar.gz, .tar.bz2, .tar.xz, .zip or folders, mnist_png with both in it, "
                "and MNIST's four IDX files: rename it, or move it away to download MNIST"
            )


def download(files: dict[str, bytes], patience: float, min_speed: float) -> None:
    """Add the missing ones to `files`, from torchvision's mirrors, each tried twice; Unavailable.

    torchvision's own downloader is not used: it has no timeout, downloads everything twice, and
    trusts every file that it finds.
    """
    try:
        from torchvision.datasets import MNIST  # here, because it takes over a second
    except Exception as error:  # one built for another torch can raise anything
        raise Unavailable(
            "torchvision, which knows where to download MNIST, cannot be imported "
            f"({printable(error)}); try pip install --force-reinstall torch torchvision "
            "(both in one command, so that they match)"
        ) from error
    attempts, failures = 2 * list(MNIST.mirrors), {}  # {address: what happened there last}
    for mirror in attempts:
        for name in idx.SHA256:
            if name in files:  # a verified file is good wherever it came from
                continue
            url = f"{mirror}{name}.gz"
            try:
                files[name] = verified(name, fetch(url, patience / len(attempts), min_speed))
            except Unavailable as error:
                failures[url] = error
                break
        else:
            return
    reasons: dict[str, list[str]] = {}
    for url, error in failures.items():
        reasons.setdefault(str(error), []).append(url)
    tried = "; ".join(f"{reason}: {', '.join(urls)}" for reason, urls in reasons.items())
    cure = f"; {CERTIFICATES}" if any(map(lacks_certificates, failures.values())) else ""
    raise Unavailable(f"MNIST: cannot be downloaded ({tried}{cure})")


def lacks_certificates(error: Exception) -> bool:
    """Whether a download failed because this Python could not check a server's certificate."""
    cause = error.__cause__
    return isinstance(getattr(cause, "reason", cause), ssl.SSLCertVerificationError)


def fetch(url: str, seconds: float, min_speed: float) -> bytes:
    """What `url` serves, within `seconds` and one more for each `min_speed` bytes; Unavailable.

    A thread receives it, because urllib's timeouts do not cover a name server or many addresses
    that do not answer, or headers that come byte by byte. An abandoned thread leaves no files.
    """
    body, errors, abandoned = bytearray(), [], threading.Event()

    def receive() -> None:
        name = url.rpartition("/")[2]
        try:
            request = Request(url, headers={"User-Agent": "lenet5-mnist"})
            with (
                urlopen(request, timeout=seconds) as response,
                tqdm(
                    desc=name,
                    total=response.length,
                    unit="B",
                    unit_scale=True,
                    leave=False,
                    disable=None,  # where stderr is not a terminal
                ) as progress,
            ):
                while not abandoned.is_set() and (piece := response.read1(1 << 16)):
                    body.extend(piece)
                    progress.update(len(piece))
                    if len(body) > MAX_FILE_BYTES:
                        raise ValueError(f"more than {MAX_FILE_BYTES:,} bytes")
        except Exception as error:  # urllib, http, ssl and socket raise a dozen unrelated kinds
            errors.append(error)

    receiver, start = threading.Thread(target=receive, daemon=True), time.monotonic()
    receiver.start()
    try:
        while receiver.is_alive() and time.monotonic() < start + seconds + len(body) / min_speed:
            receiver.join(0.05)
        if receiver.is_alive():
            raise Unavailable(f"too slow, {len(body):,} bytes in {time.monotonic() - start:.0f} s")
    finally:
        abandoned.set()
    if errors:
        reason = getattr(errors[0], "reason", None)  # urllib wraps an error of the system
        words = getattr(reason, "strerror", None) or errors[0]
        raise Unavailable(printable(words)) from errors[0]
    return bytes(body)


def verified(name: str, content: bytes) -> bytes:
    """The content, unpacked if it is gzip, if it is MNIST's file `name`; else Unavailable."""
    try:
        content = idx.unpack(content, MAX_FILE_BYTES)
    except DataError as error:
        raise Unavailable(printable(error)) from error
    digest, published = hashlib.sha256(content).hexdigest(), idx.SHA256[name]
    if digest != published:
        raise Unavailable(f"its SHA-256, {digest[:8]}..., is not MNIST's {published[:8]}...")
    return content


def write_mnist(folder: Path, files: dict[str, bytes]) -> None:
    """Write the contents of the four IDX files as train.tar and test.tar; OSError, DataError."""
    notify("MNIST: writing train.tar and test.tar")
    for split, name in idx.NAMES.items():
        images = idx.parse_idx(files[f"{name}-images-idx3-ubyte"], 3)
        labels = idx.parse_idx(files[f"{name}-labels-idx1-ubyte"], 1)
        write_tarball(folder / f"{split}.tar", images, labels.long(), split)


def printable(error: Exception | str) -> str:
    """An error, or its message, in one short line, whatever a server may have put into it."""
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def notify(text: str) -> None:
    """Print to stderr, at once."""
    print(text, file=sys.stderr, flush=True)
