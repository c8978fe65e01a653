"""The data appear, or a clear error does; a local server misbehaves in every known way.

The files are 100 and 20 random digits in MNIST's format, and their digests take the place of the
published ones. No connection leaves this machine.
"""

import _thread
import contextlib
import errno
import gzip
import hashlib
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import urllib.error
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from digits import download, idx, synthetic, tarball
from files import DataError

ROOT = Path(__file__).parents[2]
NOTHING = {".download.lock"}  # all that a failure may leave
GENERATED = NOTHING | {
    "generated",
    "generated/README.txt",
    "generated/train.tar",
    "generated/test.tar",
}
MNIST = NOTHING | {"train.tar", "test.tar"}


def idx_file(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def make_files():
    random, files = np.random.default_rng(0), {}
    for name, count in (("train", 100), ("t10k", 20)):
        images = random.integers(256, size=(count, 28, 28), dtype=np.uint8)
        files[f"{name}-images-idx3-ubyte"] = idx_file(images)
        files[f"{name}-labels-idx1-ubyte"] = idx_file(np.arange(count, dtype=np.uint8) % 10)
    return files


FILES = make_files()
PACKED = {f"{name}.gz": gzip.compress(content) for name, content in FILES.items()}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


class Handler(BaseHTTPRequestHandler):
    """Serves /<behaviour>/<file>; each behaviour is a method of that name."""

    def do_GET(self):
        _, behaviour, name = self.path.split("/")
        self.server.requests[behaviour, name] += 1
        with contextlib.suppress(OSError):  # the client may have left long ago
            getattr(self, behaviour)(PACKED[name])

    def log_message(self, *_):
        pass

    def reply(self, body, status=200, length=True, **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if length is not False:
            self.send_header("Content-Length", len(body) if length is True else length)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, body):
        for i in range(len(body)):
            if self.server.closing.wait(0.05):
                return
            self.wfile.write(body[i : i + 1])

    def good(self, body):
        self.reply(body)

    def not_found(self, body):
        self.reply(b"no", 404)

    def unavailable(self, body):
        self.send_response(503, "Try\x1b[2Jlater")  # terminals obey that
        self.end_headers()

    def stall(self, body):
        self.reply(body[: len(body) // 2], length=len(body))
        self.server.closing.wait()

    def slow_drip(self, body):
        self.reply(b"", length=len(body))
        self.drip(body)

    def reset(self, body):
        self.reply(body[: len(body) // 2], length=len(body))
        linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def truncated(self, body):
        self.reply(body[: len(body) // 2], length=len(body))

    def no_length(self, body):
        self.reply(body, length=False)

    def html(self, body):
        self.reply(b"<html><body>Please sign in to the hotel's network</body></html>")

    def wrong_digest(self, body):
        self.reply(gzip.compress(gzip.decompress(body)[:-1] + b"?"))

    def redirect_loop(self, body):
        self.reply(b"", 302, Location=self.path)

    def garbage(self, body):
        self.reply(b"\x1f\x8b" + bytes(range(256)) * 4)

    # Beyond the usual twelve:

    def silent(self, body):
        self.server.closing.wait()

    def slow_headers(self, body):
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        self.drip(b"x" * 60_000)

    def no_length_truncated(self, body):
        self.reply(body[:-9], length=False)

    def not_http(self, body):
        self.wfile.write(b"\x00\x01SSH-2.0\r\n" * 9)

    def endless(self, body):
        self.reply(b"", length=False)
        while not self.server.closing.is_set():
            self.wfile.write(bytes(1 << 20))

    def bomb(self, body):
        self.reply(BOMB)


BOMB = gzip.compress(bytes(200_000_000), 1)  # 0.9 MB
FAILING = (
    "not_found unavailable stall slow_drip reset truncated html wrong_digest redirect_loop garbage "
    "silent slow_headers no_length_truncated not_http endless bomb"
).split()


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    server.closing, server.requests = threading.Event(), Counter()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def loopback(server, monkeypatch):
    """Let nothing leave this machine, and return a function that chooses the mirrors."""
    server.requests.clear()
    connect = socket.socket.connect

    def loopback_only(self, address):
        assert address[0] == "127.0.0.1", address
        return connect(self, address)

    def mirrors(*behaviours):
        urls = [f"http://127.0.0.1:{server.server_port}/{behaviour}/" for behaviour in behaviours]
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", urls)

    monkeypatch.setattr(socket.socket, "connect", loopback_only)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(idx, "SHA256", DIGESTS)
    monkeypatch.setattr(download, "PATIENCE", {"auto": 1.2, "mnist": 1.2})
    monkeypatch.setattr(synthetic, "generate", draw)
    mirrors("not_found")
    return mirrors


def draw(folder):
    """Takes the place of synthetic.generate, which takes seconds."""
    for split in ("train", "test"):
        images = torch.arange(10 * 784).view(10, 28, 28).to(torch.uint8)
        tarball.write_tarball(folder / f"{split}.tar", images, torch.arange(10), split)


def listing(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def assert_is_mnist(folder):
    for split, name in (("train", "train"), ("test", "t10k")):
        images, labels = tarball.read_tarball(folder / f"{split}.tar")
        assert idx_file(images.numpy()) == FILES[f"{name}-images-idx3-ubyte"]
        assert idx_file(labels.numpy().astype(np.uint8)) == FILES[f"{name}-labels-idx1-ubyte"]


@pytest.mark.parametrize("behaviour", FAILING)
def test_mirrors_that_fail_end_in_one_line_and_leave_nothing(
    behaviour, server, loopback, tmp_path, capfd
):
    loopback(behaviour, behaviour)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"^MNIST: .*; put train.tar") as error:
        download.ensure(tmp_path, "mnist")
    assert time.monotonic() - start < 10
    assert str(error.value).isprintable()  # so on one line too
    assert listing(tmp_path) == NOTHING
    first = server.requests[behaviour, "train-images-idx3-ubyte.gz"]
    assert first >= 4 if behaviour == "redirect_loop" else first == 4  # two mirrors, twice each
    assert server.requests.total() == first


@pytest.mark.parametrize("behaviour", FAILING)
def test_a_good_second_mirror_makes_up_for_a_failing_first_one(
    behaviour, server, loopback, tmp_path, monkeypatch
):
    loopback(behaviour, "good")
    monkeypatch.setitem(download.PATIENCE, "auto", 2.4)
    start = time.monotonic()
    assert download.ensure(tmp_path) == tmp_path
    assert time.monotonic() - start < 10
    assert_is_mnist(tmp_path)
    assert listing(tmp_path) == MNIST
    assert {name for kind, name in server.requests if kind == "good"} == set(PACKED)


@pytest.mark.parametrize("behaviour", ["good", "no_length"])
def test_a_good_mirror_is_asked_once_for_each_file(behaviour, server, loopback, tmp_path, capfd):
    loopback(behaviour)
    assert download.ensure(tmp_path) == tmp_path
    assert_is_mnist(tmp_path)
    assert listing(tmp_path) == MNIST
    assert set(server.requests.values()) == {1} and server.requests.total() == 4
    assert "NOT MNIST" not in capfd.readouterr().err


def test_each_file_may_fail_once_and_good_files_are_kept(server, loopback, tmp_path, monkeypatch):
    def flaky(self, body):  # every file fails at first
        second = self.server.requests["flaky", self.path.rpartition("/")[2]] > 1
        self.reply(body if second else b"", 200 if second else 503)

    monkeypatch.setattr(Handler, "flaky", flaky, raising=False)
    loopback("flaky", "flaky")
    with pytest.raises(DataError):
        download.ensure(tmp_path, "mnist")  # three of four files after four attempts
    assert sorted(server.requests.values()) == [1, 2, 2, 2]
    assert download.ensure(tmp_path) == tmp_path


def test_a_slow_mirror_that_still_sends_is_waited_for(loopback, tmp_path, monkeypatch):
    def slow(self, body):  # a second for the 80 kB, in twenty pieces
        self.reply(b"", length=len(body))
        for i in range(0, len(body), 4096):
            time.sleep(0.05)
            self.wfile.write(body[i : i + 4096])

    monkeypatch.setattr(Handler, "slow", slow, raising=False)
    loopback("slow", "not_found")
    monkeypatch.setitem(download.MIN_SPEED, "auto", 20_000)  # bytes per second, a quarter of that
    assert download.ensure(tmp_path) == tmp_path


def test_without_mnist_digits_are_drawn_once_and_mnist_is_tried_again_each_time(
    server, loopback, tmp_path, capfd
):
    loopback("not_found", "html")
    assert download.ensure(tmp_path) == tmp_path / "generated"
    assert listing(tmp_path) == GENERATED
    told = capfd.readouterr().err
    for words in (
        "GENERATED, NOT MNIST",
        "NOT MNIST results",
        "HTTP Error 404",
        "SHA-256",
        "put train.tar and test.tar",
    ):
        assert words in told
    assert "drawing" in told and (tmp_path / "generated/README.txt").read_text() in told
    before = (tmp_path / "generated/train.tar").stat().st_mtime_ns

    server.requests.clear()
    time.sleep(0.05)  # more than the clock of a file system may lag
    assert download.ensure(tmp_path) == tmp_path / "generated"  # as before, but tried anew
    assert server.requests.total() == 4
    assert "drawing" not in capfd.readouterr().err
    assert (tmp_path / "generated/train.tar").stat().st_mtime_ns == before

    loopback("good")
    assert download.ensure(tmp_path) == tmp_path
    assert_is_mnist(tmp_path)


def test_generated_digits_on_request_need_no_network(server, loopback, tmp_path, capfd):
    loopback("good")
    for _ in range(2):
        assert download.ensure(tmp_path, "generated") == tmp_path / "generated"
    assert listing(tmp_path) == GENERATED - {"generated/README.txt"}
    assert server.requests.total() == 0


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("data", ["auto", "mnist"])
def test_tarballs_in_the_folder_are_used_and_never_changed(suffix, data, server, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}{suffix}").write_text("the user's own")
    assert download.ensure(tmp_path, data) == tmp_path
    assert listing(tmp_path) == {f"train{suffix}", f"test{suffix}"}
    assert (tmp_path / f"train{suffix}").read_text() == "the user's own"
    assert server.requests.total() == 0


@pytest.mark.parametrize("data", ["auto", "mnist"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_one_tarball_without_the_other_is_an_error(data, split, server, loopback, tmp_path):
    loopback("good")
    (tmp_path / f"{split}.tar").write_text("the user's own")
    with pytest.raises(DataError, match=r"\.tar: missing, but .*; put \w+\.tar there"):
        download.ensure(tmp_path, data)
    assert listing(tmp_path) == NOTHING | {f"{split}.tar"}
    assert server.requests.total() == 0


def put_idx(folder, files):
    """Write IDX files {name: content}; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def other_files():
    """Sound IDX files under MNIST's names that are another data set."""
    images, labels = np.full((30, 28, 28), 7, np.uint8), np.arange(30, dtype=np.uint8) % 10
    kinds = {"images-idx3": images, "labels-idx1": labels}
    return {
        f"{name}-{kind}-ubyte": idx_file(array)
        for name in ("train", "t10k")
        for kind, array in kinds.items()
    }


@pytest.mark.parametrize("folder", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("files", [FILES, PACKED], ids=["plain", "gz"])
def test_idx_files_in_the_folder_are_used_as_they_are(folder, files, server, tmp_path, monkeypatch):
    put_idx(tmp_path / folder, files)
    before = listing(tmp_path)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)  # it is not even imported
    assert download.ensure(tmp_path) == tmp_path
    assert listing(tmp_path) == before
    for split, name in (("train", "train"), ("test", "t10k")):
        images, labels = idx.read_split(tarball.find_data(tmp_path, split))
        assert idx_file(images.numpy()) == FILES[f"{name}-images-idx3-ubyte"]
        assert idx_file(labels.byte().numpy()) == FILES[f"{name}-labels-idx1-ubyte"]
    for name, content in files.items():
        assert (tmp_path / folder / name).read_bytes() == content
    assert server.requests.total() == 0


def test_sound_idx_files_that_are_not_mnist_are_used(server, loopback, tmp_path):
    loopback("good")
    put_idx(tmp_path, other_files())
    assert download.ensure(tmp_path) == tmp_path
    assert idx.read_split(tarball.find_data(tmp_path, "train"))[0].unique().tolist() == [7]
    assert server.requests.total() == 0


@pytest.mark.parametrize("missing", ["t10k-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("torn", [True, False])
def test_a_set_of_ones_own_is_never_completed_with_mnist(
    missing, torn, server, loopback, tmp_path, capfd
):
    loopback("good")
    files = other_files()
    files[missing] = files[missing][:-1]
    if not torn:
        del files[missing]
    put_idx(tmp_path, files)
    why = f"not MNIST's, and {missing} is missing or damaged; put all four .* move this file away"
    with pytest.raises(DataError, match=why):
        download.ensure(tmp_path)
    assert server.requests.total() == 0
    if torn:
        assert f"{missing}: IDX file" in capfd.readouterr().err


def test_idx_files_that_are_damaged_are_named_and_downloaded(server, loopback, tmp_path, capfd):
    loopback("good")
    put_idx(tmp_path, {name: content[:-1] for name, content in FILES.items()})  # torn ones ...
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(PACKED["train-images-idx3-ubyte.gz"][:99])
    (tmp_path / "train-labels-idx1-ubyte.gz").mkdir()  # ... a folder, and one with a good copy
    name = "t10k-images-idx3-ubyte"
    put_idx(tmp_path / "MNIST" / "raw", {name: FILES[name]})
    before = listing(tmp_path)
    assert download.ensure(tmp_path) == tmp_path
    assert_is_mnist(tmp_path)
    assert listing(tmp_path) == before | MNIST
    assert capfd.readouterr().err.count("not used") == 5
    assert server.requests.total() == 3  # what was not there in good form
    assert download.ensure(tmp_path) == tmp_path  # the torn files stay, and do no harm
    assert server.requests.total() == 3


# What lies in the folder is used, or named


@pytest.mark.parametrize(
    "pair",
    [
        ("train.zip", "test.tar.xz"),
        ("train", "test"),
        ("train.tgz", "testing"),
        ("training.tbz2", "test.txz"),
        ("mnist_png.tar.gz", "mnist_png.tar.gz"),
        ("mnist_png", "mnist_png"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("data", ["auto", "mnist"])
def test_whatever_form_the_data_have_nothing_is_downloaded(pair, data, server, loopback, tmp_path):
    loopback("good")
    for name in pair:
        path = tmp_path / name
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    before = listing(tmp_path)
    assert download.ensure(tmp_path, data) == tmp_path
    assert listing(tmp_path) == before
    assert server.requests.total() == 0


@pytest.mark.parametrize(
    "name",
    """digits.zip Train.rar train.7z train.csv mnist.npz train_images.npy test2.tar
    emnist-train-images-idx3-ubyte mnist_png.tar.zst 00000_5.png 5/""".split(),
)
def test_what_looks_like_data_but_is_not_read_is_named(name, server, loopback, tmp_path):
    loopback("good")
    (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"{name.strip('/')}: not used.* move it away") as error:
        download.ensure(tmp_path)
    assert str(error.value).isprintable()
    assert listing(tmp_path) == NOTHING | {name.strip("/")}
    assert server.requests.total() == 0


def test_what_does_not_look_like_data_is_left_alone(loopback, tmp_path):
    loopback("good")
    for name in ("README.md", "train.cache.npz", ".train.cache.npz.1.tmp", "._train.tar", "x.txt"):
        (tmp_path / name).touch()
    for name in ("FashionMNIST", "generated", "tests"):
        (tmp_path / name).mkdir()
    assert download.ensure(tmp_path) == tmp_path
    assert_is_mnist(tmp_path)


def test_two_forms_of_a_split_are_refused_before_anything_is_downloaded(server, loopback, tmp_path):
    loopback("good")
    for name in ("train.tar", "train.tar.gz", "test.tar"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="train.tar and train.tar.gz could both be meant"):
        download.ensure(tmp_path)
    assert server.requests.total() == 0


def test_only_the_splits_that_are_asked_for_must_be_there(server, loopback, tmp_path):
    loopback("good")
    (tmp_path / "train.tar").touch()
    assert download.ensure(tmp_path, splits=("train",)) == tmp_path
    with pytest.raises(DataError, match="test.tar: missing"):
        download.ensure(tmp_path)
    assert server.requests.total() == 0


# Folders that were not there


def test_into_a_new_folder_mnist_is_downloaded(loopback, tmp_path):
    loopback("good")
    assert download.ensure(tmp_path / "a/b", fall_back=False) == tmp_path / "a/b"
    assert_is_mnist(tmp_path / "a/b")


@pytest.mark.parametrize("data", ["auto", "mnist"])
def test_into_a_new_folder_generated_digits_are_not_put_unasked(loopback, tmp_path, data):
    (tmp_path / "there").mkdir()
    folder = tmp_path / "there" / "mistyped" / "data"
    with pytest.raises(DataError, match="there/mistyped/data") as error:
        download.ensure(folder, data, fall_back=False)
    assert str(error.value).isprintable()
    assert listing(tmp_path) == {"there"}
    assert download.ensure(folder, "generated", fall_back=False) == folder / "generated"


def test_a_folder_that_is_there_or_may_be_made_falls_back(loopback, tmp_path):
    assert download.ensure(tmp_path, fall_back=False) == tmp_path / "generated"
    assert download.ensure(tmp_path / "data") == tmp_path / "data/generated"


def test_an_interrupt_removes_the_new_folder(loopback, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "mnist_files", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download.ensure(tmp_path / "new/data")
    assert listing(tmp_path) == set()


def test_a_tilde_is_the_home_folder(loopback, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    loopback("good")
    assert download.ensure("~/x") == tmp_path / "x"
    assert listing(tmp_path) == {"x"} | {f"x/{name}" for name in MNIST}
    with pytest.raises(DataError, match="no such user"):
        download.ensure("~nobody-has-this-name/x")


def test_missing_certificates_are_named_with_their_cure(tmp_path, monkeypatch):
    def fails(*_, **__):
        why = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get issuer"
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, why))

    monkeypatch.setattr(download, "urlopen", fails)
    with pytest.raises(DataError, match="Install Certificates.command") as error:
        download.ensure(tmp_path, "mnist")
    assert str(error.value).count("Install Certificates") == 1 and str(error.value).isprintable()


# The network


def test_a_torchvision_that_cannot_be_imported_is_named_with_its_cure(tmp_path, monkeypatch, capfd):
    class Broken:
        def find_spec(self, name, *_):
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist")

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    mend = "nms does not exist.*pip install --force-reinstall torch torchvision"
    with pytest.raises(DataError, match=mend):
        download.ensure(tmp_path, "mnist")
    assert listing(tmp_path) == NOTHING
    capfd.readouterr()
    assert download.ensure(tmp_path) == tmp_path / "generated"
    told = capfd.readouterr().err
    assert "NOT MNIST" in told and "nms does not exist" in told and "pip install" in told


def test_a_name_server_that_does_not_answer_is_not_waited_for(loopback, tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(60) and [])
    start = time.monotonic()
    assert download.ensure(tmp_path) == tmp_path / "generated"
    assert time.monotonic() - start < 10
    release.set()


def test_a_refused_connection_and_wrong_addresses_end_in_one_line(tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{unused.getsockname()[1]}/", "no scheme", "http://[/"]
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", urls)
        with pytest.raises(DataError, match="refused.*unknown url type"):
            download.ensure(tmp_path, "mnist")
    assert listing(tmp_path) == NOTHING


@pytest.mark.parametrize("data", ["auto", "mnist", "generated"])
@pytest.mark.parametrize("place", ["", "file", "file/below"])
def test_a_disk_that_is_full_or_cannot_be_written_is_named(
    data, place, loopback, tmp_path, monkeypatch
):
    """A folder that is a file or below one cannot be made; in a good one the disk is full."""
    loopback("good")
    writes = []

    def full(path, *arguments):
        writes.append(path)
        if path.name == "train.tar":
            return tarball.write_tarball(path, *arguments)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    (tmp_path / "file").touch()
    monkeypatch.setattr(download, "write_tarball", full)
    monkeypatch.setattr(synthetic, "generate", lambda folder: full(folder / "test.tar"))
    what = "a file, not a folder; --data-dir" if place == "file" else r"[^\n]+; make sure "
    with pytest.raises(DataError, match=rf"^[^\n]+: {what}[^\n]+$"):
        download.ensure(tmp_path / place, data)
    assert len(writes) == (0 if place else 1 if data == "generated" else 2)
    assert listing(tmp_path) - NOTHING == {"file"}


def test_an_interrupt_ends_a_download_and_leaves_nothing(loopback, tmp_path, monkeypatch):
    loopback("stall")
    monkeypatch.setitem(download.PATIENCE, "mnist", 60)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        download.ensure(tmp_path, "mnist")
    assert time.monotonic() - start < 10
    assert listing(tmp_path) == NOTHING


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_interrupt_while_writing_leaves_nothing_and_a_kill_is_cleaned_up(
    split, loopback, tmp_path, monkeypatch
):
    loopback("good")

    def interrupted(path, *arguments):
        if path.stem == split:
            raise KeyboardInterrupt
        tarball.write_tarball(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(download, "write_tarball", interrupted)
        with pytest.raises(KeyboardInterrupt):
            download.ensure(tmp_path)
    assert listing(tmp_path) == NOTHING
    (tmp_path / ".download-killed").mkdir()  # what a killed process leaves ...
    (tmp_path / ".download-killed" / "train.tar").touch()
    assert download.ensure(tmp_path) == tmp_path  # ... the next one takes away
    assert listing(tmp_path) == MNIST


def test_a_tarball_that_appears_meanwhile_stays(loopback, tmp_path, monkeypatch):
    loopback("good")

    def write(path, *arguments):
        (tmp_path / "test.tar.gz").write_text("the user's own")
        tarball.write_tarball(path, *arguments)

    monkeypatch.setattr(download, "write_tarball", write)
    assert download.ensure(tmp_path) == tmp_path
    assert listing(tmp_path) == NOTHING | {"train.tar", "test.tar.gz"}


def test_a_gzip_bomb_is_not_unpacked():
    tracemalloc.start()
    with pytest.raises(DataError):
        download.verified("t10k-labels-idx1-ubyte", BOMB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * download.MAX_FILE_BYTES < 200_000_000


WORKER = """
    import json
    import sys
    import types
    from pathlib import Path

    import torch

    from digits import download, idx, synthetic, tarball

    def draw(folder):
        images, labels = torch.zeros(10, 28, 28, dtype=torch.uint8), torch.arange(10)
        for split in ("train", "test"):
            tarball.write_tarball(folder / f"{split}.tar", images, labels, split)

    synthetic.generate = draw
    idx.SHA256 = json.loads(sys.argv[1])
    fake = types.ModuleType("torchvision.datasets")  # the real one takes seconds to import
    sys.modules |= {"torchvision": types.ModuleType("torchvision"), "torchvision.datasets": fake}
    print("ready", flush=True)
    for line in sys.stdin:
        mirror, root = line.split(maxsplit=1)
        fake.MNIST = types.SimpleNamespace(mirrors=[mirror])
        folder = download.ensure(Path(root.strip()))
        print(folder.name, len(tarball.read_tarball(folder / "train.tar")[0]), flush=True)
"""


@pytest.fixture(scope="module")
def four_processes():
    command = [sys.executable, "-c", textwrap.dedent(WORKER), json.dumps(DIGESTS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(4)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    yield processes
    for process in processes:
        process.stdin.close()
    for process in processes:
        process.stdout.close()
        process.wait(30)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    "behaviour, folder, images, requests, files",
    [("good", "data", 100, 4, MNIST), ("not_found", "generated", 10, 2, GENERATED)],
)
def test_of_four_processes_one_works_and_the_others_wait(
    behaviour, folder, images, requests, files, number, four_processes, server, tmp_path
):
    """They download once, or fail once."""
    for process in four_processes:
        url = f"http://127.0.0.1:{server.server_port}/{behaviour}/"
        process.stdin.write(f"{url} {tmp_path / 'data'}\n")
        process.stdin.flush()
    answers = [process.stdout.readline() for process in four_processes]
    assert answers == [f"{folder} {images}\n"] * 4
    assert server.requests.total() == requests  # for four files, or two attempts at the first
    assert listing(tmp_path / "data") == files
