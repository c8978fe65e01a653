"""For torch.hub: torch.hub.load(".", "lenet5", source="local", pretrained=True)."""

import sys
from pathlib import Path

from torch import nn

dependencies = ["torch", "numpy"]
HERE = Path(__file__).resolve().parent
NAMES = {path.stem for path in HERE.glob("*.py")} | {
    "digits",
    "training",
    "handwriting",
    "figures",
    "study",
}


def lenet5(pretrained: bool = False, weights: str = "best") -> nn.Module:
    """LeNet-5 for normalised images; its weights are those of `best` or of `handwriting`."""
    files = {"best": "lenet5.pt", "handwriting": "handwriting.pt"}
    if weights not in files:
        raise ValueError(f"lenet5: there are no weights {weights!r}; choose best or handwriting")
    return network("lenet5", files[weights] if pretrained else None)


def mlp(pretrained: bool = False) -> nn.Module:
    """The small MLP for normalised images, untrained."""
    if pretrained:
        raise ValueError("mlp: no weights of it are shipped; run python main.py --model mlp")
    return network("mlp", None)


def network(name: str, file: str | None) -> nn.Module:
    """A network; meanwhile, the caller's modules that have names of this project's are away."""
    callers = {one: sys.modules.pop(one) for one in [*sys.modules] if one.split(".")[0] in NAMES}
    try:
        from model import build
        from training import checkpoint

        path = HERE / "pretrained" / str(file)
        return checkpoint.network(checkpoint.load(path)) if file else build(name, {})
    finally:
        for one in [one for one in sys.modules if one.split(".")[0] in NAMES]:
            del sys.modules[one]
        sys.modules.update(callers)
