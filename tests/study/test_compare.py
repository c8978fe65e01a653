"""main.py --compare: which runs a name stands for, which of them belong together, what is said."""

import dataclasses
import os

import pytest
import torch
from PIL import Image

from files import CheckpointError
from study.compare import compare, find, grouped
from training import checkpoint
from training.config import Config

# Warnings of drawing are errors; that matplotlib uses deprecated libraries is not our affair.
pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning", "error::RuntimeWarning", "ignore::DeprecationWarning"
)

BASE = Config(epochs=2, digests=("a" * 64, "b" * 64, "c" * 64, "d" * 64))


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(accuracy, epochs=2):
    """A made-up history that ends at a test accuracy (a fraction)."""
    return [
        {
            "epoch": epoch,
            "lr": 0.01,
            "train_loss": 0.2 / epoch,
            "train_accuracy": accuracy - 0.01,
            "test_loss": 0.1 / epoch,
            "test_accuracy": accuracy - 0.01 * (epochs - epoch),
            "seconds": 1.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def write(name, accuracy=0.98, config=BASE, network=None, finished=None, **options):
    """A run's folder with nothing but a checkpoint; gives its name."""
    config = dataclasses.replace(config, name=name, **options)
    history = rows(accuracy, config.epochs)[:finished]
    state = {
        "config": config,
        "epoch": len(history),
        "history": history,
        "model": {"weight": torch.zeros(2)},
        "optimizer": {"state": {}},
        "scheduler": {},
        "versions": {"network": network} if network else {},
    }
    checkpoint.write_state(checkpoint.RUNS / name / "checkpoint.pt", state)
    return name


def write_seeds(stem, accuracies, **options):
    for seed, accuracy in enumerate(accuracies):
        write(f"{stem}_seed{seed}", accuracy, seed=seed, **options)


def names(groups):
    return [(group.name, list(group.histories)) for group in groups]


# ---- which runs


def test_a_run_is_found_by_its_name_and_by_its_folder(tmp_path):
    write("lenet5")
    for name in ("lenet5", "runs/lenet5", "runs/lenet5/", "./runs/lenet5"):
        assert [folder.name for folder in find(name)] == ["lenet5"]
    assert find(str(tmp_path / "runs" / "lenet5"))[0].samefile("runs/lenet5")


def test_a_stem_stands_for_all_its_seeds_in_the_order_of_their_numbers():
    for seed in (10, 0, 2):
        write(f"a_seed{seed}", seed=seed)
    write("ab_seed0")
    write("a_seed1_generated")
    os.makedirs("runs/a_seed3")  # begun, and nothing saved yet
    assert [folder.name for folder in find("a")] == ["a_seed0", "a_seed2", "a_seed10"]
    assert find("runs/a/") == find("a")


def test_a_run_of_that_name_comes_before_its_seeds():
    write("lenet5")
    write("lenet5_seed1", seed=1)
    assert [folder.name for folder in find("lenet5")] == ["lenet5"]


def test_the_stem_that_runs_prints_stands_for_the_runs_in_its_table():
    write("lenet5")
    write("lenet5_seed1", seed=1)
    with open("runs/lenet5_runs2.csv", "w", encoding="utf-8") as file:
        file.write("seed,folder\n0,runs/lenet5\n1,runs/lenet5_seed1\nmean,\nstandard deviation,\n")
    for name in ("lenet5_runs2", "runs/lenet5_runs2", "runs/lenet5_runs2.csv"):
        assert [folder.name for folder in find(name)] == ["lenet5", "lenet5_seed1"]


def test_an_unknown_run_is_one_line_with_the_most_similar_names():
    for number in range(300):
        write(f"other{number}")
    write("lenet5_dropout0.5")
    with pytest.raises(CheckpointError) as caught:
        find("lenet5_droput0.5")
    line = str(caught.value)
    assert line.startswith("lenet5_droput0.5: no such run; take lenet5_dropout0.5, ")
    assert "one of 296 others" in line and len(line) < 200 and "\n" not in line


def test_without_any_run_the_line_says_so():
    with pytest.raises(CheckpointError, match="lenet5: no such run; there is no run in runs yet"):
        find("lenet5")


@pytest.mark.parametrize("name", ["", ".", "/", "*", "[", "runs", "a/b/c", "数字$"])
def test_odd_names_are_one_line(name):
    with pytest.raises(CheckpointError, match="no such run"):
        find(name)


def test_an_unfinished_run_is_one_line_that_names_it():
    write("stopped", finished=1)
    with pytest.raises(CheckpointError, match="runs/stopped: only 1 of its 2 epochs .*--resume"):
        grouped(find("stopped"))


def test_a_damaged_run_is_one_line_that_names_it():
    write("damaged")
    path = checkpoint.RUNS / "damaged" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"runs/damaged/checkpoint\.pt: damaged"):
        grouped(find("damaged"))


# ---- groups


def test_runs_that_differ_in_nothing_but_their_seed_are_one_group():
    write("first")
    write("second", seed=1)
    write("third", lr=0.02)
    folders = [folder for name in ("first", "third", "second") for folder in find(name)]
    assert names(grouped(folders)) == [("first", [0, 1]), ("third", [0])]


def test_runs_of_other_data_are_another_group():
    write("mnist")
    write("fashion", seed=1, digests=("e" * 64, *BASE.digests[1:]))
    assert len(grouped([*find("mnist"), *find("fashion")])) == 2


def test_a_group_of_seeds_has_their_common_name():
    write_seeds("a", [0.98, 0.97])
    write("lenet5", lr=0.02)
    write("lenet5_seed1", lr=0.02, seed=1)
    folders = [folder for name in ("a", "lenet5", "lenet5_seed1") for folder in find(name)]
    assert names(grouped(folders)) == [("a", [0, 1]), ("lenet5", [0, 1])]


def test_runs_before_and_after_an_edit_of_the_network_are_two_groups():
    write("relu", network="one")
    write("tanh", network="two", seed=1)
    assert names(grouped([*find("relu"), *find("tanh")])) == [("relu", [0]), ("tanh", [1])]


def test_equal_seeds_of_equal_experiments_are_two_groups():
    write_seeds("before", [0.98, 0.97])
    write_seeds("after", [0.98, 0.97])
    groups = grouped([*find("before"), *find("after")])
    assert names(groups) == [("before", [0, 1]), ("after", [0, 1])]


def test_no_two_groups_have_one_name():
    write("a", network="one")
    write("a_seed1", network="two", seed=1)
    write("a_seed2", network="two", seed=2)
    groups = grouped([folder for name in ("a_seed1", "a_seed2", "a") for folder in find(name)])
    assert len({group.name for group in groups}) == 2


def test_a_run_that_is_named_twice_counts_once():
    write("lenet5")
    assert names(grouped([*find("lenet5"), *find("runs/lenet5/")])) == [("lenet5", [0])]


# ---- what is printed and drawn


def test_a_comparison_prints_a_table_and_draws_a_picture(capsys):
    write("lenet5", 0.98)
    write_seeds("mlp", [0.95, 0.96, 0.97], lr=0.02)
    assert compare(["lenet5", "mlp"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[1].split() == "lenet5 1 2 test 0.0500 98.00 %".split()
    assert lines[2].split() == "mlp 3 2 test 0.0500 ± 0.0000 96.00 ± 1.00 %".split()
    assert lines[-1] == os.path.join("plots", "compare_lenet5_mlp.png")
    Image.open(lines[-1]).verify()
    assert "at least two seeds" in out and err == ""


def test_common_seeds_are_compared_in_pairs(capsys):
    write_seeds("a", [0.95, 0.96, 0.97])
    write_seeds("b", [0.96, 0.971, 0.982, 0.5], lr=0.02)
    compare(["a", "b"])
    out = capsys.readouterr().out
    assert "b, against a: +1.10 points of test accuracy (95 % interval +0.85 to +1.35; " in out
    assert "3 seeds, paired). More than noise: better." in out


def test_many_intervals_come_with_a_word_on_chance(capsys):
    for number in range(3):
        write_seeds(f"a{number}", [0.95, 0.96 + number / 1000], lr=0.01 + number / 100)
    compare(["a0", "a1", "a2"])
    assert "Of 3 such intervals about one in twenty misses 0 by chance." in capsys.readouterr().out


def test_other_training_images_are_a_warning(capsys):
    write("mnist")
    write("drawn", data="generated", digests=("e" * 64, *BASE.digests[1:]))
    compare(["mnist", "drawn"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: these runs were trained on different images: mnist on mnist")
    assert "drawn on generated (SHA-256 eeeeeeee...)" in line


def test_validation_against_test_is_a_warning(capsys):
    write("tested")
    write("validated", val_size=5000, digests=BASE.digests[:2])
    compare(["tested", "validated"])
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("warning: these runs were tested on different images: tested on test")
    assert "validated on the last 5,000 images of mnist" in line
    assert [row.split()[3] for row in out.splitlines()[1:3]] == ["test", "validation"]


def test_many_long_names_have_a_picture_whose_name_every_file_system_takes(capsys):
    long = [write("数字" * 29 + str(number), lr=0.01 + number / 100) for number in range(9)]
    compare(long)
    compare(long[:-1])
    pictures = os.listdir("plots")
    assert len(pictures) == 2 and max(len(name.encode()) for name in pictures) <= 130


def test_only_rank_0_compares(capsys, monkeypatch):
    monkeypatch.setattr("training.distributed.rank", lambda: 1)
    assert compare(["nothing"]) == 0
    assert capsys.readouterr() == ("", "")
