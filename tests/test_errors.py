"""What a user does wrong ends in one line that says what, why and what to do; nothing is lost."""

import os
from pathlib import Path

import main
from files import write_whole
from model import MODELS, LeNet5
from training import report

import filelock
import pytest
import torch
from helpers import write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), 300, 100)


# ---- the settings, made in the current folder; each gets pytest's monkeypatch


def broken_data(patch):
    for split in ("train", "test"):
        write_whole(f"data/{split}.tar", b"no tarball")


def no_test_set(patch):
    write_data(Path("data"), 20, 1)
    Path("data/test.tar").unlink()


def finished_run(patch):
    patch.setattr(report, "draw", lambda runs: [])
    assert main.main([*TRAIN.split(), "--data-dir", str(write_data(Path("data"), 99, 99))]) == 0


def run_in_use(patch):
    Path("runs").mkdir()
    patch.setattr(main, "lock", filelock.FileLock("runs/.a.lock").acquire(), raising=False)


def environment(**values):
    return lambda patch: [patch.setenv(*value) for value in values.items()]


def network(**attributes):
    """A student's network, "mine": LeNet-5 with these attributes."""
    return lambda patch: patch.setitem(MODELS, "mine", type("Mine", (LeNet5,), attributes))


def no_default(self, width):
    LeNet5.__init__(self)


def used_name(self, lr=3):
    LeNet5.__init__(self)


TRAIN = "--model mlp --epochs 1 --name a"
BAD_VALUES = {
    "--epochs": "-1 1.5 1_0 ٣",
    "--batch-size": "0",
    "--lr": "nan inf 0 1_0.0 0,01",
    "--momentum": "1",
    "--weight-decay": "-1",
    "--dropout": "1.0 nan",
    "--label-smoothing": "1",
    "--device": "tpu mps" + " cuda" * (not torch.cuda.is_available()),
    "--seed": "-1 4294967296",
    "--runs": "0",
    "--threads": "0",
    "--val-size": "-1 300",
    "--model": "alexnet",
    "--schedule": "cosine",
    "--augment": "lots",
    "--recipe": "secret",
    "--data": "none",
    "--name": "a/b",
    "--hidden": "30",  # of the MLP
    "--epoch": "3",  # an abbreviation
}
ERRORS = [  # arguments, words that the line holds, exit status, setting
    *((f"{key} {value}", key, 2) for key, values in BAD_VALUES.items() for value in values.split()),
    ("--epochs 1.5", "argument --epochs: '1.5' is not a whole number; see --help", 2),
    ("--lr 0,01", "argument --lr: '0,01' is not a number such as 0.01; see --help", 2),
    ("--val-size 300", "argument --val-size: there are only 300 training images", 2),
    ("--seed 4294967295 --runs 3", "--seed: 4294967297 is not from 0 to", 2),
    ("--momentum 0 --nesterov", "--nesterov: needs a --momentum above 0", 2),
    ("--evaluate x.pt --lr 0.1", "--evaluate: trains nothing, so leave out --lr", 2),
    ("--compare a b --val-size 3", "--compare: trains nothing, so leave out --val-size", 2),
    ("--evaluate a --compare a", "trains nothing, so leave out --", 2),
    (TRAIN, "train.tar: ", 1, broken_data),
    (TRAIN, "test.tar: ", 1, no_test_set),
    ("--evaluate x.pt", "x.pt: not there; use another checkpoint", 1),
    (
        "--evaluate notes.txt",
        "notes.txt: damaged or not a checkpoint",
        1,
        lambda _: write_whole("notes.txt", b"a,b"),
    ),
    ("--compare nothing a", "nothing", 1),
    (f"{TRAIN} --resume", "a: no such run to resume; leave --resume out to start it", 1),
    (f"{TRAIN} --resume --lr 0.02", "another experiment (lr was 0.01, is 0.02)", 1, finished_run),
    (TRAIN, "a: another process is using it; wait until it has ended", 1, run_in_use),
    (
        TRAIN,
        "runs: File exists; free some space or make it writable",
        1,
        lambda _: write_whole("runs", b""),
    ),
    (f"{TRAIN} --lr 1000000", "a: diverged in epoch 1 (learning rate 1e+06", 1),
    (f"{TRAIN} --weight-decay 1000000", "try a smaller --weight-decay", 1),
    (
        TRAIN,
        "environment: WORLD_SIZE is 'two', no number; unset it",
        1,
        environment(WORLD_SIZE="two"),
    ),
    (TRAIN, "RANK expected, but not set; unset WORLD_SIZE", 1, environment(WORLD_SIZE="2")),
    ("--evaluate x.pt", "it runs as one process", 1, environment(WORLD_SIZE="2", RANK="0")),
    ("--model mine", "gives None for one image; it must give 10 logits", 1, network(forward=print)),
    ("--model mine", "--width: mine has no default", 2, network(__init__=no_default)),
    ("--model mine", "--lr: is an option of the training", 2, network(__init__=used_name)),
    (
        "--model mine",
        "the run cannot be saved and read back",
        1,
        network(state_dict=lambda self: no_default),
    ),
]


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_a_mistake_is_one_line(row, data, tmp_path, monkeypatch, capsys):
    arguments, words, status, *setting = row
    monkeypatch.chdir(tmp_path)
    for prepare in setting:
        prepare(monkeypatch)
    before = {path: path.stat().st_mtime for path in Path().rglob("*")}
    folder = "data" if os.path.exists("data/train.tar") else str(data)
    capsys.readouterr()
    assert main.main(["--data-dir", folder, "--device", "cpu", *arguments.split()]) == status
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    if status == 2:
        assert {path: path.stat().st_mtime for path in Path().rglob("*")} == before
