"""What a user does wrong ends in one line that says what, why and what to do; nothing is lost."""

import importlib
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import export
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


def text(*paths):
    return lambda patch: [write_whole(path, b"a,b") for path in paths]


def no_test_set(patch):
    write_data(Path("data"), 20, 1)
    Path("data/test.tar").unlink()


def finished_run(patch):
    patch.setattr(report, "draw", lambda runs: [])
    arguments = TRAIN.split()[1:]
    assert main.main([*arguments, "--data-dir", str(write_data(Path("data"), 99, 99))]) == 0


def run_in_use(patch):
    Path("runs").mkdir()
    patch.setattr(main, "lock", filelock.FileLock("runs/.a.lock").acquire(), raising=False)


CONNECTED = {"world_size": "2", "rank": "0", "master_addr": "localhost", "master_port": "1"}


def group(**values):
    """What torchrun sets in the environment."""
    return lambda patch: [patch.setenv(name.upper(), value) for name, value in values.items()]


def lost_rank(patch):
    """Another rank has ended before this one is connected with it."""
    error = RuntimeError("Gloo connectFullMesh failed")
    patch.setattr(torch.distributed, "init_process_group", Mock(side_effect=error))
    group(**CONNECTED)(patch)


def network(**attributes):
    """A student's network, "mine": LeNet-5 with these attributes."""
    return lambda patch: patch.setitem(MODELS, "mine", type("Mine", (LeNet5,), attributes))


def no_default(self, width):
    LeNet5.__init__(self)


def used_name(self, lr=3):
    LeNet5.__init__(self)


TRAIN, MINE = "main --model mlp --epochs 1 --name a", "main --model mine"
BAD_VALUES = """
    --epochs -1, --epochs 1.5, --epochs 1_0, --epochs ٣, --batch-size 0, --lr nan, --lr inf, --lr 0,
    --lr 1_0.0, --momentum 1, --weight-decay -1, --dropout 1.0, --dropout nan, --label-smoothing 1,
    --device tpu, --device mps, --seed -1, --seed 4294967296, --runs 0, --threads 0, --val-size -1,
    --val-size 300, --model alexnet, --schedule cosine, --augment lots, --recipe secret, --name a/b,
    --data none, --hidden 30, --epoch 3, --overwrite""".split(",")
ERRORS = [  # command, words that the line holds, exit status, setting
    *((f"main {arguments}", arguments.split()[0], 2) for arguments in BAD_VALUES),
    ("main --epochs 1.5", "argument --epochs: '1.5' is not a whole number; see --help", 2),
    ("main --lr 0,01", "argument --lr: '0,01' is not a number such as 0.01; see --help", 2),
    ("main --val-size 300", "argument --val-size: there are only 300 training images", 2),
    ("main --seed 4294967295 --runs 3", "--seed: 4294967297 is not from 0 to", 2),
    ("main --momentum 0 --nesterov", "--nesterov: needs a --momentum above 0", 2),
    ("main --evaluate x.pt --lr 0.1", "--evaluate: trains nothing, so leave out --lr", 2),
    ("main --compare a b --val-size 3", "--compare: trains nothing, so leave out --val-size", 2),
    ("main --evaluate a --compare a", "trains nothing, so leave out --", 2),
    (TRAIN, "train.tar: ", 1, text("data/train.tar", "data/test.tar")),
    (TRAIN, "test.tar: ", 1, no_test_set),
    ("main --evaluate x.pt", "x.pt: No such file or directory; use another checkpoint", 1),
    ("main --evaluate notes.txt", "notes.txt: damaged or not a checkpoint", 1, text("notes.txt")),
    ("main --compare nothing a", "nothing", 1),
    (f"{TRAIN} --resume", "a: no such run to resume; leave --resume out to start it", 1),
    (f"{TRAIN} --resume --lr 0.02", "another experiment (lr was 0.01, is 0.02)", 1, finished_run),
    (TRAIN, "a: another process is using it; wait until it has ended", 1, run_in_use),
    (f"{TRAIN} --resume", "a: another process is using it", 1, run_in_use),
    (TRAIN, "runs: File exists; free some space or make it writable", 1, text("runs")),
    (f"{TRAIN} --lr 1000000", "a: diverged in epoch 1 (learning rate 1e+06", 1),
    (f"{TRAIN} --weight-decay 1000000", "try a smaller --weight-decay", 1),
    (TRAIN, "WORLD_SIZE is 'two', no number; unset it", 1, group(world_size="two")),
    (TRAIN, "environment: RANK is not set; unset WORLD_SIZE", 1, group(world_size="2")),
    (TRAIN, "MASTER_PORT is 'x', no number", 1, group(**CONNECTED | {"master_port": "x"})),
    (TRAIN, "RANK or MASTER_PORT is too large", 1, group(**CONNECTED | {"master_port": "65536"})),
    (TRAIN, "another process has ended or hangs; its own error", 1, lost_rank),
    ("main --evaluate x.pt", "it runs as one process", 1, group(world_size="2", rank="0")),
    (MINE, "gives None for one image; it must give 10 logits", 1, network(forward=print)),
    (MINE, "--width: mine has no default", 2, network(__init__=no_default)),
    (MINE, "--lr: is an option of the training", 2, network(__init__=used_name)),
    (MINE, "cannot be saved and read back", 1, network(state_dict=lambda self: no_default)),
    ("reproduce --only vgg", "argument --only: 'vgg' is none of lenet5,mlp", 2),
    ("reproduce --only mlp --jobs 0", "--jobs, --seeds: must be from 1 to 1000", 2),
    ("reproduce --only mlp --seeds 0", "--jobs, --seeds: must be from 1 to 1000", 2),
    ("reproduce --only mlp --export w", "w exists and is no checkpoint", 2, text("w")),
    ("reproduce --only mlp,lenet5 --export w.pt", "--export: name one experiment", 2),
    ("predict", "give pictures, or --labels", 2),
    ("predict x.png --labels x.csv", "give pictures, or --labels", 2),
    ("predict x.png --checkpoint nothing.pt", "nothing.pt: No such file", 1),
    ("export", "destination", 2),
    ("export page.pdf", "page.pdf: its ending is none of .html, .onnx, .c, .zip", 2),
    ("export page", "page: its ending is none of ", 2),
    ("export a.c --bits 5", "--bits", 2),
    ("export a.html --bits 6", "--bits and --data-dir are not for .html", 2),
    ("export a.onnx --data-dir data", "--bits and --data-dir are not for .onnx", 2),
    ("export a.html --checkpoint x.pt", "x.pt: damaged or not a checkpoint", 1, text("x.pt")),
    ("export folder.html", "folder.html: ", 1, text("folder.html/notes.txt")),
    ("export notes.txt/page.html", "notes.txt", 1, text("notes.txt")),
    ("export export.html", "another program", 1, lambda _: shutil.copy(export.TEMPLATE, ".")),
    *((f"export a{e}", "another program wrote it", 1, text(f"a{e}")) for e in export.ENDINGS),
]
if not torch.cuda.is_available():
    ERRORS.append(("main --device cuda", "--device: there is no cuda device", 2))


def contents():
    """Everything in the current folder: {path: content}."""
    return {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_a_mistake_is_one_line(row, data, tmp_path, monkeypatch, capsys):
    command, words, status, *setting = row
    monkeypatch.chdir(tmp_path)
    for prepare in setting:
        prepare(monkeypatch)
    program, *arguments = command.split()
    if program == "main":
        folder = "data" if os.path.exists("data/train.tar") else str(data)
        arguments = ["--data-dir", folder, "--device", "cpu", *arguments]
    before = contents()
    capsys.readouterr()
    assert importlib.import_module(program).main(arguments) == status
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    after = contents()
    made = {path.parts[0] for path in after.keys() - before.keys()}
    assert before.items() <= after.items()
    assert made <= ({"data", "runs"} if status == 1 else set())  # caches and locks
