"""The training set and the set to test on: found, loaded, announced, the same on every rank."""

import argparse
import contextlib
import dataclasses
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from dataset import MNIST, count_common
from digits import download
from files import DataError
from handwriting import mix
from training import distributed
from training.config import Config, ConfigError
from training.program import tell

DEFAULT = Path("data")  # the folder where no --data-dir is given
OWN = Path(__file__).resolve().parent.parent / "data"  # the project's own
MAX_NAME_BYTES = 40  # of a folder's name in the name of a run


def load(
    config: Config, options: argparse.Namespace, say: Callable[[str], None] = print
) -> tuple[Config, MNIST, MNIST]:
    """The configuration that names the data, the training set and the set to test on.

    `options` has data_dir, data and device, as the command line has them. The set to test on is the
    test set, or with `val_size` the last training images: then the test set need not be there.
    Errors: DataError, ConfigError.
    """
    with distributed.one_at_a_time_per_machine():
        root = find(options, ("train",) if config.val_size else download.SPLITS)
        train_set = MNIST(root, train=True)
        test_set = None if config.val_size else MNIST(root, train=False)
    sets = [train_set] if test_set is None else [train_set, test_set]
    drawn = root == Path(options.data_dir).expanduser() / "generated"
    config = identify(config, sets, drawn)
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
    train_set, added = mix.mixed(train_set, config.mix)
    config = dataclasses.replace(config, digests=config.digests + added)
    return config, train_set.to(options.device), test_set.to(options.device)


def identify(config: Config, sets: Sequence[MNIST], drawn: bool = False) -> Config:
    """The configuration with the name and the digests of its data; `drawn`: generated ones."""
    digests = tuple(digest for one in sets for digest in one.digests)
    if digests == config.digests:
        return config
    published = all(one.published for one in sets)
    name = "mnist" if published else data_name(sets[0].path.parent, drawn)
    name = distributed.broadcast(lambda: name)  # the folder may have another name elsewhere
    return dataclasses.replace(config, data=name, digests=digests)


def check(config: Config, train_set: MNIST, test_set: MNIST) -> Config:
    """The configuration that names exactly the data of a run; ConfigError if they do not fit."""
    if not config.val_size and config.mix == "none":
        return identify(config, [train_set, test_set])
    if config.val_size and train_set.path != test_set.path:
        raise ConfigError("val_size", "the sets were not split; training.data.load splits them")
    if not config.digests:
        raise ConfigError("mix", "nothing was mixed in; training.data.load does it")
    return config


def load_test_set(options: argparse.Namespace) -> MNIST:
    """The test set alone, announced, on its device; `options` and errors as for `load`."""
    test_set = MNIST(find(options, ("test",)), train=False)
    announce(test_set, print)
    return test_set.to(options.device)


def find(options: argparse.Namespace, splits: Sequence[str]) -> Path:
    """The folder that has the data of these splits, after getting them if need be; DataError."""
    given = Path(options.data_dir)
    tell_of_other_folder(given)
    return download.ensure(given, options.data, splits, fall_back=given == DEFAULT)


def data_name(folder: Path, drawn: bool = False) -> str:
    """The name of data that are not the published MNIST: "generated", or that of their folder.

    It can be part of a file's name. `drawn` says that they are this project's generated digits; no
    other data are called "generated" or "mnist".
    """
    if drawn:
        return "generated"
    folder = folder.expanduser().resolve()
    if folder.name == "raw":  # torchvision's FashionMNIST/raw
        folder = folder.parent
    name = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", folder.name)).strip("-")
    name = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "data"
    return f"own-{name}" if name.lower() in ("mnist", "generated") else name


def tell_of_other_folder(given: Path) -> None:
    """Say so if the default folder has no data, but the project's own folder has."""
    if given != DEFAULT or given.resolve() == OWN:
        return
    with contextlib.suppress(DataError):  # whoever reads a folder names what is wrong with it
        if not download.is_filled(given) and download.is_filled(OWN):
            tell(
                f"note: {given.absolute()} is used and has no data yet; the project's own folder "
                f"has: to use it, add --data-dir {OWN}"
            )


def announce(dataset: MNIST, say: Callable[[str], None]) -> None:
    """Say which images a dataset has, and warn of digits that are missing."""
    which = "the published MNIST" if dataset.published else "NOT the published MNIST"
    say(f"{dataset.path}: {len(dataset):,} images, {which}")
    missing = [str(digit) for digit, count in enumerate(dataset.class_counts()) if count == 0]
    if missing:
        tell(f"warning: {dataset.path}: no image shows a {' or a '.join(missing)}")
