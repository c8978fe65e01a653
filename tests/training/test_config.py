"""A configuration is checked wherever it comes from; everything about a run is derived from it."""

import copy
import dataclasses
import pickle

import pytest
import torch

import model
from training import cli
from training.cli import parse
from training.config import RECIPES, Config, ConfigError, one_for_each_seed, run_name, title


def configured(*options):
    return parse([*options, "--device", "cpu"], "")[0]


def test_names_tell_experiments_apart():
    lines = [
        "",
        "--model mlp",
        "--model mlp --hidden 56",
        "--dropout 0.5 --weight-decay 0.0001 --seed 3",
        "--lr 0.02",
        "--lr 0.020000001",
        "--schedule linear",
        "--nesterov",
        "--augment affine",
        "--recipe regularized",
        "--recipe regularized --dropout 0",
        "--val-size 10",
        "--epochs 6",
        "--batch-size 32",
        "--momentum 0",
        "--seed 1",
        "--label-smoothing 0.1",
        "--dropout 0.5",
    ]
    names = [run_name(configured(*line.split())) for line in lines]
    assert len(set(names)) == len(lines)
    assert names[:4] == ["lenet5", "mlp", "mlp_hidden56", "lenet5_dropout0.5_wd0.0001_seed3"]
    assert run_name(dataclasses.replace(configured(), data="generated")) == "lenet5_generated"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("--model mlp --hidden 30 --weight-decay 0.1 --val-size 9", "mlp_wd0.1_hidden30_val9"),
        ("--recipe best --no-nesterov --lr 1 --seed 2", "lenet5_best_lr1_no-nesterov_seed2"),
        ("--batch-size 8 --schedule linear --dropout 0.1", "lenet5_batch8_linear_dropout0.1"),
        ("--recipe best --augment none --nesterov", "lenet5_best_no-augment"),
    ],
)
def test_names_are_those_of_older_runs(line, name):
    assert run_name(configured(*line.split())) == name


def test_an_explicit_option_wins_over_its_recipe():
    chosen = configured("--recipe", "regularized", "--dropout", "0.1")
    assert (chosen.network["dropout"], chosen.weight_decay) == (0.1, 0.0001)
    assert configured("--recipe", "regularized", "--dropout", "0").network["dropout"] == 0


def test_seeds_have_names_of_their_own():
    one, other = one_for_each_seed(configured("--seed", "4"), 2)
    assert (one.name, other.name) == ("lenet5_seed4", "lenet5_seed5")
    assert [c.name for c in one_for_each_seed(configured("--name", "a"), 2)] == [
        "a_seed0",
        "a_seed1",
    ]
    assert [c.name for c in one_for_each_seed(configured("--name", "a"), 1)] == ["a"]


def test_titles_are_plain_words():
    heading, options = title(configured("--model", "mlp", "--epochs", "1", "--dropout", "0.5"))
    assert heading == "MLP on MNIST"
    assert options.startswith("1 epoch of batches of 64, ")
    assert "hidden 20" in options and "dropout 0.5" in options and options.endswith("seed 0")
    assert title(configured(), seeds=5)[1].endswith("seeds 0 to 4")
    assert "dropout" not in title(configured())[1]


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": True},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"lr": "0.1"},
        {"momentum": 1},
        {"nesterov": 1},
        {"nesterov": True, "momentum": 0},
        {"schedule": "cosine"},
        {"model": "alexnet"},
        {"recipe": "secret"},
        {"seed": -1},
        {"seed": 2**32},
        {"dropout": 1.0},
        {"dropout": float("nan")},
        {"hidden": 20},
        {"model": "mlp", "hidden": 0},
        {"learning_rate": 0.1},
    ],
    ids=str,
)
def test_a_program_gets_the_checks_of_the_command_line(values):
    with pytest.raises(ConfigError, match=r"^argument --[a-z-]+: "):
        Config.from_dict(values)


def test_a_changed_configuration_is_checked_again():
    with pytest.raises(ConfigError, match="--lr"):
        dataclasses.replace(Config(), lr=-1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().lr = 0.1
    with pytest.raises(TypeError):
        Config().network["dropout"] = 0.5


def test_a_configuration_survives_its_dictionary_pickling_and_copying():
    one = dataclasses.replace(configured("--model", "mlp", "--hidden", "7"), digests=("a", "b"))
    for other in (Config.from_dict(one.to_dict()), pickle.loads(pickle.dumps(one))):
        assert other == one and other.to_dict() == one.to_dict()
    assert copy.deepcopy(one) == one
    assert one.to_dict()["hidden"] == 7 and "network" not in one.to_dict()


def test_an_older_configuration_gets_the_defaults_of_newer_options():
    values = Config().to_dict()
    for key in ("label_smoothing", "val_size", "dropout"):
        del values[key]
    assert Config.from_dict(values) == Config()


def test_labels_are_not_compared():
    assert dataclasses.replace(Config(), name="a", recipe="fast") == Config()
    assert dataclasses.replace(Config(), seed=1) != Config()


@pytest.mark.parametrize("name", ["a", "größe_数字", "lenet5_lr0.01+x=2", "x" * 180, "数" * 60])
def test_a_name_is_one_folder_on_every_system(name):
    assert configured("--name", name).name == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "a b", "a.", "con", "CON.x", "lpt1", "x" * 181, "数" * 61],
)
def test_a_name_that_some_system_cannot_have_is_refused(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        configured(f"--name={name}")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: argument --name: ")


def test_a_name_of_the_greatest_length_leaves_room_for_what_is_made_of_it(tmp_path):
    longest = f".{'数' * 60}_seed4294967295_runs10000_confusion.png.4194304.tmp"
    (tmp_path / longest).write_text("")


def test_seeds_beyond_the_range_are_refused_before_anything_starts(capsys):
    with pytest.raises(SystemExit):
        configured("--runs", "3", "--seed", "4294967295")
    assert "argument --seed: 4294967297 is not a whole number from 0 to" in capsys.readouterr().err


def test_a_comma_in_a_number_is_answered_with_the_point(capsys):
    with pytest.raises(SystemExit):
        configured("--lr", "0,01")
    assert "'0,01' is not a number above 0; write 0.01" in capsys.readouterr().err


def test_the_device_is_never_mps_unless_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert cli.pick_device("auto").type == "cpu"
    assert capsys.readouterr().err == ""
    assert cli.pick_device("mps").type == "mps"
    assert "not tested" in capsys.readouterr().err


def test_a_gpu_without_kernels_is_passed_over_with_a_word(monkeypatch, capsys):
    def fail(*arguments, **named):
        raise RuntimeError("CUDA error: no kernel image is available\nfor execution")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "ones", fail)
    assert cli.pick_device("auto").type == "cpu"
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no kernel image" in error and "on the CPU" in error
    assert cli.pick_device("cuda").type == "cuda"


def test_data_that_are_not_mnist_are_in_name_and_title():
    fashion = dataclasses.replace(configured(), data="fashion")
    assert run_name(fashion) == "lenet5_fashion"
    assert title(fashion)[0] == "LeNet-5 on fashion, not MNIST"


@pytest.mark.parametrize("name", ["../evil", "a/b", 5, "con"])
def test_a_programs_name_is_checked_like_the_command_lines(name):
    with pytest.raises(ConfigError, match="^argument --name: "):
        Config(name=name)


def test_an_option_of_a_network_that_is_the_trainings_is_one_line(monkeypatch, capsys):
    class Mine(Wide):
        def __init__(self, momentum: float = 0.1):
            super().__init__()

    monkeypatch.setitem(model.MODELS, "mine", Mine)
    with pytest.raises(ConfigError, match="--momentum: is already an option of the training"):
        configured("--model", "mine")


def test_defaults_that_differ_between_networks_are_all_shown(wide, monkeypatch, capsys):
    class Other(Wide):
        def __init__(self, width: int = 64):
            super().__init__()

    monkeypatch.setitem(model.MODELS, "other", Other)
    with pytest.raises(SystemExit):
        configured("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "width, of wide and other (defaults: 32, 64)" in shown


class Wide(torch.nn.Module):
    """A network as a student adds it: one class, and one line in MODELS."""

    def __init__(self, width: int = 32, gain: float = 1.5, relu: bool = True, kind: str = "plain"):
        super().__init__()
        self.head = torch.nn.Linear(784, 10)


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setitem(model.MODELS, "wide", Wide)


def test_a_new_network_brings_its_own_options(wide, capsys):
    chosen = configured("--model", "wide", "--width", "64", "--no-relu", "--kind", "odd")
    assert chosen.network == {"width": 64, "gain": 1.5, "relu": False, "kind": "odd"}
    assert run_name(chosen) == "wide_width64_no-relu_odd"
    assert title(chosen)[0] == "Wide on MNIST" and "width 64" in title(chosen)[1]
    with pytest.raises(SystemExit):
        configured("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--width WIDTH width, of wide (default: 32)" in shown and "{lenet5,mlp,wide}" in shown


@pytest.mark.parametrize("line", ["--width 1.5", "--gain nan", "--dropout 0.1", "--hidden 3"])
def test_a_bad_option_of_a_new_network_is_one_line(line, wide, capsys):
    with pytest.raises(SystemExit) as stopped:
        configured("--model", "wide", *line.split())
    assert stopped.value.code == 2
    assert f"argument {line.split()[0]}: " in capsys.readouterr().err


def test_a_recipe_that_sets_what_a_network_lacks_is_one_line(wide, capsys):
    with pytest.raises(SystemExit):
        configured("--model", "wide", "--recipe", "regularized")
    assert "--dropout: wide has no such option" in capsys.readouterr().err


def test_the_accuracies_in_the_help_are_those_of_the_results(monkeypatch, tmp_path, capsys):
    reached = cli.recipe_accuracies()
    assert set(RECIPES) <= set(reached)
    results = cli.RESULTS.with_suffix(".md").read_text(encoding="utf-8")
    assert all(f"| {accuracy} |" in results for accuracy in reached.values())
    monkeypatch.setattr(cli, "RESULTS", tmp_path / "not there.md")
    with pytest.raises(SystemExit) as stopped:
        configured("--help")
    assert stopped.value.code == 0 and "±" not in capsys.readouterr().out
