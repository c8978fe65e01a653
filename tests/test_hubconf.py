"""torch.hub gives the networks, also to a program whose own modules have the project's names."""

import sys
import types

from training.checkpoint import load, network

import pytest
import torch
from helpers import ROOT


def hub(name, **options):
    """A network as torch.hub gives it."""
    return torch.hub.load(str(ROOT), name, source="local", **options)


@torch.no_grad()
def test_gives_the_shipped_weights_in_evaluation_mode_or_untrained_networks():
    images = torch.rand(4, 1, 28, 28)
    for options, file in (({}, "lenet5"), ({"weights": "handwriting"}, "handwriting")):
        model = hub("lenet5", pretrained=True, **options)
        expected = network(load(ROOT / "pretrained" / f"{file}.pt"))
        assert not model.training and torch.equal(model(images), expected(images))
    for name, count in {"lenet5": 44426, "mlp": 15910}.items():
        assert sum(weights.numel() for weights in hub(name).parameters()) == count
    with pytest.raises(ValueError, match="best or handwriting"):
        hub("lenet5", pretrained=True, weights="modern")


def test_works_beside_modules_of_the_same_names(monkeypatch):
    callers = {name: types.ModuleType(name) for name in ("model", "files", "training")}
    for name in [*sys.modules]:
        if name.split(".")[0] in (*callers, "digits"):
            monkeypatch.delitem(sys.modules, name)
    for name, module in callers.items():
        monkeypatch.setitem(sys.modules, name, module)
    path, before = [*sys.path], {*sys.modules}
    assert hub("lenet5", pretrained=True)(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    assert all(sys.modules[name] is module for name, module in callers.items())
    assert not [name for name in {*sys.modules} - before if name.startswith(("digits", "training"))]
    assert sys.path == path
