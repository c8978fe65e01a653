"""MNIST as a torch Dataset: its images are decoded, in memory, and normalised in batches.

    train_set = MNIST("data", train=True)
    image, label = train_set[0]  # one image, 1 x 28 x 28
    for images, labels in train_set.batches(order, 64): ...

The images stay in memory as bytes (uint8), on the training device. A batch is gathered from them
and normalised when it is needed: that takes less time than reading normalised images would.
"""

import copy
import operator
from collections.abc import Iterator
from pathlib import Path

from digits import augment, idx, places

import torch

GATHERED = 512  # images at a time: fewer calls for small batches; more fit no cache and are slower


class MNIST(torch.utils.data.Dataset):
    """Images and labels of one split, in whichever form `root` or a folder in it holds them.

    `data` (uint8, N x 28 x 28) and `targets` (int64, N) are named as torchvision names them.
    `path` is the file that was read, `digests` are the SHA-256 of its images and labels in MNIST's
    own format, and `published` says whether they are those of the genuine MNIST. Errors: DataError.
    """

    def __init__(self, root: str | Path = "data", train: bool = True):
        split = "train" if train else "test"
        self.path, self.data, self.targets = places.load(Path(root).expanduser(), split)
        self.digests = tuple(idx.digests(self.data, self.targets))
        self.published = self.digests == tuple(idx.published_digests(split))
        self.augment = "none"  # how `batches` distorts the images: none, affine or elastic

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """One normalised image (float32, 1 x 28 x 28), never distorted, and its label."""
        row = range(len(self))[operator.index(index)]  # one whole number, or an error
        return normalize(self.data[row]), int(self.targets[row])

    def batches(
        self, order: torch.Tensor, size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of images (float32, N x 1 x 28 x 28) and labels (int64, N), in an order of rows.

        Images are gathered and normalised 512 at a time, and each batch is a view of them.
        """
        gathered = max(1, GATHERED // size) * size
        for rows in order.to(self.data.device).split(gathered):
            images = normalize(self.data.index_select(0, rows))  # a seventh of data[rows]' time
            labels = self.targets.index_select(0, rows)
            for batch, targets in zip(images.split(size), labels.split(size), strict=True):
                yield augment.augment(batch, self.augment), targets

    def replace(self, **attributes: object) -> "MNIST":
        """The same dataset with other attributes, such as `data` and `targets`, or `augment`."""
        dataset = copy.copy(self)
        dataset.__dict__ |= attributes
        return dataset

    def part(self, start: int, stop: int | None) -> "MNIST":
        """The images from number `start` up to `stop` as a dataset of their own."""
        images, labels = self.data[start:stop], self.targets[start:stop]
        digests = tuple(idx.digests(images, labels))
        return self.replace(data=images, targets=labels, digests=digests, published=False)

    def to(self, device: torch.device | str) -> "MNIST":
        """The same dataset on another device."""
        return self.replace(data=self.data.to(device), targets=self.targets.to(device))


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (uint8, ... x 28 x 28) as the networks take them (float32, ... x 1 x 28 x 28)."""
    # One operation makes one temporary: (pixel / 255 - MEAN) / STD = BLACK + pixel / (255 STD).
    return torch.add(idx.BLACK, pixels.unsqueeze(-3), alpha=1 / (255 * idx.STD))
