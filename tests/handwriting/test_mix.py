"""What --mix adds is learned from and left out of every figure; without it nothing changes."""

import json
import math
from pathlib import Path

import main
from dataset import MNIST
from handwriting import mix, nondigits
from training import checkpoint
from training.tally import CrossEntropy, Tally

import pytest
import torch
from helpers import write_data

FEW = {"DIGITS": 40, "NON_DIGITS": 25, "NEW_DIGITS": 20, "NEW_NON_DIGITS": 28}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with small data, and a mix of a few images; runs main.py there."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "d", 120, 30)
    for name, count in FEW.items():
        monkeypatch.setattr(mix, name, count)
    always = "--model", "mlp", "--data-dir", "d", "--device", "cpu", "--mix", "handwriting"
    return lambda *options: main.main([*always, *options])


def test_a_non_digits_target_is_a_tenth_for_each_digit():
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([-1, 3, -1])
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        whole = math.log(sum(math.exp(value) for value in row))
        logs = [value - whole for value in row]
        expected -= sum(logs) / 10 if label < 0 else logs[label]
    loss = CrossEntropy(non_digits=True)(logits, labels)
    assert loss.item() == pytest.approx(expected / 3, rel=1e-6)


def test_loss_accuracy_and_points_leave_non_digits_out():
    logits, labels = torch.randn(60, 10), torch.arange(60) % 10
    labels[::3] = -1
    mixed, digits = Tally(), Tally()
    for rows in torch.arange(60).split(20):
        mixed.add(logits[rows], labels[rows])
        kept = rows[labels[rows] >= 0]
        digits.add(logits[kept], labels[kept])
    assert mixed.loss == pytest.approx(digits.loss) and mixed.accuracy == digits.accuracy
    for point, other in zip(mixed.points(1), digits.points(1), strict=True):
        assert point == pytest.approx(other)


def test_what_is_learned_and_what_is_only_tested_differ():
    images, labels = mix.draw(50, 40, seed=0)
    assert images.shape == (90, 28, 28) and images.dtype == torch.uint8
    assert labels[:50].bincount().tolist() == [5] * 10 and (labels[50:] == -1).all()
    other, _ = mix.draw(50, 40, seed=1)
    assert not torch.equal(images, other)
    assert (images[50:].flatten(1).sum(1) > 0).all()  # none of them is blank
    learned, tested = (
        {str(skeleton) for skeletons in signs.values() for skeleton in skeletons}
        for signs in map(nondigits.read_signs, ("learn", "test"))
    )
    assert learned and tested and not learned & tested


def test_a_mixed_run_resumes_to_the_same_bits_and_says_what_it_learned(here, capsys):
    assert here("--epochs", "2", "--name", "straight") == 0
    printed = capsys.readouterr().out
    assert "new generated digits: " in printed and "% refused" in printed
    assert here("--epochs", "1", "--name", "stopped", "--quiet") == 0
    assert here("--epochs", "2", "--name", "stopped", "--resume", "--quiet") == 0
    run, resumed = (checkpoint.load(f"runs/{name}") for name in ("straight", "stopped"))
    assert all(torch.equal(run["model"][name], resumed["model"][name]) for name in run["model"])
    written = json.loads(Path("runs/straight/config.json").read_text())
    assert written["mix"] == "handwriting" and len(written["digests"]) == 6
    columns = "train_loss", "test_loss", "test_accuracy"
    for row, other in zip(run["history"], resumed["history"], strict=True):
        assert [row[c] for c in columns] == [other[c] for c in columns]


def test_the_last_images_of_the_data_are_held_out_not_those_of_the_mix(here):
    assert here("--epochs", "1", "--val-size", "30", "--name", "val", "--quiet") == 0
    run = checkpoint.load("runs/val")
    tested = main.test(checkpoint.network(run), MNIST("d").part(90, None))
    assert run["history"][-1]["test_accuracy"] == tested.accuracy
