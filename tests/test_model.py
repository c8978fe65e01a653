"""The networks are the ones that the README describes, to the last parameter."""

import re

import pytest
import torch

from model import MODELS, CustomMLP, LeNet5, parameter_table
from training.config import Config


@pytest.mark.parametrize(
    ("model", "count"), [(LeNet5(), 44_426), (CustomMLP(), 15_910), (CustomMLP(hidden=56), 44_530)]
)
def test_parameter_counts(model, count):
    assert sum(p.numel() for p in model.parameters()) == count
    assert parameter_table(model).splitlines()[-1].split() == ["total", f"{count:,}"]


def test_parameter_table_of_lenet5_has_every_layer_and_adds_up():
    rows = parameter_table(LeNet5()).splitlines()[1:]
    counts = [int(row.split()[-1].replace(",", "")) for row in rows]
    assert counts[:-1] == [156, 2_416, 30_840, 10_164, 850]
    assert sum(counts[:-1]) == counts[-1]
    for row in rows[:-1]:  # the arithmetic in the table gives the count beside it
        formula = row[20:38].replace("·", "*")
        assert eval(formula) == int(row.split()[-1].replace(",", ""))


def test_lenet5_is_the_published_network():
    """The same function as the usual formulation: ReLU, then pooling, layer by layer."""
    torch.manual_seed(0)
    model, images = LeNet5(), torch.randn(7, 1, 28, 28)
    state = list(model.state_dict().values())
    x = images
    for weight, bias in (state[0:2], state[2:4]):
        x = torch.max_pool2d(torch.relu(torch.conv2d(x, weight, bias)), 2)
    x = x.flatten(1)
    for weight, bias in (state[4:6], state[6:8]):
        x = torch.relu(x @ weight.T + bias)
    torch.testing.assert_close(model(images), x @ state[8].T + state[9])


@pytest.mark.parametrize("network", [LeNet5, CustomMLP])
def test_dropout_changes_training_and_leaves_evaluation_alone(network):
    torch.manual_seed(0)
    model, images = network(dropout=0.5), torch.randn(16, 1, 28, 28)
    plain = network()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(images), plain.eval()(images))
    model.train()
    assert not torch.equal(model(images), model(images))
    assert torch.equal(plain.train()(images), plain(images))


@pytest.mark.parametrize(("network", "layers"), [(LeNet5, 2), (CustomMLP, 1)])
def test_dropout_follows_the_activation_of_each_hidden_linear_layer(network, layers):
    model = network(dropout=1 - 1e-9).train()
    dropped = [i for i, layer in enumerate(model.layers) if isinstance(layer, torch.nn.Dropout)]
    assert len(dropped) == layers
    for i in dropped:
        kinds = [type(layer) for layer in model.layers[i - 2 : i]]
        assert kinds == [torch.nn.Linear, torch.nn.ReLU]
    with torch.no_grad():  # all hidden units dropped: only the last bias is left
        logits = model(torch.randn(3, 1, 28, 28))
    torch.testing.assert_close(logits, model.layers[-1].bias.expand(3, 10))


def test_the_configuration_builds_the_network():
    config = Config.from_dict({"model": "mlp", "hidden": 56, "dropout": 0.25})
    model = MODELS[config.model](**config.network)
    assert model.layers[1].out_features == 56
    assert model.layers[3].p == 0.25
    assert isinstance(MODELS[Config().model](**Config().network), LeNet5)


class Block(torch.nn.Module):
    """A network in PyTorch's usual way: named layers, a residual sum, batch normalisation."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 8, 3, groups=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.inner = torch.nn.Sequential(torch.nn.Conv2d(8, 8, (3, 1), groups=4), torch.nn.ReLU())
        self.head = torch.nn.Linear(8, 10, bias=False)
        self.scale = torch.nn.Parameter(torch.ones(3, 2))


def test_every_parameter_of_any_network_is_in_the_table():
    *rows, total = (re.split(" {2,}", row) for row in parameter_table(Block()).splitlines()[1:])
    counts = [int(row[-1].replace(",", "")) for row in rows]
    assert total == ["total", str(sum(counts))]
    assert sum(counts) == sum(p.numel() for p in Block().parameters())
    assert [row[0] for row in rows] == [
        "Block",
        "conv 1 → 8, 3×3",
        "BatchNorm2d",
        "conv 8 → 8, 3×1",
        "linear 8 → 10",
    ]
    for (_, formula, _), count in zip(rows, counts, strict=True):
        assert eval(formula.replace("·", "*")) == count
