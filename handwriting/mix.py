"""What --mix adds to the training images: hands that MNIST never saw, and what is no digit.

A picture without a digit has the label -1. The criterion turns it into a tenth for each digit, so
that the network learns to be unsure; loss, accuracy and counts leave it out (training/tally.py).
"""

import functools
from pathlib import Path

from dataset import MNIST, normalize
from digits import idx, synthetic

import numpy as np
import torch
from torch import nn

HANDS = Path(__file__).with_name("hands.txt")  # of people who write otherwise than in MNIST
MIXES = ("none", "handwriting")
DIGITS, NON_DIGITS = 10_000, 20_000  # that are mixed into MNIST's 60,000
UNREST = 0.6  # of the generated digits: drawn with 1, one in twenty cannot be read by anybody
NEW_DIGITS, NEW_NON_DIGITS = 2_000, 2_000  # to see what was learned: of another seed, other kinds
SURE = 0.5  # answers below this probability are refused: the highest tenth at which 99 % of
# held-out MNIST images are still read right


def mixed(train_set: MNIST, mix: str) -> MNIST:
    """A training set with what `mix` adds to its end; the digests of that are added, too."""
    if mix == "none":
        return train_set
    images, labels = draw(DIGITS, NON_DIGITS, seed=0)
    return train_set.replace(
        data=torch.cat([train_set.data, images.to(train_set.data.device)]),
        targets=torch.cat([train_set.targets, labels.to(train_set.data.device)]),
        digests=train_set.digests + tuple(idx.digests(images, labels)),
    )


@functools.cache
def draw(
    digits: int, non_digits: int, seed: int, use: str = "learn"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (uint8, N x 28 x 28) and labels (int64, N): digits, then non-digits with label -1."""
    from handwriting import nondigits  # here, because matplotlib takes 0.3 s to import

    usual, new = synthetic.read_skeletons(), synthetic.read_skeletons(HANDS)
    both = {digit: usual[digit] + new[digit] for digit in usual}
    images, labels = synthetic.draw(digits, np.random.SeedSequence([seed, 2]), both, UNREST)
    others = nondigits.draw(non_digits, np.random.SeedSequence([seed, 3]), use)
    return torch.cat([images, others]), torch.cat([labels, torch.full((non_digits,), -1)])


@torch.no_grad()
def unseen(network: nn.Module) -> str:
    """How well a network reads new digits and refuses signs that it never saw, in words."""
    images, labels = draw(NEW_DIGITS, NEW_NON_DIGITS, seed=1, use="test")
    device = next(network.parameters()).device
    probability, answer = network(normalize(images.to(device))).softmax(1).cpu().max(1)
    written = labels >= 0
    right = ((answer == labels) & (probability >= SURE))[written].double().mean()
    refused = (probability < SURE)[~written].double().mean()
    return (
        f"new generated digits: {100 * right:.2f} % read; letters and signs that were never "
        f"learned: {100 * refused:.2f} % refused"
    )
