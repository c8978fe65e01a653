"""export.py gives the network that it was given, or says what of it cannot be expressed.

tests/test_page.py tests the page, tests/test_integers.py the files in integers.
"""

from pathlib import Path

import export
from files import UserError
from model import CustomMLP, LeNet5

import numpy as np
import pytest
import torch
from helpers import ROOT
from torch import nn


class Doubled(CustomMLP):
    """A network that is more than one layer after another."""

    def forward(self, images):
        return 2 * self.layers(images)


class Branching(LeNet5):
    """A network whose forward depends on the values."""

    def forward(self, images):
        return self.layers(images) if images.sum() > 0 else -self.layers(images)


LAYERS = [
    nn.Conv2d(1, 2, 5, padding=2),
    nn.Conv2d(1, 2, 5, stride=2),
    nn.MaxPool2d(3, stride=2),
    nn.BatchNorm2d(1),
    nn.AvgPool2d(2),
    nn.Linear(28, 3),  # of each row of the image
]
REFUSED = {
    str(layer): nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)) for layer in LAYERS
}


@pytest.mark.parametrize("words", [*REFUSED, "more than one layer after another"])
def test_what_cannot_be_expressed_is_named(words):
    model = REFUSED.get(words, Doubled()).eval()
    model(torch.zeros(1, 1, 28, 28))
    with pytest.raises(UserError) as error:
        export.layers_of(model)
    assert words in str(error.value) and "; " in str(error.value)


def test_onnx_gives_pytorchs_logits_for_any_number_of_images(tmp_path, monkeypatch, capfd):
    onnxruntime = [pytest.importorskip(name) for name in export.PACKAGES][-1]
    monkeypatch.chdir(tmp_path)
    model, path, command = LeNet5(), Path("a.onnx"), ["a.onnx", "--checkpoint", "lenet5.pt"]
    torch.save(model.state_dict(), "lenet5.pt")
    assert export.main(command) == 0
    captured = capfd.readouterr()
    assert captured.err == "" and len(captured.out.splitlines()) == 2
    content = path.read_bytes()
    assert export.MARK.encode() in content and str(ROOT).encode() not in content
    assert export.main(command) == 0 and path.read_bytes() == content
    session = onnxruntime.InferenceSession(content)
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(float)", [1, 28, 28])
    assert logits.name == "logits"
    for count in (1, 2, 33):
        ink = torch.rand(count, 1, 28, 28)
        (outputs,) = session.run(None, {"images": ink.numpy()})
        with torch.inference_mode():
            expected = model((ink - 0.1307) / 0.3081).numpy()
        assert np.abs(outputs - expected).max() <= 1e-4
    monkeypatch.setattr(export, "translated", lambda network: content)
    with pytest.raises(UserError, match="off PyTorch's; "):
        export.onnx(LeNet5())  # whose weights are others


def test_onnx_that_cannot_be_written_is_one_line(monkeypatch, capfd):
    for package in export.PACKAGES:
        pytest.importorskip(package)
    with pytest.raises(UserError, match="^Branching: .+; edit its forward$"):
        export.onnx(Branching())
    monkeypatch.setattr(export, "PACKAGES", ["nobody_has_this"])
    with pytest.raises(UserError, match="^.+pip install -r requirements-export.txt$"):
        export.onnx(CustomMLP())
    assert capfd.readouterr() == ("", "")
