"""What is told and written about finished runs."""

import csv
import statistics
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from dataset import MNIST
from digits.tarball import write_tarball
from training import report
from training.config import Config
from training.report import Report, Run

# Warnings of drawing are errors; that matplotlib uses deprecated libraries is not our affair.
pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning", "error::RuntimeWarning", "ignore::DeprecationWarning"
)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def test_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    images = torch.randint(256, (50, 28, 28), dtype=torch.uint8)
    write_tarball(folder / "test.tar", images, torch.arange(50) % 10, "test")
    return MNIST(folder, train=False)


def finished(accuracy, images=50, seed=0, **options):
    """A made-up run of two epochs that ends at a test accuracy (a fraction)."""
    history = [
        {
            "epoch": epoch,
            "lr": 0.01,
            "train_loss": 0.5 / epoch,
            "train_accuracy": accuracy / 2,
            "test_loss": 0.4 / epoch + seed,
            "test_accuracy": accuracy,
            "seconds": 1.5,
            "points": [[epoch - 0.5, 0.5, 0.5], [float(epoch), 0.4, 0.6]],
        }
        for epoch in (1, 2)
    ]
    name = "a" if seed == 0 else f"a_seed{seed}"
    config = Config(epochs=2, seed=seed, name=name, **options)
    return Run(config, history, torch.zeros(images, 10))


# ---- the table of seeds


def test_several_seeds_leave_a_table_with_mean_and_standard_deviation(test_set, capsys):
    Report().end([finished(0.9), finished(0.8, seed=1), finished(0.85, seed=2)], test_set)
    assert "runs/a_runs3.csv" in capsys.readouterr().out.replace("\\", "/").splitlines()
    with open("runs/a_runs3.csv", encoding="utf-8", newline="") as file:
        first, second, third, mean, deviation = csv.DictReader(file)
    columns = "seed folder epochs test_loss test_accuracy train_loss train_accuracy seconds"
    assert list(first) == columns.split()
    assert list(second.values()) == ["1", "runs/a_seed1", "2", "1.2", "0.8", "0.25", "0.4", "3.0"]
    assert [row["folder"] for row in (first, third)] == ["runs/a", "runs/a_seed2"]
    assert (mean["seed"], deviation["seed"]) == ("mean", "standard deviation")
    for metric in ("test_loss", "test_accuracy", "train_accuracy", "seconds"):
        values = [float(row[metric]) for row in (first, second, third)]
        assert float(mean[metric]) == pytest.approx(statistics.mean(values))
        assert float(deviation[metric]) == pytest.approx(statistics.stdev(values))


def test_one_run_leaves_no_table(test_set):
    Report(quiet=True).end([finished(0.9)], test_set)
    assert not list(Path().glob("runs/*.csv"))
    assert len(list(Path("plots").iterdir())) == 3


# ---- no better than guessing

MNIST_LABELS = torch.repeat_interleave(
    torch.arange(10), torch.tensor([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
)


@pytest.mark.parametrize("accuracy", [0.0, 0.08, 0.098, 0.1135, 0.118])
def test_no_better_than_one_digit_for_all_has_learned_nothing(accuracy):
    line = report.nothing_learned([finished(accuracy, lr=10.0)], MNIST_LABELS)
    assert line.startswith("warning: a: the network has learned nothing: test accuracy ")
    assert f" {100 * accuracy:.2f} %" in line and "always answering 1 gives 11.35 %" in line
    assert "--lr 10)" in line and line.index("learning rate") < line.index("data")


@pytest.mark.parametrize("accuracy", [0.12, 0.5, 0.98, 1.0])
def test_better_than_guessing_is_no_warning(accuracy):
    assert report.nothing_learned([finished(accuracy)], MNIST_LABELS) == ""


def test_a_small_test_set_leaves_more_to_chance():
    labels = torch.arange(10)
    assert report.nothing_learned([finished(0.2)], labels)
    assert not report.nothing_learned([finished(0.5)], labels)


def test_a_test_set_with_much_of_one_digit_needs_more():
    labels = torch.tensor([7] * 9500 + [1] * 500)
    assert "always answering 7 gives 95.00 %" in report.nothing_learned([finished(0.95)], labels)
    assert report.nothing_learned([finished(0.96)], labels) == ""


def test_all_right_is_not_nothing_even_if_there_is_one_digit_only():
    assert report.nothing_learned([finished(1.0)], torch.full((30,), 7)) == ""


def test_of_several_seeds_those_that_failed_are_counted():
    runs = [finished(0.08), finished(0.98, seed=1), finished(0.1, seed=2)]
    line = report.nothing_learned(runs, MNIST_LABELS)
    assert (
        "warning: a_runs3: 2 of 3 seeds have learned nothing: test accuracy 10.00 % at most" in line
    )


def test_the_set_that_was_tested_on_is_named():
    run = finished(0.05, val_size=1000)
    assert "validation accuracy 5.00 %" in report.nothing_learned([run], MNIST_LABELS)


def test_that_nothing_was_learned_is_the_last_line_also_when_quiet(test_set, capsys):
    Report(quiet=True).end([finished(0.02)], test_set)
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and err.count("\n") == 1
    assert err.startswith("warning: a: the network has learned nothing")


# ---- is the difference more than noise


def test_an_evaluation_prints_an_interval_and_draws(test_set, capsys):
    logits = 5.0 * torch.nn.functional.one_hot(test_set.targets, 10)
    tested = SimpleNamespace(logits=logits, loss=0.1234, accuracy=1.0)
    path = Path("pretrained", "lenet5.pt")
    report.tell_evaluation(path, {"config": Config(), "history": []}, tested, test_set)
    *pictures, line = capsys.readouterr().out.splitlines()
    assert line == (
        f"{path}: test accuracy 100.00 % (95 % interval 92.87 to 100.00 %, 50 images), loss 0.1234"
    )
    assert [Path(name).name for name in pictures] == [
        "lenet5_evaluated_confusion.png",
        "lenet5_evaluated_mistakes.png",
    ]
    for name in pictures:
        Image.open(name).verify()
