"""Makes train.tar and test.tar appear: MNIST from the folder or the network, or generated digits.

`ensure("data")` gives `data` when it holds MNIST, and `data/generated` when MNIST could not be had;
a notice on stderr then says so. Whatever fails, no unfinished file is left behind.
"""

import gzip
import hashlib
import shutil
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout
from tqdm import tqdm

from digits import idx, synthetic
from digits.tarball import find_tarball, write_tarball
from files import DataError

MAX_FILE_BYTES = 50_000_000  # packed or unpacked: the largest file of MNIST has 47,040,016
PATIENCE = {"auto": 20, "mnist": 120}  # seconds in all, shared equally by the attempts
# Bytes per second. An attempt gets one more second for each so many bytes that it has received.
MIN_SPEED = {"auto": 100_000, "mnist": 10_000}
ADVICE = "put train.tar and test.tar, or the four IDX files, into {root}, or try again later"
NOTICE = """\
{line}
  THESE DIGITS ARE GENERATED, NOT MNIST. Results from them are NOT MNIST results.
  What failed: {error}.
  To get MNIST: {advice}.
  With --data mnist this is an error instead; --data generated does not try the network.
{line}"""


class Unavailable(DataError):
    """MNIST, or one of its files, cannot be had. Only then does `auto` draw digits instead."""


def ensure(root: str | Path, data: str = "auto") -> Path:
    """A folder with train.tar and test.tar: `root` for MNIST, `root/generated` for other digits.

    `data`: "mnist", "generated", or "auto", which is MNIST if it can be had, else generated digits.
    Tarballs that are already there are never changed. If several processes ask at the same time,
    one of them works and the others wait. Errors: DataError.
    """
    root, began = Path(root), time.time()
    folder = root / "generated" if data == "generated" else root
    if has_tarballs(folder):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with download_lock(root):
            return folder if has_tarballs(folder) else make_tarballs(root, data, began)
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: {error.strerror or error}; make sure that {root} is a "
            "folder that can be written, on a disk with free space, or choose another one with "
            "--data-dir"
        ) from error


def has_tarballs(folder: Path) -> bool:
    """Whether a folder has the tarballs of both splits; DataError if one of them is not a file."""
    return all(find_tarball(folder, split) for split in idx.NAMES)


@contextmanager
def download_lock(root: Path) -> Generator[None, None, None]:
    """Let one process at a time into the body, after removing what a killed one left in `root`."""
    lock = FileLock(root / ".download.lock")
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


def make_tarballs(root: Path, data: str, began: float) -> Path:
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
            notice = NOTICE.format(line="!" * 84, error=error, advice=advice)
            notify(notice)
    if not has_tarballs(generated):
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
        for split in idx.NAMES:
            if not find_tarball(folder, split):  # the user may have put one there meanwhile
                (Path(temporary) / f"{split}.tar").replace(folder / f"{split}.tar")


def mnist_files(root: Path, data: str) -> dict[str, bytes]:
    """{name: content} of the four IDX files, all verified: from `root`, else from the network.

    Errors: Unavailable; DataError if `root` has one of the two tarballs.
    """
    for split, other in (("train", "test"), ("test", "train")):
        # It may not be MNIST: a tarball of MNIST's beside it would mix two sets of data.
        if found := find_tarball(root, split):
            raise DataError(
                f"{root / other}.tar: missing, but there is {found.name}; put {other}.tar there, "
                f"or move {found.name} away to use MNIST in place of both"
            )
    files = local_files(root)
    if len(files) < len(idx.SHA256):
        notify(f"{root}: downloading MNIST, 12 MB")
        download(files, PATIENCE[data], MIN_SPEED[data])
    return files


def local_files(root: Path) -> dict[str, bytes]:
    """Those of the four IDX files that are in `root`, or where torchvision would put them."""
    files = {}
    for folder in (root, root / "MNIST" / "raw"):
        for path in (folder / f"{name}{suffix}" for name in idx.SHA256 for suffix in ("", ".gz")):
            if path.stem not in files and path.is_file():
                try:
                    with path.open("rb") as file:
                        files[path.stem] = verified(path.stem, file.read(MAX_FILE_BYTES))
                except (Unavailable, OSError) as error:
                    notify(f"{path}: not used: {error}")
    return files


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
    attempts, failures = 2 * list(MNIST.mirrors), {}
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
    tried = ", ".join(f"{url}: {error}" for url, error in failures.items())
    raise Unavailable(f"MNIST: cannot be downloaded ({tried})")


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
        raise Unavailable(printable(errors[0])) from errors[0]
    return bytes(body)


def verified(name: str, content: bytes) -> bytes:
    """The content, unpacked if it is gzip, if it is MNIST's file `name`; else Unavailable."""
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.GzipFile(fileobj=BytesIO(content)).read(MAX_FILE_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise Unavailable(f"damaged gzip ({printable(error)})") from error
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


def printable(error: Exception) -> str:
    """The message of an error in one short line, whatever a server may have put into it."""
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def notify(text: str) -> None:
    """Print to stderr, at once."""
    print(text, file=sys.stderr, flush=True)
