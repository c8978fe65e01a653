"""Exports a network: as a page to draw on, as ONNX, or in integers for C and for hardware.

    $ python export.py lenet5.c
    weights: pretrained/lenet5.pt (lenet5, test accuracy 99.62 %)
    ...
    lenet5.c

lenet5.html  a page to draw on: export.html with the weights in it; it sends no request
lenet5.onnx  images (N x 1 x 28 x 28, from 0, background, to 1, ink) to logits (N x 10)
lenet5.c     a function in C99 that needs no library and no floating point
lenet5.zip   weights and activations for a hardware description ($readmemh)

The shipped weights of the first two are those that know other hands than MNIST's, and non-digits
(pretrained/handwriting.pt); those of the last two are the best on MNIST (pretrained/lenet5.pt),
because whoever builds hardware compares it with MNIST's test set.
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
from collections.abc import Sequence
from pathlib import Path

from digits.idx import MEAN, STD
from files import UserError, write_whole
from handwriting.mix import SURE
from integers import write
from integers.quantize import BITS, compare, quantize
from model import title_of
from predict import RUNNER_UP, SHIPPED, printable, weights_in_words
from training import data
from training.checkpoint import load, network

import torch
from torch import nn

MARK = "lenet5-mnist export.py"  # in every file that this program writes
TEMPLATE = Path(__file__).resolve().with_name("export.html")
BEST = SHIPPED.with_name("lenet5.pt")  # trained on MNIST alone
ENDINGS = {".html": SHIPPED, ".onnx": SHIPPED, ".c": BEST, ".zip": BEST}  # their usual weights
WRITERS = {".c": write.c_file, ".zip": write.memory_files}  # of networks in integers
CALIBRATION = 2000  # training images that show how large activations are
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
    title = title_of(type(model))
    facts = [title, f"{sum(weights.numel() for weights in model.parameters()):,} parameters"]
    if history := checkpoint["history"]:
        tested_on = checkpoint["config"].evaluated
        facts.append(f"{tested_on} accuracy {100 * history[-1]['test_accuracy']:.2f}\u00a0%")
    layers = [as_json(layer) for layer in layers_of(model)]
    values = {"layers": layers, "mean": MEAN, "std": STD, "sure": SURE, "runner_up": RUNNER_UP}
    fields = {"mark": MARK, "title": html.escape(title), "facts": html.escape(", ".join(facts))}
    fields["network"] = json.dumps(values, indent=1)
    return write.fill(TEMPLATE.read_text(encoding="utf-8"), fields).encode()


def as_json(layer: nn.Module) -> dict:
    """A layer as the page's script takes it, its weights as float32 in base64."""
    facts: dict = {"kind": type(layer).__name__}
    if isinstance(layer, nn.MaxPool2d):
        facts["size"] = layer.kernel_size
    if isinstance(layer, nn.Conv2d | nn.Linear):
        facts["shape"] = list(layer.weight.shape)
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
        for name, values in {"weight": layer.weight, "bias": bias}.items():
            content = values.detach().numpy().astype("<f4").tobytes()
            facts[name] = base64.b64encode(content).decode()
    return facts


class FromInk(nn.Module):
    """Normalises pixels from 0, background, to 1, ink."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - MEAN) / STD


def onnx(model: nn.Module) -> bytes:
    """An ONNX file of a network, checked against PyTorch; UserError."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        advice = "python -m pip install -r requirements-export.txt"
        raise UserError(f"{', '.join(missing)}: not installed, and ONNX needs it; {advice}")
    whole = nn.Sequential(FromInk(), model).eval()
    images = torch.rand(7, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    logging.disable(logging.CRITICAL)  # the exporter's notes are for its developers
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            content = translated(whole)
            session = importlib.import_module("onnxruntime").InferenceSession(content)
            (logits,) = session.run(["logits"], {"images": images.numpy()})
    except Exception as error:  # of many kinds, with messages of many lines
        name, why = type(model).__name__, textwrap.shorten(str(error), 200, placeholder=" ...")
        raise UserError(f"{name}: ONNX cannot express it ({why}); edit its forward") from None
    finally:
        logging.disable(logging.NOTSET)
    with torch.inference_mode():
        difference = (torch.from_numpy(logits) - whole(images)).abs().max().item()
    if not difference <= TOLERANCE:
        raise UserError(f"onnxruntime: its logits are {difference:.1g} off PyTorch's; update both")
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


def in_integers(model: nn.Module, checkpoint: dict, options: argparse.Namespace) -> bytes:
    """A network in integers as a C file or as memory files; tells its accuracy; UserError."""
    train_set, test_set = data.load(("train", "test"), options)
    layers = quantize(layers_of(model), train_set.data[:CALIBRATION], options.bits)
    real, integer, same = (f"{100 * share:.2f} %" for share in compare(model, layers, test_set))
    about = {"mark": MARK, "title": title_of(type(model))}
    about["name"] = re.sub(r"\W|^(?=\d)", "_", checkpoint["config"].model, flags=re.ASCII)
    about |= {"checkpoint": printable(options.checkpoint.name), "bits": options.bits}
    about |= {"data": data.data_name([train_set, test_set])}
    about |= {"integer": integer, "real": real, "same": same}
    print(f"in integers: test accuracy {integer}; {same} of the answers are the same")
    labels = test_set.targets.tolist()
    examples = test_set.data[[labels.index(digit) for digit in range(10) if digit in labels]]
    return WRITERS[options.destination.suffix](layers, examples, about)


@program.guarded
def main(argv: Sequence[str] | None = None) -> int:
    parser = program.Parser(__doc__)
    parser.set_defaults(data="auto", device="cpu")
    add = parser.add_argument
    add("destination", type=Path, help="the file to write; its ending is one of those above")
    add("--checkpoint", type=Path, help="weights (default: the shipped ones)")
    add("--bits", type=int, choices=BITS, help=".c, .zip: bits of a weight (default: 8)")
    add("--data-dir", type=Path, help=".c, .zip: where MNIST is (default: data)")
    options = parser.parse_args(argv)
    path, name = options.destination, printable(options.destination)
    if path.suffix not in ENDINGS:
        parser.error(f"{name}: its ending is none of {', '.join(ENDINGS)}")
    if path.suffix not in WRITERS and (options.bits or options.data_dir):
        parser.error(f"--bits and --data-dir are not for {path.suffix}")
    options.checkpoint = options.checkpoint or ENDINGS[path.suffix]
    options.bits, options.data_dir = options.bits or 8, options.data_dir or Path("data")
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if MARK.encode() not in file.read(2000):
            raise UserError(f"{name}: exists, and another program wrote it; give another name")
    checkpoint = load(options.checkpoint)
    print(weights_in_words(options.checkpoint, checkpoint))
    model = network(checkpoint)
    if path.suffix == ".html":
        content = page(model, checkpoint)
    elif path.suffix == ".onnx":
        content = onnx(model)
    else:
        content = in_integers(model, checkpoint, options)
    write_whole(path, content)
    print(name)
    return 0


if __name__ == "__main__":
    program.end(main())
