"""A batch's loss is the mean over the whole batch, however the ranks share it."""

import pytest
import torch
import torch.nn.functional as F

from training import distributed
from training.tally import Criterion, Tally


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_shares_average_to_the_mean_over_the_batch(ranks, monkeypatch):
    """Batches of 64, 64, 1: with seven ranks shares of unequal size, and empty ones."""
    torch.manual_seed(0)
    logits, labels = torch.randn(129, 10), torch.randint(10, (129,))
    shares = []
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    for rank in range(ranks):
        monkeypatch.setenv("RANK", str(rank))
        criterion, shard = Criterion(torch.zeros(129), 64, 0.1), distributed.shard()
        batches = zip(logits.split(64), labels.split(64), strict=True)
        shares.append([criterion(x[shard], y[shard]) for x, y in batches])
    for losses, x, y in zip(
        zip(*shares, strict=True), logits.split(64), labels.split(64), strict=True
    ):
        mean = F.cross_entropy(x, y, label_smoothing=0.1)
        torch.testing.assert_close(sum(losses) / ranks, mean)


def test_a_tally_is_over_every_image_once():
    torch.manual_seed(0)
    logits, labels, tally = torch.randn(129, 10), torch.randint(10, (129,)), Tally(200)
    for x, y in zip(logits.split(50), labels.split(50), strict=True):
        tally.add(x.requires_grad_(), y)
    assert torch.equal(tally.logits, logits) and torch.equal(tally.labels, labels)
    assert not tally.logits.requires_grad
    each = F.cross_entropy(logits.double(), labels, reduction="none")
    assert tally.loss == pytest.approx(each.mean().item(), abs=1e-12)
    assert tally.accuracy == (logits.argmax(1) == labels).sum().item() / 129


def test_a_tally_keeps_copies():
    tally, logits, labels = Tally(3), torch.zeros(3, 10), torch.zeros(3, dtype=torch.int64)
    tally.add(logits, labels)
    logits += 1
    labels += 1
    assert not tally.logits.any() and not tally.labels.any()
