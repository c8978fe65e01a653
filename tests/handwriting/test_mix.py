"""What --mix adds is learned from and left out of every figure; without it nothing changes.

That loss and accuracy leave it out is tested in tests/training/test_tally.py.
"""

import json
from pathlib import Path

import main
from dataset import MNIST
from digits import synthetic
from handwriting import mix, nondigits
from training import checkpoint, report
from training.tally import CrossEntropy

import pytest
import torch
from helpers import same, write_data

FEW = {"DIGITS": 40, "NON_DIGITS": 25, "NEW_DIGITS": 20, "NEW_NON_DIGITS": 28}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with small data, and a mix of a few images; runs main.py there."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "d", 120, 30)
    for name, count in FEW.items():
        monkeypatch.setattr(mix, name, count)
    monkeypatch.setattr(report, "draw", lambda runs: [])
    always = "--model", "mlp", "--data-dir", "d", "--device", "cpu", "--mix", "handwriting"
    return lambda *options: main.main([*always, *options])


def test_a_non_digits_target_is_a_tenth_for_each_digit():
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(0)).double()
    logs = logits - logits.exp().sum(1, keepdim=True).log()
    expected = -(logs[0].mean() + logs[1, 3] + logs[2].mean()) / 3
    loss = CrossEntropy(non_digits=True)(logits.float(), torch.tensor([-1, 3, -1]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_what_is_learned_and_what_is_only_tested_differ():
    images, labels = mix.draw(50, 40, seed=0)
    assert images.shape == (90, 28, 28) and images.dtype == torch.uint8
    assert labels[:50].bincount().tolist() == [5] * 10 and (labels[50:] == -1).all()
    other, _ = mix.draw(50, 40, seed=1)
    assert not torch.equal(images, other)
    assert (images[50:].flatten(1).sum(1) > 0).all()  # none of them is blank
    files = map(synthetic.read_skeletons, (nondigits.SIGNS, nondigits.NEW_SIGNS))
    learned, tested = ({str(way) for ways in kinds.values() for way in ways} for kinds in files)
    assert learned and tested and not learned & tested


def test_a_mixed_run_resumes_to_the_same_bits_and_says_what_it_learned(here, capsys):
    assert here("--epochs", "2", "--name", "straight") == 0
    printed = capsys.readouterr().out
    assert "new generated digits: " in printed and "% refused" in printed
    assert here("--epochs", "1", "--name", "stopped", "--quiet") == 0
    assert here("--epochs", "2", "--name", "stopped", "--resume", "--quiet") == 0
    run, resumed = (checkpoint.load(f"runs/{name}") for name in ("straight", "stopped"))
    assert all(same(run[part], resumed[part]) for part in ("model", "history"))
    written = json.loads(Path("runs/straight/config.json").read_text())
    assert written["mix"] == "handwriting" and len(written["digests"]) == 6


def test_the_last_images_of_the_data_are_held_out_not_those_of_the_mix(here):
    assert here("--epochs", "1", "--val-size", "30", "--name", "val", "--quiet") == 0
    run = checkpoint.load("runs/val")
    tested = main.test(checkpoint.network(run), MNIST("d").part(90, None))
    assert run["history"][-1]["test_accuracy"] == tested.accuracy
