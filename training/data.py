"""The training set and the set to test on: found, loaded, announced, the same on every rank."""

import argparse
import dataclasses
from collections.abc import Callable

from dataset import MNIST, count_common
from digits import download
from files import DataError
from training import distributed
from training.config import Config, ConfigError
from training.console import tell


def load(
    config: Config, options: argparse.Namespace, say: Callable[[str], None] = print
) -> tuple[Config, MNIST, MNIST]:
    """The configuration that names the data, the training set and the set to test on.

    `options` has data_dir, data and device, as the command line has them. The set to test on is the
    test set, or with `val_size` the last training images. Errors: DataError, ConfigError.
    """
    with distributed.one_at_a_time_per_machine():
        root = download.ensure(options.data_dir, options.data)
        train_set = MNIST(root, train=True)
        test_set = None if config.val_size else MNIST(root, train=False)
    sets = [train_set] if test_set is None else [train_set, test_set]
    config = dataclasses.replace(
        config,
        data="generated" if root.name == "generated" else "mnist",
        digests=tuple(digest for one in sets for digest in one.digests),
    )
    if config != distributed.broadcast(lambda: config):
        raise DataError(
            f"{root}: rank {distributed.rank()} has other data or options than rank 0; "
            "give every machine the same"
        )
    for one in sets:
        announce(one, say)
    if test_set and (common := count_common(train_set, test_set)):
        tell(f"warning: {test_set.path}: {common:,} of the training images are also in it")
    if test_set is None:
        split = len(train_set) - config.val_size
        if split <= 0:
            raise ConfigError("val_size", f"there are only {len(train_set):,} training images")
        train_set, test_set = train_set.part(0, split), train_set.part(split, None)
    return config, train_set.to(options.device), test_set.to(options.device)


def announce(dataset: MNIST, say: Callable[[str], None]) -> None:
    """Say which images a dataset has, and warn of digits that are missing."""
    which = "the published MNIST" if dataset.published else "NOT the published MNIST"
    digest = dataset.digests[0][:12]
    say(f"{dataset.path}: {len(dataset):,} images, {which} (SHA-256 {digest}...)")
    counts = dataset.class_counts()
    say("  of each digit, 0 to 9: " + " ".join(f"{count:,}" for count in counts))
    if missing := [str(digit) for digit, count in enumerate(counts) if count == 0]:
        tell(f"warning: {dataset.path}: no image shows a {' or a '.join(missing)}")
