"""main.py --compare: which runs a name stands for, which of them belong together, what is said."""

import dataclasses
import os
from pathlib import Path

from files import CheckpointError
from study.compare import compare, find, grouped, picture
from training import checkpoint
from training.config import Config

import pytest
import torch
from PIL import Image

# Warnings of drawing are errors; that matplotlib uses deprecated libraries is not our affair.
pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning", "error::RuntimeWarning", "ignore::DeprecationWarning"
)

BASE = Config(epochs=2, digests=("a" * 64, "b" * 64, "c" * 64, "d" * 64))


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, accuracy=0.98, source=None, finished=2, **options):
    """A run's folder with nothing but a checkpoint; gives its name."""
    row = {"lr": 0.01, "train_loss": 0.2, "train_accuracy": 0.9, "test_loss": 0.05, "seconds": 1.0}
    first, last = {"epoch": 1, "test_accuracy": 0.9}, {"epoch": 2, "test_accuracy": accuracy}
    state = {
        "config": dataclasses.replace(BASE, name=name, **options),
        "epoch": finished,
        "history": [row | first, row | last][:finished],
        "model": {"weight": torch.zeros(2)},
        "optimizer": {"state": {}},
        "scheduler": {},
        "versions": {"source": source} if source else {},
    }
    checkpoint.write_state(checkpoint.RUNS / name / "checkpoint.pt", state)
    return name


def write_seeds(stem, *accuracies, **options):
    for seed, accuracy in enumerate(accuracies):
        write(f"{stem}_seed{seed}", accuracy, seed=seed, **options)


def groups(*names):
    """The names of the groups that some names make, and their seeds."""
    return [
        (group.name, list(group.histories))
        for group in grouped(folder for name in names for folder in find(name))
    ]


# ---- which runs


def test_a_name_stands_for_a_run_or_for_all_its_seeds_or_for_those_in_a_table_of_runs():
    runs = "lenet5 lenet5_seed1 a_seed0 a_seed2 a_seed10 ab_seed0 a_seed1_generated"
    for name in [*runs.split(), "m_seed0", "m_seed1", "m_seed2"]:
        write(name)
    os.makedirs("runs/a_seed3")  # begun, and nothing saved yet
    table = "seed,folder\n0,runs/m_seed0\n1,runs/m_seed1\nmean,\nstandard deviation,\n"
    Path("runs/m_runs2.csv").write_text(table, encoding="utf-8")
    stand_for = {
        ("lenet5", "runs/lenet5", "runs/lenet5/", "./runs/lenet5"): ["lenet5"],
        ("a", "runs/a/"): ["a_seed0", "a_seed10", "a_seed2"],
        ("m_runs2", "runs/m_runs2", "runs/m_runs2.csv"): ["m_seed0", "m_seed1"],
    }
    for names, folders in stand_for.items():
        for name in names:
            assert [folder.name for folder in find(name)] == folders
    assert find(str(Path("runs/lenet5").absolute()))[0].samefile("runs/lenet5")


def test_what_is_no_finished_run_is_one_line_that_names_it_or_those_there_are():
    with pytest.raises(CheckpointError, match="no run that has finished an epoch; take another"):
        find("lenet5")
    path = Path("runs", write("damaged"), "checkpoint.pt")
    path.write_bytes(path.read_bytes()[:-100])
    write("stopped", finished=1)
    os.makedirs("runs/begun")
    there = "no run that has finished an epoch; take damaged, stopped$"
    names = ["", ".", "/", "*", "[", "runs", "a/b/c", "数字$", "begun"]
    for name, words in {
        **dict.fromkeys(names, there),
        "stopped": "runs.stopped: only 1 of its 2 epochs .*--resume",
        "damaged": r"runs.damaged.checkpoint\.pt: damaged",
    }.items():
        with pytest.raises(CheckpointError, match=words):
            groups(name)


# ---- groups


def test_runs_that_differ_in_nothing_but_their_seed_are_a_group_with_a_name_of_its_own():
    write("first")
    write("second", seed=1)
    write("third_seed4", lr=0.02, seed=4)
    write("fourth", seed=1, digests=("e" * 64, *BASE.digests[1:]))
    expected = [("first", [0, 1]), ("third_seed4", [4]), ("fourth", [1])]
    assert groups("first", "third_seed4", "second", "fourth", "runs/first") == expected
    write_seeds("a", 0.98, 0.97)
    write_seeds("again", 0.98, 0.97)  # the same seeds of the same experiment: a group of its own
    write("lenet5", lr=0.02)
    write("lenet5_seed1", lr=0.02, seed=1)
    expected = [("a", [0, 1]), ("again", [0, 1]), ("lenet5", [0, 1])]
    assert groups("a", "again", "lenet5", "lenet5_seed1") == expected
    write("b", source="relu", lr=0.03)
    write("b_seed1", source="tanh", seed=1, lr=0.03)  # the network was edited between them
    write("b_seed2", source="tanh", seed=2, lr=0.03)
    assert groups("b_seed1", "b_seed2", "b") == [("b_seed1", [1, 2]), ("b", [0])]


# ---- what is printed and drawn


def test_a_comparison_prints_a_table_and_draws_a_picture(capsys):
    write("lenet5", 0.98)
    write_seeds("mlp", 0.95, 0.96, 0.97, lr=0.02)
    assert compare(["lenet5", "mlp"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[1].split() == "lenet5 1 2 test 0.0500 98.00 %".split()
    assert lines[2].split() == "mlp 3 2 test 0.0500 ± 0.0000 96.00 ± 1.00 %".split()
    assert lines[-1] == os.path.join("plots", "compare_lenet5_with_mlp.png")
    Image.open(lines[-1]).verify()
    assert "at least two seeds" in out and err == ""


def test_common_seeds_are_compared_in_pairs_with_a_word_on_chance(capsys):
    write_seeds("a", 0.95, 0.96, 0.97)
    write_seeds("b", 0.96, 0.971, 0.982, 0.5, lr=0.02)
    write_seeds("c", 0.95, 0.96, lr=0.03)
    compare(["a", "b", "c"])
    out = capsys.readouterr().out
    assert "b, against a: +1.10 points of test accuracy (95 % interval +0.85 to +1.35; " in out
    assert "3 seeds, paired). More than noise: better." in out
    assert "Of 3 such intervals about one in twenty misses 0 by chance." in out


def test_other_images_are_a_warning(capsys):
    write("mnist")
    write("own", data="generated", digests=("e" * 64,))
    write("held", val_size=5000, digests=BASE.digests[:2])
    compare(["mnist", "own", "held"])
    out, err = capsys.readouterr()
    assert [line.split()[3] for line in out.splitlines()[1:4]] == ["test", "test", "validation"]
    assert err == (
        "warning: these runs have different images: "
        "mnist: mnist (SHA-256 aaaaaaaa, bbbbbbbb, cccccccc, dddddddd); "
        "own: generated (SHA-256 eeeeeeee); "
        "held: mnist (SHA-256 aaaaaaaa, bbbbbbbb), the last 5,000 held out\n"
    )


def test_each_comparison_has_a_picture_of_its_own_whose_name_every_file_system_takes():
    long = ["数字" * 29 + str(number) for number in range(9)]
    compared = long, long[:-1], ["lenet5", "fast"], ["lenet5_fast"], ["lenet5_runs2"]
    pictures = {picture(names).name for names in compared}
    assert len(pictures) == 5 and max(len(name.encode()) for name in pictures) <= 130


def test_only_rank_0_compares(capsys, monkeypatch):
    monkeypatch.setattr("training.distributed.rank", lambda: 1)
    assert compare(["nothing"]) == 0
    assert capsys.readouterr() == ("", "")
