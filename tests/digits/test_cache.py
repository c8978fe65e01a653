"""A cache gives what its tarball gives; it is written again or done without if it is not sound."""

import errno
import gzip
import io
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import png, zipped

from digits import cache
from digits.cache import read_cached, sha256
from digits.tarball import read_tarball, write_tarball
from files import DataError

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
IMAGES = torch.from_numpy(RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8))
LABELS = torch.tensor([5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 9])
FULL = OSError(errno.ENOSPC, "No space left on device")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")


@pytest.fixture
def tarball(tmp_path):
    """A tarball of twelve images, in a folder of its own."""
    path = tmp_path / "train.tar"
    write_tarball(path, IMAGES, LABELS, "train")
    return path


@pytest.fixture
def cached(tarball):
    """The cache of that tarball, already written."""
    read_cached(tarball)
    return tarball.with_name("train.cache.npz")


def assert_intact(path):
    images, labels = read_cached(path)
    assert torch.equal(images, IMAGES) and images.dtype == torch.uint8
    assert torch.equal(labels, LABELS) and labels.dtype == torch.int64


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


# The cache is used when it belongs to the tarball


def test_the_second_start_reads_the_cache(tarball, cached, monkeypatch, capsys):
    monkeypatch.setattr(cache, "read_tarball", raising(AssertionError("read again")))
    assert_intact(tarball)
    assert capsys.readouterr() == ("", "")


def test_the_key_and_the_format_of_the_cache_stay(tarball, cached):
    """Or every cache of an earlier version of the project would be written again."""
    assert cache.CACHE_VERSION == 1
    with np.load(cached) as arrays:
        assert set(arrays) == {"images", "labels", "key"}
        assert str(arrays["key"]) == f"1 {sha256(tarball)}"
        assert arrays["images"].dtype == arrays["labels"].dtype == np.uint8


def test_another_tarball_makes_the_cache_stale(tarball, cached, capsys):
    write_tarball(tarball, IMAGES.flip(0), LABELS, "train")
    for said in ("note: ", ""):  # only once
        assert torch.equal(read_cached(tarball)[0], IMAGES.flip(0))
        assert capsys.readouterr().err.startswith(said)
    assert capsys.readouterr().err == ""


def test_a_gzipped_tarball_is_cached_too(tarball, monkeypatch):
    packed = tarball.with_name("train.tar.gz")
    packed.write_bytes(gzip.compress(tarball.read_bytes()))
    tarball.unlink()
    assert_intact(packed)
    monkeypatch.setattr(cache, "read_tarball", raising(AssertionError("read again")))
    assert_intact(packed)


def test_a_tarball_damaged_after_it_was_cached_is_refused(tarball, cached):
    with open(tarball, "r+b") as file:
        file.seek(700)
        file.write(b"\xff\x00\xff")
    with pytest.raises(DataError):
        read_cached(tarball)


def test_tarballs_are_never_changed(tarball, cached):
    broken = tarball.parent / "broken" / "train.tar"
    broken.parent.mkdir()
    broken.write_bytes(tarball.read_bytes()[:9000])
    before = [(path.read_bytes(), path.stat()) for path in (tarball, broken)]
    for content in (None, b"damaged", b""):
        if content is not None:
            cached.write_bytes(content)
        assert_intact(tarball)
        with pytest.raises(DataError):
            read_cached(broken)
    for path, (content, stat) in zip((tarball, broken), before, strict=True):
        assert path.read_bytes() == content
        assert path.stat().st_mtime_ns == stat.st_mtime_ns and path.stat().st_ino == stat.st_ino
    assert os.listdir(broken.parent) == ["train.tar"]
    assert set(os.listdir(tarball.parent)) == {"train.tar", "train.cache.npz", "broken"}


# Folders, files that hold both splits, and IDX files


@pytest.fixture
def folder(tmp_path):
    """An unpacked folder of twelve images, one folder for each label."""
    for number, (image, label) in enumerate(zip(IMAGES, LABELS.tolist(), strict=True)):
        path = tmp_path / "train" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image.numpy()))
    return tmp_path / "train"


def test_a_folder_is_cached_beside_itself(folder, monkeypatch, capsys):
    assert_intact(folder)
    assert sorted(os.listdir(folder.parent)) == ["train", "train.cache.npz"]
    monkeypatch.setattr(cache, "read_tarball", raising(AssertionError("read again")))
    assert_intact(folder)
    (folder / ".DS_Store").write_bytes(b"litter changes nothing")
    assert_intact(folder)
    assert capsys.readouterr() == ("", "")


def changes():
    """What may happen to a folder, by name."""
    return {
        "one more": lambda folder: (folder / "0" / "99.png").write_bytes(png()),
        "one less": lambda folder: (folder / "0" / "1.png").unlink(),
        "another name": lambda folder: (folder / "0/1.png").rename(folder / "0/77.png"),
        "another label": lambda folder: (folder / "0/1.png").rename(folder / "1/1.png"),
        "another image": lambda folder: (folder / "0/1.png").write_bytes(png()),
        "not an image": lambda folder: (folder / "0/notes.txt").write_bytes(b"x"),
        "too large": lambda folder: (folder / "0/98.png").write_bytes(bytes(99_999)),
    }


@pytest.mark.parametrize("change", changes())
def test_every_change_of_a_folder_makes_its_cache_stale(folder, monkeypatch, change):
    assert_intact(folder)
    stat = (folder / "0" / "1.png").stat()
    changes()[change](folder)
    for path in folder.rglob("*.png"):
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # nothing that times could tell
    monkeypatch.setattr(cache, "read_tarball", raising(DataError("read again")))
    with pytest.raises(DataError, match="read again"):
        read_cached(folder)


def test_a_link_in_a_folder_makes_its_cache_stale(folder):
    assert_intact(folder)
    try:
        (folder / "0" / "99.png").symlink_to(folder / "0" / "1.png")
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.raises(DataError, match="links are not followed"):
        read_cached(folder)


def test_a_file_with_both_splits_has_a_cache_for_each(tmp_path, monkeypatch, capsys):
    names = ["training/5/0.png", "testing/7/0.png", "training/4/1.png"]
    path = tmp_path / "mnist_png.zip"
    path.write_bytes(zipped({name: png(IMAGES[n].numpy()) for n, name in enumerate(names)}))
    labels = {"train": [5, 4], "test": [7]}
    for _ in range(2):
        for split, expected in labels.items():
            assert read_cached(path, split)[1].tolist() == expected
        monkeypatch.setattr(cache, "read_tarball", raising(AssertionError("read again")))
    caches = [tmp_path / f"{split}.cache.npz" for split in labels]
    assert sorted(tmp_path.iterdir()) == sorted([path, *caches])
    caches[0].replace(caches[1])  # the cache of the other split is not taken for this one's
    monkeypatch.setattr(cache, "read_tarball", read_tarball)
    assert read_cached(path, "test")[1].tolist() == [7]
    assert "belongs to other data" in capsys.readouterr().err


def test_idx_files_are_read_as_they_are(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(
        bytes([0, 0, 8, 3, 0, 0, 0, 12, 0, 0, 0, 28, 0, 0, 0, 28]) + IMAGES.numpy().tobytes()
    )
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 12]) + bytes(LABELS.tolist()))
    assert_intact(path)
    assert sorted(tmp_path.iterdir()) == [path, labels]


@pytest.mark.parametrize("kind", ["tarball", "folder"])
def test_what_changes_while_it_is_read_is_refused_and_not_cached(
    kind, tarball, folder, monkeypatch
):
    path = tarball if kind == "tarball" else folder
    if kind == "tarball":
        assert path.is_file()

    def changing(path):
        images = read_tarball(path)
        target = path if path.is_file() else path / "0" / "1.png"
        target.write_bytes(target.read_bytes()[::-1])
        return images

    monkeypatch.setattr(cache, "read_tarball", changing)
    with pytest.raises(DataError, match="changed while it was read; start again"):
        read_cached(path)
    assert not path.with_name("train.cache.npz").exists()


# What a killed process leaves


@pytest.mark.skipif(os.name != "posix", reason="asks for processes as POSIX does")
def test_what_a_killed_process_left_is_removed_at_the_next_start(tarball):
    process = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    process.wait()
    killed = tarball.with_name(f".train.cache.npz.{process.pid}.tmp")
    killed.write_bytes(b"half of a cache")
    for _ in range(2):  # with a cache and without one
        assert_intact(tarball)
        assert not killed.exists()
        killed.write_bytes(b"half of a cache")


def test_what_a_living_process_is_writing_stays(tarball):
    living = tarball.with_name(f".train.cache.npz.{os.getppid()}.tmp")
    others = [".test.cache.npz.1.tmp", ".train.cache.npz.x.tmp", f".train.cache.npz.{10**30}.tmp"]
    for name in others:
        tarball.with_name(name).touch()
    living.touch()
    assert_intact(tarball)
    assert living.exists() == (os.name == "posix")
    assert all(tarball.with_name(name).exists() for name in others)
    os.utime(living, (0, 0))  # so old that its process has ended, and another has its number
    assert_intact(tarball)
    assert not living.exists()


# Damaged and foreign caches


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def outcome(tarball, cached, content, capsys):
    """'used' or 'rebuilt', after a start that finds this content as the cache."""
    cached.write_bytes(content)
    assert_intact(tarball)
    return "rebuilt" if "note: " in capsys.readouterr().err else "used"


def test_no_damage_to_the_cache_differs_in_silence(tarball, cached, monkeypatch, capsys):
    content = cached.read_bytes()
    monkeypatch.setattr(cache, "write_whole", lambda *_: None)  # or each would wait for the disk
    start = content.index(b"\x93NUMPY")
    # the header says where the images start and which shape they have
    header = range(8 * start, 8 * (start + 128))
    bits = [*header, *random.Random(0).sample(range(8 * len(content)), 300)]
    outcomes = []
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        outcomes.append(outcome(tarball, cached, damaged, capsys))
    assert len(outcomes) == 1024 + 300
    assert outcomes[:1024] == ["rebuilt"] * 1024
    assert outcomes[1024:].count("rebuilt") > 250  # the others have no meaning: times, attributes


def test_no_truncation_of_the_cache_differs_in_silence(tarball, cached, monkeypatch, capsys):
    content = cached.read_bytes()
    monkeypatch.setattr(cache, "write_whole", lambda *_: None)
    cuts = range(0, len(content), 64)
    outcomes = [outcome(tarball, cached, content[:cut], capsys) for cut in cuts]
    assert outcomes == ["rebuilt"] * len(cuts) and len(cuts) > 150


def test_a_foreign_cache_is_replaced(tarball, cached, capsys):
    own = cached.read_bytes()
    write_tarball(tarball.with_name("test.tar"), IMAGES[:2], LABELS[:2], "test")
    read_cached(tarball.with_name("test.tar"))
    with np.load(cached) as arrays:
        key = str(arrays["key"])
    images, labels = IMAGES.numpy(), LABELS.byte().numpy()
    foreign = {
        "of the test images": tarball.with_name("test.cache.npz").read_bytes(),
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
        assert outcome(tarball, cached, content, capsys) == "rebuilt", name
        assert outcome(tarball, cached, cached.read_bytes(), capsys) == "used", name
    assert len(foreign) == 9


class Trap:
    """Unpickling it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("place", ["images", "labels", "key", "all of it"])
def test_a_pickle_in_the_cache_is_never_opened(tarball, cached, tmp_path, capsys, place):
    trap = Trap(tmp_path / "sprung")
    with np.load(cached) as own:
        arrays = dict(own) | {place: np.array([trap], dtype=object)}
    content = pickle.dumps(trap) if place == "all of it" else npz(**arrays)
    assert outcome(tarball, cached, content, capsys) == "rebuilt"
    assert not trap.path.exists()
    pickle.loads(pickle.dumps(trap)).close()
    assert trap.path.exists()  # it would have been there, if the pickle had been opened


# Without a cache


@pytest.mark.parametrize("place", ["open", "os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [FULL, READ_ONLY], ids=["full", "read-only"])
def test_without_space_for_a_cache_the_images_are_read(tarball, monkeypatch, capsys, place, error):
    before = sorted(os.listdir(tarball.parent))

    def opened(path, mode="r", **options):
        if "w" in mode:
            raise error
        return open(path, mode, **options)

    fault = opened if place == "open" else raising(error)
    monkeypatch.setattr(f"files.{place}", fault, raising=False)
    for _ in range(2):
        assert_intact(tarball)
        warning = capsys.readouterr().err
        assert warning.startswith("warning: ") and error.strerror in warning
        assert warning.count("\n") == 1
    assert sorted(os.listdir(tarball.parent)) == before


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="nothing is read-only to root or on Windows"
)
def test_in_a_folder_that_is_read_only_the_images_are_read(tarball, capsys):
    tarball.parent.chmod(0o555)
    try:
        assert_intact(tarball)
    finally:
        tarball.parent.chmod(0o755)
    assert capsys.readouterr().err.startswith("warning: ")


def test_with_a_folder_in_the_caches_place_the_images_are_read(tarball, capsys):
    tarball.with_name("train.cache.npz").mkdir()
    assert_intact(tarball)
    assert capsys.readouterr().err.startswith("warning: ")
    assert sorted(os.listdir(tarball.parent)) == ["train.cache.npz", "train.tar"]


def test_two_processes_at_once_in_a_folder_without_a_cache_read_the_same(tarball):
    script = (
        "import sys; from pathlib import Path; from digits import cache, idx;"
        "print(*idx.digests(*cache.read_cached(Path(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", script, str(tarball)]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0].decode().split() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0] == said[1] and len(said[0]) == 2
    assert sorted(os.listdir(tarball.parent)) == ["train.cache.npz", "train.tar"]
    assert_intact(tarball)
