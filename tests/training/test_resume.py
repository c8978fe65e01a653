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
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import ROOT, ended, fork, same, write_data

import files as ground
import main
from dataset import MNIST
from figures import run as plotting
from figures import style
from training import checkpoint, folder
from training import data as loading
from training.cli import parse
from training.config import Config
from training.report import Report

posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and POSIX signals")
MLP = "--model", "mlp", "--epochs", "3", "--name", "a"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Processes are forked here, which threads do not survive."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp("data"))
    MNIST(folder, train=True), MNIST(folder, train=False)  # leaves the caches
    return folder


@pytest.fixture
def command(data, tmp_path, monkeypatch):
    """Run main.py's main in an empty folder on the small data; what it draws it only notes."""
    monkeypatch.chdir(tmp_path)
    for what in ("confusion", "mistakes"):
        monkeypatch.setattr(plotting, what, lambda *_, **__: None)
    monkeypatch.setattr(plotting, "curves", note_epochs)
    monkeypatch.setattr(style, "save", note)

    def command(*options):
        argv = ["main.py", "--data-dir", str(data), "--device", "cpu", *options]
        monkeypatch.setattr(sys, "argv", argv)
        return main.main(argv[1:])

    return command


def note_epochs(title, histories, evaluated):
    return str([len(history) for history in histories])


def note(figure, path):
    ground.write_whole(path, str(figure).encode())


def drawn(name="a"):
    """How many epochs the curves show."""
    return Path("plots", f"{name}_curves.png").read_text()


def state(name="a"):
    return checkpoint.load(Path("runs", name, "checkpoint.pt"))


def agrees(name="a"):
    """Whether metrics.csv is the checkpoint's history."""
    with open(Path("runs", name, "metrics.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    history = state(name)["history"]
    return rows == [
        {key: str(value) for key, value in row.items() if key != "points"}
        | {"evaluated_on": "test"}
        for row in history
    ]


def files(folder="."):
    """Every file in a folder, with its contents."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def stopping(module, name, number, stop, put=setattr):
    """Call `stop` before the number-th call of a module's function."""
    real, calls = getattr(module, name), []

    def stopped(*arguments, **named):
        calls.append(name)
        if len(calls) == number:
            stop()
        return real(*arguments, **named)

    put(module, name, stopped)


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
        named, report = dataclasses.replace(config, name=name), Stopping(quiet=True)
        with contextlib.suppress(Stopped):
            main.fit(named, *sets, resume, report=report)
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
    assert same(state(), state("long")) and agrees() and drawn() == "[5]"
    assert command(*MLP, "--epochs", "4", "--resume") == 1
    assert "epochs was 5, is 4" in capsys.readouterr().err


def test_more_epochs_of_a_linear_schedule_are_refused(command, capsys):
    assert command(*MLP, "--schedule", "linear") == 0
    before = files()
    capsys.readouterr()
    assert command(*MLP, "--schedule", "linear", "--epochs", "5", "--resume") == 1
    assert "epochs was 3, is 5" in error_line(capsys)
    assert files() == before


def test_a_complete_run_says_so(command, capsys):
    assert command(*MLP) == 0
    before = state()
    assert command(*MLP, "--resume") == 0
    assert "already complete: all 3 epochs" in capsys.readouterr().out
    assert same(state(), before) and agrees()


def test_resume_without_a_run_writes_nothing(command, capsys):
    assert command(*MLP, "--resume") == 1
    assert "no such run to resume" in error_line(capsys)
    assert not Path("runs").exists() and not Path("plots").exists()
    assert command(*MLP) == 0
    before = files()
    capsys.readouterr()
    assert command(*MLP, "--name", "b", "--resume") == 1
    assert "runs/b: no such run" in (line := error_line(capsys).replace("\\", "/"))
    assert line.endswith("one that exists: a")
    assert files() == before


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
    "--seed 1 --lr 0.5": "lr was 0.01, is 0.5; seed was 0, is 1",
}


def test_another_experiment_is_refused_with_a_list_of_what_differs(command, capsys):
    """With --resume, and without it, where it would take the place of the old one."""
    assert command(*MLP) == 0
    before = files()
    capsys.readouterr()
    for options, differing in DIFFERENT.items():
        for resume in ([], ["--resume"]):
            assert command(*MLP, *options.split(), *resume) == 1
            assert differing in error_line(capsys)
            assert files() == before, options


def test_other_data_are_refused(command, capsys, tmp_path):
    assert command(*MLP) == 0
    before = files("runs")
    other = tmp_path / "other"
    other.mkdir()
    write_data(other, 600, 201)
    capsys.readouterr()
    assert command(*MLP, "--resume", "--data-dir", str(other)) == 1
    line = error_line(capsys)
    assert "its data were others" in line and len(line) < 200
    assert files("runs") == before


@pytest.mark.parametrize("garble", [b"", b"\xff\x00,,,\n1,2", None])
def test_metrics_are_the_checkpoints(garble, command, monkeypatch):
    """From the moment when a run continues, not only from its next epoch on."""
    assert command(*MLP) == 0
    assert agrees()
    metrics = Path("runs/a/metrics.csv")
    metrics.unlink() if garble is None else metrics.write_bytes(garble)
    seen = []
    stopping(main, "train", 1, lambda: seen.append(agrees()), monkeypatch.setattr)
    assert command(*MLP, "--resume", "--epochs", "4") == 0
    assert agrees() and seen == [True]


def test_several_runs_continue_where_they_were(command, monkeypatch):
    """A stop in the first epoch of the second seed: its folder is there, without a checkpoint."""
    options = *MLP, "--runs", "2"
    assert command(*options, "--name", "straight") == 0
    with monkeypatch.context() as patch:
        interrupt = partial(signal.raise_signal, signal.SIGINT)
        stopping(main, "train", 4, interrupt, patch.setattr)
        assert command(*options) == 130
    assert not Path("runs/a_seed1/checkpoint.pt").exists()
    seed0 = Path("runs/a_seed0/checkpoint.pt").read_bytes()
    assert command(*options, "--resume") == 0
    assert Path("runs/a_seed0/checkpoint.pt").read_bytes() == seed0
    assert all(same(state(f"a_seed{k}"), state(f"straight_seed{k}")) for k in (0, 1))


# Kill -9


@posix
def test_kill_at_every_boundary_of_every_write(command, monkeypatch):
    """Before, amid and after each step of write_whole; an epoch is on disk whole or not at all."""
    assert command(*MLP, "--name", "straight", "--epochs", "2") == 0
    straight, options = state("straight"), (*MLP, "--epochs", "2", "--quiet")
    whole = ground.write_whole

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
    assert boundaries > 50 and ground.write_whole is whole
    epochs, finished = set(), set()
    for boundary in range(1, boundaries + 1):
        shutil.rmtree("runs")
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
        assert not list(Path("runs").rglob("*.tmp"))
    assert epochs == {0, 1, 2} and len(finished) > 10


@posix
def test_kill_at_random_moments(command):
    options = *MLP, "--epochs", "6", "--quiet"
    start = time.perf_counter()
    assert ended(fork(lambda: command(*options, "--name", "straight"))) == 0
    seconds, draw = time.perf_counter() - start, random.Random(0)
    for moment in range(12):
        shutil.rmtree("runs/a", ignore_errors=True)
        pid = fork(lambda: command(*options))
        time.sleep(draw.uniform(0.05, 0.9) * seconds)  # a moment, whichever it is
        os.kill(pid, signal.SIGKILL)
        assert ended(pid) in (0, -signal.SIGKILL)
        begun = Path("runs/a/checkpoint.pt").exists()
        assert command(*options, *(["--resume"] if begun else [])) == 0
        assert same(state(), state("straight")) and agrees(), f"moment {moment}"


# Signals

PHASES = {  # (module, function, which call of it), epochs that are safe then
    "loading": ((loading, "MNIST", 1), None),
    "training, epoch 1": ((main, "train", 1), 0),
    "training": ((main, "train", 2), 1),
    "testing": ((main, "test", 3), 2),
    "saving": ((os, "replace", 5), 1),  # metrics, config, then two in each epoch
    "saved": ((checkpoint, "write_metrics", 3), 2),  # the checkpoint, not yet the metrics
    "plotting": ((plotting, "confusion", 1), 3),
}


@posix
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_ends_each_phase_in_order(phase, signum, command):
    (module, function, number), safe = PHASES[phase]
    assert command(*MLP, "--name", "straight") == 0
    reading, writing = os.pipe()

    def work():
        stopping(module, function, number, lambda: (os.write(writing, b"!"), time.sleep(60)))
        return command(*MLP)

    pid = fork(work)
    os.close(writing)
    assert os.read(reading, 1) == b"!"
    os.close(reading)
    os.kill(pid, signum)
    assert ended(pid) == 128 + signum
    output = Path("output.txt").read_text()
    assert "Traceback" not in output and not list(Path().rglob("*.tmp"))
    if safe:
        assert f"epoch {safe} of 3 is safe in" in output
        assert re.search(r"to continue: .*main.py", output)
        assert drawn() == f"[{safe}]" and state()["epoch"] == safe and agrees()
    else:
        assert "interrupted" in output and "safe in" not in output
        assert not Path("runs/a/checkpoint.pt").exists()
    told = re.search(r"to continue: .*main.py (.*)", output)
    assert command(*(shlex.split(told[1]) if told else MLP)) == 0
    assert same(state(), state("straight")) and agrees() and drawn() == "[3]"


@posix
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(second, command):
    """It comes while the first one's plots are drawn."""
    reading, writing = os.pipe()

    def mark_and_wait():
        os.write(writing, b"!")
        time.sleep(60)

    def work():
        stopping(main, "train", 2, mark_and_wait)
        stopping(plotting, "curves", 1, mark_and_wait)
        return command(*MLP)

    pid = fork(work)
    for signum in (signal.SIGINT, second):
        assert os.read(reading, 1) == b"!"
        os.kill(pid, signum)
    assert ended(pid) == -second
    assert state()["epoch"] == 1


@posix
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_program_itself_stops_and_continues(signum, data, tmp_path, monkeypatch):
    """As a person does it, in folders with spaces and letters beyond ASCII, with real plots."""
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
    assert process.returncode == 128 + signum
    safe = int(re.search(r"epoch (\d+) of \d+ is safe in", err)[1])
    assert 2 <= safe < 4000 and state("größe_数字")["epoch"] == safe
    assert sorted(path.name for path in Path("plots").glob("*.png")) == [
        f"größe_数字_{what}.png" for what in ("confusion", "curves", "mistakes")
    ]
    told = shlex.split(re.search(r"to continue: \S*python (.*)", err)[1])
    more = told[1:] + ["--epochs", str(safe + 2)]
    assert told == [str(ROOT / "main.py"), *options, "--resume"]
    assert main.main(more) == 0
    straight = [*more, "--name", "straight"]
    straight.remove("--resume")
    assert main.main(straight) == 0
    assert same(state("größe_数字"), state("straight"))


# Divergence, disk, folders, consoles


def test_divergence_keeps_the_last_good_epoch(command, capsys, monkeypatch):
    train = main.train

    epochs = []

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


@pytest.mark.parametrize("model", ["lenet5", "mlp"])
def test_a_huge_learning_rate_diverges_in_one_line(model, command, capsys):
    assert command("--model", model, "--lr", "1e30", "--name", "a") == 1
    assert "diverged in epoch 1 (learning rate 1e+30" in error_line(capsys)
    assert not Path("runs/a/checkpoint.pt").exists()


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_during_a_run_keeps_the_last_epoch(command, capsys, monkeypatch):
    """Each of the writes of epoch 2 and after fails; then there is room again."""
    assert command(*MLP, "--name", "straight") == 0
    for number in range(5, 9):
        shutil.rmtree("runs/a", ignore_errors=True)
        with monkeypatch.context() as patch:
            nth = (
                2 * number - 1 if os.name == "posix" else number
            )  # there, folders are flushed, too
            stopping(os, "fsync", nth, full, patch.setattr)
            capsys.readouterr()
            assert command(*MLP) == 1
        assert os.strerror(errno.ENOSPC) in error_line(capsys)
        assert state()["epoch"] >= 1 and not list(Path("runs").rglob("*.tmp"))
        assert command(*MLP, "--resume") == 0
        assert same(state(), state("straight")) and agrees()


def untrained(monkeypatch):
    monkeypatch.setattr(main, "train", lambda *_: pytest.fail("training began"))


@pytest.mark.parametrize("folder", ["runs", "plots", "runs/a"])
def test_a_file_in_the_place_of_a_folder_is_found_before_training(
    folder, command, capsys, monkeypatch
):
    untrained(monkeypatch)
    Path(folder).parent.mkdir(exist_ok=True)
    Path(folder).write_text("mine")
    assert command(*MLP) == 1
    assert folder in error_line(capsys).replace("\\", "/")
    assert Path(folder).read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files even from root")
@pytest.mark.parametrize("folder", ["runs", "plots"])
def test_a_folder_that_takes_no_files_is_found_before_training(
    folder, command, capsys, monkeypatch
):
    untrained(monkeypatch)
    Path(folder).symlink_to("/proc")
    assert command(*MLP) == 1
    assert error_line(capsys).startswith(f"error: {folder}: ")


def test_too_little_space_is_found_before_training(command, capsys, monkeypatch):
    untrained(monkeypatch)
    usage = shutil.disk_usage(".")._replace(free=folder.NEEDED_BYTES - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert command(*MLP) == 1
    assert "free some space" in error_line(capsys)


def test_only_one_process_uses_a_runs_folder(command, capsys):
    assert command(*MLP) == 0
    before = files("runs/a")
    with folder.locked(Config(name="a")):
        for resume in ([], ["--resume"]):
            capsys.readouterr()
            assert command(*MLP, *resume) == 1
            assert "another process is using it" in error_line(capsys)
    assert files("runs/a") == before
    assert command(*MLP, "--resume") == 0


@posix
def test_a_killed_process_frees_its_folder(command):
    def work():
        stopping(main, "train", 2, lambda: os.kill(os.getpid(), signal.SIGKILL))
        return command(*MLP)

    assert ended(fork(work)) == -signal.SIGKILL
    Path("runs/a/.checkpoint.pt.1.tmp").write_bytes(b"half")
    assert command(*MLP, "--resume") == 0
    assert not list(Path("runs").rglob("*.tmp"))


def test_a_console_of_ascii_alone_gets_everything(data, tmp_path):
    """One that cannot show the table's letters, or a name's."""
    program = [sys.executable, ROOT / "main.py", "--data-dir", data, "--device", "cpu"]
    program += ["--model", "mlp", "--epochs", "1", "--name", "größe"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stderr == b""
    assert b"gr??e: test accuracy" in done.stdout
    assert (tmp_path / "plots" / "größe_curves.png").exists()


@posix
def test_a_closed_pipe_is_no_traceback(data, tmp_path):
    """As of `python main.py | head -1`."""
    program = [sys.executable, ROOT / "main.py", "--data-dir", data, "--device", "cpu"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program, cwd=tmp_path, **streams) as process:
        process.stdout.close()
        err = process.stderr.read().decode()
    assert process.returncode == 1
    assert "Traceback" not in err and "Exception ignored" not in err and err.count("\n") == 1
