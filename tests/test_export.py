"""export.py: what it writes, and one line for everything that it cannot do."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT
from torch import nn

import export
import predict
from files import UserError
from model import MODELS, CustomMLP, LeNet5
from training import portable

needs_weights = pytest.mark.skipif(
    not predict.SHIPPED.exists(), reason="pretrained/handwriting.pt is not there"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one_line(capsys):
    """The only line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


@needs_weights
def test_a_page_holds_the_weights_and_the_facts_and_is_the_same_every_time(here, capsys):
    assert export.main(["one.html"]) == 0 and export.main(["two.html"]) == 0
    page = (here / "one.html").read_text(encoding="utf-8")
    assert (here / "two.html").read_text(encoding="utf-8") == page and "{{" not in page
    assert "LeNet-5, 44,426 parameters, test accuracy 99." in page
    assert "handwriting.pt" in capsys.readouterr().out
    assert "http:" not in page and "https:" not in page and "url(" not in page


@needs_weights
def test_only_its_own_files_are_replaced_unasked(here, capsys):
    assert export.main(["page.html"]) == 0 and export.main(["page.html"]) == 0
    (here / "page.html").write_text("<p>mine</p>")
    (here / "mine.onnx").write_bytes(b"\x08\x07mine")
    capsys.readouterr()
    for name in ("page.html", "mine.onnx"):
        before = (here / name).read_bytes()
        assert export.main([name]) == 1
        line = one_line(capsys)
        assert line.startswith(f"error: {name}: ") and "--overwrite" in line
        assert (here / name).read_bytes() == before
    assert export.main(["page.html", "--overwrite"]) == 0
    assert export.MARK in (here / "page.html").read_text(encoding="utf-8")


@needs_weights
def test_the_template_is_not_a_page_that_may_be_replaced(capsys):
    before = export.TEMPLATE.read_bytes()
    assert export.main([str(export.TEMPLATE)]) == 1
    assert "--overwrite" in one_line(capsys) and export.TEMPLATE.read_bytes() == before


@pytest.mark.parametrize(
    "arguments", [[], ["page.pdf"], ["page"], ["a.html", "b.html"], ["a.html", "--over"]]
)
def test_bad_command_line_is_one_line(here, capsys, arguments):
    assert export.main(arguments) == 2
    assert one_line(capsys).startswith("error: ") and not list(here.iterdir())


@needs_weights
def test_a_damaged_or_foreign_checkpoint_is_one_line(here, capsys):
    content = bytearray(predict.SHIPPED.read_bytes())
    content[len(content) // 2] ^= 255
    (here / "damaged.pt").write_bytes(content)
    torch.save({"weight": torch.zeros(3)}, "foreign.pt")
    for name in ("damaged.pt", "foreign.pt", "missing.pt"):
        for destination in ("page.html", "net.onnx"):
            assert export.main([destination, "--checkpoint", name]) == 1
            assert one_line(capsys).startswith(f"error: {name}: ")
    assert sorted(path.name for path in here.iterdir()) == ["damaged.pt", "foreign.pt"]


@needs_weights
def test_a_folder_that_cannot_be_written_is_one_line(here, capsys):
    (here / "file").write_text("no folder")
    (here / "folder.html").mkdir()
    for name in ("file/page.html", "folder.html"):
        assert export.main([name]) == 1
        line = one_line(capsys)
        assert line.startswith(f"error: {name}") and "; " in line


class Padded(nn.Sequential):
    """A network with a layer that the page has no function for."""

    def __init__(self, odd):
        super().__init__(odd, nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))


class Skipping(CustomMLP):
    """A network that is more than one layer after another."""

    def forward(self, images):
        return 2 * self.layers(images)


@pytest.mark.parametrize(
    "odd",
    [
        nn.Conv2d(1, 2, 5, padding=2),
        nn.Conv2d(1, 2, 5, stride=2),
        nn.MaxPool2d(3, stride=2),
        nn.BatchNorm2d(1),
        nn.AvgPool2d(2),
    ],
    ids=str,
)
def test_a_layer_that_the_page_cannot_show_is_named(odd):
    model = Padded(odd).eval()
    model(torch.zeros(1, 1, 28, 28))
    with pytest.raises(UserError) as error:
        portable.layers_of(model)
    assert str(odd) in str(error.value) and "; " in str(error.value)


def test_a_forward_that_does_more_than_its_layers_is_refused():
    with pytest.raises(UserError, match="forward does something else"):
        portable.layers_of(Skipping().eval())


@pytest.mark.parametrize("name", MODELS)
def test_dropout_is_left_out_of_the_page(name):
    layers = portable.layers_of(MODELS[name](dropout=0.5).eval())
    assert not [layer for layer in layers if isinstance(layer, nn.Dropout)]


@needs_weights
def test_onnx_gives_pytorchs_logits_for_any_number_of_images(here, capfd):
    for name in portable.PACKAGES:
        pytest.importorskip(name)
    import onnxruntime

    assert export.main(["lenet5.onnx"]) == 0
    captured = capfd.readouterr()
    assert captured.err == "" and len(captured.out.splitlines()) == 2
    content = (here / "lenet5.onnx").read_bytes()
    assert export.MARK.encode() in content and str(ROOT).encode() not in content
    assert export.main(["lenet5.onnx"]) == 0 and (here / "lenet5.onnx").read_bytes() == content
    session = onnxruntime.InferenceSession(content)
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(float)", [1, 28, 28])
    assert logits.name == "logits"
    model = export.network(export.load(predict.SHIPPED))
    for count in (1, 2, 33):
        ink = torch.rand(count, 1, 28, 28)
        (found,) = session.run(None, {"images": ink.numpy()})
        with torch.inference_mode():
            expected = model((ink - 0.1307) / 0.3081).numpy()
        assert np.abs(found - expected).max() <= 1e-4


def test_onnx_that_is_not_pytorch_is_not_written(monkeypatch):
    for name in portable.PACKAGES:
        pytest.importorskip(name)
    monkeypatch.setattr(portable, "TOLERANCE", -1)
    with pytest.raises(UserError, match="off PyTorch's"):
        portable.onnx(CustomMLP(), "test")


class Branching(LeNet5):
    """A network whose forward depends on the values."""

    def forward(self, images):
        return self.layers(images) if images.sum() > 0 else -self.layers(images)


def test_a_network_that_onnx_cannot_express_is_one_line():
    for name in portable.PACKAGES:
        pytest.importorskip(name)
    with pytest.raises(UserError) as error:
        portable.onnx(Branching(), "test")
    assert str(error.value).startswith("Branching: ") and "\n" not in str(error.value)


@needs_weights
def test_missing_packages_are_one_line(here, capsys, monkeypatch):
    monkeypatch.setattr(portable, "PACKAGES", ("onnx_that_nobody_has",))
    assert export.main(["net.onnx"]) == 1
    line = one_line(capsys)
    assert "pip install -r requirements-export.txt" in line and not list(here.iterdir())


@needs_weights
def test_program_ends_with_its_status(here):
    command = [sys.executable, str(ROOT / "export.py"), "page.html"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.endswith("page.html\n") and not done.stderr
