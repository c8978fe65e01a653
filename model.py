"""The two networks: LeNet-5 with 44,426 parameters and a small MLP with 15,910.

Both take normalised images (N x 1 x 28 x 28, float32) and give logits (N x 10). To train a network
of your own, write its class here and give it a line in MODELS: that is all.

    python model.py  # lists the layers of every network, and how many parameters each one has
"""

from collections.abc import Mapping

from files import UserError

import torch
from torch import nn


class LeNet5(nn.Module):
    """LeNet-5 with ReLU and max-pooling; pooling before ReLU is the same function for less work."""

    title = "LeNet-5"

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 5),  # 6 x 24 x 24
            nn.MaxPool2d(2),  # 6 x 12 x 12
            nn.ReLU(),
            nn.Conv2d(6, 16, 5),  # 16 x 8 x 8
            nn.MaxPool2d(2),  # 16 x 4 x 4
            nn.ReLU(),
            nn.Flatten(),  # 256
            nn.Linear(256, 120),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(84, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


class CustomMLP(nn.Module):
    """One hidden layer; with 56 hidden units it has as many parameters as LeNet-5 (44,530)."""

    title = "MLP"

    def __init__(self, hidden: int = 20, dropout: float = 0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),  # 784
            nn.Linear(784, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


# The networks by the name that --model takes. The options of a constructor become options of the
# command line: --hidden, --dropout.
MODELS: dict[str, type[nn.Module]] = {"lenet5": LeNet5, "mlp": CustomMLP}


def title_of(network: type[nn.Module]) -> str:
    """A network in titles: its own `title`, not that of a base class, or its class's name."""
    return vars(network).get("title", network.__name__)


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
    lines = [f"{'layer':<24}{'parameters':<24}{'count':>8}"]
    for name, layer in model.named_modules():
        parameters = list(layer.parameters(recurse=False))
        if parameters:
            sizes = " + ".join("·".join(map(str, p.shape)) for p in parameters)
            count = sum(p.numel() for p in parameters)
            label = f"{name} {type(layer).__name__}".strip()
            lines.append(f"{label:<24}{sizes:<24}{count:>8,}")
    total = sum(p.numel() for p in model.parameters())  # counts a shared parameter once
    return "\n".join([*lines, f"{'total':<48}{total:>8,}"])


if __name__ == "__main__":
    for name in MODELS:
        print(f"--model {name}\n\n{parameter_table(build(name, {}))}\n")
