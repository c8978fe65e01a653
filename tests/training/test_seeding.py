"""Everything random follows from seed and epoch, and nothing else."""

import torch

from training import seeding


def test_order_and_noise_follow_from_seed_and_epoch():
    seeds = {seeding.derived_seed(s, e, 0) for s in range(20) for e in range(20)}
    assert len(seeds) == 400  # not seed + epoch


def test_the_order_is_a_permutation_that_seed_and_epoch_decide():
    order = seeding.start_epoch(100, 3, 4)
    assert sorted(order.tolist()) == list(range(100))
    assert torch.equal(order, seeding.start_epoch(100, 3, 4))
    assert not torch.equal(order, seeding.start_epoch(100, 3, 5))
    assert not torch.equal(order, seeding.start_epoch(100, 4, 4))


def test_ranks_share_the_order_and_draw_noise_of_their_own(monkeypatch):
    orders, drawn = [], []
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        orders.append(seeding.start_epoch(50, 0, 1))
        drawn.append(torch.rand(3))
    assert torch.equal(*orders) and not torch.equal(*drawn)
