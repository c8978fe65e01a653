"""Exports a network: as a page to draw on, for any browser, or as ONNX, for other programs.

    $ python export.py lenet5.html
    weights: pretrained/handwriting.pt (lenet5, test accuracy 99.56 %)
    lenet5.html

The page is export.html with the weights in it; it needs no server and sends no request. The ONNX
file takes images (N x 1 x 28 x 28, from 0, background, to 1, ink) and gives logits (N x 10).
"""

from training import program

program.begin(__name__)

import argparse
import base64
import contextlib
import html
import importlib.util
import io
import json
import logging
import re
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

from digits.idx import MEAN, STD
from files import UserError, write_whole
from handwriting.mix import SURE
from predict import RUNNER_UP, SHIPPED, printable, weights_in_words
from training.checkpoint import load, network

import torch
from torch import nn

MARK = "lenet5-mnist export.py"  # in every file that this program writes
TEMPLATE = Path(__file__).resolve().with_name("export.html")
TOLERANCE = 1e-4  # the largest difference between logits of PyTorch and of ONNX
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
SHOWN = {  # the layers that can be exported one after another, as they print
    nn.Conv2d: r".*stride=\(1, 1\)(, bias=False)?\)",
    nn.MaxPool2d: r".*kernel_size=(\d+), stride=\1, padding=0, dilation=1, ceil_mode=False\)",
    nn.ReLU: r".*",
    nn.Flatten: r".*start_dim=1, end_dim=-1\)",
    nn.Linear: r".*",
}


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a network in their order, without dropout; UserError if others are needed."""
    name, advice = type(model).__name__, "export it as .onnx instead"
    layers = [layer for layer in model.modules() if not list(layer.children())]
    layers = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
    values = images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), contextlib.suppress(RuntimeError):
        for layer in layers:
            flat = values.ndim == 2 or not isinstance(layer, nn.Linear)
            if not flat or not re.fullmatch(SHOWN.get(type(layer), ""), str(layer)):
                raise UserError(f"{name}: only ONNX can express its layer {layer}; {advice}")
            values = layer(values)
        if torch.allclose(values, model(images), atol=1e-5):
            return layers
    raise UserError(f"{name}: its forward is more than one layer after another; {advice}")


def page(model: nn.Module, checkpoint: dict) -> bytes:
    """The template with a network in it; UserError."""
    title = getattr(model, "title", type(model).__name__)
    facts = [title, f"{sum(weights.numel() for weights in model.parameters()):,} parameters"]
    if history := checkpoint["history"]:
        tested_on = "validation" if checkpoint["config"].val_size else "test"
        facts.append(f"{tested_on} accuracy {100 * history[-1]['test_accuracy']:.2f}\u00a0%")
    layers = [as_json(layer) for layer in layers_of(model)]
    values = {"layers": layers, "mean": MEAN, "std": STD, "sure": SURE, "runner_up": RUNNER_UP}
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, value in {
        "mark": MARK,
        "title": html.escape(title),
        "facts": html.escape(", ".join(facts)),
        "network": json.dumps(values, indent=1),
    }.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text.encode()


def as_json(layer: nn.Module) -> dict:
    """A layer as the page's script takes it, its weights as float32 in base64."""
    facts: dict = {"kind": type(layer).__name__}
    if isinstance(layer, nn.MaxPool2d):
        facts |= {"size": layer.kernel_size}
    if isinstance(layer, nn.Conv2d | nn.Linear):
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
        facts |= {"shape": list(layer.weight.shape)}
        for name, values in {"weight": layer.weight, "bias": bias}.items():
            content = values.detach().numpy().astype("<f4").tobytes()
            facts |= {name: base64.b64encode(content).decode()}
    return facts


class FromInk(nn.Module):
    """Normalises pixels from 0, background, to 1, ink."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - MEAN) / STD


def onnx(model: nn.Module) -> bytes:
    """An ONNX file of a network, checked against PyTorch; UserError."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        advice = "python -m pip install -r requirements-export.txt"
        raise UserError(f"{', '.join(missing)}: not installed, and ONNX needs it; {advice}")
    whole = nn.Sequential(FromInk(), model).eval()
    logging.disable(logging.CRITICAL)  # the exporter's notes are for its developers
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            content = translated(whole)
            off = difference(content, whole)
    except Exception as error:  # of many kinds, with messages of many lines
        name, why = type(model).__name__, textwrap.shorten(str(error), 200, placeholder=" ...")
        raise UserError(f"{name}: ONNX cannot express it ({why}); edit its forward") from None
    finally:
        logging.disable(logging.NOTSET)
    if not off <= TOLERANCE:
        raise UserError(f"onnxruntime: its logits are {off:.1g} off PyTorch's; update both")
    return content


def translated(whole: nn.Module) -> bytes:
    """A network as the content of an ONNX file, for any number of images."""
    exported = torch.onnx.export(
        whole,
        (torch.zeros(2, 1, 28, 28),),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
    )
    assert exported is not None  # with dynamo, it never is
    file = exported.model_proto
    file.producer_name, file.producer_version = MARK, ""
    for part in (file, file.graph, *file.graph.node, *file.graph.value_info):
        del part.metadata_props[:]  # notes about this machine's files
    return file.SerializeToString(deterministic=True)


def difference(content: bytes, whole: nn.Module) -> float:
    """The largest difference between the logits of an ONNX file and of PyTorch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    images = torch.rand(7, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    with torch.inference_mode():
        return (torch.from_numpy(logits) - whole(images)).abs().max().item()


def read_command_line(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's options: `destination` and `checkpoint`."""
    parser = program.Parser(__doc__)
    add = parser.add_argument
    add("destination", type=Path, help="the file to write: a page (.html), or ONNX (.onnx)")
    add("--checkpoint", type=Path, default=SHIPPED, help="weights (default: the shipped ones)")
    options = parser.parse_args(argv)
    if options.destination.suffix not in (".html", ".onnx"):
        parser.error(f"{printable(options.destination)}: its ending is neither .html nor .onnx")
    return options


def require_own(path: Path) -> None:
    """Raise UserError if there is a file that this program did not write."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if MARK.encode() not in file.read(2000):
            what = "exists, and this program did not write it"
            raise UserError(f"{printable(path)}: {what}; give another name")


@program.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """The program; gives its exit status."""
    options = read_command_line(argv)
    path = options.destination
    require_own(path)
    checkpoint = load(options.checkpoint)
    print(weights_in_words(options.checkpoint, checkpoint))
    model = network(checkpoint)
    write_whole(path, page(model, checkpoint) if path.suffix == ".html" else onnx(model))
    print(printable(path))
    return 0


if __name__ == "__main__":
    program.end(main())
