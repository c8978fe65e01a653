"""The data appear, or a clear error does; a local server misbehaves in the ways that are known.

The files are twelve and five random images in MNIST's format, and their digests take the place of
the published ones.
"""

import contextlib
import errno
import gzip
import hashlib
import os
import socket
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import Mock

from digits import archive, download, idx, places, synthetic
from files import DataError

import pytest
from archives import DATA, IMAGES, LABELS, assert_intact, idx_file, idx_files
from helpers import ended, fork

datasets = pytest.importorskip("torchvision.datasets")
MNIST = ["test.tar", "train.tar"]
GENERATED = [f"generated/{name}" for name in ("README.txt", *MNIST)]
FILES = idx_files(splits=("train",)) | idx_files(IMAGES[:5], LABELS[:5], splits=("t10k",))
PACKED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in FILES.items()}
MD5 = [(name, hashlib.md5(content).hexdigest()) for name, content in PACKED.items()]
SHA256 = [hashlib.sha256(content).hexdigest() for content in FILES.values()]
FAILING = "not_found unavailable closes hangs silent html".split()


class Handler(BaseHTTPRequestHandler):
    """Serves /<behaviour>/<file>: "good", or one of FAILING."""

    def do_GET(self):
        _, behaviour, name = self.path.split("/")
        self.server.requests[behaviour] += 1
        body, status = PACKED[name], {"not_found": 404, "unavailable": 503}.get(behaviour, 200)
        if behaviour == "html":
            body = b"<html><body>Please sign in to the hotel's network</body></html>"
        sent = len(body) // 2 if behaviour in ("closes", "hangs") else len(body)
        if behaviour == "silent":
            self.server.closing.wait()
        with contextlib.suppress(OSError):  # the client may have left long ago
            self.send_response(status, "Try\x1b[2Jlater")  # terminals obey that
            self.send_header("Content-Length", len(body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[:sent])
        if behaviour == "hangs":
            self.server.closing.wait()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None
        server.closing, server.requests = threading.Event(), Counter()
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def mirrors(server, monkeypatch):
    """A function that chooses the mirrors; these digests are the published ones."""
    server.requests.clear()

    def draw(folder):  # takes the place of synthetic.generate, which takes seconds
        for split in ("train", "test"):
            archive.write_tarball(folder / f"{split}.tar", *DATA, split)

    def mirrors(*behaviours):
        urls = [f"http://127.0.0.1:{server.server_port}/{behaviour}/" for behaviour in behaviours]
        monkeypatch.setattr(datasets.MNIST, "mirrors", urls)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(datasets.MNIST, "resources", MD5)
    monkeypatch.setattr(idx, "SHA256", dict(zip(idx.SHA256, SHA256, strict=True)))
    monkeypatch.setattr(synthetic, "generate", draw)
    monkeypatch.setattr(download, "TIMEOUT", 60)  # a busy machine may be slow to answer
    mirrors("not_found")
    return mirrors


def listing(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def assert_is_mnist(folder):
    assert listing(folder) == MNIST
    for split, name in (("train", "train"), ("test", "t10k")):
        images, labels = archive.read_tarball(folder / f"{split}.tar")
        assert idx_file(images.numpy()) == FILES[f"{name}-images-idx3-ubyte"]
        assert idx_file(labels.numpy()) == FILES[f"{name}-labels-idx1-ubyte"]


def test_when_every_mirror_fails_one_line_names_them(mirrors, server, tmp_path, monkeypatch, capfd):
    mirrors(*FAILING)
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    with pytest.raises(DataError, match="^MNIST cannot be downloaded .*; put train.tar") as error:
        download.ensure(tmp_path, "mnist")
    assert str(error.value).isprintable()  # so on one line too
    assert all(f"/{behaviour}/: " in str(error.value) for behaviour in FAILING)
    assert listing(tmp_path) == [] and socket.getdefaulttimeout() is None
    assert capfd.readouterr().err == f"{tmp_path}: downloading MNIST, 12 MB\n"
    assert set(server.requests) == {*FAILING}


@pytest.mark.parametrize("failing", [[], ["unavailable", "closes", "html"]])
def test_the_first_good_mirror_is_asked_once(failing, mirrors, server, tmp_path, capfd):
    mirrors(*failing, "good", "not_found")
    assert download.ensure(tmp_path / "new") == tmp_path / "new"
    assert_is_mnist(tmp_path / "new")
    assert set(server.requests) == {*failing, "good"}
    assert "GENERATED" not in capfd.readouterr().err
    server.requests.clear()
    assert download.ensure(tmp_path / "new") == tmp_path / "new"
    assert not server.requests


def test_torchvisions_md5_is_not_trusted(mirrors, tmp_path, monkeypatch):
    mirrors("good")
    monkeypatch.setitem(idx.SHA256, "test labels", "0" * 64)
    with pytest.raises(DataError, match="the digests are not MNIST's"):
        download.ensure(tmp_path, "mnist")
    assert listing(tmp_path) == []


def test_without_mnist_digits_are_drawn_once_and_mnist_is_tried_again(mirrors, tmp_path, capfd):
    assert download.ensure(tmp_path) == tmp_path / "generated"
    assert listing(tmp_path) == GENERATED
    told, notice = capfd.readouterr().err, (tmp_path / "generated/README.txt").read_text()
    assert "GENERATED, NOT MNIST" in notice and "NOT MNIST results" in notice and notice in told
    assert "HTTP Error 404" in told and "put train.tar and test.tar" in told and "drawing" in told
    before = (tmp_path / "generated/train.tar").stat().st_ino
    assert download.ensure(tmp_path) == tmp_path / "generated"
    assert (tmp_path / "generated/train.tar").stat().st_ino == before
    told = capfd.readouterr().err
    assert notice in told and "drawing" not in told
    mirrors("good")
    assert download.ensure(tmp_path) == tmp_path
    assert listing(tmp_path) == [*GENERATED, *MNIST]


def test_a_folder_that_is_not_there_or_is_a_file_is_named(server, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="mistyped.*or use --data generated"):
        download.ensure(tmp_path / "mistyped")
    assert not (tmp_path / "mistyped").exists()
    server.requests.clear()
    for _ in range(2):  # generated digits need no network
        folder = download.ensure(tmp_path / "mistyped", "generated")
        assert folder == tmp_path / "mistyped" / "generated" and not server.requests
    assert listing(tmp_path / "mistyped") == GENERATED
    monkeypatch.chdir(tmp_path)
    assert download.ensure("data").as_posix() == "data/generated"
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: a file, not a folder; --data-dir takes"):
        download.ensure(tmp_path / "file")


def test_a_torchvision_that_cannot_be_imported_is_named_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    mend = "cannot be imported .*pip install --force-reinstall torch torchvision"
    with pytest.raises(DataError, match=mend):
        download.ensure(tmp_path, "mnist")
    assert download.ensure(tmp_path) == tmp_path / "generated"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
@pytest.mark.parametrize("place", ["digits.download.pack", "files.os.fsync", "files.os.replace"])
def test_what_ends_a_download_leaves_nothing(mirrors, tmp_path, monkeypatch, place, error):
    mirrors("good")
    monkeypatch.setattr(place, Mock(side_effect=error))
    with pytest.raises((type(error), DataError)):
        download.ensure(tmp_path, "mnist")
    assert listing(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot fork")
@pytest.mark.parametrize(("behaviour", "folder"), [("good", ""), ("not_found", "generated")])
def test_processes_that_start_at_once_read_the_same(behaviour, folder, mirrors, tmp_path, server):
    mirrors(behaviour)
    data = tmp_path / "data"
    data.mkdir()

    def work():
        assert download.ensure(data) == data / folder
        assert_intact(places.load(data / folder, "train")[1:])
        return 0

    processes = [fork(work, tmp_path / f"{n}.txt") for n in range(4)]
    assert [ended(process) for process in processes] == [0] * 4
    assert not any("warning" in path.read_text() for path in tmp_path.glob("*.txt"))
    expected = MNIST if behaviour == "good" else GENERATED
    assert {*listing(data)} == {*expected, f"{folder}/train.cache.npz".strip("/")}
    if behaviour == "good":
        assert server.requests["good"] == 8  # one of them asked, twice for each file
