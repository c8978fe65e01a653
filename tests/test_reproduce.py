"""reproduce.py runs every experiment once, counts honestly and continues where it was stopped."""

import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import ROOT, write_data

import main
import reproduce
from study import experiments
from study import tables as results
from study.experiments import Experiment, Setting
from training import checkpoint


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with small data; a function that runs reproduce.py's own main."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    write_data(tmp_path / "d", 80, 30)
    monkeypatch.setitem(experiments.ALL, "mlp", Experiment("--model mlp --epochs 2", 2))
    options = "--only", "mlp", "--device", "cpu", "--data-dir", "d"
    return lambda *more: reproduce.cli([*options, *more])


def test_each_run_is_what_its_command_does(here, capsys):
    assert here("--run", "mlp_epochs2_seed1_d") == 0
    assert "mlp_epochs2_seed1_d: test accuracy" in capsys.readouterr().out
    command = "--model", "mlp", "--epochs", "2", "--seed", "1", "--threads", "1", "--name", "mine"
    assert main.main([*command, "--data-dir", "d", "--device", "cpu", "--quiet"]) == 0
    one, other = (
        [{**row, "seconds": 0} for row in checkpoint.load(f"runs/{name}")["history"]]
        for name in ("mlp_epochs2_seed1_d", "mine")
    )
    assert one == other


def collected(capsys):
    """The seeds that count, and what is said of the others."""
    options = reproduce.parse_options("--only mlp --device cpu --data-dir d".split())
    found = reproduce.collect(reproduce.make_plan(options.only, options))
    return sorted(found.get("mlp", {})), capsys.readouterr().err


def test_only_finished_runs_of_this_experiment_count(here, capsys, monkeypatch):
    for seed in ("", "_seed1"):
        assert here("--run", f"mlp_epochs2{seed}_d") == 0
    assert collected(capsys) == ([0, 1], "")
    path = Path("runs/mlp_epochs2_seed1_d/checkpoint.pt")
    whole = checkpoint.load(path)
    changes = {
        "unfinished": whole | {"epoch": 1, "history": whole["history"][:1]},
        "lr": whole | {"config": dataclasses.replace(whole["config"], lr=0.02)},
        "threads": whole | {"versions": whole["versions"] | {"threads": 2}},
        "network": whole | {"versions": whole["versions"] | {"network": "another"}},
        "torch": whole | {"versions": whole["versions"] | {"torch": "1.0"}},
    }
    for what, state in changes.items():
        checkpoint.write_state(path, state)
        seeds, told = collected(capsys)
        assert seeds == [0], what
        if what == "unfinished":
            assert told == ""
        else:
            assert told.count("\n") == 1
            assert "mlp_epochs2_seed1_d is not counted: " in told and what in told


def test_a_run_that_was_begun_otherwise_is_not_continued(here, capsys):
    assert here("--run", "mlp_epochs2_d") == 0
    path = Path("runs/mlp_epochs2_d/checkpoint.pt")
    state = checkpoint.load(path)
    state |= {"epoch": 1, "history": state["history"][:1]}
    checkpoint.write_state(path, state | {"versions": state["versions"] | {"threads": 2}})
    assert here("--run", "mlp_epochs2_d") == 1
    assert "was begun with other versions (threads 2 instead of 1)" in capsys.readouterr().err


def test_an_unknown_run_is_one_line(here, capsys):
    assert here("--run", "mlp_lr3") == 1
    assert capsys.readouterr().err.startswith("error: --run mlp_lr3: no experiment has such a run")


def test_only_complete_experiments_on_mnist_replace_the_documents(here, monkeypatch, capsys):
    """Not other data, not fewer seeds; and one experiment leaves the rows of the others."""
    written = []
    monkeypatch.setattr(results, "write", lambda found, _: written.append(found))
    monkeypatch.setattr(results, "write_documents", lambda: None)
    for seed in ("", "_seed1"):
        here("--run", f"mlp_epochs2{seed}_d")
    assert here("--write") == 0
    assert "not written" in capsys.readouterr().out
    published = property(lambda self: True, lambda self, value: None)
    monkeypatch.setattr(reproduce.MNIST, "published", published, raising=False)
    for seed in ("", "_seed1"):
        here("--run", f"mlp_epochs2{seed}")
    assert here("--write", "--seeds", "1") == 0
    assert written == []
    assert here("--write") == 0
    assert [list(found) for found in written] == [["mlp"]]


def test_the_study_tests_the_best_settings_once_all_are_judged(here, monkeypatch, capsys):
    settings = [Setting(1, 0, 0), Setting(1, 0.5, 0)]
    short = {one.judged: Experiment(f"{one.command} --val-size 20", 1) for one in settings}
    short |= {one.tested: Experiment(one.command, 1) for one in settings}
    for name, experiment in short.items():
        monkeypatch.setitem(experiments.ALL, name, experiment)
    monkeypatch.setattr(reproduce, "JUDGED", [one.judged for one in settings])
    monkeypatch.setattr(results, "SETTINGS", settings)
    monkeypatch.setattr(results, "LENGTHS", (1,))
    assert here("--study", "regularization", "--commands") == 0
    commands = capsys.readouterr().out.splitlines()
    names = [line.split("--run ")[1] for line in commands]
    assert names == ["lenet5_epochs1_val20_d", "lenet5_epochs1_dropout0.5_val20_d"]
    for line in commands:
        assert reproduce.cli(line.split("reproduce.py ")[1].split()) == 0
    assert "validation accuracy" in capsys.readouterr().out
    assert here("--study", "regularization", "--commands") == 0
    names = [line.split("--run ")[1] for line in capsys.readouterr().out.splitlines()]
    assert set(names) <= {"lenet5_epochs1_d", "lenet5_epochs1_dropout0.5_d"}
    assert "lenet5_epochs1_d" in names  # the baseline is always tested


def test_weights_of_an_unfinished_or_other_run_are_not_exported(here, monkeypatch, capsys):
    monkeypatch.setitem(experiments.ALL, "best", Experiment("--model mlp --epochs 2", 2))
    options = "--only", "best", "--device", "cpu", "--data-dir", "d", "--write", "--export", "w.pt"
    assert reproduce.cli([*options]) == 1
    assert "mlp_epochs2_d is not finished (not started)" in capsys.readouterr().err
    assert here("--run", "mlp_epochs2_d") == 0
    state = checkpoint.load("runs/mlp_epochs2_d")
    unfinished = state | {"epoch": 1, "history": state["history"][:1]}
    checkpoint.write_state(Path("runs/mlp_epochs2_d/checkpoint.pt"), unfinished)
    assert reproduce.cli([*options]) == 1
    assert "is not finished (1 of 2 epochs)" in capsys.readouterr().err
    assert not Path("w.pt").exists()
    checkpoint.write_state(Path("runs/mlp_epochs2_d/checkpoint.pt"), state)
    assert reproduce.cli([*options]) == 0
    exported = checkpoint.load("w.pt")
    assert exported["epoch"] == 2 and "points" not in exported["history"][0]
    for name, weight in state["model"].items():
        assert torch.equal(exported["model"][name], weight)
    assert reproduce.cli(["--only", "mlp,lenet5", "--export", "w.pt"]) == 2


@pytest.mark.skipif(os.name != "posix", reason="signals as on Linux")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_jobs_stop_with_their_parent_and_go_on(signum, tmp_path):
    """Two real runs side by side; the parent alone is struck; then the same command ends."""
    (tmp_path / "d").mkdir()
    write_data(tmp_path / "d", 3000, 30)
    command = [sys.executable, ROOT / "reproduce.py", "--only", "mlp,mlp56", "--seeds", "1"]
    command += ["--jobs", "2", "--device", "cpu", "--data-dir", "d"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    names = ("mlp_d", "mlp_hidden56_d")
    with subprocess.Popen(command, cwd=tmp_path, **streams) as process:
        tables = [tmp_path / "runs" / name / "metrics.csv" for name in names]
        deadline = time.monotonic() + 120
        while not any(table.exists() for table in tables):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signum)
        process.wait(60)
        assert process.returncode == (-signum if signum == signal.SIGKILL else 128 + signum)
        deadline = time.monotonic() + 30
        while children(tmp_path):
            assert time.monotonic() < deadline, "a child is left"
            time.sleep(0.05)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=240)
    assert done.returncode == 0, done.stderr
    assert "not written: the documents take only complete" in done.stdout
    for table in tables:
        assert len(list(csv.DictReader(table.open()))) == 5


def children(folder):
    """Processes that work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (path / "cmdline").read_bytes()
            if b"--child" in arguments and os.readlink(path / "cwd") == str(folder):
                found.append(path.name)
        except OSError:  # it has ended
            continue
    return found


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path):
    (tmp_path / "d").mkdir()
    write_data(tmp_path / "d", 100, 30)
    blocked = tmp_path / "runs" / "mlp_d"
    blocked.mkdir(parents=True)
    (blocked / "checkpoint.pt").write_bytes(b"mine")
    command = [sys.executable, ROOT / "reproduce.py", "--only", "mlp,mlp56", "--seeds", "1"]
    command += ["--jobs", "2", "--device", "cpu", "--data-dir", "d"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=240)
    assert done.returncode == 1
    assert "mlp_d: failed with status 1: error: " in done.stdout + done.stderr
    assert (tmp_path / "runs" / "mlp_hidden56_d" / "checkpoint.pt").exists()
    assert (blocked / "checkpoint.pt").read_bytes() == b"mine"
    shutil.rmtree(tmp_path / "runs")
