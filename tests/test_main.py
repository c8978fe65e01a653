"""The loops compute what they say, and the command line does what its help says."""

import copy
import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import main
from dataset import MNIST
from digits.tarball import write_tarball
from files import CheckpointError
from model import CustomMLP, LeNet5
from training import checkpoint, seeding
from training.cli import parse
from training.config import Config, ConfigError
from training.schedule import learning_rate

MAIN = Path(main.__file__)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with 300 and 101 images whose bright rows tell the digit."""
    folder = tmp_path_factory.mktemp("data")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 300), ("test", 101)):
        labels = torch.randint(10, (count,), generator=generator)
        images = torch.randint(60, (count, 28, 28), generator=generator, dtype=torch.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 3 : 2 * label + 6] += 150
        write_tarball(folder / f"{split}.tar", images, labels, split)
    return folder


@pytest.fixture
def command(data, tmp_path, monkeypatch):
    """Run main.py's main in an empty folder on the small data."""
    monkeypatch.chdir(tmp_path)
    return lambda *options: main.main(["--data-dir", str(data), "--device", "cpu", *options])


def configured(*options):
    return parse([*options, "--device", "cpu"], "")[0]


def sgd(model, config, steps=100):
    optimizer = torch.optim.SGD(
        model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
    )
    factor = learning_rate(config.schedule, steps)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def test_train_is_plain_sgd_over_every_image_once(data):
    """The same steps written out anew, with a last batch of 44, give the same weights and means."""
    dataset, config = MNIST(data), configured("--lr", "0.05", "--weight-decay", "0.01")
    torch.manual_seed(0)
    model = CustomMLP()
    ours = copy.deepcopy(model)
    order = seeding.start_epoch(300, 0, 3)
    tally = main.train(ours, dataset, order, *sgd(ours, config), config)

    assert sorted(order.tolist()) == list(range(300))
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
    assert len(losses) == 300
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


def test_weight_decay_shrinks_the_weights(command):
    norms = []
    for decay in ("0", "0.5"):
        options = "--model", "mlp", "--epochs", "2", "--lr", "0.1", "--momentum", "0"
        assert command(*options, "--weight-decay", decay) == 0
    for path in sorted(Path("runs").glob("*/checkpoint.pt")):
        weights = torch.load(path, weights_only=True)["model"].values()
        norms.append(sum(w.square().sum() for w in weights))
    assert norms[1] < 0.9 * norms[0]


def test_a_run_leaves_what_the_readme_says(command, data, capsys):
    assert command("--epochs", "2", "--dropout", "0.2") == 0
    name = f"lenet5_epochs2_dropout0.2_{data.name}"  # it is not the published MNIST
    out = capsys.readouterr().out
    rows = list(csv.DictReader(Path("runs", name, "metrics.csv").read_text().splitlines()))
    assert list(rows[0]) == [*checkpoint.METRICS, "evaluated_on"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    config = json.loads(Path("runs", name, "config.json").read_text(encoding="utf-8"))
    assert config["dropout"] == 0.2
    assert config["digests"][0] == MNIST(data).digests[0]
    for path in Path("plots").iterdir():
        assert str(path) in out
        assert path.read_bytes().startswith(b"\x89PNG")
    assert {p.name for p in Path("plots").iterdir()} == {
        f"{name}_{what}.png" for what in ("curves", "confusion", "mistakes")
    }
    assert "44,426" in out
    assert "300 images" in out
    assert f"{100 * float(rows[1]['test_accuracy']):.2f} %" in out.splitlines()[-1]


def metrics(name):
    rows = csv.DictReader(Path("runs", name, "metrics.csv").read_text().splitlines())
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def test_one_command_gives_one_result(command):
    options = ["--epochs", "2", "--dropout", "0.3", "--augment", "elastic"]
    assert command(*options, "--name", "a") == command(*options, "--name", "b") == 0
    assert command(*options, "--name", "c", "--seed", "1") == 0
    assert metrics("a") == metrics("b") != metrics("c")


def test_runs_are_the_single_runs_and_their_mean(command, data, capsys):
    assert command("--model", "mlp", "--epochs", "1", "--runs", "3") == 0
    together = [metrics(f"mlp_epochs1{seed}_{data.name}") for seed in ("", "_seed1", "_seed2")]
    line = capsys.readouterr().out.splitlines()[-1]
    mean = sum(100 * float(rows[0]["test_accuracy"]) for rows in together) / 3
    assert f"{mean:.2f} ±" in line
    assert "3 seeds" in line
    assert Path(f"plots/mlp_epochs1_{data.name}_runs3_curves.png").exists()
    assert command("--model", "mlp", "--epochs", "1", "--seed", "2", "--name", "alone") == 0
    assert metrics("alone") == together[2]


def test_validation_holds_out_the_last_images_and_leaves_the_test_set_alone(
    command, data, monkeypatch, tmp_path
):
    folder = tmp_path / "without a test set"
    folder.mkdir()
    (folder / "train.tar").write_bytes((data / "train.tar").read_bytes())
    (folder / "test.tar").write_bytes(b"never read")
    seen = {}
    monkeypatch.setattr(main, "fit", lambda config, *sets: seen.update(sets=sets) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main.main(["--data-dir", str(folder), "--val-size", "60", "--quiet"])
    images = MNIST(data).data
    assert torch.equal(seen["sets"][0].data.cpu(), images[:240])
    assert torch.equal(seen["sets"][1].data.cpu(), images[240:])


BAD = [
    "--epochs 0",
    "--epochs -1",
    "--epochs 1.5",
    "--epochs 1_0",
    "--epochs ٣",
    "--batch-size 0",
    "--lr nan",
    "--lr inf",
    "--lr -1",
    "--lr 0",
    "--lr 1_0.0",
    "--momentum 1",
    "--momentum nan",
    "--weight-decay -1",
    "--weight-decay nan",
    "--dropout 1.0",
    "--dropout 1.5",
    "--dropout nan",
    "--dropout -0.1",
    "--label-smoothing 1",
    "--device tpu",
    "--device quantum",
    "--seed -1",
    "--runs 0",
    "--val-size -1",
    "--val-size 300",
    "--val-size 100000",
    "--hidden 0",
    "--model alexnet",
    "--schedule cosine",
    "--augment lots",
    "--recipe secret",
    "--data none",
    "--name a/b",
    "--name ..",
    "--name=",
    "--hidden 30",
    "--momentum 0 --nesterov",
    "--epoch 3",
]


@pytest.mark.parametrize("options", BAD)
def test_a_bad_value_ends_with_status_2_and_one_line_that_names_it(options, command, capsys):
    assert command(*options.split(" ")) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert any(word.split("=")[0] in errors[0] for word in options.split(" ") if word[0] == "-")
    assert not list(Path().iterdir())  # nothing is written


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_device_that_is_not_there_is_a_bad_command_line(command, capsys):
    assert main.main(["--device", "cuda"]) == 2
    assert "--device: cuda is not available" in capsys.readouterr().err


def test_help_shows_every_default():
    run = subprocess.run(
        [sys.executable, MAIN, "--help"], capture_output=True, encoding="utf-8", check=True
    )
    for default in ("lenet5", "baseline", "5", "64", "0.01", "0.9", "constant", "0", "auto"):
        assert f"(default: {default})" in " ".join(run.stdout.split())


def test_fit_names_the_data_that_it_was_given(data, tmp_path, monkeypatch):
    """Not those of a configuration that was used before; and a held-out part is one."""
    monkeypatch.chdir(tmp_path)
    train_set, test_set = MNIST(data), MNIST(data, train=False)
    options = {"model": "mlp", "epochs": 1}
    one = main.fit(Config.from_dict({**options, "name": "one"}), train_set, test_set)
    assert one.config.digests == (*train_set.digests, *test_set.digests)
    again = dataclasses.replace(one.config, name="other")
    part = train_set.part(0, 64)
    other = main.fit(again, part, test_set)
    assert other.config.digests == (*part.digests, *test_set.digests) != one.config.digests
    longer = dataclasses.replace(one.config, epochs=2)
    with pytest.raises(CheckpointError, match="its data were others"):
        main.fit(longer, part, test_set, resume=True)
    with pytest.raises(ConfigError, match="--val-size: the sets were not split"):
        main.fit(Config.from_dict({**options, "val_size": 9}), train_set, test_set)
