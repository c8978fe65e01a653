"""The two networks: LeNet-5 with 44,426 parameters and a small MLP with 15,910.

Both take normalised images (N x 1 x 28 x 28, float32) and give logits (N x 10). To train a network
of your own, write its class here and give it a line in MODELS: that is all.

    python model.py  # lists the layers of every network, and how many parameters each one has
"""

from collections.abc import Mapping

import torch
from torch import nn

from files import UserError


class LeNet5(nn.Module):
    """LeNet-5 with ReLU and max-pooling; the comments give the shape after each line.

    Pooling before ReLU is the same function as after it, on a quarter of the values.
    """

    title = "LeNet-5"

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.ReLU(),  # 6 x 12 x 12
            nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.ReLU(),  # 16 x 4 x 4
            nn.Flatten(),  # 256
            nn.Linear(256, 120), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(120, 84), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(84, 10),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


class CustomMLP(nn.Module):
    """One hidden layer; with 56 hidden units it has as many parameters as LeNet-5 (44,530)."""

    title = "MLP"

    def __init__(self, hidden: int = 20, dropout: float = 0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),  # 784
            nn.Linear(784, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, 10),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


# The networks by the name that --model takes. The options of a constructor become options of the
# command line: --hidden, --dropout.
MODELS: dict[str, type[nn.Module]] = {"lenet5": LeNet5, "mlp": CustomMLP}


def build(name: str, options: Mapping[str, object]) -> nn.Module:
    """A network by its name, with the options of its constructor; UserError if it gives no logits.

    One blank image goes through it, so that lazy layers learn their sizes.
    """
    model = MODELS[name](**options).eval()
    with torch.no_grad():
        logits = model(torch.zeros(1, 1, 28, 28))
    shape = tuple(getattr(logits, "shape", ()))
    if shape != (1, 10):
        raise UserError(
            f"model.py: {type(model).__name__} gives {shape or logits} for one image; it must give "
            "10 logits, one for each digit"
        )
    return model.train()


def parameter_table(model: nn.Module) -> str:
    """Each layer with parameters, the arithmetic of their number, and the total, as text."""
    rows = []
    for layer in model.modules():
        own = list(layer.parameters(recurse=False))
        if not own:
            continue
        bias = " + 1" if getattr(layer, "bias", None) is not None else ""
        if isinstance(layer, nn.Conv2d):
            size = [layer.in_channels // layer.groups, *layer.kernel_size]
            name = f"conv {layer.in_channels} → {layer.out_channels}, {size[1]}×{size[2]}"
            formula = f"({'·'.join(map(str, size))}{bias}) · {layer.out_channels}"
        elif isinstance(layer, nn.Linear):
            name = f"linear {layer.in_features} → {layer.out_features}"
            formula = f"({layer.in_features}{bias}) · {layer.out_features}"
        else:
            name = type(layer).__name__
            formula = " + ".join("·".join(map(str, p.shape)) for p in own)
        rows.append((name, formula, sum(p.numel() for p in own)))
    total = sum(p.numel() for p in model.parameters())  # counts a shared parameter once
    rows.append(("total", "", total))
    widths = [max(18, *(len(row[column]) for row in rows)) for column in (0, 1)]
    lines = [f"{'layer':<{widths[0]}}  {'parameters':<{widths[1]}}  {'count':>7}"]
    lines += [f"{name:<{widths[0]}}  {formula:<{widths[1]}}  {n:>7,}" for name, formula, n in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    for name in MODELS:
        print(f"--model {name}\n\n{parameter_table(build(name, {}))}\n")
