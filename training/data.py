"""The training set and the set to test on: found, loaded, announced, the same on every rank."""

import argparse
import dataclasses
import re
import unicodedata
from collections.abc import Callable, Sequence

from dataset import MNIST
from digits import download, places
from files import ConfigError, DataError
from handwriting import mix
from training import distributed, forms
from training.config import Config, named
from training.program import tell


def load(
    splits: Sequence[str], options: argparse.Namespace, say: Callable[[str], None] = print
) -> list[MNIST]:
    """The sets of these splits, "train" or "test", on their device, announced. Errors: DataError.

    `options` has data_dir, data and device, as the command line has them.
    """
    with distributed.one_at_a_time_per_machine():
        root = download.ensure(options.data_dir, options.data, splits)
        sets = [MNIST(root, train=split == "train") for split in splits]
    digests = [dataset.digests for dataset in sets]
    if digests != distributed.from_rank_0(lambda: digests):
        raise DataError(f"{root}: other data than on rank 0; give every machine the same")
    for dataset in sets:
        which = "the published MNIST" if dataset.published else "NOT the published MNIST"
        say(f"{dataset.path}: {len(dataset):,} images, {which}")
        if missing := set(range(10)) - set(dataset.targets.tolist()):
            digits = " or a ".join(map(str, sorted(missing)))
            tell(f"warning: {dataset.path}: no image shows a {digits}")
    forms.warn(sets[0])
    if len(sets) == 2 and (common := count_common(*sets)):
        tell(f"warning: {sets[1].path}: {common:,} of the training images are also in it")
    return [dataset.to(options.device) for dataset in sets]


def prepared(
    config: Config, train_set: MNIST, test_set: MNIST | None
) -> tuple[Config, MNIST, MNIST]:
    """What the configuration makes of two sets: split, mixed, distorted; and it gets their names.

    With `val_size` the set to test on is the end of the training set. Errors: ConfigError.
    """
    sources = [train_set] if config.val_size or test_set is None else [train_set, test_set]
    if config.val_size:
        split = len(train_set) - config.val_size
        if split <= 0:
            raise ConfigError("val_size", f"there are only {len(train_set):,} training images")
        train_set, test_set = train_set.part(0, split), train_set.part(split, None)
        if missing := set(test_set.targets.tolist()) - set(train_set.targets.tolist()):
            digits = ", ".join(map(str, sorted(missing)))
            tell(f"warning: --val-size holds out digits that no training image shows: {digits}")
    if test_set is None:
        raise ConfigError("val_size", "is needed where there is no test set")
    own = len(train_set.digests)
    train_set = mix.mixed(train_set, config.mix).replace(augment=config.augment)
    digests = [digest for source in sources for digest in source.digests]
    digests += train_set.digests[own:]  # of what was mixed in
    name = distributed.from_rank_0(lambda: data_name(sources))
    config = dataclasses.replace(config, data=name, digests=tuple(digests))
    return named(config), train_set, test_set


def data_name(sets: Sequence[MNIST]) -> str:
    """The name of some data: "mnist" for the published MNIST, else "generated" or their folder's.

    It can be part of a file's name; no other data are called "generated" or "mnist".
    """
    if all(dataset.published for dataset in sets):
        return "mnist"
    folder = places.place(sets[0].path.expanduser().resolve())
    if (folder / "README.txt").exists() and folder.name == "generated":
        return "generated"
    name = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", folder.name)).strip("-")
    name = name.encode()[:40].decode(errors="ignore") or "data"
    return f"own-{name}" if name.lower() in ("mnist", "generated") else name


def count_common(train: MNIST, test: MNIST) -> int:
    """How many images of one dataset are also in the other."""
    seen = {image.tobytes() for image in test.data.numpy()}
    return sum(image.tobytes() in seen for image in train.data.numpy())
