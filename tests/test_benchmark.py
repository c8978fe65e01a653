"""The benchmark says what it measured; how long anything takes is no test's business."""

import copy
import json
import os
import re
import shutil
import sys

from training.config import parse

import pytest
from helpers import ROOT, write_data

sys.path.append(str(ROOT / "benchmarks"))

import benchmark  # noqa: E402

RESULTS = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))


def made_up():
    """Results in which each program takes a second more than the one before it."""
    results = {"machine": "2 cores, CPU", "data": "the published MNIST", "date": "2026-11-24"}
    results |= {"loads": [0.1, 0.25], "measured": copy.deepcopy(RESULTS["measured"])}
    for programs in results["measured"].values():
        for n, program in enumerate(programs.values()):
            program.update(seconds=[n + 1.0, n + 2.0, n + 4.0], accuracy=[98.0, 99.0, 98.5])
    return results


def test_the_documents_are_made_of_the_results_and_keep_nothing_of_others(tmp_path):
    keys = {f"{what}, {how}" for what in benchmark.MEASUREMENTS for how in benchmark.THREADS}
    assert RESULTS["measured"].keys() == keys
    (tmp_path / "docs").mkdir()
    names = "docs/speed.md", "README.md"
    for name in names:
        shutil.copy(ROOT / name, tmp_path / name)
    benchmark.write_documents(made_up(), tmp_path)
    speed, readme = ((tmp_path / name).read_text(encoding="utf-8") for name in names)
    assert "\nMeasured on 2026-11-24 on the published MNIST; load 0.25 before it; 2 cores" in speed
    row = "| mlp | one thread | tutorial loop | 3 (2 to 5) | 1.50 | 98.50 |"  # of 2/1, 3/2, 5/4
    assert row in speed.splitlines()
    assert speed.count("\n| ") == 2 + 2 * sum(map(len, benchmark.MEASUREMENTS.values()))
    assert "take 2 s; the usual tutorial loop takes 3 s, and the published way 4 s." in readme
    benchmark.write_documents(RESULTS, tmp_path)
    assert (tmp_path / "plots" / "speed.png").read_bytes().startswith(b"\x89PNG")
    for name in names:
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()


def test_every_command_that_is_listed_exists():
    lines = [line for commands in benchmark.MEASUREMENTS.values() for line in commands.values()]
    for command in " beside ".join(lines).split(" beside "):
        if command.startswith("main.py"):
            parse(command.split()[1:], "")
        else:
            assert callable(getattr(benchmark, command.partition("(")[0])), command


@pytest.mark.filterwarnings("ignore")  # scikit-learn says that five epochs are few
def test_the_programs_that_are_compared_learn_the_same_digits(tmp_path, monkeypatch, capsys):
    write_data(tmp_path)
    (tmp_path / "run0").mkdir()
    monkeypatch.chdir(tmp_path / "run0")
    monkeypatch.setenv("MNIST_FOLDER", str(tmp_path))
    benchmark.prepare(str(tmp_path))
    assert capsys.readouterr().out == "NOT the published MNIST\n"
    assert len(list((tmp_path / "data" / "png" / "train").rglob("*.png"))) == 600
    benchmark.usual("mlp")
    benchmark.usual("mlp", published=True)
    benchmark.scikit_learn()
    accuracies = re.findall(r"test accuracy ([\d.]+) %", capsys.readouterr().out)
    assert len(accuracies) == 3 and all(float(a) > 90 for a in accuracies)
    for bare in (True, False):
        benchmark.epoch("mlp", bare, passes=2)
        assert re.fullmatch(r"seconds [\d.]+\n", capsys.readouterr().out)


def test_what_is_measured_is_kept_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    """With made-up programs; the second of them is interrupted, then measured alone."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0, 0), raising=False)
    measurements = {"first": {"a": "main.py one", "b": "two()"}, "second": {"c": "three()"}}
    monkeypatch.setattr(benchmark, "MEASUREMENTS", measurements)
    ran, one = [], benchmark.THREADS["one thread"]
    stop = [("three()", one)]

    def run(command, threads, source, work):
        ran.append((command, threads))
        if ran[-1] in stop:
            raise KeyboardInterrupt
        return {"seconds": float(len(ran)), "accuracy": None, "output": "the published MNIST"}

    monkeypatch.setattr(benchmark, "run", run)
    command = ["--repeats", "2", "--json", str(tmp_path / "results.json"), "--data-dir", "d"]
    assert benchmark.main(command) == 130
    assert ran[1:5] == [("main.py one", {}), ("two()", {})] * 2  # in turn
    assert "the same command continues" in capsys.readouterr().err
    ran.clear()
    stop.clear()
    assert benchmark.main(command) == 0 and ran[1:] == [("three()", one)] * 2
    assert len(capsys.readouterr().out.splitlines()) == 4 + 6
    monkeypatch.setattr(benchmark, "machine", lambda: "another")
    content = (tmp_path / "results.json").read_bytes()
    assert benchmark.main(command) == 1
    assert "was measured on another machine; move it away" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_bytes() == content
