"""A run survives: whatever ends it, continuing gives exactly what it would have given."""

import csv
import errno
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import files
import main
from dataset import MNIST
from training import checkpoint, report
from training import data as loading
from training.config import Config

import pytest
import torch
from helpers import ROOT, ended, fork, interrupt, same, stopping, write_data

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and POSIX signals")
MLP = "--device cpu --model mlp --epochs 3 --batch-size 16"  # three steps in an epoch


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp("resumed"), 48, 60)
    MNIST(folder, train=True), MNIST(folder, train=False)  # leaves the caches
    return folder


@pytest.fixture
def command(data, tmp_path, monkeypatch):
    """Train an MLP with main.py's main in an empty folder on the small data; it draws nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "draw", lambda runs: [])
    return lambda line="": main.main(f"--data-dir {data} --name a {MLP} {line}".split())


@pytest.fixture(scope="module")
def straight(data):
    """The last checkpoint of an uninterrupted run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(data)
        patch.setattr(report, "draw", lambda runs: [])
        assert main.main([*MLP.split(), "--name", "straight", "--data-dir", "."]) == 0
        return state("straight")


def begun():
    return Path("runs/a/checkpoint.pt").exists()


def state(name="a"):
    return checkpoint.load(Path("runs", name))


def agrees(name="a"):
    """Whether the other files of a run are as its checkpoint says."""
    saved, folder = state(name), Path("runs", name)
    with open(folder / "metrics.csv", newline="") as file:
        rows = [{key: row[key] for key in checkpoint.METRICS} for row in csv.DictReader(file)]
    texts = [{key: str(row[key]) for key in checkpoint.METRICS} for row in saved["history"]]
    config = json.loads((folder / "config.json").read_text())
    points = [",".join(map(str, point)) for row in saved["history"] for point in row["points"]]
    assert (folder / "steps.csv").read_text().splitlines()[1:] == points
    return rows == texts and config.items() >= saved["config"].to_dict().items()


def continues(command, straight):
    """Whether the run goes on from where it is, if it has begun, to the same last checkpoint."""
    return command("--resume" * begun()) == 0 and same(state(), straight) and agrees()


def contents(folder="."):
    """{its place in a folder: content} of every file, but for locks."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def error_line(capsys):
    """The only line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line.replace("\\", "/")


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
    """After each epoch alone, and after every one in turn."""

    def train(name, until, more=""):
        torch.manual_seed(random.randrange(2**32))  # what came before must not matter
        with monkeypatch.context() as patch:
            stopping(report.Report, "epoch", until, interrupt, patch.setattr)
            status = command(f"{options} --epochs 4 --name {name} {more}")
        assert status == (130 if until <= 4 else 0) and agrees(name)
        assert state(name)["epoch"] == min(until, 4)
        return state(name)

    straight = train("straight", 9)
    assert straight["history"][0]["train_loss"] > straight["history"][-1]["train_loss"]
    for k in (1, 2, 3):
        train(f"after{k}", k)
        assert same(train(f"after{k}", 9, "--resume"), straight), f"stopped after epoch {k}"
    for k in (1, 2, 3, 9):
        chained = train("chained", k, "--resume" * (k > 1))
    assert same(chained, straight)


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
    "--model lenet5": "model was mlp, is lenet5, hidden was 20, is None",
    "--val-size 9": "val_size was 0, is 9, other data",
    "--data-dir other": "data was resumed0, is other, other data",
    "--epochs 2": "epochs was 3, is 2",
    "--name linear --schedule linear --epochs 5": "epochs was 3, is 5",
}


def test_another_experiment_is_refused_with_a_list_of_what_differs(command, capsys):
    assert command() == command("--name linear --schedule linear") == 0
    write_data(Path("other"), 48, 61)
    before = contents("runs")
    for options, differing in DIFFERENT.items():
        capsys.readouterr()
        assert command(f"{options} --resume") == 1
        assert f"another experiment ({differing}); choose another --name" in error_line(capsys)
    assert command("--name none --resume") == 1
    assert "runs/none: no such run to resume" in error_line(capsys) and contents("runs") == before


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


def diverge():
    raise files.UserError("diverged")


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize(("stop", "status"), [(interrupt, 130), (diverge, 1)])
def test_a_run_that_ends_leaves_its_last_good_epoch_and_what_was_there(
    epoch, stop, status, command, straight, monkeypatch
):
    assert command() == 0
    stopping(main, "require_finite", epoch, stop, monkeypatch.setattr)
    assert command("--lr 0.5") == status and same(state("a.1"), straight)
    assert Path("runs/a").exists() == begun() == (epoch > 1)
    assert not begun() or (state()["epoch"] == epoch - 1 and agrees())


def test_only_one_process_uses_a_runs_folder(command, straight, capsys):
    assert command("--epochs 1") == 0
    before = contents()
    with checkpoint.locked(Config(name="a")):
        for resume in ("", "--resume"):
            capsys.readouterr()
            assert command(resume) == 1
            assert "runs/a: another process is using it; wait" in error_line(capsys)
    assert contents() == before and continues(command, straight)


# Kill -9, and SIGTERM, for which there is no handler


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
    epochs = []
    for left in snapshots:
        shutil.rmtree("runs")
        Path("runs/a").mkdir(parents=True)
        for path, content in left.items():  # that process had another number
            Path("runs/a", str(path).replace(str(os.getpid()), "1")).write_bytes(content)
        epochs.append(state()["epoch"] if begun() else 0)
        assert continues(command, straight), f"killed when there were {list(left)}"
    assert epochs == sorted(epochs) and set(epochs) == {0, 1, 2, 3} and len(epochs) > 30


@posix
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 3, 4, 5, 8, 9])
def test_kill_before_a_step_of_the_training(step, signum, command, straight):
    def work():
        stopping(main.SGD, "step", step, lambda: os.kill(os.getpid(), signum))
        return command()

    assert ended(fork(work)) == -signum
    assert begun() == (step > 3) and (not begun() or state()["epoch"] == (step - 1) // 3)
    assert continues(command, straight)


# Ctrl-C, and a full disk


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


STOPS = [  # what happens, before which call of which function, and what is said
    (interrupt, loading, "MNIST", 1, "interrupted; finished work is safe, and the same command"),
    (interrupt, main, "train", 1, "interrupted before the first epoch was saved; to start again"),
    (interrupt, main, "train", 2, "epoch 1 of 3 is safe in runs/a/checkpoint.pt; to continue: "),
    (interrupt, main, "test", 3, "epoch 2 of 3 is safe in runs/a/checkpoint.pt; to continue: "),
    (interrupt, os, "replace", 5, "epoch 1 of 3 is safe in runs/a/checkpoint.pt; to continue: "),
    (interrupt, checkpoint, "write_metrics", 2, "epoch 2 of 3 is safe in runs/a/checkpoint.pt; "),
    (interrupt, report, "draw", 1, "epoch 3 of 3 is safe in runs/a/checkpoint.pt; to continue: "),
    (full, os, "replace", 5, "error: runs/a/checkpoint.pt: No space left on device; free some"),
    (full, os, "replace", 6, "error: runs/a/config.json: No space left on device; free some"),
    (full, os, "replace", 7, "error: runs/a/metrics.csv: No space left on device; free some"),
    (full, os, "replace", 8, "error: runs/a/steps.csv: No space left on device; free some"),
]


@posix
@pytest.mark.parametrize("row", STOPS, ids=lambda row: row[-1])
def test_what_stops_a_run_is_one_line(row, command, straight, capsys, monkeypatch):
    stop, *call, words = row
    monkeypatch.setattr(sys, "argv", ["main.py"])
    with monkeypatch.context() as patch:
        stopping(*call, stop, patch.setattr)
        assert command() == (130 if stop is interrupt else 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and not list(Path().rglob("*.tmp"))
    if "safe in" in line:
        assert re.search("to continue: python main.py .* --name a .* --resume$", line)
    assert continues(command, straight)


def test_several_runs_continue_where_they_were(command, straight, monkeypatch, capsys):
    """A stop in the first epoch of the second seed, which has no folder then."""
    with monkeypatch.context() as patch:
        stopping(main, "train", 4, interrupt, patch.setattr)
        assert command("--runs 2") == 130
    assert re.search("epoch 3 of 3 is safe in .*a_seed0.* --resume\n", capsys.readouterr().err)
    seed0 = contents("runs/a_seed0")
    assert command("--runs 2 --resume") == command("--seed 1") == 0
    assert contents("runs/a_seed0").keys() == seed0.keys() and not Path("runs/a_seed0.1").exists()
    assert same(state("a_seed0"), straight) and same(state("a_seed1"), state())


@posix
def test_the_program_itself_stops_and_continues(data, tmp_path, monkeypatch):
    """As a person does it, in folders with spaces and letters beyond ASCII."""
    place = tmp_path / "Zoë's größe 数字"
    shutil.copytree(data, place / "my dätä")
    monkeypatch.chdir(place)
    options = [*MLP.split(), "--data-dir", "my dätä", "--name", "größe_数字", "--epochs", "4000"]
    program = [sys.executable, str(ROOT / "main.py"), *options]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(program, **streams, env=os.environ | {"PYTHONUTF8": "1"}) as process:
        next(line for line in process.stdout if line.split()[:1] == ["2"])  # epoch 2 is finished
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=120)[1]
    safe = state("größe_数字")["epoch"]
    assert process.returncode == 130 and 2 <= safe < 4000 and err.count("\n") == 1
    assert f"interrupted: epoch {safe} of 4000 is safe in " in err
    again = shlex.split(err.split("to continue: python ")[1])
    assert again == [*program[1:], "--resume"]
    monkeypatch.setattr(report, "draw", lambda runs: [])
    assert main.main([*again[1:], "--epochs", str(safe + 1)]) == 0
    assert main.main([*options, "--epochs", str(safe + 1), "--name", "straight"]) == 0
    assert same(state("größe_数字"), state("straight"))
