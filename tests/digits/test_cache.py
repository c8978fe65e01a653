"""A cache gives what its source gives; it is written again or done without if it is not sound."""

import errno
import hashlib
import os
import random
from unittest.mock import Mock

from digits import archive, cache
from digits.cache import read_cached
from files import DataError

import numpy as np
import pytest
from archives import DATA, assert_intact, damaged, files_named, lay, npz_file, png, tarred, zipped

FILES = files_named("train/{1}/{0}.png")


@pytest.fixture
def folder(tmp_path):
    return lay(tmp_path, FILES) / "train"


@pytest.fixture
def tarball(tmp_path):
    return lay(tmp_path, {"train.tar": tarred(FILES)}) / "train.tar"


@pytest.fixture
def cached(tarball):
    """The cache of that tarball, already written."""
    read_cached(tarball, "train")
    return tarball.with_name("train.cache.npz")


@pytest.fixture
def is_used(tarball, cached, capsys):
    """Whether a start uses this content as the cache; it reads the images in any case."""

    def is_used(content):
        cached.write_bytes(content)
        assert_intact(read_cached(tarball, "train"))
        return "note: " not in capsys.readouterr().err

    return is_used


def test_the_key_and_the_format_of_the_cache_stay(tarball, cached):
    """Or every cache of an earlier version of the project would be written again."""
    with np.load(cached) as arrays:
        assert set(arrays) == {"images", "labels", "key"}
        assert str(arrays["key"]) == f"1 {hashlib.sha256(tarball.read_bytes()).hexdigest()}"
        assert arrays["images"].dtype == arrays["labels"].dtype == np.uint8


def test_what_takes_seconds_is_announced(tarball, monkeypatch, capsys):
    monkeypatch.setattr(cache, "LARGE", 100)
    for words in (f"{tarball}: reading the images, once\n", ""):
        read_cached(tarball, "train")
        assert capsys.readouterr().err == words


CHANGES = [
    lambda folder: (folder / "0/99.png").write_bytes(png()),
    lambda folder: (folder / "0/1.png").unlink(),
    lambda folder: (folder / "0/1.png").rename(folder / "1/1.png"),
    lambda folder: (folder / "0/1.png").write_bytes(png()),
    lambda folder: (folder / "0/notes.txt").write_bytes(b"x"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_folder_makes_its_cache_stale(folder, monkeypatch, change):
    read_cached(folder, "train")
    (folder / ".DS_Store").write_bytes(b"litter changes nothing")
    monkeypatch.setattr(archive, "decode", Mock(side_effect=DataError("read again")))
    assert_intact(read_cached(folder, "train"))
    change(folder)
    with pytest.raises(DataError, match="read again"):
        read_cached(folder, "train")


def test_the_cache_of_one_split_is_not_taken_for_the_other(tmp_path, capsys):
    names = ["training/5/0.png", "testing/7/0.png", "training/4/1.png"]
    path = lay(tmp_path, {"mnist_png.zip": zipped(dict.fromkeys(names, png()))}) / "mnist_png.zip"
    assert read_cached(path, "train")[1].tolist() == [5, 4]
    assert read_cached(path, "test")[1].tolist() == [7]
    (tmp_path / f"{path.name}.train.cache.npz").replace(tmp_path / f"{path.name}.test.cache.npz")
    assert read_cached(path, "test")[1].tolist() == [7]
    assert "stale or damaged" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["tarball", "folder"])
def test_what_changes_while_it_is_read_is_refused_and_not_cached(request, monkeypatch, form):
    path = request.getfixturevalue(form)

    def changing(*arguments, decode=archive.decode):
        target = path if path.is_file() else path / "0" / "1.png"
        target.write_bytes(target.read_bytes()[::-1])
        return decode(*arguments)

    monkeypatch.setattr(archive, "decode", changing)
    with pytest.raises(DataError, match="changed while it was read; start again"):
        read_cached(path, "train")
    assert os.listdir(path.parent) == [path.name]


# Damaged and foreign caches


def test_no_damage_to_the_cache_differs_in_silence(cached, is_used, monkeypatch):
    content = cached.read_bytes()
    monkeypatch.setattr(cache, "write_whole", lambda *_: None)
    monkeypatch.setattr(archive, "decode", lambda *_: DATA)  # both only take time
    start = content.index(b"\x93NUMPY")
    # the header says where the images start and which shape they have
    header = range(8 * start, 8 * (start + 128), 3)
    assert not any(map(is_used, damaged(content, header, range(0, len(content), 100))))
    bits = random.Random(0).sample(range(8 * len(content)), 200)
    # bits of times and attributes have no meaning
    assert sum(map(is_used, damaged(content, bits))) < 92


class Trap:
    """Unpickling it leaves a file in the current folder."""

    def __reduce__(self):
        return open, ("sprung", "w")


def test_a_foreign_cache_is_replaced_and_no_pickle_is_opened(
    cached, is_used, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with np.load(cached) as arrays:
        own = dict(arrays)
    foreign = {
        "another npz": npz_file(a=np.arange(3)),
        "another version": npz_file(**own | {"key": np.array("0" + str(own["key"])[1:])}),
        "a label of 10": npz_file(**own | {"labels": own["labels"] + 5}),
        "a pickle in it": npz_file(**own | {"labels": np.array([Trap()] * 12, dtype=object)}),
    }
    for name, content in foreign.items():
        assert not is_used(content), name
        assert is_used(cached.read_bytes()), name
    assert not os.path.exists("sprung")


# Without a cache


def test_without_space_for_a_cache_the_images_are_read(tarball, monkeypatch, capsys):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(cache, "write_whole", Mock(side_effect=full))
    for _ in range(2):
        assert_intact(read_cached(tarball, "train"))
        warning = capsys.readouterr().err
        assert warning.startswith("warning: ") and full.strerror in warning
        assert warning.count("\n") == 1
