"""dataset.py: the interface, the arithmetic, and a cache that is right, rebuilt or done without."""

import errno
import gzip
import hashlib
import io
import os
import pickle
import random
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import dataset
from dataset import MNIST, count_common, normalize
from tarball import DataError, write_tarball

RNG = np.random.default_rng(0)
IMAGES = torch.from_numpy(RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8))
LABELS = torch.tensor([5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 9])
MNIST_DIR = os.environ.get("MNIST_DIR")


@pytest.fixture
def root(tmp_path):
    """A data directory: twelve training images, and two of them as test images."""
    write_tarball(tmp_path / "train.tar", IMAGES, LABELS, "train")
    write_tarball(tmp_path / "test.tar", IMAGES[:2], LABELS[:2], "test")
    return tmp_path


@pytest.fixture
def cached(root):
    """The cache of the training images, already written."""
    MNIST(root)
    return root / "train.cache.npz"


def assert_intact(data):
    assert torch.equal(data.data, IMAGES) and data.data.dtype == torch.uint8
    assert torch.equal(data.targets, LABELS) and data.targets.dtype == torch.int64


# Interface


def test_data_and_targets_are_as_torchvision_has_them(root):
    train, test = MNIST(root), MNIST(root, train=False)
    assert_intact(train)
    assert (len(train), len(test)) == (12, 2)
    assert torch.equal(test.data, IMAGES[:2]) and torch.equal(test.targets, LABELS[:2])


def test_indexing_gives_one_image_or_a_batch(root):
    data = MNIST(root)
    image, label = data[3]
    assert image.shape == (1, 28, 28) and image.dtype == torch.float32
    assert label == 1 and type(label) is int
    for index in ([3, 7], torch.tensor([3, 7]), np.array([3, 7]), slice(3, 8, 4)):
        images, labels = data[index]
        assert images.shape == (2, 1, 28, 28) and images.dtype == torch.float32
        assert torch.equal(images[0], image) and labels.tolist() == [1, 3]
    assert torch.equal(data[-1][0], data[11][0])
    assert [label for _, label in data] == LABELS.tolist()  # iteration comes to its end
    with pytest.raises(IndexError):
        data[12]


def test_normalising_agrees_with_an_independent_computation(root):
    images, _ = MNIST(root)[:]
    expected = (IMAGES.numpy().astype(np.float64)[:, None] / 255 - 0.1307) / 0.3081
    assert np.abs(images.numpy() - expected).max() < 1e-6
    every = normalize(torch.arange(256, dtype=torch.uint8).view(1, 256))
    assert every.shape == (1, 1, 256)
    assert np.allclose(every[0, 0], (np.arange(256) / 255 - 0.1307) / 0.3081, atol=1e-6)


def test_indexing_leaves_the_data_as_they_are(root):
    data = MNIST(root)
    for index in (0, slice(None), [1, 2]):
        data[index][0].zero_()
    assert_intact(data)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_takes_it(root, workers):
    batches = list(DataLoader(MNIST(root), batch_size=5, num_workers=workers))
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    assert torch.equal(torch.cat([images for images, _ in batches]), normalize(IMAGES))
    assert torch.equal(torch.cat([labels for _, labels in batches]), LABELS)


def test_parts_and_moving_leave_the_whole(root):
    data = MNIST(root)
    part = data.part(2, 5)
    assert len(part) == 3 and torch.equal(part[0][0], data[2][0])
    assert part.class_counts() == [0, 1, 0, 0, 1, 0, 0, 0, 0, 1]
    assert_intact(data.to("cpu"))
    assert_intact(data)


def test_counts(root):
    train, test = MNIST(root), MNIST(root, train=False)
    assert train.class_counts() == [1, 3, 1, 2, 2, 1, 0, 0, 0, 2]
    assert count_common(train, test) == count_common(test, train) == 2
    assert count_common(train.part(2, 12), test) == 0


def test_digests_are_those_of_the_idx_files(root):
    data = MNIST(root)
    images = b"".join(n.to_bytes(4, "big") for n in (2051, 12, 28, 28)) + bytes(IMAGES.flatten())
    labels = b"".join(n.to_bytes(4, "big") for n in (2049, 12)) + bytes(LABELS.tolist())
    assert data.digests == [hashlib.sha256(idx).hexdigest() for idx in (images, labels)]
    assert not data.published


# The tarballs


def test_a_missing_tarball_is_named(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="test.tar: not found"):
            MNIST(root, train=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_in_place_of_the_tarball_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "train.tar")
    raised = []

    def start():
        with pytest.raises(DataError) as error:
            MNIST(tmp_path)
        raised.append(error)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    thread.join(30)
    assert len(raised) == 1


def test_a_directory_or_an_unreadable_tarball_is_refused(root, monkeypatch):
    (root / "test.tar").unlink()
    (root / "test.tar").mkdir()
    with pytest.raises(DataError, match="test.tar"):
        MNIST(root, train=False)
    denied = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(dataset, "sha256", raising(denied))
    with pytest.raises(DataError, match="train.tar: Permission denied"):
        MNIST(root)


def test_a_tarball_damaged_after_it_was_cached_is_refused(root, cached):
    with open(root / "train.tar", "r+b") as file:
        file.seek(700)
        file.write(b"\xff\x00\xff")
    with pytest.raises(DataError):
        MNIST(root)


def test_the_users_tarballs_are_never_changed(root):
    (root / "broken").mkdir()
    whole = (root / "train.tar").read_bytes()
    (root / "broken" / "train.tar").write_bytes(whole[:9000])
    tarballs = [root / "train.tar", root / "test.tar", root / "broken" / "train.tar"]
    before = [(path.read_bytes(), path.stat()) for path in tarballs]
    for fill in (None, b"damaged", b""):
        for train in (True, False):
            if fill is not None:
                (root / f"{'train' if train else 'test'}.cache.npz").write_bytes(fill)
            MNIST(root, train)
        with pytest.raises(DataError):
            MNIST(root / "broken")
    for path, (content, stat) in zip(tarballs, before, strict=True):
        assert path.read_bytes() == content
        assert path.stat().st_mtime_ns == stat.st_mtime_ns and path.stat().st_ino == stat.st_ino
    assert os.listdir(root / "broken") == ["train.tar"]
    names = {"train.tar", "test.tar", "train.cache.npz", "test.cache.npz", "broken"}
    assert set(os.listdir(root)) == names


# The cache


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_the_second_start_reads_the_cache(root, cached, monkeypatch, capsys):
    monkeypatch.setattr(dataset, "read_tarball", raising(AssertionError("read again")))
    assert_intact(MNIST(root))
    assert capsys.readouterr() == ("", "")


def test_another_tarball_makes_the_cache_stale(root, cached, capsys):
    write_tarball(root / "train.tar", IMAGES.flip(0), LABELS, "train")
    for said in ("note: ", ""):  # once
        assert torch.equal(MNIST(root).data, IMAGES.flip(0))
        assert capsys.readouterr().err.startswith(said)
    assert capsys.readouterr().err == ""


def test_a_gzipped_tarball_is_cached_as_well(root, monkeypatch):
    packed = gzip.compress((root / "train.tar").read_bytes())
    (root / "train.tar.gz").write_bytes(packed)
    (root / "train.tar").unlink()
    assert_intact(MNIST(root))
    monkeypatch.setattr(dataset, "read_tarball", raising(AssertionError("read again")))
    assert_intact(MNIST(root))


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def cache_outcome(root, cached, content, capsys):
    """'used' or 'rebuilt', after a start that finds this content as the cache."""
    cached.write_bytes(content)
    assert_intact(MNIST(root))
    return "rebuilt" if "note: " in capsys.readouterr().err else "used"


def test_no_damage_to_the_cache_differs_in_silence(root, cached, monkeypatch, capsys):
    content = cached.read_bytes()
    monkeypatch.setattr(dataset, "write_whole", lambda *_: None)  # or each would wait for the disk
    start = content.index(b"\x93NUMPY")
    header = range(
        8 * start, 8 * (start + 128)
    )  # what says where the images start, and their shape
    bits = [*header, *random.Random(0).sample(range(8 * len(content)), 300)]
    outcomes = []
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        outcomes.append(cache_outcome(root, cached, damaged, capsys))
    assert len(outcomes) == 1024 + 300
    assert outcomes[:1024] == ["rebuilt"] * 1024
    assert outcomes[1024:].count("rebuilt") > 250  # the rest has no meaning: times, attributes


def test_no_truncation_of_the_cache_differs_in_silence(root, cached, monkeypatch, capsys):
    content = cached.read_bytes()
    monkeypatch.setattr(dataset, "write_whole", lambda *_: None)
    cuts = range(0, len(content), 64)
    outcomes = [cache_outcome(root, cached, content[:cut], capsys) for cut in cuts]
    assert outcomes == ["rebuilt"] * len(cuts) and len(cuts) > 150


def test_a_foreign_cache_is_replaced(root, cached, capsys):
    own = cached.read_bytes()
    MNIST(root, train=False)
    key = str(np.load(cached)["key"])
    images, labels = IMAGES.numpy(), LABELS.byte().numpy()
    foreign = {
        "of the test images": (root / "test.cache.npz").read_bytes(),
        "random": RNG.bytes(9999),
        "text": b"not a cache",
        "another npz": npz(a=np.arange(3)),
        "an npy": own[own.index(b"\x93NUMPY") :],
        "another version": npz(images=images, labels=labels, key=np.array("0 " + key[2:])),
        "another number of labels": npz(images=images, labels=labels[:-1], key=np.array(key)),
        "other types": npz(images=images.astype(float), labels=labels, key=np.array(key)),
        "flat": npz(images=images.reshape(12, 784), labels=labels, key=np.array(key)),
    }
    for name, content in foreign.items():
        assert cache_outcome(root, cached, content, capsys) == "rebuilt", name
        assert cache_outcome(root, cached, cached.read_bytes(), capsys) == "used", name
    assert len(foreign) == 9


class Trap:
    """Unpickling it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("place", ["images", "labels", "key", "all of it"])
def test_a_pickle_in_the_cache_is_never_opened(root, cached, tmp_path, capsys, place):
    trap = Trap(tmp_path / "sprung")
    arrays = dict(np.load(cached)) | {place: np.array([trap], dtype=object)}
    content = pickle.dumps(trap) if place == "all of it" else npz(**arrays)
    assert cache_outcome(root, cached, content, capsys) == "rebuilt"
    assert not trap.path.exists()
    pickle.loads(pickle.dumps(trap)).close()
    assert trap.path.exists()  # it would have been


FULL = OSError(errno.ENOSPC, "No space left on device")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("place", ["open", "os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [FULL, READ_ONLY], ids=["full", "read-only"])
def test_without_room_for_a_cache_it_goes_on(root, monkeypatch, capsys, place, error):
    before = sorted(os.listdir(root))

    def opened(path, mode="r", **options):
        if "w" in mode:
            raise error
        return open(path, mode, **options)

    fault = opened if place == "open" else raising(error)
    monkeypatch.setattr(f"tarball.{place}", fault, raising=False)
    for _ in range(2):
        assert_intact(MNIST(root))
        warning = capsys.readouterr().err
        assert warning.startswith("warning: ") and error.strerror in warning
        assert warning.count("\n") == 1
    assert sorted(os.listdir(root)) == before


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="nothing is read-only to root or Windows"
)
def test_a_folder_that_is_not_writable(root, capsys):
    root.chmod(0o555)
    try:
        assert_intact(MNIST(root))
    finally:
        root.chmod(0o755)
    assert capsys.readouterr().err.startswith("warning: ")


def test_a_directory_in_place_of_the_cache(root, capsys):
    (root / "train.cache.npz").mkdir()
    assert_intact(MNIST(root))
    assert capsys.readouterr().err.startswith("warning: ")
    assert sorted(os.listdir(root)) == ["test.tar", "train.cache.npz", "train.tar"]


def test_two_processes_at_once_on_a_directory_without_cache(root):
    script = "import sys, dataset; print(*dataset.MNIST(sys.argv[1]).digests)"
    command = [sys.executable, "-c", script, root]
    folder = Path(dataset.__file__).parent
    both = [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0].decode().split() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0] == said[1] == MNIST(root).digests
    assert sorted(os.listdir(root)) == ["test.tar", "train.cache.npz", "train.tar"]


# The real MNIST


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    if not MNIST_DIR:
        pytest.skip("MNIST_DIR is not set: a folder with MNIST's train.tar.gz and test.tar.gz")
    root = tmp_path_factory.mktemp("mnist")
    for path in Path(MNIST_DIR).glob("*.tar*"):
        shutil.copyfile(path, root / path.name)
    return root


@pytest.mark.parametrize("start", ["first", "second"])
def test_genuine_mnist_has_the_published_digests(genuine, start):
    train, test = MNIST(genuine), MNIST(genuine, train=False)
    assert train.published and test.published
    assert (len(train), len(test)) == (60_000, 10_000)
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.class_counts() == counts
    assert count_common(train, test) == 0


def test_genuine_mnist_agrees_with_an_independent_decoder(genuine):
    data, compared = MNIST(genuine, train=False), 0
    with tarfile.open(data.path) as oracle:
        for info in oracle:
            if info.isfile() and compared < 2000:
                number, label = map(int, Path(info.name).stem.split("_"))
                image = np.asarray(Image.open(oracle.extractfile(info)))
                assert np.array_equal(image, data.data[number]) and data.targets[number] == label
                compared += 1
    assert compared == 2000
