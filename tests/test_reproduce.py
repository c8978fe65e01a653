"""reproduce.py runs every experiment once, counts honestly and continues where it was stopped."""

import dataclasses
import multiprocessing
import os
import shlex
import signal
import time
from pathlib import Path

import main
import reproduce
from study import experiments, tables
from study.experiments import Experiment, Setting
from training import checkpoint, report

import pytest
from helpers import ended, fork, same, write_data

OPTIONS = "--only", "mlp", "--device", "cpu", "--data-dir", "d"
FIRST, SECOND = "mlp_epochs2_d", "mlp_epochs2_seed1_d"


@pytest.fixture(autouse=True)
def in_a_folder_with_small_data(tmp_path, monkeypatch):
    """Where the experiment mlp has two seeds of two epochs."""
    monkeypatch.chdir(tmp_path)
    reproduce.load.cache_clear()
    (tmp_path / "d").mkdir()
    write_data(tmp_path / "d", 80, 30)
    monkeypatch.setitem(experiments.ALL, "mlp", Experiment("--model mlp --epochs 2", 2))
    monkeypatch.setattr(report, "draw", lambda runs: [])


def survey():
    """The seeds of mlp that are finished, and the runs that are not."""
    runs = reproduce.planned(["mlp"], reproduce.parse_options(OPTIONS))
    finished = [run.config.seed for run in runs if run.finished]
    return finished, [run for run in runs if not run.finished]


def run_all():
    """Run in this process what is not finished; gives what is said of each run."""
    return [reproduce.run_one(run, reproduce.parse_options(OPTIONS)) for run in survey()[1]]


def commands(capsys, options=OPTIONS):
    """The options of the commands of main.py that are printed."""
    capsys.readouterr()
    assert reproduce.main([*options, "--commands"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line[:2] == ["python", "main.py"] for line in lines)
    return [line[2:] for line in lines]


def edit(name, **parts):
    """Change some parts of a run's checkpoint."""
    path = Path("runs", name, "checkpoint.pt")
    checkpoint.write_state(path, checkpoint.load(path) | parts)


def test_the_commands_make_the_runs_and_continue_what_was_begun(capsys):
    first, second = commands(capsys)
    assert main.main([*first, "--quiet"]) == 0
    assert commands(capsys) == [second]
    (line,) = run_all()
    assert line.startswith(f"{SECOND}: test accuracy ") and commands(capsys) == []
    assert main.main([*second, "--name", "mine", "--quiet"]) == 0
    history, mine = (checkpoint.load(name)["history"] for name in (SECOND, "mine"))
    assert [row | {"seconds": 0} for row in history] == [row | {"seconds": 0} for row in mine]
    edit(SECOND, epoch=1, history=history[:1])
    assert commands(capsys) == [[*second, "--resume"]]
    run_all()
    assert survey() == ([0, 1], []) and not Path("runs", f"{SECOND}.1").exists()


OTHERWISE = [("lr", 0.02), ("threads", 2), ("source", "new"), ("torch", "1.0")]


@pytest.mark.parametrize(("key", "value"), OTHERWISE)
def test_a_run_that_was_made_otherwise_is_named_and_made_again(key, value, capsys):
    run_all()
    assert survey() == ([0, 1], [])
    saved = checkpoint.load(SECOND)
    if key in saved["versions"]:
        edit(SECOND, versions=saved["versions"] | {key: value})
    else:
        edit(SECOND, config=dataclasses.replace(saved["config"], **{key: value}))
    capsys.readouterr()
    finished, (second,) = survey()
    (told,) = capsys.readouterr().err.splitlines()
    assert finished == [0] and second.history == [] and f"{key} was {value}, is " in told
    run_all()
    assert Path("runs", f"{SECOND}.1").exists() and survey() == ([0, 1], [])  # nothing is lost


def test_only_complete_experiments_on_mnist_reach_the_results_and_finished_runs_are_exported(
    monkeypatch, capsys
):
    """Not other data, not fewer seeds; and one experiment leaves the rows of the others."""
    written = []
    monkeypatch.setattr(tables, "write", lambda results, _: written.append(list(results)))
    monkeypatch.setattr(tables, "write_documents", lambda: None)
    write = [*OPTIONS, "--write"]
    export = [*write, "--export", "w.pt"]
    assert reproduce.main(export) == 1  # nothing was run
    assert reproduce.main([*export, "--only", "generated"]) == 1
    told = capsys.readouterr().err
    assert "generated is left out: it is tested on MNIST" in told
    assert [f"seed 0 of {name} is not finished" in told for name in ("mlp", "generated")] == [1, 1]
    run_all()
    saved = checkpoint.load(FIRST)
    edit(FIRST, epoch=1, history=saved["history"][:1])
    assert reproduce.main(export) == 1
    assert "seed 0 of mlp is not finished" in capsys.readouterr().err
    edit(FIRST, epoch=2, history=saved["history"])
    assert not Path("w.pt").exists() and reproduce.main(export) == 0
    exported = checkpoint.load("w.pt")
    assert exported["epoch"] == 2 and "points" not in exported["history"][0]
    assert same(exported["model"], saved["model"])
    capsys.readouterr()
    assert reproduce.main([*OPTIONS]) == 0
    assert "not written: the documents take only complete" in capsys.readouterr().out
    published = property(lambda self: True, lambda self, value: None)
    monkeypatch.setattr(reproduce.MNIST, "published", published, raising=False)
    run_all()
    assert reproduce.main([*write, "--seeds", "1"]) == 0 and written == []
    assert reproduce.main(write) == 0 and written == [["mlp"]]


def test_the_study_tests_the_best_settings_once_all_are_judged(monkeypatch, capsys):
    settings = [Setting(1, 0, 0), Setting(1, 0.5, 0)]
    for setting in settings:
        judged = Experiment(f"{setting.command} --val-size 20", 1)
        monkeypatch.setitem(experiments.ALL, setting.judged, judged)
        monkeypatch.setitem(experiments.ALL, setting.tested, Experiment(setting.command, 1))
    monkeypatch.setattr(reproduce, "JUDGED", [setting.judged for setting in settings])
    monkeypatch.setattr(tables, "SETTINGS", settings)
    monkeypatch.setattr(tables, "LENGTHS", (1,))
    options = "--study", "regularization", *OPTIONS[2:]
    judging = commands(capsys, options)
    assert len(judging) == 2 and all("--val-size" in command for command in judging)
    for command in judging:
        assert main.main([*command, "--quiet"]) == 0
    testing = commands(capsys, options)
    assert not any("--val-size" in command for command in testing)
    assert "0" in testing[0] and len(testing) <= 2  # the baseline is always tested


def test_a_run_that_fails_is_named_and_the_others_go_on(capfd):
    first, _ = survey()[1]
    with checkpoint.locked(first.config):
        assert reproduce.main([*OPTIONS, "--jobs", "1"]) == 1
    out, err = capfd.readouterr()
    assert f"{FIRST}: failed: runs/{FIRST}: another process is using it" in out
    assert f"{SECOND}: test accuracy" in out and "Traceback" not in err


def until(condition):
    """Wait for something, but not for ever."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("nothing happened for a minute")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("struck", ["ctrl-c", "parent", "worker"])
def test_all_end_together_and_the_same_command_continues(struck, monkeypatch):
    """The processes of the pool are forks here, which import nothing and leave their numbers."""
    context, begin = multiprocessing.get_context("fork"), reproduce.begin_process

    def noted():
        Path(f"{os.getpid()}.process").touch()
        begin()

    monkeypatch.setattr(multiprocessing, "get_context", lambda method: {"spawn": context}[method])
    monkeypatch.setattr(reproduce, "begin_process", noted)
    monkeypatch.setitem(experiments.ALL, "mlp", Experiment("--model mlp --epochs 5000", 2))
    names = ["mlp_epochs5000_d", "mlp_epochs5000_seed1_d"]
    pid = fork(lambda: reproduce.main([*OPTIONS, "--jobs", "2"]))
    until(lambda: all(Path("runs", name, "checkpoint.pt").exists() for name in names))
    pool = [int(path.stem) for path in Path().glob("*.process")]
    assert len(pool) == 2
    signum = signal.SIGINT if struck == "ctrl-c" else signal.SIGKILL
    os.kill(pool[0] if struck == "worker" else pid, signum)
    assert ended(pid) == {"ctrl-c": 130, "parent": -signal.SIGKILL, "worker": 1}[struck]
    until(lambda: not any(Path(f"/proc/{number}").exists() for number in pool))
    if struck != "parent":  # whose processes may have said something
        assert len(Path("output.txt").read_text().splitlines()) == 1
    left = {run.config.name: bool(run.history) for run in survey()[1]}
    assert left == dict.fromkeys(names, True)
