"""The benchmark says what it measured; how long anything takes is no test's business."""

import importlib.util
import json
import statistics
import subprocess
import sys

import pytest
from helpers import ROOT, write_data

pytest.importorskip("resource", reason="the benchmark is for Linux and macOS")


def test_the_document_quotes_the_results_in_full():
    path = ROOT / "benchmarks" / "benchmark.py"
    spec = importlib.util.spec_from_file_location("benchmark", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    results = json.loads(path.with_name("results.json").read_text(encoding="utf-8"))
    readme = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8").splitlines()
    first = readme.index(benchmark.table_line(results["lines"][0]))
    quoted = readme[first : first + len(results["lines"]) + 1]
    assert quoted == [*map(benchmark.table_line, results["lines"]), ""]
    assert {line["item"] for line in results["lines"]} == set(benchmark.ITEMS)
    machine = "On {cores} shared cores of an {cpu} with".format_map(results["machine"])
    assert readme[first - 5].startswith(machine)


def test_table_and_json_agree_with_what_was_measured(tmp_path):
    write_data(tmp_path, train=300, test=100)
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks" / "benchmark.py",
            "--only",
            "epoch",
            "--repeats",
            "1",
            "--data-dir",
            tmp_path,
            "--json",
            tmp_path / "results.json",
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=tmp_path,
        check=True,
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["data"] == "a data set of your own, 300 images" and results["machine"]["cores"]
    assert results["data"] in done.stdout
    for line, shown in zip(results["lines"], done.stdout.splitlines()[-2:], strict=True):
        epochs, floors = line["measured"]["epoch"], line["measured"]["floor"]
        ratios = [epoch / floor for epoch, floor in zip(epochs, floors, strict=True)]
        assert len(ratios) == 9 and min(floors) > 0
        assert line["figure"] == pytest.approx(statistics.median(ratios))
        assert line["passed"] == (line["figure"] <= float(line["bound"].removeprefix("<=")))
        cells = [cell.strip() for cell in shown.strip("|").split("|")]
        assert cells[0] == line["what"] and f"{line['figure']:.4g}" == cells[2]
        assert cells[4] == ("yes" if line["passed"] else "NO")
    assert {path.name for path in tmp_path.iterdir()} == {"train.tar", "test.tar", "results.json"}


@pytest.mark.parametrize(
    "arguments, why",
    [
        (["--only", "epoch,speed"], "speed: there are epoch, tutorial"),
        (["--repeats", "0"], "--repeats"),
        (["--json", "nowhere/results.json"], "nowhere: there is no such folder"),
    ],
)
def test_a_command_line_that_makes_no_sense(arguments, why, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "benchmark.py", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and why in done.stderr and "Traceback" not in done.stderr
