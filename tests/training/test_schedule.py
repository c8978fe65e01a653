"""Schedules rise and fall as they say; SGD is torch's own."""

import pytest
import torch

from training.schedule import SGD, learning_rate


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


def test_sgd_takes_the_steps_of_torchs():
    weights = []
    for kind in (SGD, torch.optim.SGD):
        torch.manual_seed(0)
        layer = torch.nn.Linear(5, 3)
        optimizer = kind(layer.parameters(), 0.1, 0.9, nesterov=True, weight_decay=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            layer(torch.randn(8, 5)).square().mean().backward()
            optimizer.step()
        weights.append(layer.weight.detach())
    assert torch.equal(*weights)
