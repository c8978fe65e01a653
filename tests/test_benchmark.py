"""The benchmark says what it measured; how long anything takes is no test's business."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from helpers import ROOT, write_data

from files import UserError
from study.tables import markers
from training import cli

pytest.importorskip("resource", reason="the benchmark is for Linux and macOS")

sys.path.append(str(ROOT / "benchmarks"))

import benchmark  # noqa: E402
import table  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results.json"


def made_up(load=0.1):
    """Results in which each side of each measurement takes a second more than the one before it."""
    measured = {}
    for name, one in table.MEASUREMENTS.items():
        measured[name] = {
            side: {one.unit: [number + 1.0, number + 2.0, number + 4.0]}
            for number, side in enumerate(one.sides)
        }
    return {
        "machine": {"cpu": "CPU", "cores": 2, "torch": "2.15", "scikit-learn": "1.9"},
        "data": "the published MNIST",
        "starts": [{"date": "2026-11-24", "load": load, "running": 1}],
        "measured": measured,
    }


def start(folder, *arguments):
    """Start the benchmark on a small data set."""
    return subprocess.Popen(
        [sys.executable, ROOT / "benchmarks" / "benchmark.py", "--data-dir", folder, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(text):
    """The cells of each line of a table but its head."""
    found = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found][2:]


# ---- the documents


def between_markers(path):
    start, end = markers("speed")
    return path.read_text(encoding="utf-8").partition(start)[2].partition(end)[0].strip()


def test_the_documents_are_made_of_the_results():
    if not RESULTS.exists():
        assert between_markers(ROOT / "docs" / "speed.md") == ""
        return
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert results["measured"].keys() == table.MEASUREMENTS.keys()
    assert between_markers(ROOT / "docs" / "speed.md") == table.table(results)
    assert between_markers(ROOT / "README.md") == table.sentence(results)


def test_the_picture_is_of_whole_runs():
    ways = table.ways(made_up())
    assert list(ways["LeNet-5"]) == [
        "this project",
        "tutorial loop",
        "tutorial loop, 2 workers",
        "published way",
    ]
    assert list(ways["MLP"]) == [*ways["LeNet-5"], "scikit-learn"]


def test_the_documents_are_written_between_their_markers(tmp_path):
    (tmp_path / "docs").mkdir()
    start, end = markers("speed")
    for path in (tmp_path / "docs" / "speed.md", tmp_path / "README.md"):
        path.write_text(f"before\n{start}\nold\n{end}\nafter\n", encoding="utf-8")
    table.write_documents(made_up(), tmp_path)
    assert between_markers(tmp_path / "docs" / "speed.md") == table.table(made_up())
    assert between_markers(tmp_path / "README.md") == table.sentence(made_up())
    for path in (tmp_path / "docs" / "speed.md", tmp_path / "README.md"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("before\n") and text.endswith("\nafter\n") and "\nold\n" not in text
    assert (tmp_path / "plots" / "speed.png").read_bytes().startswith(b"\x89PNG")


# ---- the table


def test_a_line_has_the_medians_their_ratio_the_bound_and_whether_it_holds():
    one, found = table.MEASUREMENTS["mlp-epoch"], made_up()["measured"]["mlp-epoch"]
    (first,) = rows("| head |\n| --- |\n" + table.rows(one, found)[0])
    assert first[2] == "the steps alone: 2 s (1 to 4)" and first[3] == "an epoch: 3 s (2 to 5)"
    assert first[4:6] == ["1.5", "at most 1.2"]  # the median of 2/1, 3/2 and 5/4
    assert first[7:] == ["**no**", "2", "3"]


@pytest.mark.parametrize(
    "times, bound, expected",
    [
        (2.2, "at least 2.2", "yes"),
        (2.19, "at least 2.2", "**no**"),
        (1.1, "at most 1.10", "yes"),
        (1.101, "at most 1.10", "**no**"),
        (9, "", ""),
    ],
)
def test_a_bound_that_is_missed_says_no(times, bound, expected):
    assert table.holds(times, bound) == expected


def test_a_busy_machine_is_the_first_thing_that_the_table_says():
    assert table.table(made_up(load=1.01)).startswith("**The machine was busy")
    assert table.table(made_up(load=0.99)).startswith(
        "Measured on 2026-11-24 on the published MNIST; load 0.99"
    )


def test_every_measurement_has_a_line_for_each_side_that_it_is_compared_with():
    lines = rows(table.table(made_up()))
    assert len(lines) == sum(len(one.sides) - 1 for one in table.MEASUREMENTS.values())
    assert all(len(cells) == 10 for cells in lines)


def test_every_command_that_is_listed_exists():
    for one in table.MEASUREMENTS.values():
        for line, _ in one.sides.values():
            for command in re.split(" then | beside ", line):
                if command.startswith("main.py") and "--help" not in command:
                    cli.parse(command.split()[1:], "")
                elif "(" in command:
                    assert callable(getattr(benchmark, command.partition("(")[0])), command


# ---- the programs


@pytest.mark.filterwarnings("ignore")  # scikit-learn says that five epochs are few
def test_the_programs_that_are_compared_learn_the_same_digits(tmp_path, monkeypatch, capsys):
    write_data(tmp_path, train=1200)
    (tmp_path / "work" / "0").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "0")
    benchmark.prepare(str(tmp_path), ["quarter", "all"])
    assert len(list((tmp_path / "work" / "png" / "train").iterdir())) == 1200
    programs = [lambda: benchmark.tutorial("mlp"), lambda: benchmark.published("mlp")]
    try:
        import sklearn  # noqa: F401
    except ImportError:  # only the benchmark needs it
        pass
    else:
        programs.append(benchmark.scikit_learn)
    for program in programs:
        capsys.readouterr()
        program()
        told = json.loads(capsys.readouterr().out)
        assert told["accuracy"] > 0.9 and told["an epoch"] > 0


# ---- a run of the benchmark


def test_the_table_and_the_file_agree_and_the_same_command_measures_nothing_anew(tmp_path):
    write_data(tmp_path, train=300, test=100)
    command = ["--only", "help", "mlp-epoch", "--repeats", "2", "--json", "results.json"]
    process = start(tmp_path, *command)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "NOT the published MNIST" in out and err.count("\n") == 2
    content = (tmp_path / "results.json").read_bytes()
    results = json.loads(content)
    shown = rows(out)
    assert [f"| {' | '.join(cells)} |" for cells in shown] == [
        line
        for name in ("mlp-epoch", "help")
        for line in table.rows(table.MEASUREMENTS[name], results["measured"][name])
    ]
    sides = results["measured"]["mlp-epoch"]
    steps, epochs = sides["the steps alone"]["an epoch"], sides["an epoch"]["an epoch"]
    assert len(steps) == len(epochs) == 2 and min(steps) > 0
    ratio = statistics.median(epoch / step for epoch, step in zip(epochs, steps, strict=True))
    assert shown[0][4] == f"{ratio:.3g}" and shown[0][9] == "2"
    process = start(tmp_path, *command)
    again, err = process.communicate(timeout=120)
    assert (again, err) == (out, "")
    assert (tmp_path / "results.json").read_bytes() == content
    names = {path.name for path in tmp_path.iterdir() if "cache" not in path.name}
    assert names == {"train.tar", "test.tar", "results.json"}


def test_an_interrupt_loses_only_the_measurement_at_hand(tmp_path):
    write_data(tmp_path, train=300, test=100)
    path = tmp_path / "results.json"
    process = start(tmp_path, "--only", "help", "resume", "--repeats", "1", "--json", path)
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command continues" in err, err
    assert list(json.loads(path.read_text())["measured"]) == ["help"]


@pytest.mark.parametrize(
    "arguments, why",
    [
        (["--only", "help", "speed"], "'speed'"),
        (["--repeats", "0"], "--repeats"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_a_command_line_that_makes_no_sense(arguments, why, tmp_path):
    process = start(tmp_path, *arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and why in err and len(err.splitlines()) == 1


def test_a_missing_scikit_learn_is_said_before_anything_is_measured(monkeypatch, tmp_path):
    without = {"machine": {"scikit-learn": "missing"}}
    monkeypatch.setattr(table, "circumstances", lambda repeats: without)
    options = SimpleNamespace(only=["scikit-learn"], repeats=1, json=tmp_path / "results.json")
    with pytest.raises(UserError, match="pip install -r requirements-dev.txt"):
        benchmark.benchmark(options)


def test_results_of_another_machine_are_never_mixed_in_or_overwritten(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"machine": "another", "measured": {}}))
    options = SimpleNamespace(only=["help"], repeats=1, json=path)
    with pytest.raises(UserError, match="was measured on another machine"):
        benchmark.benchmark(options)
    assert json.loads(path.read_text())["machine"] == "another"
