"""Makes train.tar and test.tar appear: MNIST from the folder or the network, or generated digits.

`ensure("data")` returns `data` when it holds MNIST, and `data/generated` when it had to fall back,
after a notice on stderr that nobody can miss. Whatever fails, nothing half made is left behind.
"""

import gzip
import hashlib
import math
import shutil
import sys
import tempfile
import threading
import time
import zlib
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

import digits
from dataset import SHA256
from tarball import DataError, find_tarball, write_tarball

SPLITS = {"train": "train", "test": "t10k"}  # our name of each: MNIST's
LIMIT = 50_000_000  # bytes, packed or unpacked: the largest file has 47,040,016
ADVICE = "put train.tar and test.tar, or the four IDX files, into {root}, or try again later"
PATIENCE = {"auto": 20, "mnist": 120}  # seconds in all, an equal share for each failing attempt
SPEED = {"auto": 100_000, "mnist": 10_000}  # received bytes that buy an attempt one second more
NOTICE = """\
{line}
  THESE DIGITS ARE GENERATED, NOT MNIST. What comes of them are NOT MNIST results.
  What failed: {error}.
  To get MNIST: {advice}.
  --data mnist never falls back like this; --data generated does not even try the network.
{line}"""


class Unavailable(DataError):
    """MNIST, or one file of it, cannot be had: the only failure that `auto` answers by drawing."""


def ensure(root, data="auto"):
    """Return a folder with train.tar and test.tar: `root` for MNIST, else `root/generated`.

    `data`: "mnist", "generated", or "auto", which is MNIST if it can be had and else generated.
    Tarballs already there are never touched. Of several processes one works, the others wait.
    Raises DataError.
    """
    root, began = Path(root), time.time()
    folder = root / "generated" if data == "generated" else root
    if complete(folder):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root):
            return folder if complete(folder) else fill(root, data, began)
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: {error.strerror or error}; make sure that {root} is a "
            "folder that can be written, on a disk with room, or choose another with --data-dir"
        ) from error


def complete(folder):
    return all(find_tarball(folder, split) for split in SPLITS)


@contextmanager
def locked(root):
    """Let one process at a time into the body, and clear what a killed one left in `root`."""
    lock = FileLock(root / ".download.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{root}: another process is getting the data; waiting for it")
        lock.acquire()
    try:
        for stale in root.glob(".download-*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield
    finally:
        lock.release()


def fill(root, data, began):
    """Make the tarballs and return their folder; `began` is when this process asked for them."""
    generated = root / "generated"
    readme, notice = generated / "README.txt", None
    if data == "auto" and readme.exists() and readme.stat().st_mtime >= began:
        say(readme.read_text(encoding="utf-8"))  # the process that we waited for has just tried
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
            say(notice)
    if not complete(generated):
        say(f"{generated}: drawing digits")
        publish(root, generated, digits.generate)
    if notice:
        readme.write_text(notice + "\n", encoding="utf-8")
    return generated


def publish(root, folder, write):
    """Let `write` make both tarballs in a temporary folder inside `root`, then move them on."""
    with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary:
        write(Path(temporary))
        folder.mkdir(exist_ok=True)
        for split in SPLITS:
            if not find_tarball(folder, split):  # one may have been put there meanwhile
                (Path(temporary) / f"{split}.tar").replace(folder / f"{split}.tar")


def mnist_files(root, data):
    """Return {name: content} of the IDX files, all verified: those in `root`, then the others."""
    for split, other in (("train", "test"), ("test", "train")):
        if found := find_tarball(root, split):  # perhaps not MNIST: nothing of ours goes with it
            raise DataError(
                f"{root / other}.tar: missing, though there is {found.name}; put it there, "
                f"or move {found.name} away and MNIST takes the place of both"
            )
    files = local_files(root)
    if len(files) < len(SHA256):
        say(f"{root}: downloading MNIST, 12 MB")
        download(files, PATIENCE[data], SPEED[data])
    return files


def local_files(root):
    """Return those of the four files that lie in `root`, or where torchvision would put them."""
    files = {}
    for folder in (root, root / "MNIST" / "raw"):
        for path in (folder / f"{name}{suffix}" for name in SHA256 for suffix in ("", ".gz")):
            if path.stem not in files and path.is_file():
                try:
                    with path.open("rb") as file:
                        files[path.stem] = verified(path.stem, file.read(LIMIT))
                except (Unavailable, OSError) as error:
                    say(f"{path}: not used: {error}")
    return files


def download(files, patience, speed):
    """Add to `files` what they lack, from torchvision's mirrors, each tried twice, or Unavailable.

    torchvision's own downloader waits for ever, fetches everything twice and trusts what it finds.
    """
    try:
        from torchvision.datasets import MNIST  # late: over a second
    except Exception as error:  # a torchvision built for another torch raises what it likes
        raise Unavailable(
            f"torchvision, which downloads MNIST, cannot be imported ({reason(error)}); try "
            "pip install --force-reinstall torch torchvision (at once, so that they match)"
        ) from error
    attempts, failures = 2 * list(MNIST.mirrors), {}
    for mirror in attempts:
        try:
            for name in SHA256:
                if name not in files:  # a verified file is good wherever it came from
                    url = f"{mirror}{name}.gz"
                    files[name] = verified(name, fetch(url, patience / len(attempts), speed))
            return
        except Unavailable as error:
            failures[url] = error
    tried = ", ".join(f"{url}: {error}" for url, error in failures.items())
    raise Unavailable(f"MNIST: cannot be downloaded ({tried})")


def fetch(url, seconds, speed):
    """Return what `url` serves, in at most `seconds`, and one more for every `speed` bytes of it.

    A thread receives, because no timeout of urllib's covers a name server that does not answer,
    ten addresses that do not, or headers that drip. It has only memory to leave behind.
    """
    body, errors, abandoned = bytearray(), [], threading.Event()

    def receive():
        bar = {"desc": url.rpartition("/")[2], "unit": "B", "unit_scale": True, "leave": False}
        try:
            request = Request(url, headers={"User-Agent": "lenet5-mnist"})
            with (
                urlopen(request, timeout=seconds) as response,
                tqdm(total=response.length, disable=None, **bar) as progress,
            ):
                while not abandoned.is_set() and (piece := response.read1(1 << 16)):
                    body.extend(piece)
                    progress.update(len(piece))
                    if len(body) > LIMIT:
                        raise ValueError(f"more than {LIMIT:,} bytes")
        except Exception as error:  # urllib, http, ssl and socket have a dozen unrelated ones
            errors.append(error)

    receiver, start = threading.Thread(target=receive, daemon=True), time.monotonic()
    receiver.start()
    try:
        while receiver.is_alive() and time.monotonic() < start + seconds + len(body) / speed:
            receiver.join(0.05)
        if receiver.is_alive():
            raise Unavailable(f"too slow, {len(body):,} bytes in {time.monotonic() - start:.0f} s")
    finally:
        abandoned.set()
    if errors:
        raise Unavailable(reason(errors[0])) from errors[0]
    return bytes(body)


def verified(name, content):
    """Return `content`, unpacked if need be, if it is MNIST's file `name`; else Unavailable."""
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.GzipFile(fileobj=BytesIO(content)).read(LIMIT)
        except (OSError, EOFError, zlib.error) as error:
            raise Unavailable(f"damaged gzip ({reason(error)})") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise Unavailable(f"its SHA-256, {digest[:8]}..., is not MNIST's {SHA256[name][:8]}...")
    return content


def write_mnist(folder, files):
    """Write the four IDX files as train.tar and test.tar."""
    say("MNIST: writing train.tar and test.tar")
    for split, name in SPLITS.items():
        images = parse_idx(files[f"{name}-images-idx3-ubyte"], 3)
        labels = parse_idx(files[f"{name}-labels-idx1-ubyte"], 1)
        write_tarball(folder / f"{split}.tar", images, labels.long(), split)


def parse_idx(content, rank):
    """Return an IDX file's bytes as a uint8 tensor of `rank` dimensions, or raise DataError.

    0, 0, 8 (unsigned bytes), rank; each dimension in 4 bytes, big-endian; then the values.
    """
    start = 4 + 4 * rank
    if content[:4] != bytes([0, 0, 8, rank]) or len(content) < start:
        raise DataError(f"IDX file: no header for {rank} dimensions; get the file again")
    shape = np.frombuffer(content, ">u4", rank, offset=4).tolist()
    if len(content) != start + math.prod(shape):
        raise DataError(f"IDX file: {len(content):,} bytes do not hold {shape}; get the file again")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def reason(error):
    """Return an error in one short line, whatever a server may have put into it."""
    text = str(error) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def say(text):
    print(text, file=sys.stderr, flush=True)
