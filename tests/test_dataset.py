"""MNIST as a Dataset: one image by its index, batches in any order, and the arithmetic of both."""

import itertools
import os
import pickle
import shutil
import tarfile
from pathlib import Path

from dataset import MNIST, normalize
from digits import idx, places
from digits.augment import augment

import numpy as np
import pytest
import torch
from archives import (
    DATA,
    assert_intact,
    csv_file,
    files_named,
    idx_files,
    keras,
    lay,
    tarred,
    zipped,
)
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, random_split

IMAGES, LABELS = DATA
ORDER = torch.tensor([7, 3, 11, 0, 5, 5, 2, 9, 1, 4, 10])  # 11 rows, one of them twice
MNIST_DIR = os.environ.get("MNIST_DIR")


@pytest.fixture
def root(tmp_path):
    """A data folder: twelve training images, and two of them as test images."""
    train = files_named("{}_{}.png")
    test = dict([*train.items()][:2])
    return lay(tmp_path, {"train.tar": tarred(train), "test.tar": tarred(test)})


@pytest.fixture
def dataset(root):
    return MNIST(root)


# One image


def test_the_sets_and_what_is_known_of_them(root):
    train, test = MNIST(root), MNIST(str(root), train=False)
    assert_intact((train.data, train.targets))
    assert (len(train), len(test)) == (12, 2)
    assert (train.path, test.path) == (root / "train.tar", root / "test.tar")
    assert list(train.digests) == idx.digests(IMAGES, LABELS) and not train.published


OTHERS = [slice(None), [3, 7], range(2), torch.tensor([3, 7]), None, ..., "3", 1.0]


def test_an_index_gives_one_normalised_image_and_its_label(dataset):
    for index in (0, 3, 11, -1, -12, np.int64(3), torch.tensor(3)):
        image, label = dataset[index]
        assert image.shape == (1, 28, 28) and image.dtype == torch.float32
        assert torch.equal(image, normalize(IMAGES[int(index)]))
        assert type(label) is int and label == LABELS[int(index)]
    for index in (12, -13, 10**30, *OTHERS):
        with pytest.raises(IndexError if isinstance(index, int) else TypeError):
            dataset[index]


def test_normalising_agrees_with_an_independent_computation(dataset):
    images = torch.stack([image for image, _ in dataset])
    every = torch.arange(256, dtype=torch.uint8).view(1, 256)
    for pixels, normalised in ((IMAGES, images), (every, normalize(every))):
        expected = (pixels.double().unsqueeze(1) / 255 - 0.1307) / 0.3081
        assert normalised.shape == expected.shape
        assert (normalised - expected).abs().max() < 1e-6


# Batches


@pytest.mark.parametrize("size", [1, 7, 64, 2048, 3000, 5003, 9000])
def test_batches_come_in_the_given_order_however_many_are_gathered(dataset, size):
    order = torch.randint(12, (5003,), generator=torch.Generator().manual_seed(0))
    for (images, labels), rows in zip(dataset.batches(order, size), order.split(size), strict=True):
        assert images.dtype == torch.float32 and labels.dtype == torch.int64
        assert torch.equal(images, normalize(IMAGES[rows]))
        assert torch.equal(labels, LABELS[rows])
        images.zero_()
        labels.zero_()
    assert_intact((dataset.data, dataset.targets))


@pytest.mark.parametrize("kind", ["none", "affine", "elastic"])
def test_images_are_distorted_batch_by_batch_when_a_batch_is_taken(dataset, kind):
    """Or dropout between two batches would change with the number that is gathered at a time."""
    dataset = dataset.replace(augment=kind)
    torch.manual_seed(5)
    batches = [(*batch, torch.rand(1)) for batch in dataset.batches(ORDER, 4)]
    torch.manual_seed(5)
    for rows, (images, labels, number) in zip(ORDER.split(4), batches, strict=True):
        assert torch.equal(images, augment(normalize(IMAGES[rows]), kind))
        assert torch.equal(labels, LABELS[rows]) and torch.equal(number, torch.rand(1))
        assert torch.equal(images, normalize(IMAGES[rows])) == (kind == "none")
    assert torch.equal(dataset[3][0], normalize(IMAGES[3]))  # one image is never distorted


def test_a_part_is_not_the_whole(dataset):
    part = dataset.replace(augment="affine", published=True).part(2, 5).to("cpu")
    assert len(part) == 3 and torch.equal(part[0][0], dataset[2][0])
    assert part.augment == "affine" and not part.published and part.digests != dataset.digests
    part[0][0].zero_()
    assert_intact((dataset.data, dataset.targets))


# Torch's own tools


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_own_tools_take_it(dataset, workers):
    both = ConcatDataset([dataset, Subset(pickle.loads(pickle.dumps(dataset)), [7, 3])])
    batches = list(DataLoader(both, batch_size=5, num_workers=workers))
    assert [len(labels) for _, labels in batches] == [5, 5, 4]
    rows = [*range(12), 7, 3]
    assert torch.equal(torch.cat([images for images, _ in batches]), normalize(IMAGES[rows]))
    assert torch.equal(torch.cat([labels for _, labels in batches]), LABELS[rows])
    parts = random_split(dataset, [8, 4], torch.Generator().manual_seed(0))
    labels = [label for part in parts for _, label in DataLoader(part, batch_size=None)]
    assert sorted(labels) == sorted(LABELS.tolist())


# The real MNIST


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    if not MNIST_DIR:
        pytest.skip("MNIST_DIR is not set: a folder with MNIST's tarballs")
    root = tmp_path_factory.mktemp("mnist")
    for split in ("train", "test"):
        path = places.find(Path(MNIST_DIR), split)[0]
        shutil.copyfile(path, root / path.name)  # caches are written beside them
    return root


def test_genuine_mnist_has_the_published_digests(genuine):
    for _ in ("decoded", "cached"):
        train, test = MNIST(genuine), MNIST(genuine, train=False)
        assert train.published and test.published
        assert (len(train), len(test)) == (60_000, 10_000)
        counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        assert torch.bincount(train.targets).tolist() == counts


FORMS = {
    "zip": lambda data: {"test.zip": zipped(files_named("{1}/{0}.png", *data))},
    "folder": lambda data: files_named("test/{1}/{0}.png", *data),
    "mnist_png": lambda data: {"mnist_png.tar": tarred(files_named("testing/{1}/{0}.png", *data))},
    "IDX": lambda data: idx_files(*data, splits=("t10k",)),
    "npz": lambda data: {"mnist.npz": keras(*data)},
    "CSV": lambda data: {"mnist_test.csv": csv_file(*data)},
}


@pytest.mark.parametrize("form", FORMS)
def test_genuine_mnist_is_published_in_every_form(genuine, tmp_path, form):
    """The test images; the 60,000 others would take minutes."""
    test = MNIST(genuine, train=False)
    lay(tmp_path, FORMS[form]((test.data.numpy(), test.targets.numpy())))
    assert MNIST(tmp_path, train=False).published


def test_genuine_mnist_agrees_with_an_independent_decoder(genuine):
    test = MNIST(genuine, train=False)
    with tarfile.open(test.path) as oracle:
        for info in itertools.islice(filter(tarfile.TarInfo.isfile, oracle), 2000):
            number, label = map(int, Path(info.name).stem.split("_"))
            image = np.asarray(Image.open(oracle.extractfile(info)))
            assert np.array_equal(image, test.data[number]) and test.targets[number] == label
