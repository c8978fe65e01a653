"""reproduce.py runs every experiment once, counts honestly and continues where it was stopped."""

import dataclasses
import os
import shlex
import signal
import time
from pathlib import Path

import main
import reproduce
from study import experiments, tables
from study.experiments import Experiment, Setting
from training import checkpoint

import pytest
import torch
from helpers import ended, fork, write_data

OPTIONS = "--only", "mlp", "--device", "cpu", "--data-dir", "d"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with small data, and an experiment of two seeds of two epochs."""
    monkeypatch.chdir(tmp_path)
    reproduce.load.cache_clear()
    (tmp_path / "d").mkdir()
    write_data(tmp_path / "d", 80, 30)
    for name in ("mlp", "best"):
        monkeypatch.setitem(experiments.ALL, name, Experiment("--model mlp --epochs 2", 2))
    return tmp_path


def plan(*arguments):
    options = reproduce.parse_options(arguments or OPTIONS)
    return reproduce.make_plan(options.only, options), options


def run_all():
    """Run in this process what is not finished; gives what is said of each run."""
    runs, options = plan()
    _, todo = reproduce.survey(runs, options.device)
    return [reproduce.run_one(*run, options.device, options.data_dir) for run in todo]


def commands(capsys, *arguments):
    """The options of the commands of main.py that are printed."""
    capsys.readouterr()
    assert reproduce.main([*(arguments or OPTIONS), "--commands"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line[:2] == ["python", "main.py"] for line in lines)
    return [line[2:] for line in lines]


def edit(name, **parts):
    """Change some parts of a run's checkpoint."""
    path = Path("runs", name, "checkpoint.pt")
    checkpoint.write_state(path, checkpoint.load(path) | parts)


def test_the_commands_make_the_runs_and_continue_what_was_begun(folder, capsys):
    first, second = commands(capsys)
    assert main.main([*first, "--quiet"]) == 0
    assert commands(capsys) == [second]
    assert main.main([*second, "--quiet"]) == 0
    history = checkpoint.load("runs/mlp_epochs2_seed1_d")["history"]
    edit("mlp_epochs2_seed1_d", epoch=1, history=history[:1])
    assert commands(capsys) == [[*second, "--resume"]]
    edit("mlp_epochs2_seed1_d", epoch=2, history=history)
    assert commands(capsys) == []


def test_a_run_has_the_numbers_of_its_command(folder, capsys):
    (first, _), said = commands(capsys), run_all()
    assert said[0] == (True, said[0][1]) and "mlp_epochs2_d: test accuracy" in said[0][1]
    assert main.main([*first, "--name", "mine", "--quiet"]) == 0
    ours, theirs = (
        [row | {"seconds": 0} for row in checkpoint.load(f"runs/{name}")["history"]]
        for name in ("mlp_epochs2_d", "mine")
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("lr was 0.02", lambda saved: {"config": dataclasses.replace(saved["config"], lr=0.02)}),
        ("threads was 2", lambda saved: {"versions": saved["versions"] | {"threads": 2}}),
        (
            "source was another",
            lambda saved: {"versions": saved["versions"] | {"source": "another"}},
        ),
        ("torch was 1.0", lambda saved: {"versions": saved["versions"] | {"torch": "1.0"}}),
        ("", lambda saved: {"epoch": 1, "history": saved["history"][:1]}),
    ],
)
def test_only_finished_runs_of_this_experiment_count(what, change, folder, capsys):
    run_all()
    runs, options = plan()
    assert list(reproduce.survey(runs, options.device)[0]["mlp"]) == [0, 1]
    edit("mlp_epochs2_seed1_d", **change(checkpoint.load("runs/mlp_epochs2_seed1_d")))
    capsys.readouterr()
    results, ((_, _, resume),) = reproduce.survey(runs, options.device)
    assert list(results["mlp"]) == [0] and resume == (not what)
    told = capsys.readouterr().err
    assert told.count("\n") == bool(what) and what in told
    run_all()
    assert Path("runs/mlp_epochs2_seed1_d.1").exists() == bool(what)  # nothing is lost
    assert list(reproduce.survey(runs, options.device)[0]["mlp"]) == [0, 1]


def test_only_complete_experiments_on_mnist_reach_the_results(folder, monkeypatch, capsys):
    """Not other data, not fewer seeds; and one experiment leaves the rows of the others."""
    written = []
    monkeypatch.setattr(tables, "write", lambda results, _: written.append(list(results)))
    monkeypatch.setattr(tables, "write_documents", lambda: None)
    run_all()
    assert reproduce.main([*OPTIONS]) == 0
    assert "not written: the documents take only complete" in capsys.readouterr().out
    assert reproduce.main([*OPTIONS, "--write"]) == 0
    published = property(lambda self: True, lambda self, value: None)
    monkeypatch.setattr(reproduce.MNIST, "published", published, raising=False)
    run_all()
    assert reproduce.main([*OPTIONS, "--write", "--seeds", "1"]) == 0 and written == []
    assert reproduce.main([*OPTIONS, "--write"]) == 0 and written == [["mlp"]]


def test_the_study_tests_the_best_settings_once_all_are_judged(folder, monkeypatch, capsys):
    settings = [Setting(1, 0, 0), Setting(1, 0.5, 0)]
    short = {s.judged: Experiment(f"{s.command} --val-size 20", 1) for s in settings}
    short |= {s.tested: Experiment(s.command, 1) for s in settings}
    for name, experiment in short.items():
        monkeypatch.setitem(experiments.ALL, name, experiment)
    monkeypatch.setattr(reproduce, "JUDGED", [s.judged for s in settings])
    monkeypatch.setattr(tables, "SETTINGS", settings)
    monkeypatch.setattr(tables, "LENGTHS", (1,))
    arguments = "--study", "regularization", "--device", "cpu", "--data-dir", "d"
    judging = commands(capsys, *arguments)
    assert len(judging) == 2 and all("--val-size" in command for command in judging)
    for command in judging:
        assert main.main([*command, "--quiet"]) == 0
    testing = commands(capsys, *arguments)
    assert not any("--val-size" in command for command in testing)
    assert "0" in testing[0] and len(testing) <= 2  # the baseline is always tested


def test_weights_of_an_unfinished_or_other_run_are_not_exported(folder, monkeypatch, capsys):
    options = ["--only", "best", *OPTIONS[2:], "--write", "--export", "w.pt"]
    monkeypatch.setattr(tables, "write_documents", lambda: None)
    assert reproduce.main(options) == 1
    assert "mlp_epochs2_d is not finished" in capsys.readouterr().err
    run_all()
    saved = checkpoint.load("runs/mlp_epochs2_d")
    edit("mlp_epochs2_d", epoch=1, history=saved["history"][:1])
    assert reproduce.main(options) == 1
    assert "mlp_epochs2_d is not finished" in capsys.readouterr().err
    assert not Path("w.pt").exists()
    edit("mlp_epochs2_d", epoch=2, history=saved["history"])
    assert reproduce.main(options) == 0
    exported = checkpoint.load("w.pt")
    assert exported["epoch"] == 2 and "points" not in exported["history"][0]
    assert all(torch.equal(exported["model"][key], saved["model"][key]) for key in saved["model"])
    assert reproduce.main(["--only", "mlp,lenet5", "--export", "w.pt"]) == 2


def test_a_run_that_fails_is_named_and_the_others_go_on(folder, capfd):
    runs, _ = plan()
    with checkpoint.locked(runs["mlp"][0]):
        assert reproduce.main([*OPTIONS, "--jobs", "1"]) == 1
    out, err = capfd.readouterr()
    assert "mlp_epochs2_d: failed: runs/mlp_epochs2_d: another process is using it" in out
    assert "mlp_epochs2_seed1_d: test accuracy" in out and "Traceback" not in err


def workers(pid):
    """The processes of the pool of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("struck", ["ctrl-c", "parent", "worker"])
def test_all_end_together_and_the_same_command_continues(struck, folder, monkeypatch):
    monkeypatch.setitem(experiments.ALL, "mlp", Experiment("--model mlp --epochs 5000", 2))
    pid = fork(lambda: reproduce.main([*OPTIONS, "--jobs", "2"]))
    checkpoints = [folder / "runs" / name / "checkpoint.pt" for name in NAMES]
    while not all(path.exists() for path in checkpoints):
        assert Path(f"/proc/{pid}").exists()
        time.sleep(0.01)
    pool = workers(pid)
    assert len(pool) == 2
    signum = signal.SIGINT if struck == "ctrl-c" else signal.SIGKILL
    os.kill(pool[0] if struck == "worker" else pid, signum)
    assert ended(pid) == {"ctrl-c": 130, "parent": -signal.SIGKILL, "worker": 1}[struck]
    while any(Path(f"/proc/{number}").exists() for number in pool):
        time.sleep(0.01)
    if struck != "parent":  # whose processes may have said something
        assert len(Path("output.txt").read_text().splitlines()) == 1
    runs, options = plan()
    _, todo = reproduce.survey(runs, options.device)
    assert [(config.name, resume) for _, config, resume in todo] == [(name, True) for name in NAMES]


NAMES = "mlp_epochs5000_d", "mlp_epochs5000_seed1_d"
