"""MNIST as a Dataset: one image by its index, batches in any order, and the arithmetic of both."""

import errno
import hashlib
import io
import os
import pickle
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import CONTAINERS, png, put
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, random_split

from dataset import MNIST, count_common, normalize
from digits import cache
from digits.augment import augment
from digits.tarball import find_data, write_tarball
from files import DataError

RNG = np.random.default_rng(0)
IMAGES = torch.from_numpy(RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8))
LABELS = torch.tensor([5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 9])
ORDER = torch.tensor([7, 3, 11, 0, 5, 5, 2, 9, 1, 4, 10])  # 11 rows, one of them twice
MNIST_DIR = os.environ.get("MNIST_DIR")


@pytest.fixture
def root(tmp_path):
    """A data folder: twelve training images, and two of them as test images."""
    write_tarball(tmp_path / "train.tar", IMAGES, LABELS, "train")
    write_tarball(tmp_path / "test.tar", IMAGES[:2], LABELS[:2], "test")
    return tmp_path


@pytest.fixture
def dataset(root):
    return MNIST(root)


def assert_intact(dataset):
    assert torch.equal(dataset.data, IMAGES) and dataset.data.dtype == torch.uint8
    assert torch.equal(dataset.targets, LABELS) and dataset.targets.dtype == torch.int64


def larger(dataset, count):
    """The same dataset with `count` images: its own twelve, again and again."""
    rows = torch.arange(count) % len(dataset)
    dataset.data, dataset.targets = dataset.data[rows], dataset.targets[rows]
    return dataset


# One image


def test_data_and_targets_are_as_torchvision_has_them(root):
    train, test = MNIST(root), MNIST(root, train=False)
    assert_intact(train)
    assert (len(train), len(test)) == (12, 2)
    assert torch.equal(test.data, IMAGES[:2]) and torch.equal(test.targets, LABELS[:2])
    assert (train.path, test.path) == (root / "train.tar", root / "test.tar")


@pytest.mark.parametrize(
    "index",
    [3, -9, torch.tensor(3), torch.tensor(-9), np.int64(3), np.uint8(3)],
    ids=lambda index: f"{type(index).__name__} {int(index)}",
)
def test_an_integer_gives_one_image_and_its_label(dataset, index):
    image, label = dataset[index]
    assert image.shape == (1, 28, 28) and image.dtype == torch.float32
    assert torch.equal(image, normalize(IMAGES[3]))
    assert label == 1 and type(label) is int


@pytest.mark.parametrize("index", [12, -13, 10**9, torch.tensor(12), np.int64(-13)], ids=repr)
def test_an_index_beyond_the_ends_is_an_index_error(dataset, index):
    with pytest.raises(IndexError):
        dataset[index]


@pytest.mark.parametrize(
    "index",
    [
        slice(None),
        slice(3, 8, 4),
        [3, 7],
        (3, 7),
        range(2),
        torch.tensor([3, 7]),
        torch.zeros(12, dtype=torch.bool),
        np.array([3, 7]),
        None,
        ...,
        "3",
        1.0,
        torch.tensor(1.5),
    ],
    ids=repr,
)
def test_several_indices_and_other_things_are_a_type_error(dataset, index):
    with pytest.raises(TypeError):
        dataset[index]


def test_iteration_comes_to_its_end(dataset):
    assert [label for _, label in dataset] == LABELS.tolist()


def test_one_image_is_never_distorted(root):
    distorting = MNIST(root, augment="elastic")
    assert torch.equal(distorting[3][0], normalize(IMAGES[3]))


def test_normalising_agrees_with_an_independent_computation(dataset):
    images = torch.stack([image for image, _ in dataset])
    expected = (IMAGES.numpy().astype(np.float64)[:, None] / 255 - 0.1307) / 0.3081
    assert np.abs(images.numpy() - expected).max() < 1e-6
    every = normalize(torch.arange(256, dtype=torch.uint8).view(1, 256))
    assert every.shape == (1, 1, 256)
    assert np.allclose(every[0, 0], (np.arange(256) / 255 - 0.1307) / 0.3081, atol=1e-6)


# Batches


@pytest.mark.parametrize("size", [1, 2, 5, 11, 64, 5000])
def test_batches_come_in_the_given_order(dataset, size):
    batches = list(dataset.batches(ORDER, size))
    rows = ORDER.split(size)
    assert len(batches) == len(rows)
    for (images, labels), batch in zip(batches, rows, strict=True):
        assert images.dtype == torch.float32 and labels.dtype == torch.int64
        assert images.shape == (len(batch), 1, 28, 28)
        assert torch.equal(images, normalize(IMAGES[batch]))
        assert torch.equal(labels, LABELS[batch])


@pytest.mark.parametrize("size", [1, 7, 64, 100, 2048, 3000])
def test_each_image_comes_once_however_many_are_gathered(dataset, size):
    count = 5003
    dataset = larger(dataset, count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    batches = list(dataset.batches(order, size))
    assert [len(labels) for _, labels in batches] == [len(batch) for batch in order.split(size)]
    labels = torch.cat([labels for _, labels in batches])
    assert torch.equal(labels, dataset.targets[order])
    images = torch.cat([images for images, _ in batches])
    assert torch.equal(images, normalize(dataset.data[order]))


@pytest.mark.parametrize("size", [1, 2, 4, 64])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_the_shares_of_all_ranks_are_the_whole_batches(dataset, size, world_size):
    shards = [slice(rank, None, world_size) for rank in range(world_size)]
    shares = [list(dataset.batches(ORDER, size, shard)) for shard in shards]
    whole = ORDER.split(size)
    assert {len(share) for share in shares} == {len(whole)}  # each rank takes every step
    for batch, *parts in zip(whole, *shares, strict=True):
        for shard, (images, labels) in zip(shards, parts, strict=True):
            assert images.shape == (len(batch[shard]), 1, 28, 28)  # may be empty
            assert torch.equal(images, normalize(IMAGES[batch[shard]]))
            assert torch.equal(labels, LABELS[batch[shard]])
        assert sum(len(labels) for _, labels in parts) == len(batch)


@pytest.mark.parametrize("kind", ["none", "affine", "elastic"])
@pytest.mark.parametrize("shard", [slice(None), slice(1, None, 2)], ids=["alone", "second of two"])
def test_images_are_distorted_batch_by_batch(root, kind, shard):
    dataset = MNIST(root, augment=kind)
    torch.manual_seed(5)
    batches = list(dataset.batches(ORDER, 4, shard))
    torch.manual_seed(5)
    for batch, (images, labels) in zip(ORDER.split(4), batches, strict=True):
        expected = augment(normalize(IMAGES[batch[shard]]), kind)
        assert torch.equal(images, expected)
        assert torch.equal(labels, LABELS[batch[shard]])
        assert torch.equal(images, normalize(IMAGES[batch[shard]])) == (kind == "none")


@pytest.mark.parametrize("kind", ["affine", "elastic"])
def test_an_empty_share_may_be_distorted(root, kind):
    batches = list(MNIST(root, augment=kind).batches(ORDER, 1, slice(1, None, 2)))
    assert [tuple(images.shape) for images, _ in batches] == [(0, 1, 28, 28)] * 11


def test_random_numbers_are_drawn_only_when_a_batch_is_taken(root):
    """Or dropout between two batches would change with the number that is gathered at a time."""
    dataset = MNIST(root, augment="affine")
    torch.manual_seed(5)
    drawn = [(images, torch.rand(1)) for images, _ in dataset.batches(ORDER, 4)]
    torch.manual_seed(5)
    for batch, (images, number) in zip(ORDER.split(4), drawn, strict=True):
        assert torch.equal(images, augment(normalize(IMAGES[batch]), "affine"))
        assert torch.equal(number, torch.rand(1))


def test_what_is_done_to_images_leaves_the_data_as_they_are(dataset):
    dataset[0][0].zero_()
    for images, labels in dataset.batches(torch.arange(12), 5):
        images.zero_()
        labels.zero_()
    assert_intact(dataset)


# Torch's own tools


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_takes_it(dataset, workers):
    batches = list(DataLoader(dataset, batch_size=5, num_workers=workers))
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    assert torch.equal(torch.cat([images for images, _ in batches]), normalize(IMAGES))
    assert torch.equal(torch.cat([labels for _, labels in batches]), LABELS)


def test_torchs_own_parts_and_sums_take_it(dataset):
    subset = Subset(dataset, [7, 3])
    assert [label for _, label in (subset[0], subset[1])] == [3, 1]
    both = ConcatDataset([dataset, dataset])
    assert len(both) == 24 and torch.equal(both[15][0], dataset[3][0])
    parts = random_split(dataset, [8, 4], torch.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [8, 4]
    labels = [label for part in parts for _, label in DataLoader(part, batch_size=None)]
    assert sorted(labels) == sorted(LABELS.tolist())
    images, labels = next(iter(DataLoader(both, batch_size=24)))
    assert torch.equal(images, normalize(IMAGES).repeat(2, 1, 1, 1))
    assert torch.equal(labels, LABELS.repeat(2))


def test_it_can_be_pickled(dataset):
    copy = pickle.loads(pickle.dumps(dataset))
    assert_intact(copy)
    assert copy.digests == dataset.digests and copy.path == dataset.path


# Parts, counts and digests


def test_parts_and_moving_leave_the_whole(dataset):
    part = dataset.part(2, 5)
    assert len(part) == 3 and torch.equal(part[0][0], dataset[2][0])
    assert part.class_counts() == [0, 1, 0, 0, 1, 0, 0, 0, 0, 1]
    assert_intact(dataset.to("cpu"))
    assert_intact(dataset)


def test_parts_keep_their_augmentation(root):
    part = MNIST(root, augment="affine").part(2, 5).to("cpu")
    torch.manual_seed(5)
    images, _ = next(part.batches(torch.arange(3), 3))
    torch.manual_seed(5)
    assert torch.equal(images, augment(normalize(IMAGES[2:5]), "affine"))


def test_counts(root):
    train, test = MNIST(root), MNIST(root, train=False)
    assert train.class_counts() == [1, 3, 1, 2, 2, 1, 0, 0, 0, 2]
    assert count_common(train, test) == count_common(test, train) == 2
    assert count_common(train.part(2, 12), test) == 0


def test_digests_are_those_of_the_idx_files(dataset):
    images = b"".join(n.to_bytes(4, "big") for n in (2051, 12, 28, 28)) + bytes(IMAGES.flatten())
    labels = b"".join(n.to_bytes(4, "big") for n in (2049, 12)) + bytes(LABELS.tolist())
    assert dataset.digests == [hashlib.sha256(idx).hexdigest() for idx in (images, labels)]
    assert not dataset.published


# Tarballs that cannot be used


def test_a_missing_tarball_is_named(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="test.tar: not found"):
            MNIST(root, train=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs in folders")
def test_a_fifo_in_place_of_the_tarball_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "train.tar")
    raised = []

    def start():
        with pytest.raises(DataError) as error:
            MNIST(tmp_path)
        raised.append(error)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    thread.join(30)
    assert len(raised) == 1


def test_a_folder_in_place_of_the_tarball_is_refused(root):
    (root / "test.tar").unlink()
    (root / "test.tar").mkdir()
    with pytest.raises(DataError, match="test.tar"):
        MNIST(root, train=False)


def test_a_tarball_that_cannot_be_read_is_refused(root, monkeypatch):
    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(cache, "sha256", denied)
    with pytest.raises(DataError, match="train.tar: Permission denied"):
        MNIST(root)


def test_the_users_tarballs_are_never_changed(root):
    (root / "broken").mkdir()
    whole = (root / "train.tar").read_bytes()
    (root / "broken" / "train.tar").write_bytes(whole[:9000])
    tarballs = [root / "train.tar", root / "test.tar", root / "broken" / "train.tar"]
    before = [(path.read_bytes(), path.stat()) for path in tarballs]
    for fill in (None, b"damaged", b""):
        for train in (True, False):
            if fill is not None:
                (root / f"{'train' if train else 'test'}.cache.npz").write_bytes(fill)
            MNIST(root, train)
        with pytest.raises(DataError):
            MNIST(root / "broken")
    for path, (content, stat) in zip(tarballs, before, strict=True):
        assert path.read_bytes() == content
        assert path.stat().st_mtime_ns == stat.st_mtime_ns and path.stat().st_ino == stat.st_ino
    assert os.listdir(root / "broken") == ["train.tar"]
    names = {"train.tar", "test.tar", "train.cache.npz", "test.cache.npz", "broken"}
    assert set(os.listdir(root)) == names


# Other forms of the same data


def idx_files(folder, images, labels, name="train"):
    """Write MNIST's own format."""
    header = b"".join(n.to_bytes(4, "big") for n in (2051, *images.shape))
    (folder / f"{name}-images-idx3-ubyte").write_bytes(header + bytes(images.flatten()))
    header = b"".join(n.to_bytes(4, "big") for n in (2049, len(labels)))
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + bytes(labels.tolist()))


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_form_gives_the_same_data(tmp_path, container):
    endings = {"tar": ".tar", "gzip": ".tgz", "bzip2": ".tar.bz2", "xz": ".txz", "folder": ""}
    pairs = enumerate(zip(IMAGES.numpy(), LABELS.tolist(), strict=True))
    files = {f"train/{label}/{n:05d}.png": png(image) for n, (image, label) in pairs}
    path = put(tmp_path / f"train{endings.get(container, '.zip')}", container, files)
    for _ in range(2):  # without a cache, and with one
        dataset = MNIST(tmp_path)
        assert_intact(dataset)
        assert dataset.path == path


def test_idx_files_give_the_same_data(tmp_path):
    idx_files(tmp_path, IMAGES, LABELS)
    assert_intact(MNIST(tmp_path))


def test_idx_files_beside_a_tarball_must_hold_the_same(root):
    idx_files(root, IMAGES, LABELS)
    assert_intact(MNIST(root))
    idx_files(root, IMAGES.flip(0), LABELS)
    with pytest.raises(DataError, match="train.tar and .*train-images.*: hold different data"):
        MNIST(root)
    idx_files(root, IMAGES, LABELS.flip(0))
    with pytest.raises(DataError, match="train.tar and .*train-labels.*: hold different data"):
        MNIST(root)
    (root / "train-labels-idx1-ubyte").write_bytes(b"damaged, so it does not count")
    assert_intact(MNIST(root))


def test_a_tarball_is_never_completed_with_idx_files(root):
    (root / "test.tar").unlink()
    idx_files(root, IMAGES, LABELS, "t10k")
    with pytest.raises(DataError, match="test.tar: not found"):
        MNIST(root, train=False)


def test_a_tilde_is_the_home_folder(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    monkeypatch.setenv("USERPROFILE", str(root.parent))
    assert_intact(MNIST(f"~/{root.name}"))


# The real MNIST


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    if not MNIST_DIR:
        pytest.skip("MNIST_DIR is not set: a folder with MNIST's train.tar.gz and test.tar.gz")
    root = tmp_path_factory.mktemp("mnist")
    for path in Path(MNIST_DIR).glob("*.tar*"):
        shutil.copyfile(path, root / path.name)
    return root


@pytest.mark.parametrize("start", ["first", "second"])
def test_genuine_mnist_has_the_published_digests(genuine, start):
    train, test = MNIST(genuine), MNIST(genuine, train=False)
    assert train.published and test.published
    assert (len(train), len(test)) == (60_000, 10_000)
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.class_counts() == counts
    assert count_common(train, test) == 0


def test_genuine_mnist_agrees_with_an_independent_decoder(genuine):
    data, compared = MNIST(genuine, train=False), 0
    with tarfile.open(data.path) as oracle:
        for info in oracle:
            if info.isfile() and compared < 2000:
                number, label = map(int, Path(info.name).stem.split("_"))
                image = np.asarray(Image.open(oracle.extractfile(info)))
                assert np.array_equal(image, data.data[number]) and data.targets[number] == label
                compared += 1
    assert compared == 2000


def test_genuine_mnist_with_labels_as_folders_has_the_published_digests(genuine, tmp_path):
    """As in the widespread mnist_png.tar.gz: one file, a folder for each split and each label.

    Of the training images it has the first thousand: to write and read all would take long.
    """
    files = {}
    for split, folder, most in (("train", "training", 1000), ("test", "testing", 10_000)):
        with tarfile.open(find_data(genuine, split)) as tar:
            for info in tar:
                if info.isfile() and not Path(info.name).name.startswith("."):
                    number, label = map(int, Path(info.name).stem.split("_"))
                    if number < most:
                        name = f"mnist_png/{folder}/{label}/{number}.png"
                        files[name] = tar.extractfile(info).read()
    with tarfile.open(tmp_path / "mnist_png.tar", "w") as repacked:
        for name in sorted(files, key=lambda name: name[::-1]):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            repacked.addfile(info, io.BytesIO(files[name]))
    train, test = MNIST(tmp_path), MNIST(tmp_path, train=False)
    assert test.published and not train.published
    whole = MNIST(genuine)
    assert torch.equal(train.data, whole.data[:1000])
    assert torch.equal(train.targets, whole.targets[:1000])
    assert train.path == test.path == tmp_path / "mnist_png.tar"
