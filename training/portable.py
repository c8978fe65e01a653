"""A network for elsewhere: as layers and weights for the page's script, and as an ONNX file.

Both refuse a network that they cannot express, in one line that says why.
"""

import base64
import contextlib
import importlib.util
import io
import logging
import re
import textwrap
import warnings
from collections.abc import Generator

from digits.idx import MEAN, STD
from files import UserError

import torch
from torch import nn

TOLERANCE = 1e-4  # the largest difference between logits of PyTorch and of ONNX
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
SHOWN = {  # the layers that the page has a function for, as they print
    nn.Conv2d: r".*stride=\(1, 1\)(, bias=False)?\)",
    nn.MaxPool2d: r".*kernel_size=(\d+), stride=\1, padding=0, dilation=1, ceil_mode=False\)",
    nn.ReLU: r".*",
    nn.Flatten: r".*start_dim=1, end_dim=-1\)",
    nn.Linear: r".*",
}


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a network in their order, without dropout; UserError if the page lacks one."""
    name, advice = type(model).__name__, "export it as .onnx instead"
    layers = [layer for layer in model.modules() if not list(layer.children())]
    layers = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
    for layer in layers:
        if not re.fullmatch(SHOWN.get(type(layer), ""), str(layer)):
            raise UserError(f"{name}: the page cannot show its layer {layer}; {advice}")
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), contextlib.suppress(RuntimeError):
        if torch.allclose(nn.Sequential(*layers)(images), model(images), atol=1e-5):
            return layers
    why = "the page can only show layers one after another, and its forward does something else"
    raise UserError(f"{name}: {why}; {advice}")


def as_json(layer: nn.Module) -> dict:
    """A layer as the page's script takes it, its weights as float32 in base64."""
    facts: dict = {"kind": type(layer).__name__}
    if isinstance(layer, nn.MaxPool2d):
        facts |= {"size": layer.kernel_size}
    if isinstance(layer, nn.Conv2d | nn.Linear):
        weight, bias = layer.weight.detach(), layer.bias
        bias = torch.zeros(len(weight)) if bias is None else bias.detach()
        facts |= {"shape": list(weight.shape), "weight": in_base64(weight), "bias": in_base64(bias)}
    return facts


def in_base64(values: torch.Tensor) -> str:
    """Values as float32, little-endian, in base64."""
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


class FromInk(nn.Module):
    """A network for pixels from 0, background, to 1, ink: it normalises them itself."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network((images - MEAN) / STD)


def onnx(model: nn.Module, producer: str) -> bytes:
    """An ONNX file of a network in evaluation mode, checked against PyTorch; UserError."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        advice = "python -m pip install -r requirements-export.txt"
        raise UserError(f"{', '.join(missing)}: not installed, and ONNX needs it; {advice}")
    whole = FromInk(model).eval()
    try:
        with quiet():
            content = translated(whole, producer)
            off = difference(content, whole)
    except Exception as error:  # of many kinds, with messages of many lines
        name, why = type(model).__name__, textwrap.shorten(str(error), 200, placeholder=" ...")
        raise UserError(f"{name}: ONNX cannot express it ({why}); edit its forward") from None
    if not off <= TOLERANCE:
        raise UserError(f"onnxruntime: its logits are {off:.1g} off PyTorch's; update both")
    return content


@contextlib.contextmanager
def quiet() -> Generator[None, None, None]:
    """Keeps the exporter's notes and warnings, which are for its developers, off the screen."""
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def translated(whole: nn.Module, producer: str) -> bytes:
    """A network as the content of an ONNX file, for any number of images."""
    program = torch.onnx.export(
        whole,
        (torch.zeros(2, 1, 28, 28),),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: torch.export.Dim("N")}},
    )
    assert program is not None  # with dynamo, it never is
    file = program.model_proto
    file.producer_name, file.producer_version = producer, ""
    for part in (file, file.graph, *file.graph.node, *file.graph.value_info):
        del part.metadata_props[:]  # notes about this machine's files
    return file.SerializeToString(deterministic=True)


def difference(content: bytes, whole: nn.Module) -> float:
    """The largest difference between the logits of an ONNX file and of PyTorch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = 0.0
    for count in (1, 7):
        images = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(count))
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        with torch.inference_mode():
            largest = max(largest, (torch.from_numpy(logits) - whole(images)).abs().max().item())
    return largest
