"""The loss of a batch; the loss and accuracy of an epoch."""

import math
from functools import cached_property
from typing import Any

from files import UserError
from training.distributed import all_sum

import torch
import torch.nn.functional as F
from torch import nn

BLOCK = 10_000  # images; thousands of small tensors would fragment the heap and slow each step


class CrossEntropy:
    """The mean cross-entropy of a batch.

    With `non_digits` a label of -1 says that there is no digit: its target is a tenth for each.
    """

    def __init__(self, label_smoothing: float = 0.0, non_digits: bool = False):
        self.label_smoothing, self.non_digits = label_smoothing, non_digits

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss (a scalar); logits are float32, N x 10, and labels int64, N."""
        if self.non_digits:
            targets = F.one_hot(labels.clamp(min=0), logits.shape[1]).float()
            labels = torch.where(labels[:, None] < 0, 1 / logits.shape[1], targets)
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


class Tally:
    """Collects logits and labels; gives mean cross-entropy and accuracy over all ranks' images.

    Images with the label -1 show no digit and are left out.
    """

    def __init__(self):
        self._logits, self._labels = torch.empty(0, 10), torch.empty(0, dtype=torch.int64)
        self._ends = [0]  # how many images there are after each batch

    def add(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Copy a batch's logits (N x 10) and labels (N)."""
        start = self._ends[-1]
        end = start + len(labels)
        if end > len(self._labels):
            room = max(BLOCK, end)  # twice as much each time
            self._logits = torch.cat([self.logits.to(logits), logits.new_empty(room, 10)])
            self._labels = torch.cat([self._labels[:start].to(labels), labels.new_empty(room)])
        self._logits[start:end] = logits.detach()
        self._labels[start:end] = labels
        self._ends.append(end)

    @property
    def logits(self) -> torch.Tensor:
        """The logits of this rank's images (N x 10), in the order in which they came."""
        return self._logits[: self._ends[-1]]

    @property
    def loss(self) -> float:
        """Mean cross-entropy, without label smoothing."""
        return self._means[0]

    @property
    def accuracy(self) -> float:
        """The share of right answers, from 0 to 1."""
        return self._means[1]

    @cached_property
    def _means(self) -> tuple[float, float]:
        logits, labels = self._on_cpu
        loss = F.cross_entropy(logits, labels, reduction="sum", ignore_index=-1).item()
        correct, count = (logits.argmax(1) == labels).sum().item(), (labels >= 0).sum().item()
        loss, correct, count = all_sum([loss, correct, count])
        return loss / count, correct / count

    @property
    def _on_cpu(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits.cpu().double(), self._labels[: self._ends[-1]].cpu()

    def points(self, epoch: int, number: int = 50) -> list[list[float]]:
        """About `number` running points of an epoch: its position, and means since the last point.

        Each is [position in epochs, cross-entropy, accuracy]; the last position is `epoch`.
        """
        logits, labels = self._on_cpu
        losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=-1)
        each = torch.stack([losses, logits.argmax(1) == labels, labels >= 0])
        steps = len(self._ends) - 1
        marks = sorted({math.ceil(steps * k / number) for k in range(number + 1)})
        ends = [self._ends[mark] for mark in marks[1:-1]]
        sums = [part.sum(1).tolist() for part in each.tensor_split(ends, 1)]
        return [
            [epoch - 1 + mark / steps, loss / count, correct / count]
            for mark, (loss, correct, count) in zip(marks[1:], all_sum(sums), strict=True)
            if count  # there may be no digit among these images
        ]


def require_finite(model: nn.Module, row: dict, config: Any) -> None:  # noqa: ANN401
    """Raise UserError if an epoch, by its row of the history, left something not finite."""
    losses = math.isfinite(row["train_loss"]) and math.isfinite(row["test_loss"])
    weights = all(weight.isfinite().all() for weight in model.parameters())
    buffers = not any(buffer.isnan().any() for buffer in model.buffers())
    if not (losses and weights and buffers):
        # A step multiplies weights by 1 - lr * decay: from lr * decay = 1 on, none is left.
        suspect = "--weight-decay" if row["lr"] * config.weight_decay >= 1 else "--lr"
        raise UserError(
            f"{config.name}: diverged in epoch {row['epoch']} (learning rate {row['lr']:g}, loss "
            f"{row['train_loss']:g}); {row['epoch'] - 1} earlier epochs are saved; try a smaller "
            f"{suspect}"
        )
