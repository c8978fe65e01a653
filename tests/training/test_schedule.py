"""Seeds decide everything random; schedules rise and fall as they say; SGD is torch's own."""

import copy

import main
from training.config import Config
from training.schedule import derived_seed, learning_rate, shuffled

import pytest
import torch


def test_the_order_is_a_permutation_that_seed_and_epoch_decide():
    order = shuffled(100, 3, 4)
    assert sorted(order.tolist()) == list(range(100))
    assert torch.equal(order, shuffled(100, 3, 4))
    assert not torch.equal(order, shuffled(100, 3, 5))
    assert not torch.equal(order, shuffled(100, 4, 4))
    assert len({derived_seed(s, e, 0) for s in range(20) for e in range(20)}) == 400  # not s + e


def test_ranks_share_the_order_and_draw_noise_of_their_own(monkeypatch):
    orders, noise = [], []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        orders.append(shuffled(50, 0, 1))
        noise.append(torch.rand(3))
    assert torch.equal(*orders) and not torch.equal(*noise)


@pytest.mark.parametrize(("schedule", "halfway"), [("linear", 0.5), ("quadratic", 0.25)])
def test_schedules_rise_for_a_fifth_and_end_near_zero(schedule, halfway):
    factor = learning_rate(schedule, 100)
    values = [factor(step) for step in range(100)]
    assert max(values) == values[19] == 1.0
    assert values[:19] == sorted(values[:19])
    assert values[20:] == sorted(values[20:], reverse=True)
    assert values[0] == 0.05 and values[60] == pytest.approx(halfway)
    assert 0 < values[-1] <= 0.02
    assert 0 < learning_rate(schedule, 1)(0) <= 1


def test_the_options_of_sgd_reach_the_steps_of_torchs():
    options = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
    ours = torch.nn.Linear(5, 3)
    theirs = copy.deepcopy(ours)
    optimizer, _ = main.optimization(ours, Config(**options), 5)
    expected = torch.optim.SGD(theirs.parameters(), **options, fused=True)
    for images in torch.randn(5, 8, 5):
        for layer, steps in ((ours, optimizer), (theirs, expected)):
            steps.zero_grad()
            layer(images).square().mean().backward()
            steps.step()
    assert torch.equal(ours.weight, theirs.weight)
