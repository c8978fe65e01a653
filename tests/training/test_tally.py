"""A batch's loss is plain cross-entropy; an epoch's loss and accuracy are over every image once."""

from training.tally import CrossEntropy, Tally

import pytest
import torch
import torch.nn.functional as F


def some(count=129):
    torch.manual_seed(0)
    return torch.randn(count, 10), torch.randint(10, (count,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_torchs_and_no_digit_is_a_tenth_for_each(smoothing):
    logits, labels = some()
    plain = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    for non_digits in (False, True):
        torch.testing.assert_close(CrossEntropy(smoothing, non_digits)(logits, labels), plain)
    none = torch.full_like(labels, -1)
    tenths = -logits.log_softmax(1).mean()
    torch.testing.assert_close(CrossEntropy(smoothing, True)(logits, none), tenths)


def test_a_tally_is_over_every_image_once():
    """In double precision; images without a digit are left out; points are means of their parts."""
    logits, labels = some()
    labels[::7] = -1
    tally = Tally()
    for x, y in zip(logits.split(50), labels.split(50), strict=True):
        tally.add(x.requires_grad_(), y)
    assert torch.equal(tally.logits, logits) and not tally.logits.requires_grad
    digits = labels >= 0
    each = F.cross_entropy(logits.double(), labels, reduction="none", ignore_index=-1)
    right = logits.argmax(1) == labels
    assert tally.loss == pytest.approx((each.sum() / digits.sum()).item(), abs=1e-12)
    assert tally.accuracy == (right.sum() / digits.sum().double()).item()
    for k, (position, loss, accuracy) in enumerate(tally.points(3)):
        part = slice(50 * k, 50 * k + 50)
        assert position == pytest.approx(2 + (k + 1) / 3)
        assert loss == pytest.approx((each[part].sum() / digits[part].sum()).item())
        assert accuracy == pytest.approx((right[part].sum() / digits[part].sum()).item())
    assert position == 3


def test_a_tally_keeps_copies():
    tally, logits, labels = Tally(), torch.zeros(3, 10), torch.zeros(3, dtype=torch.int64)
    tally.add(logits, labels)
    logits += 1
    labels += 1
    assert not tally.logits.any() and tally.accuracy == 1
