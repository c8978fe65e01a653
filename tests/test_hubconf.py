"""torch.hub gives the networks, also to a program whose own modules have the project's names."""

import subprocess
import sys

import pytest
import torch
from helpers import ROOT

from training.checkpoint import load, network

SHIPPED = {"best": "lenet5.pt", "handwriting": "handwriting.pt"}
PROGRAM = """
import sys, torch
import model, files
from training import helper

net = torch.hub.load({root!r}, "lenet5", source="local", pretrained=True)
with torch.no_grad():
    assert net(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
assert model.mine and files.mine and helper.mine
assert sys.modules["model"] is model and sys.modules["training.helper"] is helper
assert not [name for name in sys.modules if name.startswith(("digits", "training.checkpoint"))]
assert {root!r} not in sys.path
import dataset
assert dataset.mine
print(net.__class__.__name__, net.training)
"""


def hub(name, **options):
    """A network as torch.hub gives it."""
    return torch.hub.load(str(ROOT), name, source="local", **options)


@pytest.mark.parametrize("weights", SHIPPED)
def test_gives_the_shipped_weights_in_evaluation_mode(weights):
    path = ROOT / "pretrained" / SHIPPED[weights]
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    loaded, expected = hub("lenet5", pretrained=True, weights=weights), network(load(path))
    images = torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        assert not loaded.training and torch.equal(loaded(images), expected(images))
    if weights == "best":
        assert torch.equal(hub("lenet5", pretrained=True)(images), loaded(images))


def test_gives_untrained_networks():
    assert sum(weights.numel() for weights in hub("lenet5", pretrained=False).parameters()) == 44426
    assert sum(weights.numel() for weights in hub("mlp").parameters()) == 15910


def test_says_which_weights_there_are():
    with pytest.raises(ValueError, match="best or handwriting"):
        hub("lenet5", pretrained=True, weights="modern")
    with pytest.raises(ValueError, match="no weights"):
        hub("mlp", pretrained=True)


def test_works_beside_modules_of_the_same_names(tmp_path):
    (tmp_path / "training").mkdir()
    for name in ("model.py", "files.py", "dataset.py", "training/helper.py"):
        (tmp_path / name).write_text("mine = True\n")
    (tmp_path / "program.py").write_text(PROGRAM.format(root=str(ROOT)))
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "LeNet5 False\n"
