"""What --mix adds is learned from and left out of every figure; without it nothing changes."""

import json
import math
from pathlib import Path

import pytest
import torch
from helpers import write_data

import main
from dataset import MNIST
from handwriting import mix
from training import checkpoint
from training.config import Config, ConfigError, run_name
from training.report import Report
from training.tally import Criterion, Tally

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
    loss = Criterion(labels, 3)(logits, labels)
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        whole = math.log(sum(math.exp(value) for value in row))
        logs = [value - whole for value in row]
        expected -= sum(logs) / 10 if label < 0 else logs[label]
    assert loss.item() == pytest.approx(expected / 3, rel=1e-6)


def test_digits_alone_have_the_usual_loss_to_the_bit():
    logits, labels = torch.randn(64, 10), torch.arange(64) % 10
    usual = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert torch.equal(Criterion(labels, 64, 0.1)(logits, labels), usual)


def test_loss_accuracy_and_points_leave_non_digits_out():
    logits, labels = torch.randn(60, 10), torch.arange(60) % 10
    labels[::3] = -1
    mixed, digits = Tally(60), Tally(60)
    for rows in torch.arange(60).split(20):
        mixed.add(logits[rows], labels[rows])
        kept = rows[labels[rows] >= 0]
        digits.add(logits[kept], labels[kept])
    assert mixed.loss == pytest.approx(digits.loss) and mixed.accuracy == digits.accuracy
    for one, other in zip(mixed.points(1), digits.points(1), strict=True):
        assert one == pytest.approx(other)


def test_what_is_learned_and_what_is_only_tested_differ():
    images, labels = mix.draw(50, 40, seed=0)
    assert images.shape == (90, 28, 28) and images.dtype == torch.uint8
    assert labels[:50].bincount().tolist() == [5] * 10 and (labels[50:] == -1).all()
    again, _ = mix.draw(50, 40, seed=0)
    other, _ = mix.draw(50, 40, seed=1)
    assert torch.equal(images, again) and not torch.equal(images, other)
    assert (images[50:].flatten(1).sum(1) > 0).all()  # none of them is blank
    learned, tested = (
        {str(way) for ways in signs.values() for way in ways}
        for signs in map(mix.nondigits.read_signs, ("learn", "test"))
    )
    assert learned and tested and not learned & tested


def test_a_mixed_run_resumes_to_the_same_bits_and_says_what_it_learned(here, capsys):
    assert here("--epochs", "2", "--name", "straight") == 0
    told = capsys.readouterr().out
    assert "new generated digits: " in told and "% refused" in told
    assert here("--epochs", "1", "--name", "stopped", "--quiet") == 0
    assert here("--epochs", "2", "--name", "stopped", "--resume", "--quiet") == 0
    one, other = (checkpoint.load(f"runs/{name}") for name in ("straight", "stopped"))
    for name, weight in one["model"].items():
        assert torch.equal(weight, other["model"][name])
    written = json.loads(Path("runs/straight/config.json").read_text())
    assert written["mix"] == "handwriting" and len(written["digests"]) == 6
    columns = "train_loss", "test_loss", "test_accuracy"
    assert [[row[c] for c in columns] for row in one["history"]] == [
        [row[c] for c in columns] for row in other["history"]
    ]


def test_a_mixed_run_is_another_experiment(here, capsys):
    assert here("--epochs", "1", "--quiet") == 0
    assert "mlp_epochs1_mix-handwriting_d: " in capsys.readouterr().out
    assert run_name(Config(mix="handwriting")) == "lenet5_mix-handwriting"
    assert here("--epochs", "1", "--mix", "none", "--name", "mlp_epochs1_mix-handwriting_d") == 1
    assert "mix was handwriting, is none" in capsys.readouterr().err


def test_the_last_images_of_the_data_are_held_out_not_those_of_the_mix(here, capsys):
    assert here("--epochs", "1", "--val-size", "30", "--name", "val") == 0
    run = checkpoint.load("runs/val")
    assert run["config"].val_size == 30 and "val acc" in capsys.readouterr().out
    part = MNIST("d").part(90, None)
    tested = main.test(checkpoint.network(run), part)
    assert run["history"][-1]["test_accuracy"] == tested.accuracy


def test_a_program_that_forgets_the_mix_is_told(here):
    sets = MNIST("d"), MNIST("d", train=False)
    with pytest.raises(ConfigError, match="argument --mix: nothing was mixed in"):
        main.fit(Config(model="mlp", mix="handwriting"), *sets, report=Report(quiet=True))
