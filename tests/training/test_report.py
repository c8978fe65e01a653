"""What is told and written about finished runs."""

import csv
import re
import statistics
from pathlib import Path
from types import SimpleNamespace

from figures import run
from training import report
from training.config import Config
from training.report import Report, Run

import pytest
import torch
from matplotlib.figure import Figure
from torch.utils.data import TensorDataset

# Warnings of drawing are errors; that matplotlib uses deprecated libraries is not our affair.
pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning", "error::RuntimeWarning", "ignore::DeprecationWarning"
)
FEW = torch.arange(50) % 10  # labels
MNIST = torch.arange(10).repeat_interleave(
    torch.tensor([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
)
METHOD = dict.fromkeys(("momentum", "nesterov", "weight_decay"))
METHOD |= {"optimizer": "Adam", "lr": 0.01, "schedule": "StepLR"}
ROW = {"epoch": 2, "lr": 0.01, "train_loss": 0.4, "train_accuracy": 0.4, "seconds": 1.5}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def finished(labels, *accuracies, steps=1000, **options):
    """Made-up runs of two epochs, of seeds from 0 on, that end at these test accuracies."""
    images = torch.arange(784, dtype=torch.uint8).reshape(28, 28).expand(len(labels), -1, -1)
    test_set, runs = TensorDataset(images), []
    test_set.data, test_set.targets, test_set.path = images, labels, Path("own/test.tar")
    for seed, accuracy in enumerate(accuracies):
        config = Config(epochs=2, seed=seed, name=f"a_seed{seed}" if seed else "a", **options)
        row = ROW | {"test_loss": 0.2 + seed, "test_accuracy": accuracy, "points": [[2, 0.4, 0.6]]}
        logits = torch.eye(10)[labels]
        runs.append(Run(config, [row | {"epoch": 1}, row], logits, test_set, METHOD, steps))
    return runs


def test_several_seeds_leave_a_table_with_mean_and_standard_deviation(monkeypatch, capsys):
    headings = []
    monkeypatch.setattr(run, "mistakes", lambda title, *_: headings.append(title) or Figure())
    Report().end(finished(FEW, 0.9, 0.8, 0.85))
    assert headings[0][1].endswith("seed 0, the first of 3 seeds")
    out = capsys.readouterr().out.replace("\\", "/").splitlines()
    assert "runs/a_runs3.csv" in out and "plots/a_runs3_curves.png" in out
    line = "a_runs3: test accuracy 85.00 ± 5.00 %, loss 1.2000 (epoch 2, 3 seeds"
    assert out[-1].startswith(line)
    with open("runs/a_runs3.csv", encoding="utf-8", newline="") as file:
        *seeds, mean, deviation = csv.DictReader(file)
    columns = "seed,folder,epochs,test_loss,test_accuracy,train_loss,train_accuracy,seconds"
    assert ",".join(mean) == columns
    assert ",".join(seeds[1].values()) == "1,runs/a_seed1,2,1.2,0.8,0.4,0.4,3.0"
    assert (mean["seed"], deviation["seed"]) == ("mean", "standard deviation")
    for metric in columns.split(",")[3:]:
        values = [float(row[metric]) for row in seeds]
        assert float(mean[metric]) == pytest.approx(statistics.mean(values))
        assert float(deviation[metric]) == pytest.approx(statistics.stdev(values))


def test_one_run_leaves_no_table_and_a_warning_is_also_told_when_quiet(monkeypatch, capsys):
    monkeypatch.setattr(report, "draw", lambda runs: [])
    Report(quiet=True).end(finished(FEW, 0.02))
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and not list(Path().glob("runs/*.csv"))
    assert err.startswith("warning: a: the network has learned nothing")
    Report(quiet=True).end(finished(FEW, 0.9, 0, 0.8, 0.1))  # each run that has is named
    assert re.findall("^warning: (.*?):", capsys.readouterr().err, re.M) == ["a_seed1", "a_seed3"]


MOSTLY_7 = torch.tensor([7] * 9500 + [1] * 500)
LEARNED = [  # labels, test accuracy, options, words of the warning, if there is one
    (MNIST, 0.1135, {}, "accuracy is 11.35 %, always answering 1 gives 11.35 %"),
    (MNIST, 0.118, {}, "accuracy is 11.80 %, always answering 1 gives 11.35 %"),
    (MNIST, 0.12, {}, ""),
    (torch.arange(10), 0.2, {}, "20.00 %, always"),  # few images leave more to chance
    (torch.arange(10), 0.5, {}, ""),
    (MOSTLY_7, 0.95, {}, "accuracy is 95.00 %, always answering 7 gives 95.00 %"),
    (MOSTLY_7, 0.96, {}, ""),
    (torch.full((30,), 7), 1.0, {}, ""),
    (MNIST, 0.05, {"lr": 10.0}, "first try another learning rate (it was --lr 10), then look at"),
    (MNIST, 0.05, {"steps": 299}, "299 steps are few; try more --epochs or a smaller --batch-"),
    (MNIST, 0.05, {"val_size": 9}, "has learned nothing: validation accuracy is 5.00 %"),
]


@pytest.mark.parametrize(("labels", "accuracy", "options", "words"), LEARNED)
def test_no_better_than_one_digit_for_all_has_learned_nothing(labels, accuracy, options, words):
    line = report.nothing_learned(*finished(labels, accuracy, **options))
    assert words in line and bool(line) == bool(words)


DATA = [  # its name, in the pictures' titles, at the end of the line
    ("mnist", "MNIST", ""),
    ("fashion", "fashion, not MNIST", ""),
    ("generated", "generated digits, not MNIST", " on GENERATED digits, not MNIST"),
]


@pytest.mark.parametrize(("name", "heading", "end"), DATA)
def test_an_evaluation_prints_an_interval_and_names_its_data(
    name, heading, end, monkeypatch, capsys
):
    titles = []
    monkeypatch.setattr(report.data, "data_name", lambda sets: name)
    monkeypatch.setattr(run, "confusion", lambda title, *_: titles.append(title[0]) or Figure())
    tested = SimpleNamespace(logits=torch.eye(10)[FEW], loss=0.1234, accuracy=1.0)
    test_set = finished(FEW, 1)[0].test_set
    report.tell_evaluation(Path("best.pt"), {"config": Config()}, tested, test_set)
    *pictures, line = capsys.readouterr().out.splitlines()
    interval = "(95 % interval 92.87 to 100.00 %, 50 images)"
    assert line == f"best.pt: test accuracy 100.00 % {interval}, loss 0.1234{end}"
    stem = "best_evaluated" + f"_on_{name}" * (name != "mnist")
    names = [f"{stem}_{kind}.png" for kind in ("confusion", "mistakes")]
    assert [Path(picture).name for picture in pictures] == names
    assert titles == [f"LeNet-5 on {heading}"]


def test_a_learning_rate_that_has_vanished_is_a_warning(capsys):
    shown, config, cpu = Report(quiet=True), Config(epochs=10, name="a"), torch.device("cpu")
    shown.begin(SimpleNamespace(config=config, history=[], device=cpu, method=METHOD))
    for epoch, lr, warned in ((8, 0.01, False), (8, 2e-284, True), (10, 0.0, False)):
        shown.epoch(ROW | {"test_loss": 1, "test_accuracy": 0, "epoch": epoch, "lr": lr})
        assert ("nothing more is learned" in capsys.readouterr().err) == warned
