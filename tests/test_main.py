"""The loops compute what they say, and the command line does what its help says."""

import copy
import csv
import json
from pathlib import Path

import main
from dataset import MNIST
from model import CustomMLP, LeNet5
from training import checkpoint
from training.config import Config
from training.schedule import shuffled
from training.tally import CrossEntropy

import pytest
import torch
import torch.nn.functional as F
from helpers import write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("blocks"), 300, 101)


def test_train_is_plain_sgd_over_every_image_once(data):
    """The same steps written out anew, with a last batch of 44, give the same weights and means."""
    dataset, config = MNIST(data), Config(lr=0.05, weight_decay=0.01)
    torch.manual_seed(0)
    model = CustomMLP()
    ours = copy.deepcopy(model)
    order = shuffled(300, 0, 3)
    optimization = main.optimization(ours, config, 100)
    tally = main.train(ours, dataset.batches(order, 64), CrossEntropy(), *optimization)

    losses, correct, velocity = [], 0, {}
    for start in range(0, 300, 64):
        rows = order[start : start + 64]
        pixels = (dataset.data[rows].float() / 255 - 0.1307) / 0.3081
        logits = model(pixels.unsqueeze(1))
        labels = dataset.targets[rows]
        each = F.cross_entropy(logits, labels, reduction="none")
        losses += each.tolist()
        correct += (logits.argmax(1) == labels).sum().item()
        penalty = 0.01 / 2 * sum(p.square().sum() for p in model.parameters())
        gradients = torch.autograd.grad(each.mean() + penalty, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                velocity[p] = 0.9 * velocity.get(p, 0) + g
                p -= 0.05 * velocity[p]
    assert len(losses) == 300 and order.unique().equal(torch.arange(300))
    assert tally.loss == pytest.approx(sum(losses) / 300, rel=1e-5)
    assert tally.accuracy == correct / 300
    for p, q in zip(model.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 100, 101])
def test_test_counts_every_image(data, size):
    dataset = MNIST(data, train=False).part(0, size)
    model = LeNet5(dropout=0.5)
    tally = main.test(model, dataset)
    with torch.no_grad():
        logits = model.eval()(((dataset.data / 255 - 0.1307) / 0.3081).unsqueeze(1))
    right = (logits.argmax(1) == dataset.targets).float().mean().item()
    assert tally.loss == pytest.approx(F.cross_entropy(logits, dataset.targets).item(), rel=1e-5)
    assert tally.accuracy == pytest.approx(right)
    torch.testing.assert_close(tally.logits, logits)


def test_a_run_leaves_what_the_readme_says(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = "--device cpu --epochs 2 --dropout 0.2"
    assert main.main(["--data-dir", str(data), *options.split()]) == 0
    name = f"lenet5_epochs2_dropout0.2_{data.name}"  # it is not the published MNIST
    out = capsys.readouterr().out
    with open(Path("runs", name, "metrics.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*checkpoint.METRICS, "evaluated_on"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    config = json.loads(Path("runs", name, "config.json").read_text(encoding="utf-8"))
    assert config["dropout"] == 0.2 and config["digests"][0] == MNIST(data).digests[0]
    pictures = [Path("plots", f"{name}_{kind}.png") for kind in ("confusion", "curves", "mistakes")]
    assert sorted(Path("plots").iterdir()) == pictures
    assert all(str(picture) in out for picture in pictures)
    assert "44,426 parameters" in out and "300 images" in out
    assert f"accuracy {100 * float(rows[1]['test_accuracy']):.2f} %" in out.splitlines()[-1]
