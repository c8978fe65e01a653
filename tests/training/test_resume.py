"""A run survives: whatever ends it, continuing gives exactly what it would have given."""

import contextlib
import csv
import dataclasses
import errno
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import files as ground
import main
from dataset import MNIST
from training import checkpoint, report
from training import data as loading
from training.config import Config, parse
from training.report import Report

import pytest
import torch
from helpers import ROOT, ended, fork, same, write_data

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and POSIX signals")
MLP = "--model", "mlp", "--epochs", "3", "--name", "a"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp("data"))
    MNIST(folder, train=True), MNIST(folder, train=False)  # leaves the caches
    return folder


@pytest.fixture
def command(data, tmp_path, monkeypatch):
    """Run main.py's main in an empty folder on the small data; it draws nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "draw", lambda runs: [])

    def command(*options):
        argv = ["main.py", "--data-dir", str(data), "--device", "cpu", *options]
        monkeypatch.setattr(sys, "argv", argv)
        return main.main(argv[1:])

    return command


def state(name="a"):
    return checkpoint.load(Path("runs", name))


def agrees(name="a"):
    """Whether metrics.csv is the checkpoint's history."""
    with open(Path("runs", name, "metrics.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    return rows == [
        {key: str(value) for key, value in row.items() if key != "points"}
        | {"evaluated_on": "test"}
        for row in state(name)["history"]
    ]


def files(folder="."):
    """Every file in a folder, with its contents, but for locks."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in paths if path.suffix != ".lock"}


def stopping(module, name, number, stop, put=setattr):
    """Call `stop` before the number-th call of a module's function."""
    real, calls = getattr(module, name), []

    def stopped(*arguments, **named):
        calls.append(name)
        if len(calls) == number:
            stop()
        return real(*arguments, **named)

    put(module, name, stopped)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def error_line(capsys):
    """The only line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


# Exactness

OPTIONS = {
    "lenet5, all": "--dropout 0.5 --weight-decay 0.001 --momentum 0.9 --nesterov",
    "lenet5, linear": "--schedule linear --lr 0.05",
    "lenet5, elastic, linear": "--augment elastic --schedule linear --dropout 0.2",
    "lenet5, no momentum": "--momentum 0 --augment affine",
    "mlp, all, linear": "--model mlp --dropout 0.5 --weight-decay 0.001 --schedule linear",
    "mlp, elastic": "--model mlp --augment elastic --label-smoothing 0.1",
}


class Stopped(Exception):
    pass


@pytest.mark.parametrize("what", OPTIONS)
def test_stopped_after_any_epoch_and_resumed_is_uninterrupted(what, data, tmp_path, monkeypatch):
    """After each epoch alone, and after every one in turn."""
    monkeypatch.chdir(tmp_path)
    config = parse(shlex.split(OPTIONS[what]) + ["--epochs", "4", "--device", "cpu"], "")[0]
    sets = MNIST(data, train=True), MNIST(data, train=False)

    def fit(name, stop_after, resume):
        class Stopping(Report):
            def epoch(self, row):
                if row["epoch"] == stop_after:
                    raise Stopped

        torch.manual_seed(random.randrange(2**32))  # what came before must not matter
        named, stopping_report = dataclasses.replace(config, name=name), Stopping(quiet=True)
        with contextlib.suppress(Stopped):
            main.fit(named, *sets, resume, report=stopping_report)
        assert state(name)["epoch"] == min(stop_after, 4)
        return state(name)

    straight = fit("straight", 9, False)
    assert straight["history"][0]["train_loss"] > straight["history"][-1]["train_loss"]
    for k in (1, 2, 3):
        fit(f"after{k}", k, False)
        assert same(fit(f"after{k}", 9, True), straight), f"stopped after epoch {k}"
        assert agrees(f"after{k}")
    for k in (1, 2, 3, 9):
        chained = fit("chained", k, k > 1)
    assert same(chained, straight)


def test_more_epochs_equal_the_longer_run(command, capsys):
    assert command(*MLP, "--name", "long", "--epochs", "5") == 0
    assert command(*MLP, "--epochs", "2") == 0
    assert command(*MLP, "--epochs", "5", "--resume") == 0
    assert same(state(), state("long")) and agrees()
    before = state()
    assert command(*MLP, "--epochs", "5", "--resume") == 0
    assert "already complete: all 5 epochs" in capsys.readouterr().out
    assert same(state(), before) and agrees()


DIFFERENT = {
    "--lr 0.02": "lr was 0.01, is 0.02",
    "--batch-size 32": "batch_size was 64, is 32",
    "--momentum 0.5": "momentum was 0.9, is 0.5",
    "--nesterov": "nesterov was False, is True",
    "--schedule linear": "schedule was constant, is linear",
    "--weight-decay 0.1": "weight_decay was 0.0, is 0.1",
    "--dropout 0.1": "dropout was 0.0, is 0.1",
    "--augment affine": "augment was none, is affine",
    "--label-smoothing 0.1": "label_smoothing was 0.0, is 0.1",
    "--hidden 21": "hidden was 20, is 21",
    "--seed 1": "seed was 0, is 1",
    "--val-size 100": "val_size was 0, is 100",
    "--model lenet5": "model was mlp, is lenet5",
    "--epochs 2": "epochs was 3, is 2",
    "--seed 1 --lr 0.5": "lr was 0.01, is 0.5, seed was 0, is 1",
    "--data-dir other": "other data",
}


def test_another_experiment_is_refused_with_a_list_of_what_differs(command, capsys):
    Path("other").mkdir()
    write_data(Path("other"), 600, 201)
    MNIST("other"), MNIST("other", train=False)
    assert command(*MLP) == 0
    before = files()
    capsys.readouterr()
    for options, differing in DIFFERENT.items():
        assert command(*MLP, *options.split(), "--resume") == 1
        line = error_line(capsys)
        assert differing in line and len(line) < 200
        assert files() == before, options
    assert command(*MLP, "--name", "b", "--resume") == 1
    assert "runs/b: no such run" in error_line(capsys).replace("\\", "/")
    assert files() == before


def test_more_epochs_of_a_linear_schedule_are_refused(command, capsys):
    assert command(*MLP, "--schedule", "linear") == 0
    capsys.readouterr()
    assert command(*MLP, "--schedule", "linear", "--epochs", "5", "--resume") == 1
    assert "epochs was 3, is 5" in error_line(capsys)


def test_several_runs_continue_where_they_were(command, monkeypatch):
    """A stop in the first epoch of the second seed, which has no folder then."""
    options = *MLP, "--runs", "2"
    assert command(*options, "--name", "straight") == 0
    with monkeypatch.context() as patch:
        stopping(main, "train", 4, interrupt, patch.setattr)
        assert command(*options) == 130
    assert not Path("runs/a_seed1").exists()
    seed0 = Path("runs/a_seed0/checkpoint.pt").read_bytes()
    assert command(*options, "--resume") == 0
    assert Path("runs/a_seed0/checkpoint.pt").read_bytes() == seed0
    assert all(same(state(f"a_seed{k}"), state(f"straight_seed{k}")) for k in (0, 1))


def test_what_changes_the_numbers_of_a_resumed_run_is_named(command, capsys, monkeypatch):
    assert command(*MLP) == 0
    capsys.readouterr()
    monkeypatch.setattr(torch, "__version__", "1.0")
    monkeypatch.setattr(checkpoint, "source_digest", lambda network: "edited")
    assert command(*MLP, "--epochs", "4", "--resume") == 0
    error = capsys.readouterr().err
    assert "the network in model.py was edited since" in error and "torch" in error
    assert "instead of 1.0" in error


# What is in a run's folder


def test_a_new_run_moves_aside_what_is_there(command, capsys):
    """Whatever state it is in: finished, stopped, damaged, or somebody's own files."""
    assert command(*MLP) == 0
    finished = files("runs/a")
    capsys.readouterr()
    assert command(*MLP, "--lr", "0.5") == 0
    assert "what was in runs/a is in runs/a.1 now" in capsys.readouterr().err.replace("\\", "/")
    moved = {Path("runs/a", path.name): content for path, content in files("runs/a.1").items()}
    assert moved == finished and state()["config"].lr == 0.5
    Path("runs/a/checkpoint.pt").write_bytes(b"damaged")
    Path("runs/a/notes.txt").write_text("mine")
    damaged = files("runs/a")
    assert command(*MLP) == 0
    moved = {Path("runs/a", path.name): content for path, content in files("runs/a.2").items()}
    assert moved == damaged and same(state(), state("a.1"))


@pytest.mark.parametrize("stop", [interrupt, lambda: 1 / 0])
def test_a_run_that_ends_in_its_first_epoch_leaves_what_was_there_whole(stop, command, monkeypatch):
    assert command(*MLP) == 0
    before = state()
    with monkeypatch.context() as patch:
        stopping(main, "train", 1, stop, patch.setattr)
        with contextlib.suppress(ZeroDivisionError):
            assert command(*MLP) == 130
    assert not Path("runs/a").exists() and same(state("a.1"), before)


def test_only_one_process_uses_a_runs_folder(command, capsys):
    assert command(*MLP) == 0
    before = files("runs/a")
    with checkpoint.locked(Config(name="a")):
        for resume in ([], ["--resume"]):
            capsys.readouterr()
            assert command(*MLP, *resume) == 1
            assert "another process is using it" in error_line(capsys)
    assert files("runs/a") == before
    assert command(*MLP, "--resume") == 0


# Kill -9


@posix
def test_kill_at_every_boundary_of_every_write(command):
    """Before, amid and after each step of write_whole; an epoch is on disk whole or not at all."""
    assert command(*MLP, "--name", "straight", "--epochs", "2") == 0
    straight, options = state("straight"), (*MLP, "--epochs", "2", "--quiet")

    def die_at(boundary):
        """Count what touches the disk in a run; kill -9 there."""
        count = [0]

        def step(*_):
            count[0] += 1
            if count[0] == boundary:
                os.kill(os.getpid(), signal.SIGKILL)

        class File:
            def __init__(self, *arguments):
                self.file = open(*arguments)  # noqa: SIM115

            def __enter__(self):
                step()
                return self

            def __exit__(self, *_):
                step()
                self.file.close()

            def write(self, content):
                half = len(content) // 2
                self.file.write(content[:half])
                self.file.flush()
                step()
                self.file.write(content[half:])
                step()

            def __getattr__(self, name):
                return getattr(self.file, name)

        def around(real):
            return lambda *a: (step(), real(*a), step())[1]

        ground.open = File
        for name in ("fsync", "replace"):
            setattr(os, name, around(getattr(os, name)))
        status = command(*options)
        Path("count.txt").write_text(str(count[0]))
        return status

    assert ended(fork(lambda: die_at(0))) == 0
    boundaries = int(Path("count.txt").read_text())
    assert boundaries > 50
    epochs, finished = set(), set()
    for boundary in range(1, boundaries + 1):
        shutil.rmtree("runs/a", ignore_errors=True)
        pid = fork(lambda n=boundary: die_at(n))
        assert ended(pid) == -signal.SIGKILL
        begun = Path("runs/a/checkpoint.pt").exists()
        epochs.add(state()["epoch"] if begun else 0)
        metrics = Path("runs/a/metrics.csv")
        left = sorted(path.name.replace(str(pid), "") for path in Path("runs/a").iterdir())
        rows = metrics.read_text().count("\n") if metrics.exists() else 0
        if (found := (begun and state()["epoch"], rows, *left)) in finished:
            continue  # a run was finished from this point already
        finished.add(found)
        assert command(*options, *(["--resume"] if begun else [])) == 0
        assert same(state(), straight) and agrees(), f"killed at boundary {boundary}"
    assert epochs == {0, 1, 2} and len(finished) > 8


@posix
@pytest.mark.parametrize("moment", [1, 7, 12, 19, 25, 26])
def test_kill_at_random_moments(moment, command):
    """Before a step of the training, of ten in each epoch."""
    assert command(*MLP, "--name", "straight") == 0

    def work():
        stopping(main.SGD, "step", moment, lambda: os.kill(os.getpid(), signal.SIGKILL))
        return command(*MLP)

    assert ended(fork(work)) == -signal.SIGKILL
    begun = Path("runs/a/checkpoint.pt").exists()
    assert begun == (moment > 10) and (not begun or state()["epoch"] == (moment - 1) // 10)
    assert command(*MLP, *(["--resume"] if begun else [])) == 0
    assert same(state(), state("straight")) and agrees()


# Signals

PHASES = {  # (module, function, which call of it), epochs that are safe then
    "loading": ((loading, "MNIST", 1), None),
    "training, epoch 1": ((main, "train", 1), None),
    "training": ((main, "train", 2), 1),
    "testing": ((main, "test", 3), 2),
    "saving": ((os, "replace", 5), 1),  # checkpoint, config, metrics and steps in each epoch
    "saved": ((checkpoint, "write_metrics", 2), 2),  # the checkpoint, not yet the metrics
    "plotting": ((report, "draw", 1), None),
}


@posix
@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_ends_each_phase_in_order(phase, command, capsys, monkeypatch):
    (module, function, number), safe = PHASES[phase]
    assert command(*MLP, "--name", "straight") == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        stopping(module, function, number, interrupt, patch.setattr)
        assert command(*MLP) == 130
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and line.startswith("interrupted")
    assert not list(Path().rglob("*.tmp"))
    if safe:
        assert re.search(f"epoch [{safe - 1}{safe}] of 3 is safe in", line)
        assert state()["epoch"] == safe
        again = shlex.split(re.search(r"to continue: python main.py (.*)", line)[1])
    else:
        again = [*MLP, "--resume"] if Path("runs/a/checkpoint.pt").exists() else MLP
    assert command(*again) == 0
    assert same(state(), state("straight")) and agrees()


@posix
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_program_itself_stops_and_continues(signum, data, tmp_path, monkeypatch):
    """As a person does it, in folders with spaces and letters beyond ASCII."""
    place = tmp_path / "Zoë's größe 数字"
    place.mkdir()
    monkeypatch.chdir(place)
    shutil.copytree(data, "my dätä")
    options = ["--model", "mlp", "--data-dir", "my dätä", "--device", "cpu", "--name", "größe_数字"]
    options += ["--epochs", "4000"]
    program = [sys.executable, str(ROOT / "main.py"), *options]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    environment = os.environ | {"PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(program, **streams, env=environment) as process:
        for line in process.stdout:
            if line.split()[:1] == ["2"]:  # epoch 2 is finished
                process.send_signal(signum)
                break
        out, err = process.communicate(timeout=120)
    safe = state("größe_数字")["epoch"]
    assert 2 <= safe < 4000
    words = [str(ROOT / "main.py"), *options, "--resume"]
    if signum == signal.SIGINT:
        assert process.returncode == 130
        assert shlex.split(re.search(r"to continue: python (.*)", err)[1]) == words
    else:  # nothing is said, but what is on disk is whole
        assert process.returncode == -signal.SIGTERM
    assert main.main([*words[1:], "--epochs", str(safe + 2)]) == 0
    straight = [*words[1:-1], "--epochs", str(safe + 2), "--name", "straight"]
    assert main.main(straight) == 0
    assert same(state("größe_数字"), state("straight"))


# Divergence and disks


def test_divergence_keeps_the_last_good_epoch(command, capsys, monkeypatch):
    train, epochs = main.train, []

    def diverging(model, *others):
        tally = train(model, *others)
        epochs.append(len(epochs) + 1)
        if len(epochs) >= 3:  # also when it is resumed
            next(model.parameters()).data[0, 0] = torch.nan
        return tally

    monkeypatch.setattr(main, "train", diverging)
    assert command(*MLP) == 1
    line = error_line(capsys)
    assert "epoch 3" in line and "learning rate 0.01" in line and "--lr" in line
    assert state()["epoch"] == 2 and agrees()
    assert command(*MLP, "--resume") == 1


def test_a_full_disk_during_a_run_keeps_the_last_epoch(command, capsys, monkeypatch):
    """Each of the writes of epoch 2 fails; then there is room again."""

    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert command(*MLP, "--name", "straight") == 0
    for number in range(5, 9):
        shutil.rmtree("runs/a", ignore_errors=True)
        with monkeypatch.context() as patch:
            stopping(os, "replace", number, full, patch.setattr)
            capsys.readouterr()
            assert command(*MLP) == 1
        assert os.strerror(errno.ENOSPC) in error_line(capsys)
        assert state()["epoch"] >= 1 and not list(Path("runs").rglob("*.tmp"))
        assert command(*MLP, "--resume") == 0
        assert same(state(), state("straight")) and agrees()


def test_a_file_in_the_place_of_the_runs_is_one_line_and_stays(command, capsys):
    Path("runs").write_text("mine")
    assert command(*MLP) == 1
    assert "runs" in error_line(capsys) and Path("runs").read_text() == "mine"


@posix
def test_a_killed_process_frees_its_folder_and_its_leftovers_go(command):
    def work():
        stopping(main, "train", 2, lambda: os.kill(os.getpid(), signal.SIGKILL))
        return command(*MLP)

    assert ended(fork(work)) == -signal.SIGKILL
    leftover = Path("runs/a/.checkpoint.pt.1.tmp")
    leftover.write_bytes(b"half")
    hours_ago = time.time() - 2 * ground.HOUR
    os.utime(leftover, (hours_ago, hours_ago))
    assert command(*MLP, "--resume") == 0
    assert not list(Path("runs").rglob("*.tmp"))
