"""The loss of a batch, or of one process's share of it; the loss and accuracy of an epoch."""

import itertools
import math
from functools import cached_property

import torch
import torch.nn.functional as F

from training import distributed


class Criterion:
    """The loss: the mean cross-entropy of each batch of an epoch in turn.

    `labels` (int64, N) are those of the training set. A label of -1 says that there is no digit:
    the target is then a tenth for each digit.

    Where several processes (ranks) share a batch, their gradients are averaged. A share's loss is
    then its sum, times the number of ranks, divided by the length of the whole batch: the average
    is the mean over the batch, also where the shares differ in size or are empty.
    """

    def __init__(self, labels: torch.Tensor, batch_size: int, label_smoothing: float = 0.0):
        images = len(labels)
        lengths = [batch_size] * (images // batch_size) + [images % batch_size]
        self.has_non_digits = bool((labels < 0).any())
        self.lengths = iter(lengths)  # of the whole batches; the last one may be smaller
        self.label_smoothing = label_smoothing
        self.ranks = distributed.world_size()

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss (a scalar) of the next batch; logits (N x 10, float32) and labels (N, int64)."""
        smoothing = self.label_smoothing
        if self.has_non_digits:
            labels = probabilities(labels, logits.shape[1])
        if self.ranks == 1:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
        return loss * (self.ranks / next(self.lengths))


def probabilities(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """The target of each label (float32, N x classes): 1 for its class, or all alike for -1."""
    targets = F.one_hot(labels.clamp(min=0), classes).float()
    return torch.where(labels[:, None] < 0, 1 / classes, targets)


class Tally:
    """Collects logits and labels; gives mean cross-entropy and accuracy over all ranks' images.

    Images with the label -1 show no digit and are left out. `capacity` is the largest number of
    images that may be added.
    """

    def __init__(self, capacity: int):
        self.capacity, self.count = capacity, 0
        self._logits = self._labels = torch.empty(0)
        self._ends: list[int] = []  # where each batch ends

    def add(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Copy a batch's logits (N x classes) and labels (N)."""
        if self.count == 0:
            # One preallocated tensor: thousands of small ones fragment the heap and slow each step.
            self._logits = logits.new_empty(self.capacity, logits.shape[1])
            self._labels = labels.new_empty(self.capacity)
        end = self.count + len(labels)
        self._logits[self.count : end] = logits.detach()
        self._labels[self.count : end] = labels
        self.count = end
        self._ends.append(end)

    @property
    def logits(self) -> torch.Tensor:
        """The logits of this rank's images (N x classes), in the order in which they came."""
        return self._logits[: self.count]

    @property
    def labels(self) -> torch.Tensor:
        """The labels of this rank's images (N)."""
        return self._labels[: self.count]

    @property
    def loss(self) -> float:
        """Mean cross-entropy, without label smoothing."""
        return self._means[0]

    @property
    def accuracy(self) -> float:
        """The share of right answers, from 0 to 1."""
        return self._means[1]

    def points(self, epoch: int, number: int = 50) -> list[list[float]]:
        """About `number` running points of an epoch: its position, and means since the last point.

        Each is [position in epochs, cross-entropy, accuracy]; the last position is `epoch`.
        """
        logits, labels = self.logits.cpu().double(), self.labels.cpu()
        each = F.cross_entropy(logits, labels, reduction="none", ignore_index=-1)
        right, digits = logits.argmax(1) == labels, labels >= 0
        steps = len(self._ends)
        marks = sorted({math.ceil(steps * k / number) for k in range(number + 1)})
        sums = []
        for first, last in itertools.pairwise(marks):
            rows = slice(self._ends[first - 1] if first else 0, self._ends[last - 1])
            sums += [part[rows].sum().item() for part in (each, right, digits)]
        sums = distributed.all_sum(sums)
        means = zip(marks[1:], sums[0::3], sums[1::3], sums[2::3], strict=True)
        return [
            [epoch - 1 + step / steps, loss / count, correct / count]
            for step, loss, correct, count in means
            if count  # there may be no digit among these images
        ]

    @cached_property
    def _means(self) -> tuple[float, float]:
        logits, labels = self.logits.cpu().double(), self.labels.cpu()
        loss = F.cross_entropy(logits, labels, reduction="sum", ignore_index=-1).item()
        correct, count = (logits.argmax(1) == labels).sum().item(), (labels >= 0).sum().item()
        loss, correct, count = distributed.all_sum([loss, correct, count])
        return loss / count, correct / count
