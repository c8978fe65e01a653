"""The networks are the ones that the README describes, to the last parameter."""

from model import MODELS, CustomMLP, LeNet5, build, parameter_table, title_of

import pytest
import torch


@pytest.mark.parametrize(
    ("model", "counts"),
    [
        (LeNet5(), [156, 2_416, 30_840, 10_164, 850, 44_426]),
        (CustomMLP(), [15_700, 210, 15_910]),
        (CustomMLP(hidden=56), [43_960, 570, 44_530]),
    ],
)
def test_parameter_counts_and_their_arithmetic(model, counts):
    assert sum(p.numel() for p in model.parameters()) == counts[-1] == sum(counts[:-1])
    *rows, total = parameter_table(model).splitlines()[1:]
    assert total.split() == ["total", f"{counts[-1]:,}"]
    for row, count in zip(rows, counts, strict=False):
        assert eval(row[24:48].replace("·", "*")) == count == int(row[48:].replace(",", ""))


def test_every_parameter_of_any_network_is_in_the_table_once():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 8, (3, 1), groups=4))
    network.again, network.scale = network[1], torch.nn.Parameter(torch.ones(3, 2))
    lines = parameter_table(network).splitlines()[1:]
    rows = [(line.split()[0], line.split()[-1]) for line in lines]
    assert rows == [("Sequential", "6"), ("0", "16"), ("1", "56"), ("total", "78")]


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


@pytest.mark.parametrize(("network", "layers"), [(LeNet5, 2), (CustomMLP, 1)])
def test_dropout_follows_each_hidden_linear_layer_and_only_in_training(network, layers):
    torch.manual_seed(0)
    model, plain, images = network(dropout=0.5), network(), torch.randn(16, 1, 28, 28)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(images), plain.eval()(images))
    assert not torch.equal(model.train()(images), model(images))
    assert torch.equal(plain.train()(images), plain(images))
    dropped = [k for k, layer in enumerate(model.layers) if isinstance(layer, torch.nn.Dropout)]
    assert len(dropped) == layers
    for k in dropped:
        kinds = [type(layer) for layer in model.layers[k - 2 : k]]
        assert kinds == [torch.nn.Linear, torch.nn.ReLU]
    all_dropped = network(dropout=1 - 1e-9).train()  # only the last bias is left
    bias = all_dropped.layers[-1].bias
    torch.testing.assert_close(all_dropped(images), bias.expand(16, 10))


def test_a_network_is_built_by_its_name_with_its_options():
    model = build("mlp", {"hidden": 56, "dropout": 0.25})
    assert model.training and model.layers[1].out_features == 56 and model.layers[3].p == 0.25
    assert [type(build(name, {})) for name in MODELS] == [LeNet5, CustomMLP]


def test_a_network_without_a_title_is_called_as_its_class_and_not_as_its_base():
    assert [title_of(n) for n in (LeNet5, type("Wider", (LeNet5,), {}))] == ["LeNet-5", "Wider"]
