"""reproduce.py: the documents are what it wrote, its statistics are right, it counts honestly."""

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
from training import checkpoint, cli
from training.config import RECIPES


def test_the_tables_are_made_of_the_committed_results():
    results = reproduce.read_results()
    for path, text in (
        (ROOT / "docs" / "results.md", reproduce.all_tables(results)),
        (ROOT / "README.md", "\n".join(reproduce.main_table(results, reproduce.IN_README))),
    ):
        between = path.read_text(encoding="utf-8").split(reproduce.START)[1]
        assert between.split(reproduce.END)[0].strip() == text.strip(), path


def test_the_committed_results_are_complete():
    results = reproduce.read_results()
    assert set(results) == set(reproduce.EXPERIMENTS)
    for name, experiment in reproduce.EXPERIMENTS.items():
        assert sorted(results[name]) == list(range(experiment.seeds))
        epochs, _ = cli.parse(experiment.command.split(), "")
        assert {len(history) for history in results[name].values()} == {epochs.epochs}


def test_the_first_words_of_main_are_the_results():
    accuracies = cli.recipe_accuracies()
    mean = accuracies["baseline"].partition(" ")[0]
    results = reproduce.last(reproduce.read_results()["mlp"], "test_accuracy", 100)
    assert f"5 epochs, {mean} % of the test images right" in main.__doc__
    assert f"# {sum(results) / len(results):.2f} %" in main.__doc__


def test_the_documents_hold_the_recipes_as_they_are():
    words = {
        "epochs": "{} epoch",
        "batch_size": "batches of {}",
        "lr": "learning rate {} ",
        "schedule": " {},",
        "nesterov": "Nesterov",
        "dropout": "dropout {}",
        "weight_decay": "weight decay {}",
        "label_smoothing": "label smoothing {}",
        "augment": "{} distortions",
    }
    readme = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    for name, changed in RECIPES.items():
        if changed:
            (row,) = [line for line in readme if line.startswith(f"| `{name}` |")]
            assert [w for k, w in words.items() if w.format(changed.get(k, "")) in row] == [
                words[key] for key in words if key in changed
            ], row


def histories(*accuracies):
    """{seed: history} of runs of two epochs that end with these accuracies."""
    first = dict.fromkeys(checkpoint.METRICS, 0.5)
    return {
        seed: [first, first | {"test_accuracy": accuracy, "test_loss": 2.0, "seconds": 3.0}]
        for seed, accuracy in enumerate(accuracies)
    }


def test_a_row_is_mean_deviation_and_range_of_the_last_epochs():
    (row,) = reproduce.main_table({"fast": histories(0.98765, 0.99, 0.9712)}, ["fast"])[2:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "fast",
        "`python main.py --recipe fast`",
        "44,426",
        "–",
        "98.30 ± 1.02",
        "97.12 to 99.00",
        "3",
        "4 s",  # 0.5 of the first epoch, 3 of the second, rounded to even
    ]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with small data; a function that runs reproduce.py's own main."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    write_data(tmp_path / "d", 80, 30)
    monkeypatch.setitem(
        reproduce.EXPERIMENTS, "mlp", reproduce.Experiment("--model mlp --epochs 2", 2)
    )
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
    results = reproduce.collect(reproduce.make_plan(options))
    return sorted(results.get("mlp", {})), capsys.readouterr().err


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
    monkeypatch.setattr(reproduce, "write_documents", lambda found, _: written.append(found))
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


def test_documents_keep_the_rows_of_experiments_that_were_not_run(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "plots").mkdir()
    for name in ("README.md", "docs/results.md"):
        text = f"before\n{reproduce.START}\nold\n{reproduce.END}\nafter\n"
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path / "docs" / "results.csv")
    monkeypatch.setattr(
        reproduce.read_results, "__defaults__", (tmp_path / "docs" / "results.csv",)
    )
    versions = {"python": "3", "torch": "2", "threads": 1}
    reproduce.write_documents({"fast": histories(0.9, 0.91), "mlp": histories(0.8, 0.81)}, versions)
    reproduce.write_documents({"mlp": histories(0.7, 0.71)}, versions | {"torch": "3"})
    with open(tmp_path / "docs" / "results.csv", newline="") as file:
        made_with = {(row["experiment"], row["torch"]) for row in csv.DictReader(file)}
    assert made_with == {("fast", "2"), ("mlp", "3")}
    results = reproduce.read_results()
    assert results["fast"] == histories(0.9, 0.91) and results["mlp"] == histories(0.7, 0.71)
    for name in ("README.md", "docs/results.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
        assert "| 90.50 ± 0.71 |" in text and "| 70.50 ± 0.71 |" in text
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "comparison.png",
        "models.png",
    }


def test_weights_of_an_unfinished_or_other_run_are_not_exported(here, monkeypatch, capsys):
    monkeypatch.setitem(
        reproduce.EXPERIMENTS, "best", reproduce.Experiment("--model mlp --epochs 2", 1)
    )
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
    assert reproduce.cli(["--only", "mlp", "--export", "w.pt"]) == 2


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
