"""The data of a run are loaded, announced, split and named, the same for both of its sets."""

import argparse
import dataclasses
from pathlib import Path
from types import SimpleNamespace

from dataset import MNIST
from files import ConfigError, DataError
from training import data
from training.config import Config

import pytest
import torch
from helpers import write_data


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp("data") / "fashion", 120, 40)
    return MNIST(folder), MNIST(folder, train=False)


@pytest.fixture
def load(monkeypatch):
    """Load splits of a folder as a run does, without looking for data elsewhere."""
    monkeypatch.setattr(data.download, "ensure", lambda folder, kind, splits: Path(folder))

    def load(folder, *splits, say=print):
        cpu = torch.device("cpu")
        options = argparse.Namespace(data_dir=str(folder), data="auto", device=cpu)
        return data.load(splits, options, say)

    return load


def test_the_images_are_announced(load, sets):
    lines, folder = [], sets[0].path.parent
    assert [len(dataset) for dataset in load(folder, "train", "test", say=lines.append)] == [
        120,
        40,
    ]
    assert lines == [
        f"{folder / 'train.tar'}: 120 images, NOT the published MNIST",
        f"{folder / 'test.tar'}: 40 images, NOT the published MNIST",
    ]


def test_missing_digits_and_common_images_are_warned_of(load, sets, monkeypatch, capsys):
    rare = sets[0].replace(data=sets[0].data % 2, targets=sets[0].targets % 8)
    monkeypatch.setattr(data, "MNIST", lambda root, train: rare)
    load(".", "train", "test")
    error = capsys.readouterr().err
    assert f"{rare.path}: no image shows a 8 or a 9" in error
    assert "120 of the training images are also in it" in error


def test_a_split_that_is_not_asked_for_is_not_read(load, sets, tmp_path):
    (tmp_path / "train.tar").write_bytes(sets[0].path.read_bytes())
    (tmp_path / "test.tar").write_text("damaged")
    assert len(load(tmp_path, "train")) == 1
    with pytest.raises(DataError):
        load(tmp_path, "train", "test")


def test_validation_holds_out_the_last_images_and_leaves_the_test_set_alone(sets, capsys):
    train_set, test_set = sets
    for given in (None, test_set):
        config, first, last = data.prepared(Config(val_size=50), train_set, given)
        assert torch.equal(torch.cat([first.data, last.data]), train_set.data) and len(last) == 50
        assert config.digests == train_set.digests and config.name == "lenet5_val50_fashion"
    assert capsys.readouterr().err == ""
    ordered = train_set.replace(targets=torch.arange(120) // 12)
    data.prepared(Config(val_size=24), ordered, None)
    error = capsys.readouterr().err
    assert error == "warning: --val-size holds out digits that no training image shows: 8, 9\n"
    with pytest.raises(ConfigError, match="--val-size: there are only 120 training images"):
        data.prepared(Config(val_size=120), train_set, test_set)
    with pytest.raises(ConfigError, match="--val-size: is needed"):
        data.prepared(Config(), train_set, None)


def test_a_configuration_names_the_data_that_it_is_used_with(sets):
    """Not those that it was used with before; images are distorted where they are trained on."""
    train_set, test_set = sets
    config, distorted, plain = data.prepared(Config(augment="elastic"), *sets)
    assert config.digests == (*train_set.digests, *test_set.digests)
    assert (distorted.augment, plain.augment) == ("elastic", "none")
    again, *_ = data.prepared(config, train_set.part(0, 64), test_set)
    assert again.digests[:2] != config.digests[:2] and again.digests[2:] == config.digests[2:]
    other, *_ = data.prepared(dataclasses.replace(config, name="mine"), *sets)
    assert (other.name, other.data) == ("mine", "fashion")


NAMES = {
    "fashion": "fashion",
    "a/my digits (new)": "my-digits-new",
    "x.y": "x-y",
    "数字": "数字",
    "mnist": "own-mnist",
    "MNIST/x/..": "own-MNIST",
    "generated": "own-generated",  # without the notice that is beside generated digits
    "(((": "data",
    "é" * 30: "é" * 20,
    "trailing ": "trailing",
    "a\nb\x1b[2J": "a-b-2J",
}


@pytest.mark.parametrize("folder", NAMES)
def test_data_that_are_not_mnist_are_called_as_their_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = SimpleNamespace(path=Path(folder, "train.tar"), published=False)
    published = SimpleNamespace(path=own.path, published=True)
    assert data.data_name([own]) == data.data_name([own, published]) == NAMES[folder]
    assert data.data_name([published, published]) == "mnist"


def test_generated_digits_are_called_so(tmp_path):
    (tmp_path / "generated").mkdir()
    (tmp_path / "generated" / "README.txt").touch()
    drawn = SimpleNamespace(path=tmp_path / "generated" / "train.tar", published=False)
    assert data.data_name([drawn]) == "generated"
