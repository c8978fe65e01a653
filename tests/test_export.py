"""export.py: what it writes, and one line for everything that it cannot do."""

import export
from files import UserError
from model import MODELS, CustomMLP, LeNet5

import numpy as np
import pytest
import torch
from helpers import ROOT
from torch import nn

needs_weights = pytest.mark.skipif(
    not export.SHIPPED.exists(), reason="pretrained/handwriting.pt is not there"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@needs_weights
def test_a_page_holds_the_weights_and_the_facts_and_is_the_same_every_time(here, capsys):
    assert export.main(["a.html"]) == 0 and export.main(["b.html"]) == 0
    page = (here / "a.html").read_text(encoding="utf-8")
    assert (here / "b.html").read_text(encoding="utf-8") == page and "{{" not in page
    assert "LeNet-5, 44,426 parameters, test accuracy 99." in page
    assert "handwriting.pt" in capsys.readouterr().out
    assert "http:" not in page and "https:" not in page and "url(" not in page
    assert export.main(["a.html"]) == 0  # its own file is replaced


ERRORS = [  # arguments, status, words that the only line holds
    ([], 2, "destination"),
    (["page.pdf"], 2, "page.pdf"),
    (["page"], 2, "ending"),
    (["a.html", "b.html"], 2, "b.html"),
    (["a.html", "--check=x.pt"], 2, "--check"),
    (["mine.html"], 1, "mine.html: exists, and another program wrote it; "),
    (["mine.onnx"], 1, "mine.onnx: exists, and another program wrote it; "),
    (["mine.c"], 1, "mine.c: exists, and another program wrote it; "),
    (["a.c", "--bits", "5"], 2, "--bits"),
    (["a.html", "--bits", "6"], 2, "--bits and --data-dir are not for .html"),
    (["a.onnx", "--data-dir", "data"], 2, "--bits and --data-dir are not for .onnx"),
    ([str(export.TEMPLATE)], 1, "another program wrote it; "),
    (["a.html", "--checkpoint", "damaged.pt"], 1, "damaged.pt: "),
    (["a.onnx", "--checkpoint", "foreign.pt"], 1, "foreign.pt: "),
    (["a.html", "--checkpoint", "missing.pt"], 1, "missing.pt: "),
    (["a.c", "--checkpoint", "damaged.pt"], 1, "damaged.pt: "),
    (["a.zip", "--checkpoint", "foreign.pt"], 1, "foreign.pt: "),
    (["mine.html/page.html"], 1, "mine.html"),
    (["folder.html"], 1, "folder.html"),
]


@needs_weights
@pytest.mark.parametrize("arguments, status, words", ERRORS)
def test_an_error_is_one_line_and_leaves_every_file(here, capsys, arguments, status, words):
    content = bytearray(export.SHIPPED.read_bytes())
    content[len(content) // 2] ^= 255
    torch.save({"weight": torch.zeros(3)}, "foreign.pt")
    (here / "folder.html").mkdir()
    (here / "damaged.pt").write_bytes(content)
    for name in ("mine.html", "mine.onnx", "mine.c"):
        (here / name).write_bytes(b"mine")
    before = {path: path.is_file() and path.read_bytes() for path in here.iterdir()}
    template = export.TEMPLATE.read_bytes()
    assert export.main(arguments) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line
    assert {path: path.is_file() and path.read_bytes() for path in here.iterdir()} == before
    assert export.TEMPLATE.read_bytes() == template


class Doubled(CustomMLP):
    """A network that is more than one layer after another."""

    def forward(self, images):
        return 2 * self.layers(images)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 2, 5, padding=2),
        nn.Conv2d(1, 2, 5, stride=2),
        nn.MaxPool2d(3, stride=2),
        nn.BatchNorm2d(1),
        nn.AvgPool2d(2),
        nn.Linear(28, 3),  # of each row of the image
    ],
    ids=str,
)
def test_a_layer_that_cannot_be_expressed_is_named(layer):
    model = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)).eval()
    model(torch.zeros(1, 1, 28, 28))
    with pytest.raises(UserError) as error:
        export.layers_of(model)
    assert str(layer) in str(error.value) and "; " in str(error.value)


def test_a_forward_that_does_more_than_its_layers_is_refused():
    with pytest.raises(UserError, match="more than one layer after another"):
        export.layers_of(Doubled().eval())


@pytest.mark.parametrize("name", MODELS)
def test_dropout_is_left_out(name):
    layers = export.layers_of(MODELS[name](dropout=0.5).eval())
    assert layers and not [layer for layer in layers if isinstance(layer, nn.Dropout)]


def test_onnx_gives_pytorchs_logits_for_any_number_of_images(here, capfd):
    onnxruntime = [pytest.importorskip(name) for name in export.PACKAGES][-1]
    torch.save(LeNet5().state_dict(), "lenet5.pt")
    assert export.main(["lenet5.onnx", "--checkpoint", "lenet5.pt"]) == 0
    captured = capfd.readouterr()
    assert captured.err == "" and len(captured.out.splitlines()) == 2
    content = (here / "lenet5.onnx").read_bytes()
    assert export.MARK.encode() in content and str(ROOT).encode() not in content
    assert export.main(["lenet5.onnx", "--checkpoint", "lenet5.pt"]) == 0
    assert (here / "lenet5.onnx").read_bytes() == content
    session = onnxruntime.InferenceSession(content)
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(float)", [1, 28, 28])
    assert logits.name == "logits"
    model = export.network(export.load("lenet5.pt"))
    for count in (1, 2, 33):
        ink = torch.rand(count, 1, 28, 28)
        (outputs,) = session.run(None, {"images": ink.numpy()})
        with torch.inference_mode():
            expected = model((ink - 0.1307) / 0.3081).numpy()
        assert np.abs(outputs - expected).max() <= 1e-4


class Branching(LeNet5):
    """A network whose forward depends on the values."""

    def forward(self, images):
        return self.layers(images) if images.sum() > 0 else -self.layers(images)


@pytest.mark.parametrize(
    "model, name, value, words",
    [
        (CustomMLP(), "TOLERANCE", -1, "off PyTorch's; "),
        (Branching(), "TOLERANCE", 1, "Branching: "),
        (CustomMLP(), "PACKAGES", ["nobody_has_this"], "pip install -r requirements-export.txt"),
    ],
    ids=["differs", "branches", "not installed"],
)
def test_onnx_that_cannot_be_written_is_one_line(monkeypatch, capfd, model, name, value, words):
    for package in export.PACKAGES:
        pytest.importorskip(package)
    monkeypatch.setattr(export, name, value)
    with pytest.raises(UserError) as error:
        export.onnx(model)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")
