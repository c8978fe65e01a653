"""A network in integers: weights of 8 bits or fewer, activations of 8 bits, sums of 32 bits.

    sum = bias + Σ weight · activation
    activation = sum >> shift, but at least 0 and at most 255

An integer stands for the number integer / 2^exponent. The weights of a layer have one exponent, its
activations another, and so there is a shift, and no multiplication, after a sum. The exponent of
weights is that of the least squared error, which may clip the largest ones; that of activations is
the largest with which those of the training images fit. The biases hold all else: half a step, so
that the shift rounds; the normalisation, so that the first layer reads bytes; and, where no ReLU
follows, 128 steps, so that no activation is negative.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dataset import MNIST, normalize
from digits.idx import MEAN, STD
from files import UserError

import torch
from torch import nn
from torch.nn import functional

BITS = (8, 6, 4)  # of a weight
WEIGHTED = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Layer:
    """A layer in integers: Conv2d or Linear, with the ReLU that follows, or MaxPool2d."""

    kind: str
    weight: torch.Tensor = torch.zeros(0)  # int64, in PyTorch's order; MaxPool2d has none
    bias: torch.Tensor = torch.zeros(0)
    shift: int | None = None  # the last layer has none: its sums are the logits
    zero: int = 0  # the activation that stands for 0
    exponent: int = 0  # of the activations, or of the logits
    size: int | None = None  # of the squares from which MaxPool2d takes the largest activation


def outputs(layers: Sequence[Layer], pixels: torch.Tensor) -> list[torch.Tensor]:
    """What each layer gives (int64) for images (uint8, N x 28 x 28); C and hardware do the same."""
    values, results = pixels.long().unsqueeze(1), []
    for layer in layers:
        # exact: float64 holds every integer up to 2^53
        inputs, weight, bias = values.double(), layer.weight.double(), layer.bias.double()
        if layer.size:
            sums = functional.max_pool2d(inputs, layer.size)
        elif layer.kind == "Conv2d":
            sums = functional.conv2d(inputs, weight, bias)
        else:
            sums = functional.linear(inputs.flatten(1), weight, bias)
        values = sums.long()
        if layer.shift is not None:
            values = (values >> layer.shift).clamp(0, 255)
        results.append(values)
    return results


def logits(layers: Sequence[Layer], pixels: torch.Tensor) -> torch.Tensor:
    """The integer logits (N x 10) of images (uint8, N x 28 x 28)."""
    return torch.cat([outputs(layers, batch)[-1].flatten(1) for batch in pixels.split(500)])


@torch.inference_mode()
def compare(model: nn.Module, layers: Sequence[Layer], dataset: MNIST) -> tuple[float, ...]:
    """Accuracies in floating point and in integers, and the share of answers that are the same."""
    real = torch.cat([model(normalize(batch)).argmax(1) for batch in dataset.data.split(500)])
    integer = logits(layers, dataset.data).argmax(1)
    pairs = (real, dataset.targets), (integer, dataset.targets), (integer, real)
    return tuple((answers == others).float().mean().item() for answers, others in pairs)


@torch.no_grad()
def quantize(network: Sequence[nn.Module], pixels: torch.Tensor, bits: int = 8) -> list[Layer]:
    """The layers of a network in integers; UserError.

    Images (uint8, N x 28 x 28) show how large the activations of each layer are.
    """
    modules: list = [module for module in network if not isinstance(module, nn.Flatten)]
    if not isinstance(modules[0], WEIGHTED):  # then the first layer gives the normalised image
        modules.insert(0, nn.Conv2d(1, 1, 1, bias=False))
        modules[0].weight.fill_(1)
    if not isinstance(modules[-1], WEIGHTED):
        raise UserError(f"{modules[-1]}: cannot be the last layer in integers; export it as .onnx")
    starts = [n for n, module in enumerate(modules) if isinstance(module, WEIGHTED)]
    values, layers = normalize(pixels), []
    for start, stop in itertools.pairwise([*starts, len(modules)]):
        module, after = modules[start], modules[start + 1 : stop]
        weight = module.weight.double()
        bias = torch.zeros(len(weight)).double() if module.bias is None else module.bias.double()
        if not layers:  # the normalised pixel is (byte / 255 - MEAN) / STD
            bias = bias - MEAN / STD * weight.flatten(1).sum(1)
            weight = weight / (255 * STD)
        values = module(values.flatten(1) if isinstance(module, nn.Linear) else values)
        relu = any(isinstance(other, nn.ReLU) for other in after)
        most = (values.relu() if relu else values.abs()).max().item()
        if not math.isfinite(most + weight.abs().max() + bias.abs().max()):
            raise UserError(f"{module}: its values are not finite; train again")
        most = None if stop == len(modules) else most
        prior = layers[-1] if layers else Layer("image")
        fit = _fit(weight, bias, bits, prior, most, 0 if relu else 128)
        layers.append(Layer(type(module).__name__, *fit))
        for other in after:
            values = other(values)
            if isinstance(other, nn.MaxPool2d):
                scale = {"zero": layers[-1].zero, "exponent": layers[-1].exponent}
                layers.append(Layer("MaxPool2d", size=other.kernel_size, **scale))
    return layers


def _fit(
    weight: torch.Tensor, bias: torch.Tensor, bits: int, prior: Layer, most: float | None, zero: int
) -> tuple[torch.Tensor, torch.Tensor, int | None, int, int]:
    """Weight, bias, shift, zero and exponent of a layer; no image makes a sum leave 32 bits.

    `prior` is the layer before it; `most` is the largest activation, or None for logits.
    """
    tiny, limit = 1e-30, 2 ** (bits - 1) - 1  # tiny: for layers whose values are all zero

    def rounded(fraction: int) -> torch.Tensor:
        return (weight * 2.0**fraction).round().clamp(-limit, limit)

    def error(fraction: int) -> float:
        return (rounded(fraction) / 2.0**fraction - weight).square().sum().item()

    unclipped = math.floor(math.log2(limit / max(weight.abs().max().item(), tiny)))
    best = min(range(unclipped, unclipped + 3), key=error)
    for fraction in itertools.count(best, -1):
        weights, sums, shift = rounded(fraction), prior.exponent + fraction, None
        biases = (bias * 2.0**sums).round() - prior.zero * weights.flatten(1).sum(1)
        exponent = sums
        if most is not None:
            exponent = min(sums, math.floor(math.log2((255 - zero) / max(most, tiny))))
            shift = sums - exponent
            biases += float((zero << shift) + (1 << shift >> 1))
        if (biases.abs() + 255 * weights.abs().flatten(1).sum(1)).max() < 2**31:
            return weights.long(), biases.long(), shift, 0 if most is None else zero, exponent
    raise AssertionError("weights of 0 fit")
