"""The data of a run are found, named, and the same for the training set and the test set."""

import argparse
from pathlib import Path

import pytest
import torch

from digits import download, idx, synthetic
from digits.tarball import write_tarball
from files import DataError
from training import data
from training.config import Config, ConfigError

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(256, (40, 28, 28), generator=GENERATOR, dtype=torch.uint8)
LABELS = torch.arange(40) % 10


def write(folder, *splits):
    """Thirty training images and ten test images, or one of both; gives the folder."""
    for split in splits or ("train", "test"):
        part = slice(0, 30) if split == "train" else slice(30, None)
        write_tarball(folder / f"{split}.tar", IMAGES[part], LABELS[part], split)
    return folder


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load data as a run does; nothing is downloaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "OWN", tmp_path / "project" / "data")
    monkeypatch.setattr(synthetic, "generate", write)

    def unavailable(*_):
        raise download.Unavailable("MNIST: cannot be downloaded (a test)")

    monkeypatch.setattr(download, "download", unavailable)

    def load(folder="data", kind="auto", say=print, **values):
        options = argparse.Namespace(data_dir=str(folder), data=kind, device=torch.device("cpu"))
        return data.load(Config(**values), options, say)

    return load


@pytest.fixture
def published(monkeypatch):
    """Let the test's own images be the published ones, of the splits that are named."""

    def published(*splits):
        parts = {"train": slice(0, 30), "test": slice(30, None)}
        for split in splits:
            digests = idx.digests(IMAGES[parts[split]], LABELS[parts[split]])
            for kind, digest in zip(idx.KINDS, digests, strict=True):
                monkeypatch.setitem(idx.SHA256, f"{idx.NAMES[split]}-{kind}-ubyte", digest)

    return published


# What the data are called


def test_the_published_images_are_mnist(load, published, tmp_path):
    write(tmp_path / "fashion")
    published("train", "test")
    config, train_set, test_set = load("fashion")
    assert config.data == "mnist" and len(config.digests) == 4
    assert (len(train_set), len(test_set)) == (30, 10)


@pytest.mark.parametrize("split", ["train", "test"])
def test_with_one_set_of_ones_own_it_is_not_mnist(load, published, tmp_path, split):
    write(tmp_path / "fashion")
    published(split)
    assert load("fashion")[0].data == "fashion"
    assert load("fashion", val_size=5)[0].data == ("mnist" if split == "train" else "fashion")


def test_generated_digits_are_called_so(load, tmp_path):
    for kind in ("auto", "generated"):
        assert load(kind=kind)[0].data == "generated"
    assert load(tmp_path / "mine", "generated")[0].data == "generated"


@pytest.mark.parametrize(
    ("folder", "name"),
    {
        "fashion": "fashion",
        "a/my digits (new)": "my-digits-new",
        "x.y": "x-y",
        "数字": "数字",
        "mnist": "own-mnist",
        "MNIST": "own-MNIST",
        "mnist/..": "own-here",
        "generated": "own-generated",
        "FashionMNIST/raw": "FashionMNIST",
        "(((": "data",
        "é" * 30: "é" * 20,
        "_": "_",
        "trailing ": "trailing",
        "a\nb\x1b[2J": "a-b-2J",
    }.items(),
)
def test_other_data_are_called_as_their_folder(tmp_path, folder, name):
    place = tmp_path / ("here" if name != "own-here" else "mnist") / folder
    if folder == "mnist/..":
        place, name = tmp_path / "mnist" / "x" / "..", "own-mnist"
    try:
        place.mkdir(parents=True)
    except OSError:
        pytest.skip("this system has no such folder")
    assert data.data_name(place) == name


def test_the_current_folder_has_a_name_too(load, tmp_path):
    write(tmp_path)
    for folder in (".", "", str(tmp_path)):
        assert load(folder)[0].data == data.data_name(tmp_path)


# Where the data are


def test_a_tilde_is_the_home_folder(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / "fashion")
    assert load("~/fashion")[0].data == "fashion"
    assert load("~/fashion", "generated")[0].data == "generated"
    assert not (tmp_path / "~").exists()


def test_that_the_projects_own_folder_is_filled_is_said(load, tmp_path, capsys):
    write(tmp_path / "project" / "data")
    load()
    told = capsys.readouterr().err
    line = next(line for line in told.splitlines() if line.startswith("note: "))
    assert str(tmp_path / "data") in line
    assert f"--data-dir {tmp_path / 'project' / 'data'}" in line


def test_nothing_is_said_where_nobody_would_wonder(load, tmp_path, monkeypatch, capsys):
    load("elsewhere", "generated")
    load()  # the project's own folder is empty
    write(tmp_path / "project" / "data")
    write(tmp_path / "data")
    load()
    monkeypatch.chdir(tmp_path / "project")
    load()
    assert "note: " not in capsys.readouterr().err


def test_a_mistyped_folder_is_named_and_gone_again(load, tmp_path):
    with pytest.raises(DataError, match="mistyped.*did not exist"):
        load("mistyped")
    assert not list(tmp_path.iterdir())
    assert load("data")[0].data == "generated"  # the default folder


def test_two_forms_in_the_projects_own_folder_do_not_matter_elsewhere(load, tmp_path):
    own = write(tmp_path / "project" / "data")
    (own / "train.zip").touch()
    assert load()[0].data == "generated"


# Validation


def test_with_val_size_the_test_set_need_not_be_there(load, tmp_path):
    write(tmp_path / "fashion", "train")
    config, train_set, test_set = load("fashion", val_size=10)
    assert (len(train_set), len(test_set)) == (20, 10)
    assert torch.equal(test_set.data, IMAGES[20:30])
    assert config.data == "fashion" and len(config.digests) == 2
    with pytest.raises(DataError, match="test.tar: missing"):
        load("fashion")


def test_with_val_size_the_test_set_is_not_read(load, tmp_path):
    write(tmp_path / "fashion")
    (tmp_path / "fashion" / "test.tar").write_text("damaged")
    load("fashion", val_size=10)
    with pytest.raises(DataError):
        load("fashion")


def test_all_images_cannot_be_held_out(load, tmp_path):
    write(tmp_path / "fashion")
    with pytest.raises(ConfigError, match="only 30 training images"):
        load("fashion", val_size=30)


# What is said


def test_the_images_are_announced(load, tmp_path):
    write(tmp_path / "fashion")
    lines = []
    load("fashion", say=lines.append)
    assert "fashion/train.tar: 30 images, NOT the published MNIST" in Path(lines[0]).as_posix()
    assert len(lines) == 2
    assert not any(digest in line for line in lines for digest in load("fashion")[0].digests)


def test_missing_digits_and_common_images_are_warned_of(load, tmp_path, capsys):
    folder = tmp_path / "fashion"
    write_tarball(folder / "train.tar", IMAGES[:8], LABELS[:8], "train")
    write_tarball(folder / "test.tar", IMAGES[:20], LABELS[:20], "test")
    load("fashion")
    told = capsys.readouterr().err
    assert "train.tar: no image shows a 8 or a 9" in told
    assert "8 of the training images are also in it" in told
