"""The two networks: LeNet-5 with 44,426 parameters and a small MLP with 15,910.

Both take normalised images (N x 1 x 28 x 28, float32) and give logits (N x 10).
"""

from torch import nn


class LeNet5(nn.Module):
    """LeNet-5 with ReLU and max-pooling; the comments give the shape after each line.

    Pooling before ReLU is the same function as after it, on a quarter of the values.
    """

    def __init__(self, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.ReLU(),  # 6 x 12 x 12
            nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.ReLU(),  # 16 x 4 x 4
            nn.Flatten(),  # 256
            nn.Linear(256, 120), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(120, 84), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(84, 10),
        )  # fmt: skip

    def forward(self, images):
        return self.layers(images)


class CustomMLP(nn.Module):
    """One hidden layer; with 56 hidden units it has as many parameters as LeNet-5 (44,530)."""

    def __init__(self, hidden=20, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),  # 784
            nn.Linear(784, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, 10),
        )  # fmt: skip

    def forward(self, images):
        return self.layers(images)


MODELS = {"lenet5": LeNet5, "mlp": CustomMLP}


def build(config):
    """The network that a run's configuration (`model`, `hidden`, `dropout`) describes."""
    options = {"dropout": config["dropout"]}
    if config["model"] == "mlp":
        options["hidden"] = config["hidden"]
    return MODELS[config["model"]](**options)


def parameter_table(model):
    """Each layer's shape, the arithmetic of its parameters, their count, and the total, as text."""
    rows = []
    for layer in model.layers:
        if isinstance(layer, nn.Conv2d):
            size = f"{layer.kernel_size[0]}×{layer.kernel_size[1]}"
            shape = f"conv {layer.in_channels} → {layer.out_channels}, {size}"
            formula = f"({layer.in_channels}·{size.replace('×', '·')} + 1) · {layer.out_channels}"
        elif isinstance(layer, nn.Linear):
            shape = f"linear {layer.in_features} → {layer.out_features}"
            formula = f"({layer.in_features} + 1) · {layer.out_features}"
        else:
            continue
        rows.append((shape, formula, sum(p.numel() for p in layer.parameters())))
    rows.append(("total", "", sum(p.numel() for p in model.parameters())))
    lines = [f"{'layer':<18}  {'parameters':<18}  {'count':>7}"]
    lines += [f"{shape:<18}  {formula:<18}  {count:>7,}" for shape, formula, count in rows]
    return "\n".join(lines)
