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

import torch

from digits import augment, idx
from digits.cache import read_cached
from digits.tarball import find_data
from files import DataError

GATHERED = 512  # images at a time: fewer calls for small batches; more fit no cache and are slower


class MNIST(torch.utils.data.Dataset):
    """Images and labels of one split, in whichever form the folder `root` holds it.

    That may be `train.tar` or `test.tar`, a zip archive, a folder of PNGs or MNIST's IDX files.
    `data` (uint8, N x 28 x 28) and `targets` (int64, N) are named as torchvision names them.
    `digests` are the SHA-256 of images and labels in MNIST's own format; `published` says whether
    they are those of the genuine MNIST. Errors: DataError.
    """

    def __init__(self, root: str | Path = "data", train: bool = True, augment: str = "none"):
        split = "train" if train else "test"
        root = Path(root).expanduser()
        path = find_data(root, split)
        if path is None:
            raise DataError(f"{root / split}.tar: not found; put it or {split}.zip there")
        try:
            self.data, self.targets = read_cached(path, split)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; make it readable") from error
        self.path = path
        self.augment = augment  # how `batches` distorts the images
        self.digests = idx.digests(self.data, self.targets)
        self.published = self.digests == idx.published_digests(split)
        if other := idx.contradiction(root, split, path, self.digests):
            raise DataError(f"{path} and {other}: hold different data; move one of them away")

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """One normalised image (float32, 1 x 28 x 28), never distorted, and its label."""
        row = range(len(self))[operator.index(index)]  # one whole number, or an error
        return normalize(self.data[row]), int(self.targets[row])

    def batches(
        self, order: torch.Tensor, size: int, shard: slice = slice(None)
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of images (float32, N x 1 x 28 x 28) and labels (int64, N), in an order of rows.

        With several processes, each batch holds only the rows `batch[shard]`, one's own share.
        """
        shares = [batch[shard] for batch in order.to(self.data.device).split(size)]
        whole_batches = max(1, GATHERED // size)
        for start in range(0, len(shares), whole_batches):
            some = shares[start : start + whole_batches]
            rows, sizes = torch.cat(some), [len(share) for share in some]
            images = normalize(self.data.index_select(0, rows))  # a seventh of data[rows]' time
            labels = self.targets.index_select(0, rows)
            for batch, targets in zip(images.split(sizes), labels.split(sizes), strict=True):
                yield augment.augment(batch, self.augment), targets

    def part(self, start: int, stop: int | None) -> "MNIST":
        """The images from number `start` up to `stop` as a dataset of their own."""
        part = copy.copy(self)
        part.data, part.targets = self.data[start:stop], self.targets[start:stop]
        part.digests, part.published = idx.digests(part.data, part.targets), False
        return part

    def joined(self, images: torch.Tensor, labels: torch.Tensor) -> "MNIST":
        """The same dataset with more images (uint8, N x 28 x 28) and labels (int64, N) at its end.

        A label of -1 says that the image shows no digit.
        """
        joined = copy.copy(self)
        joined.data = torch.cat([self.data, images.to(self.data.device)])
        joined.targets = torch.cat([self.targets, labels.to(self.data.device)])
        return joined

    def to(self, device: torch.device | str) -> "MNIST":
        """The same dataset on another device."""
        moved = copy.copy(self)
        moved.data, moved.targets = self.data.to(device), self.targets.to(device)
        return moved

    def augmented(self, kind: str) -> "MNIST":
        """The same dataset, whose batches are distorted: none, affine or elastic."""
        augmented = copy.copy(self)
        augmented.augment = kind
        return augmented

    def class_counts(self) -> list[int]:
        """How many images each of the ten digits has."""
        return torch.bincount(self.targets, minlength=10).tolist()


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (uint8, ... x 28 x 28) as the networks take them (float32, ... x 1 x 28 x 28)."""
    if pixels.device.type == "mps":
        pixels = pixels.float()  # some versions of torch abort where bytes are added there
    # One operation makes one temporary: (pixel / 255 - MEAN) / STD = BLACK + pixel / (255 STD).
    return torch.add(idx.BLACK, pixels.unsqueeze(-3), alpha=1 / (255 * idx.STD))


def count_common(train: MNIST, test: MNIST) -> int:
    """How many images of one dataset are also in the other."""
    seen = {image.tobytes() for image in test.data.numpy()}
    return sum(image.tobytes() in seen for image in train.data.numpy())
