"""The data of a run are loaded, announced, split and named, the same for both of its sets."""

import argparse
import dataclasses
from pathlib import Path

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


def load(folder, *splits):
    """Load splits of a folder as a run does."""
    options = argparse.Namespace(data_dir=folder, data="auto", device=torch.device("cpu"))
    return data.load(splits, options)


def test_the_images_are_announced_and_what_is_odd_is_warned_of(sets, monkeypatch, capsys):
    paths = [dataset.path for dataset in sets]
    assert [len(dataset) for dataset in load(paths[0].parent, "train", "test")] == [120, 40]
    shown = "{}: 120 images, NOT the published MNIST\n{}: 40 images, NOT the published MNIST\n"
    assert capsys.readouterr() == (shown.format(*paths), "")
    rare = sets[0].replace(targets=sets[0].targets % 8)
    monkeypatch.setattr(data, "MNIST", lambda root, train: rare)
    load(paths[0].parent, "train", "test")
    error = capsys.readouterr().err
    assert f"{paths[0]}: no image shows a 8 or a 9" in error
    assert "120 of the training images are also in it" in error


def test_a_split_that_is_not_asked_for_is_not_read(sets, tmp_path):
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
    sorted_set = train_set.replace(targets=torch.arange(120) // 12)
    data.prepared(Config(val_size=24), sorted_set, None)
    error = capsys.readouterr().err
    assert error == "warning: --val-size holds out digits that no training image shows: 8, 9\n"
    with pytest.raises(ConfigError, match="--val-size: is needed"):
        data.prepared(Config(), train_set, None)


def test_a_configuration_names_the_data_that_it_is_used_with(sets):
    """Not those that it was used with before; only images to train on are distorted."""
    train_set, test_set = sets
    config, distorted, plain = data.prepared(Config(augment="elastic", name="mine"), *sets)
    assert (config.name, config.data) == ("mine", "fashion")
    assert config.digests == (*train_set.digests, *test_set.digests)
    assert (distorted.augment, plain.augment) == ("elastic", "none")
    again, *_ = data.prepared(dataclasses.replace(config, seed=1), train_set.part(0, 64), test_set)
    assert again.digests[:2] != config.digests[:2] and again.digests[2:] == config.digests[2:]


NAMES = {
    "fashion": "fashion",
    "a/my digits (new)": "my-digits-new",
    "数字": "数字",
    "mnist": "own-mnist",
    "MNIST/x/..": "own-MNIST",
    "generated": "own-generated",  # without the notice that is beside generated digits
    "(((": "data",
    "é" * 30: "é" * 20,
    "a\nb\x1b[2J": "a-b-2J",
}


@pytest.mark.parametrize("folder", NAMES)
def test_data_that_are_not_mnist_are_called_as_their_folder(folder, sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = sets[0].replace(path=Path(folder, "train.tar"))
    published = own.replace(published=True)
    assert data.data_name([own]) == data.data_name([own, published]) == NAMES[folder]
    assert data.data_name([published, published]) == "mnist"
    if folder == "generated":
        Path(folder).mkdir()
        Path(folder, "README.txt").touch()
        assert data.data_name([own]) == "generated"
