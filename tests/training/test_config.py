"""A configuration is checked wherever it comes from; everything about a run is derived from it."""

import copy
import csv
import dataclasses
import pickle
import re
import statistics
from contextlib import nullcontext
from unittest.mock import Mock

from files import ConfigError
from model import MODELS, LeNet5
from training import distributed
from training.config import RECIPES, Config, one_for_each_seed, parse, run_name, title

import pytest
import torch
from helpers import ROOT


def configured(*options):
    return parse([*options, "--device", "cpu"], "")[0]


NAMES = {  # {options: the run's name}; those of older runs among them
    "": "lenet5",
    "--model mlp --hidden 56": "mlp_hidden56",
    "--dropout 0.5 --weight-decay 0.0001 --seed 3": "lenet5_dropout0.5_wd0.0001_seed3",
    "--model mlp --hidden 30 --weight-decay 0.1 --val-size 9": "mlp_wd0.1_hidden30_val9",
    "--recipe best --no-nesterov --lr 1 --seed 2": "lenet5_best_lr1_no-nesterov_seed2",
    "--batch-size 8 --schedule linear --dropout 0.1": "lenet5_batch8_linear_dropout0.1",
    "--recipe best --augment none --nesterov": "lenet5_best_no-augment",
    "--recipe regularized --dropout 0": "lenet5_regularized_dropout0",
    "--lr 0.020000001": "lenet5_lr0.020000001",
    "--epochs 6 --nesterov --augment affine": "lenet5_epochs6_nesterov_affine",
    "--mix handwriting --label-smoothing 0.1": "lenet5_ls0.1_mix-handwriting",
}


@pytest.mark.parametrize("line", NAMES)
def test_a_name_tells_an_experiment_from_others(line):
    assert run_name(configured(*line.split())) == NAMES[line]


def test_each_seed_and_other_data_have_a_name():
    for line, names in (("--seed 4", "lenet5_seed4 lenet5_seed5"), ("--name a", "a_seed0 a_seed1")):
        configs = one_for_each_seed(configured(*line.split()), 2)
        assert [config.name for config in configs] == names.split()
    fashion = dataclasses.replace(configured(), data="fashion")
    assert run_name(fashion) == "lenet5_fashion"
    assert title(fashion, seeds=5)[0] == "LeNet-5 on fashion, not MNIST"
    assert title(fashion, seeds=5)[1] == "5 epochs of batches of 64, seeds 0 to 4"


BAD = [  # besides those of the command line in tests/test_errors.py
    *({"epochs": value} for value in (0, 1.5, True, "3", 10**6)),
    *({"lr": value} for value in (0, float("nan"), float("inf"), "0.1")),
    *({"model": value} for value in ("alexnet", ["mlp"])),
    *({"model": "mlp", "hidden": value} for value in (0, 10_001)),  # more do not fit a checkpoint
    {"nesterov": 1},
    {"schedule": "cosine"},
    {"learning_rate": 0.1},
    *({"name": value} for value in (5, ".", "..", "a/b", "../evil", "a\\b", "a b", "a.", "con")),
    *({"name": value} for value in ("CON.x", "lpt1", "x" * 181, "数" * 61)),
]


@pytest.mark.parametrize("values", BAD, ids=str)
def test_a_value_that_makes_no_sense_is_refused_wherever_it_comes_from(values):
    option = list(values)[-1].replace("_", "-")
    with pytest.raises(ConfigError, match=rf"^argument --{option}: [^\n]*$"):
        Config.from_dict(values)


@pytest.mark.parametrize("name", ["a", "größe_数字", "lenet5_lr0.01+x=2", "x" * 180, "数" * 60])
def test_a_name_is_one_folder_on_every_system(name, tmp_path):
    """Of the greatest length, too, with all that is made of it."""
    assert configured("--name", name).name == name
    (tmp_path / f".{name}_seed4294967295_runs10000_confusion.png.4194304.tmp").touch()


def test_a_configuration_cannot_be_changed_and_a_copy_is_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().lr = 0.1
    with pytest.raises(TypeError):
        Config().network["dropout"] = 0.5
    with pytest.raises(ConfigError, match="--lr"):
        dataclasses.replace(Config(), lr=-1.0)


def test_a_configuration_survives_its_dictionary_pickling_and_copying():
    config = dataclasses.replace(configured("--model", "mlp", "--hidden", "7"), digests=("a", "b"))
    copies = Config.from_dict(config.to_dict()), pickle.loads(pickle.dumps(config))
    for other in (*copies, copy.deepcopy(config)):
        assert other == config and other.to_dict() == config.to_dict()
    assert config.to_dict()["hidden"] == 7 and "network" not in config.to_dict()
    older = Config().to_dict()
    for key in ("label_smoothing", "val_size", "dropout"):
        del older[key]
    assert Config.from_dict(older) == Config()
    assert dataclasses.replace(Config(), name="a", recipe="fast") == Config()  # labels


class Wide(LeNet5):
    def __init__(self, width: int = 32, gain: float = 1.5, relu: bool = True, kind: str = "plain"):
        super().__init__()


class Wider(LeNet5):
    def __init__(self, width: int = 64):
        super().__init__()


def test_a_new_network_brings_its_own_options(monkeypatch, capsys):
    monkeypatch.setitem(MODELS, "wide", Wide)
    monkeypatch.setitem(MODELS, "wider", Wider)
    config = configured("--model", "wide", "--width", "64", "--no-relu", "--kind", "odd")
    assert config.network == {"width": 64, "gain": 1.5, "relu": False, "kind": "odd"}
    assert run_name(config) == "wide_width64_no-relu_odd"
    assert title(config)[0] == "Wide on MNIST" and "width 64" in title(config)[1]
    for line in ("--width 1.5", "--gain nan", "--dropout 0.1", "--recipe regularized"):
        with pytest.raises((ConfigError, SystemExit)):
            configured("--model", "wide", *line.split())
    with pytest.raises(SystemExit):
        configured("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--width N width, of wide and wider (default: 32 or 64)" in shown
    assert "{lenet5,mlp,wide,wider}" in shown


def test_help_shows_every_default_and_the_accuracies_of_the_results(capsys):
    with pytest.raises(SystemExit):
        configured("--help")
    shown = " ".join(capsys.readouterr().out.split())
    for default in ("lenet5", "baseline", "5", "64", "0.01", "0.9", "constant", "0", "auto"):
        assert f"(default: {default})" in shown
    last = {}  # {experiment: {seed: its last epoch's accuracy}}
    with open(ROOT / "docs" / "results.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            accuracies = last.setdefault(row["experiment"], {})
            accuracies[row["seed"]] = 100 * float(row["test_accuracy"])
    for recipe in RECIPES:
        values = last["lenet5" if recipe == "baseline" else recipe].values()
        reached = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %"
        assert re.search(f" {recipe} [^%]*: {re.escape(reached)}", shown), (recipe, reached)


UNUSABLE = RuntimeError("CUDA error: no kernel image is available\nfor execution")
DEVICES = [  # GPUs, processes on this machine, GPUs' error, device of the last one, cuda's error
    (0, 1, None, "cpu", "there is no cuda device"),
    (1, 1, None, "cuda:0", None),
    (1, 1, UNUSABLE, "cpu", "no kernel image"),
    (1, 2, None, "cpu", "there is no cuda device for each process"),
    (3, 2, None, "cuda:1", None),
]


@pytest.mark.parametrize(("gpus", "processes", "error", "chosen", "words"), DEVICES)
def test_each_process_has_a_gpu_that_works_or_none_has(
    gpus, processes, error, chosen, words, monkeypatch, capsys
):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch, "ones", Mock(return_value=torch.zeros(2), side_effect=error))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setenv("LOCAL_RANK", str(processes - 1))
    assert str(distributed.pick_device("auto")) == chosen
    warning = capsys.readouterr().err
    assert warning.count("\n") == warning.count("on the CPU") == (error is not None)
    with pytest.raises(ConfigError, match=words) if words else nullcontext():
        assert str(distributed.pick_device("cuda")) == chosen
