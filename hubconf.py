"""For torch.hub: torch.hub.load(".", "lenet5", source="local", pretrained=True)."""

import sys
from pathlib import Path

from torch import nn

dependencies = ["torch", "numpy"]
HERE = Path(__file__).resolve().parent
NAMES = {path.stem for path in HERE.iterdir()}  # of the project's modules, among others
FILES = {"best": "lenet5.pt", "handwriting": "handwriting.pt"}


def lenet5(pretrained: bool = False, weights: str = "best") -> nn.Module:
    """LeNet-5 for normalised images; its weights are those of `best` or of `handwriting`."""
    if weights not in FILES:
        raise ValueError(f"lenet5: there are no weights {weights!r}; choose best or handwriting")
    return network("lenet5", FILES[weights] if pretrained else None)


def mlp() -> nn.Module:
    """The small MLP for normalised images, untrained: no weights of it are shipped."""
    return network("mlp", None)


def network(name: str, file: str | None) -> nn.Module:
    """A network; meanwhile, the caller's modules that have names of this project's are away."""
    callers = take_away()
    try:
        from model import build
        from training import checkpoint

        path = HERE / "pretrained" / str(file)
        return checkpoint.network(checkpoint.load(path)) if file else build(name, {})
    finally:
        take_away()
        sys.modules.update(callers)


def take_away() -> dict:
    return {name: sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] in NAMES}
