"""What a student changes in the first hour works: trained, broken off, resumed to the same bits."""

import dataclasses
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import main
from dataset import MNIST
from model import MODELS, LeNet5, build
from training import checkpoint
from training.config import Config
from training.report import Report

import numpy as np
import pictures
import pytest
import torch
from helpers import ROOT, interrupt, same, stopping, write_data
from matplotlib.figure import Figure
from torch import nn, optim
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """With a last batch of one image, whose variance BatchNorm cannot compute."""
    return write_data(tmp_path_factory.mktemp("data"), 193, 50)


@pytest.fixture
def fit(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = MNIST(data), MNIST(data, train=False)
    return lambda config, **options: main.fit(config, *sets, **options)


def resumes_exactly(fit, **options):
    """Train three epochs at once, and with a stop in the second; gives the equal checkpoints."""
    config = Config(epochs=3, name="straight", **options)
    fit(config, report=Report(quiet=True))
    config = dataclasses.replace(config, name="stopped")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopping(main, "train", 2, interrupt, patch.setattr)
        fit(config)
    assert checkpoint.load("stopped")["epoch"] == 1
    fit(config, resume=True)
    straight, stopped = map(checkpoint.load, ("straight", "stopped"))
    assert same(straight, stopped)
    checkpoint.network(stopped)
    return stopped


def constant(optimizer, steps):
    return LambdaLR(optimizer, lambda step: 1)


def one_cycle(optimizer, steps):
    return OneCycleLR(optimizer, 0.1, steps)


def two_groups(weights, lr):
    first, *others = weights
    return main.SGD([{"params": [first], "lr": 0.1}, {"params": others}], lr=lr, momentum=0.8)


OPTIMIZATIONS = [  # optimizer, scheduler, what headings and captions say of them
    (optim.Adam, constant, "Adam, lr 0.01 constant"),
    (optim.AdamW, one_cycle, "AdamW, lr 0.01 OneCycleLR"),
    (optim.RMSprop, lambda optimizer, steps: StepLR(optimizer, 10), "RMSprop, lr 0.01 StepLR"),
    (optim.Adagrad, constant, "Adagrad, lr 0.01 constant"),
    (two_groups, constant, "lr 0.01 constant, momentum 0.8"),
]


@pytest.mark.parametrize(("optimizer", "scheduler", "words"), OPTIMIZATIONS)
def test_another_optimizer_or_scheduler(optimizer, scheduler, words, fit, monkeypatch, capsys):
    """Heading and config.json say what was used, not what the options would have been."""

    def optimization(model, config, steps):
        chosen = optimizer(model.parameters(), lr=0.01)
        return chosen, scheduler(chosen, steps)

    monkeypatch.setattr(main, "optimization", optimization)
    options = {"model": "mlp", "lr": 0.5, "momentum": 0.7}
    kind = resumes_exactly(fit, **options)["versions"]["optimizer_class"]
    assert f"3 epochs of batches of 64, {words}, hidden 20" in capsys.readouterr().out
    written = json.loads(Path("runs/stopped/config.json").read_text(encoding="utf-8"))
    assert (written["optimizer"], written["lr"]) == (kind, 0.01)
    assert written["momentum"] == (0.8 if kind == "SGD" else None)
    if scheduler is one_cycle:
        with pytest.raises(checkpoint.CheckpointError, match="it was OneCycleLR for 3 epochs"):
            fit(Config(epochs=4, name="stopped", **options), resume=True)


class Mine(nn.Module):
    """Named layers, a nested block, batch normalisation, a mask, lazy and frozen layers."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 5, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.block = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.Tanh())
        self.flat = nn.Sequential(nn.Flatten(), nn.LazyLinear(20), nn.BatchNorm1d(20), nn.Tanh())
        self.fc = nn.Linear(20, 10)
        self.conv1.weight.requires_grad_(False)
        self.register_buffer("mask", torch.full((10, 10), -torch.inf).triu(1))

    def forward(self, images):
        x = torch.relu(self.norm(self.conv1(images)))
        return self.fc(self.flat(x + self.block(x)))


def test_a_network_is_one_class_and_one_line(fit, monkeypatch, capsys):
    monkeypatch.setitem(MODELS, "mine", Mine)
    saved = resumes_exactly(fit, model="mine", network={"width": 6})
    assert "stopped: Mine on " in capsys.readouterr().out
    assert checkpoint.network(saved).conv1.out_channels == 6


def test_a_compiled_model_is_saved_as_the_model(fit, monkeypatch):
    monkeypatch.setattr(main, "build", lambda *a: torch.compile(build(*a), backend="eager"))
    resumes_exactly(fit, model="mlp")


def test_plain_torch_reads_a_checkpoint_as_the_documents_say(fit):
    text = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import torch\n.*?)```", text, re.DOTALL)
    fit(Config(epochs=1, name="lenet5"))
    space = {}
    exec(lines, space)
    assert len(lines.splitlines()) <= 5 and isinstance(space["model"], LeNet5)
    weights = checkpoint.network(checkpoint.load("lenet5")).state_dict()
    assert same(dict(space["model"].state_dict()), dict(weights))


def edit(name, old, new):
    """Replace a regular expression's only match in a file."""
    path = Path(name)
    text, count = re.subn(old, new, path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert count == 1, old
    path.write_text(text, encoding="utf-8")


def test_the_walkthroughs_edits(data, tmp_path, monkeypatch, capsys):
    """In a copy of the project: a network, an optimizer, a metric, an option; then edited again."""
    skip = shutil.ignore_patterns(".*", "tests", "runs", "plots", "data")
    project = shutil.copytree(ROOT, tmp_path / "project", ignore=skip)
    modules = {path.stem for path in project.iterdir()}
    pictures.pen_on_squared_paper(7, np.random.default_rng(0)).save(project / "seven.png")
    text = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(class .*?)\n```", text, re.DOTALL)
    network, models = code.split("\n\n\nMODELS")
    (optimizer,) = re.findall(r"`(optimizer = torch\.optim\..*?)`", text)
    (command,) = re.findall(r"`python (main\.py --model .*?)`", text)
    command = [*command.split(), "--data-dir", str(data), "--name", "a", "--epochs"]
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two edits may have the same second
    monkeypatch.setattr(Figure, "savefig", lambda *_, **options: None)  # it takes a second

    def forget():
        """Take the modules of the project out of those that are imported."""
        names = [name for name in sys.modules if name.split(".")[0] in modules]
        return {name: sys.modules.pop(name) for name in names}

    def run(*arguments):
        """Run a program, which imports the modules of the copy anew; gives what it says."""
        before = forget()
        monkeypatch.setattr(sys, "argv", [*arguments])
        try:
            with pytest.raises(SystemExit, match="0"):
                runpy.run_path(arguments[0], run_name="__main__")
        finally:
            forget()
            sys.modules.update(before)
        return "".join(capsys.readouterr())

    edit("model.py", r"\n# The networks by", rf"\n{network}\n\n\n# The networks by")
    edit("model.py", r"\nMODELS: [^\n]*", rf"\nMODELS{models}")
    edit("main.py", r"optimizer = SGD\(.*?\n    \)", optimizer)
    metric = '"norm": sum(weight.norm() for weight in model.parameters()), "epoch": epoch,'
    edit("main.py", '"epoch": epoch,', metric)
    option = '    warmup: float = option(3.0, "warm-up")\n    seed: int = option'
    edit("training/config.py", r"    seed: int = option", option)
    shown = run(*command, "1")
    assert "a: LeNet1998 on " in shown and "Adam, lr 0.01 constant, channels 8" in shown
    assert "62,558 parameters" in shown  # with 6 channels the 61,706 of the usual table
    assert re.search(r"\n +1 .* norm [0-9.]+\n", shown)
    header, first = Path("runs/a/metrics.csv").read_text().splitlines()
    assert header.endswith(",seconds,norm,evaluated_on") and float(first.split(",")[-2]) > 0
    assert json.loads(Path("runs/a/config.json").read_text())["warmup"] == 3.0
    shown = run("main.py", "--help")
    assert "--warmup X" in shown and "lenet1998" in shown
    assert re.search(r"--channels N +[^\n]*default: 6", shown)
    assert "edited" not in run("predict.py", "seven.png", "--checkpoint", "runs/a")

    edit("model.py", r"AvgPool2d\(2\),(\s+nn\.Conv2d\(channels)", r"MaxPool2d(2),\1")
    assert "model.py was edited" in run("predict.py", "seven.png", "--checkpoint", "runs/a")
    shown = run(*command, "2", "--resume")
    assert "the network in model.py was edited since" in shown
    edit("model.py", r"Tanh\(\),\s+nn\.Linear\(84,", "Linear(84, 50), nn.Linear(50,")
    shown = run(*command, "1")  # the same name: trained anew, and nothing is lost
    assert "what was in runs/a is in runs/a.1 now" in shown and "edited" not in shown
    assert Path("runs/a.1/checkpoint.pt").exists()
