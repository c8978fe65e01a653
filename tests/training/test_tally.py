"""A batch's loss is plain cross-entropy; an epoch's loss and accuracy are over every image once."""

from training.tally import CrossEntropy, Tally

import pytest
import torch
import torch.nn.functional as F

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(129, 10, generator=GENERATOR)
LABELS = torch.randint(10, (129,), generator=GENERATOR)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_torchs_and_no_digit_is_a_tenth_for_each(smoothing):
    plain = F.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)
    for non_digits in (False, True):
        torch.testing.assert_close(CrossEntropy(smoothing, non_digits)(LOGITS, LABELS), plain)
    loss = CrossEntropy(smoothing, True)(LOGITS, torch.full_like(LABELS, -1))
    torch.testing.assert_close(loss, -LOGITS.log_softmax(1).mean())


def test_a_tally_is_over_every_image_once():
    """In double precision; images without a digit are left out; points are means of their parts."""
    tally, batch = Tally(), torch.empty(50, 10, requires_grad=True)
    labels = torch.where(torch.arange(129) % 7 == 0, -1, LABELS)
    for part in (slice(0, 50), slice(50, 100), slice(100, 129)):
        logits = batch[: len(LABELS[part])]
        logits.data.copy_(LOGITS[part])  # into the same memory: a tally keeps copies
        tally.add(logits, labels[part])
    assert torch.equal(tally.logits, LOGITS) and not tally.logits.requires_grad
    each = F.cross_entropy(LOGITS.double(), labels, reduction="none", ignore_index=-1)
    right, digits = LOGITS.argmax(1) == labels, labels >= 0
    points = [[3, tally.loss, tally.accuracy], *tally.points(3)]
    for k, (position, loss, accuracy) in enumerate(points):
        part = slice(50 * k - 50, 50 * k) if k else slice(None)
        count = digits[part].sum().item()
        assert position == pytest.approx(2 + k / 3 if k else 3)
        assert loss == pytest.approx(each[part].sum().item() / count, abs=1e-12)
        assert accuracy == right[part].sum().item() / count
