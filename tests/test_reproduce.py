"""reproduce.py: the README's results are what it wrote, and its statistics are right."""

from pathlib import Path

import pytest
import torch

import reproduce
from digits.tarball import write_tarball
from training.config import RECIPES

ROOT = Path(reproduce.__file__).resolve().parent


def test_readme_holds_results_md_whole():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results = (ROOT / "results.md").read_text(encoding="utf-8")
    between = readme.split(reproduce.START)[1].split(reproduce.END)[0]
    assert between.strip() == results.strip()


def test_readme_holds_the_recipes_as_they_are():
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
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for name, changed in RECIPES.items():
        if changed:
            (row,) = [line for line in readme if line.startswith(f"| `{name}` |")]
            assert [w for k, w in words.items() if w.format(changed.get(k, "")) in row] == [
                words[key] for key in words if key in changed
            ], row


def test_interval_is_students():
    """Against the textbook: differences 1, 2, 3, 4 have mean 2.5 and 3.182 * 1.291 / 2."""
    mean, low, high = reproduce.interval([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert high - mean == pytest.approx(3.182446 * 1.2909944 / 2, rel=1e-6)
    assert mean - low == pytest.approx(high - mean)


def test_equal_differences_have_an_interval_of_one_point():
    assert reproduce.interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("gain", "words"), [(0.02, "More than noise: better."), (0.0, "noise.")])
def test_verdict_tells_a_difference_from_noise(gain, words):
    def histories(shift, wobble):
        return {s: [{"test_accuracy": 0.9 + shift + wobble * (-1) ** s}] for s in range(6)}

    results = {"a": histories(gain, 0.001), "b": histories(0.0, 0.002)}
    assert reproduce.verdict("a", "b", "a against b", results).endswith(words)


def test_runs_stops_and_continues_without_repeating(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 80), ("test", 30)):
        images = torch.randint(256, (count, 28, 28), dtype=torch.uint8)
        write_tarball(tmp_path / f"{split}.tar", images, torch.arange(count) % 10, split)
    line = "--only mlp,mlp56 --seeds 2 --device cpu --data-dir .".split()
    trained = []
    train = reproduce.main.train
    monkeypatch.setattr(
        reproduce.main, "train", lambda *args, **named: trained.append(1) or train(*args, **named)
    )
    assert reproduce.cli(line) == 0
    assert len(trained) == 2 * 2 * 5
    text = Path("results_not_mnist.md").read_text(encoding="utf-8")
    assert "| mlp56 | `python main.py --model mlp --hidden 56` | 44,530 |" in text
    assert "NOT the published MNIST" in text and not Path("results.md").exists()
    assert reproduce.cli(line) == 0
    assert len(trained) == 20  # nothing again
    assert Path("results_not_mnist.md").read_text(encoding="utf-8") == text
