"""A run survives: whatever ends it, continuing gives exactly what it would have given."""

import errno
import json
import os
import random
import shlex
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import files
import main
from training import checkpoint, program, report
from training import data as loading

import pytest
import torch
from helpers import ended, fork, interrupt, same, stopping, write_data

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and POSIX signals")
MLP = "--device cpu --model mlp --epochs 3 --batch-size 16"  # three steps in an epoch


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("my dätä"), 48, 60)


@pytest.fixture
def command(data, tmp_path, monkeypatch):
    """Train an MLP with main.py's main in an empty folder on the small data; it draws nothing."""
    (tmp_path / "größe 数字").mkdir()
    monkeypatch.chdir(tmp_path / "größe 数字")
    monkeypatch.setattr(report, "draw", lambda runs: [])
    options = ["--data-dir", str(data), "--name", "a", *MLP.split()]
    return lambda line="": main.main([*options, *line.split()])


@pytest.fixture(scope="module")
def straight(data):
    """The last checkpoint of an uninterrupted run, which also leaves the data's caches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(data)
        patch.setattr(report, "draw", lambda runs: [])
        assert main.main([*MLP.split(), "--name", "straight", "--data-dir", "."]) == 0
        return state("straight")


def state(name="a"):
    return checkpoint.load(Path("runs", name))


def epochs(name="a"):
    """How many epochs of a run are on disk."""
    return state(name)["epoch"] if Path("runs", name, "checkpoint.pt").exists() else 0


def agrees(name="a"):
    """Whether the other files of a run are as its checkpoint says."""
    saved, folder = state(name), Path("runs", name)
    rows = [",".join(str(row[key]) for key in checkpoint.METRICS) for row in saved["history"]]
    points = [",".join(map(str, point)) for row in saved["history"] for point in row["points"]]
    assert (folder / "metrics.csv").read_text().splitlines()[1:] == [f"{row},test" for row in rows]
    assert (folder / "steps.csv").read_text().splitlines()[1:] == points
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config.items() >= saved["config"].to_dict().items()


def continues(command, straight):
    """Whether the run goes on from where it is, if it has begun, to the same last checkpoint."""
    return command("--resume" * (epochs() > 0)) == 0 and same(state(), straight) and agrees()


def contents(folder="."):
    """{its place in a folder: content} of every file, but for locks."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


# Exactness

OPTIONS = [
    "--model lenet5 --dropout 0.5 --weight-decay 0.001 --momentum 0.9 --nesterov",
    "--model lenet5 --schedule linear --lr 0.05",
    "--model lenet5 --augment elastic --schedule linear --dropout 0.2",
    "--model lenet5 --momentum 0 --augment affine",
    "--dropout 0.5 --weight-decay 0.001 --schedule linear",
    "--augment elastic --label-smoothing 0.1",
]


@pytest.mark.parametrize("options", OPTIONS)
def test_stopped_after_any_epoch_and_resumed_is_uninterrupted(options, command, monkeypatch):
    """After the second; and after the first, and once more after the third."""

    def train(name, *stops):
        for stop in (*stops, 9):
            torch.manual_seed(random.randrange(2**32))  # what came before must not matter
            with monkeypatch.context() as patch:
                stopping(report.Report, "epoch", stop, interrupt, patch.setattr)
                resume = "--resume" * (epochs(name) > 0)
                status = command(f"{options} --epochs 4 --name {name} {resume}")
            assert status == (130 if stop in stops else 0) and agrees(name)
            assert epochs(name) == min(stop, 4)
        return state(name)

    straight = train("straight")
    assert straight["history"][0]["train_loss"] > straight["history"][-1]["train_loss"]
    assert same(train("once", 2), straight) and same(train("twice", 1, 3), straight)


def test_more_epochs_equal_the_longer_run(command, straight, capsys):
    assert command("--epochs 1") == 0
    assert command("--epochs 2 --resume") == 0
    assert continues(command, straight)
    for name in ("config.json", "metrics.csv", "steps.csv"):  # a kill may have come before them
        Path("runs/a", name).unlink()
    assert continues(command, straight)
    assert "already complete: all 3 epochs are in" in capsys.readouterr().out


DIFFERENT = {
    "--lr 0.02 --seed 1": "lr was 0.01, is 0.02, seed was 0, is 1",
    "--batch-size 32 --momentum 0.5": "batch_size was 16, is 32, momentum was 0.9, is 0.5",
    "--nesterov --weight-decay 1": "nesterov was False, is True, weight_decay was 0.0, is 1.0",
    "--dropout 0.1 --augment affine": "dropout was 0.0, is 0.1, augment was none, is affine",
    "--label-smoothing 0.1 --hidden 21": "hidden was 20, is 21, label_smoothing was 0.0, is 0.1",
    "--schedule linear": "schedule was constant, is linear",
    "--model lenet5": "model was mlp, is lenet5",
    "--val-size 9": "val_size was 0, is 9, other data",
    "--data-dir other": "data was my-dätä0, is other, other data",
    "--epochs 2": "epochs was 3, is 2",
    "--name linear --schedule linear --epochs 5": "epochs was 3, is 5",
}


def test_another_experiment_is_refused_with_a_list_of_what_differs(command, capsys):
    assert command() == command("--name linear --schedule linear") == 0
    write_data(Path("other"), 48, 61)
    before = contents("runs")
    for options, differing in DIFFERENT.items():
        assert command(f"{options} --resume") == 1
        words = f"another experiment ({differing}); choose another --name"
        assert words in capsys.readouterr().err and contents("runs") == before


# A run's folder


def test_a_new_run_moves_aside_what_is_there(command, capsys):
    """Whatever state it is in: finished, damaged, or with somebody's own files."""
    assert command() == 0
    for number in (1, 2, 3):
        before = contents("runs/a")
        capsys.readouterr()
        assert command(f"--lr 0.{number}") == 0
        line = f"note: what was in {Path('runs/a')} is in {Path(f'runs/a.{number}')} now\n"
        assert capsys.readouterr().err.startswith(line)
        assert contents(f"runs/a.{number}") == before and state()["config"].lr == number / 10
        if number == 1:
            Path("runs/a/checkpoint.pt").write_bytes(b"damaged")
            Path("runs/a/notes.txt").write_text("mine")
    assert sorted(os.listdir("runs")) == [".a.lock", "a", "a.1", "a.2", "a.3"]


# What ends a run: Ctrl-C, kill -9, SIGTERM, for which there is no handler, and errors; a table that
# Excel holds on Windows does not


def test_a_kill_at_every_boundary_of_every_write(command, straight):
    """It leaves what is on disk then: here, before each step of the interpreter in files.py."""
    snapshots = []

    def trace(frame, event, _):
        if frame.f_code.co_filename != files.__file__:
            return None
        frame.f_trace_opcodes = True
        if (left := contents("runs/a")) not in snapshots:
            snapshots.append(left)
        return trace

    sys.settrace(trace)
    try:
        assert command() == 0
    finally:
        sys.settrace(None)
    saved = []
    for left in snapshots:
        shutil.rmtree("runs")
        Path("runs/a").mkdir(parents=True)
        for path, content in left.items():  # that process had another number
            Path("runs/a", str(path).replace(str(os.getpid()), "1")).write_bytes(content)
        saved.append(epochs())
        assert continues(command, straight), f"killed when there were {list(left)}"
    assert saved == sorted(saved) and set(saved) == {0, 1, 2, 3} and len(saved) > 30


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
STOPS = {  # name: (what happens, the exit status)
    "ctrl-c": (interrupt, 130),
    "kill": (partial(signal.raise_signal, 9), -9),
    "terminate": (partial(signal.raise_signal, signal.SIGTERM), -signal.SIGTERM),
    "full disk": (Mock(side_effect=FULL), 1),
    "divergence": (Mock(side_effect=files.UserError("diverged")), 1),
    "Excel": (Mock(side_effect=PermissionError(errno.EACCES, "Held", "metrics.csv")), 0),
}
ENDS = [  # what happens, before which call of which function, epochs on disk then, what is said
    ("ctrl-c", loading, "MNIST", 1, 0, "interrupted; finished work is safe, and the same command"),
    ("ctrl-c", main, "train", 1, 0, "interrupted before the first epoch was saved; to start again"),
    ("ctrl-c", main, "train", 2, 1, "interrupted: "),
    ("ctrl-c", main, "test", 3, 2, "interrupted: "),
    ("ctrl-c", os, "replace", 5, 1, "interrupted: "),
    ("ctrl-c", checkpoint.RunFolder, "write_tables", 2, 2, "interrupted: "),
    ("ctrl-c", report, "draw", 1, 3, "interrupted: "),
    ("full disk", os, "replace", 5, 1, "error: runs/a/checkpoint.pt: No space left on device; f"),
    ("full disk", os, "replace", 6, 2, "error: runs/a/config.json: No space left on device; f"),
    ("full disk", os, "replace", 7, 2, "error: runs/a/metrics.csv: No space left on device; f"),
    ("full disk", os, "replace", 8, 2, "error: runs/a/steps.csv: No space left on device; f"),
    ("Excel", checkpoint, "write_table", 1, 3, "warning: metrics.csv: Held; the training goes on"),
    ("divergence", main, "require_finite", 1, 0, "error: diverged"),
    ("divergence", main, "require_finite", 3, 2, "error: diverged"),
    ("kill", main.SGD, "step", 1, 0, ""),
    ("kill", main.SGD, "step", 4, 1, ""),
    ("terminate", main.SGD, "step", 9, 2, ""),
]


@posix
@pytest.mark.parametrize("row", ENDS, ids=lambda row: f"{row[0]} {row[2]} {row[3]}")
def test_what_ends_a_run_is_one_line_and_leaves_its_finished_epochs(row, command, straight):
    name, *call, safe, words = row
    stop, status = STOPS[name]

    def work():
        sys.argv = ["main.py"]
        program.begin("__main__")
        stopping(*call, stop)
        return command("--quiet")

    assert ended(fork(work)) == status
    text = Path("output.txt").read_text(encoding="utf-8")
    assert text.startswith(words) and text.count("\n") == bool(words) + (status == 0)
    assert epochs() == safe and Path("runs/a").exists() == (safe > 0)
    assert not list(Path().rglob("*.tmp"))
    if words == "interrupted: ":
        place = f"epoch {safe} of 3 is safe in runs/a/checkpoint.pt"
        assert text.startswith(f"interrupted: {place}; to continue: python main.py ")
        again = shlex.split(text.split("main.py ")[1])
        assert again[-1] == "--resume" and main.main(again) == 0 and epochs() == 3
    assert continues(command, straight)


def test_a_momentum_that_is_not_a_number_is_noticed(command, capsys):
    assert command("--epochs 1") == 0
    saved = state()
    saved["optimizer"]["state"][0]["momentum_buffer"].fill_(torch.nan)
    checkpoint.write_state(Path("runs/a/checkpoint.pt"), saved)
    assert command("--resume") == 1 and "diverged in epoch 2" in capsys.readouterr().err


def test_several_runs_continue_where_they_were(command, straight, monkeypatch, capsys):
    """After a stop in the first epoch of the second seed; it gives what it gives alone."""
    with monkeypatch.context() as patch:
        stopping(main, "train", 4, interrupt, patch.setattr)
        assert command("--runs 2") == 130
    error = capsys.readouterr().err
    assert "epoch 3 of 3 is safe in " in error and "a_seed0" in error
    seed0 = contents("runs/a_seed0")
    assert command("--runs 2 --resume") == 0
    capsys.readouterr()
    assert command("--seed 1 --quiet") == 0 and capsys.readouterr().out.count("\n") == 1
    assert contents("runs/a_seed0").keys() == seed0.keys() and not Path("runs/a_seed0.1").exists()
    assert same(state("a_seed0"), straight) and same(state("a_seed1"), state())
