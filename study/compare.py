"""Finished runs side by side: a table, the differences with their intervals, and a picture."""

import csv
import dataclasses
import glob
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from files import CheckpointError
from study.intervals import verdict
from training import checkpoint, distributed
from training.checkpoint import PLOTS, RUNS
from training.config import Config
from training.program import tell
from training.report import evaluated, mean_and_deviation

History = list[dict]
NAME_BYTES = 120  # of a picture's name: no file system refuses so few


@dataclass
class Group:
    """Runs that differ in nothing but their seed."""

    name: str
    config: Config  # with seed 0
    code: tuple[str | None, ...]  # what was trained and how; None in older checkpoints
    folders: list[Path]
    histories: dict[int, History]  # by seed

    def takes(self, config: Config, code: tuple[str | None, ...]) -> bool:
        """Whether a run differs from these in nothing but its seed."""
        return (
            dataclasses.replace(config, seed=0) == self.config
            and all(a == b or None in (a, b) for a, b in zip(code, self.code, strict=True))
            and config.seed not in self.histories
        )

    def last(self, metric: str, scale: float = 1) -> list[float]:
        """A metric after the last epoch, for each seed."""
        return [scale * history[-1][metric] for history in self.histories.values()]


def compare(names: Sequence[str]) -> int:
    """Print and draw finished runs together; gives the exit status. Only rank 0 does anything.

    A name is a run's folder or the common beginning of the folders of several seeds; see `find`.
    Errors: CheckpointError, OSError.
    """
    if distributed.rank() != 0:
        return 0
    from figures import study as charts  # here, because matplotlib takes 0.3 s to import
    from figures import style

    groups = grouped(folder for name in names for folder in find(name))
    cautions = different_images(groups)
    for caution in cautions:
        tell(f"warning: {caution}")
    print(table(groups))
    print("\n".join(["", *differences(groups)]))
    path = picture([group.name for group in groups])
    results = {group.name: group.histories for group in groups}
    sets = " or ".join(dict.fromkeys(evaluated(group.config) for group in groups))
    style.save(charts.comparison(results, sets, cautions), path)
    print(f"\n{path}")
    return 0


# Which runs


def find(name: str) -> list[Path]:
    """The folders that a name stands for. Errors: CheckpointError.

    `lenet5` and `runs/lenet5` are a run; `a` is all of `a_seed0`, `a_seed1` and so on if there is
    no run `a`; `lenet5_runs3` is what runs/lenet5_runs3.csv lists.
    """
    for place in (RUNS / name, Path(name)):
        if (place / "checkpoint.pt").is_file():
            return [place]
        seeds = {}
        for path in place.parent.glob(f"{glob.escape(place.name)}_seed*/checkpoint.pt"):
            number = path.parent.name.removeprefix(f"{place.name}_seed")
            if number.isdecimal():
                seeds[int(number)] = path.parent
        if seeds:
            return [seeds[seed] for seed in sorted(seeds)]
        listing = place.parent / f"{place.name.removesuffix('.csv')}.csv"
        if place.name and listing.is_file():
            with open(listing, encoding="utf-8", errors="replace", newline="") as file:
                listed = [row.get("folder") for row in csv.DictReader(file)]
            if folders := [listing.parent / Path(folder).name for folder in listed if folder]:
                return folders
    there = ", ".join(sorted(path.parent.name for path in RUNS.glob("*/checkpoint.pt")))
    advice = f"take {there}" if there else f"there is no run in {RUNS} yet"
    raise CheckpointError(f"{name}: no such run; {advice}")


def grouped(folders: Iterable[Path]) -> list[Group]:
    """Finished runs in the order of their folders, seeds of one experiment together.

    A folder that comes twice counts once. Errors: CheckpointError.
    """
    groups: list[Group] = []
    for folder in {folder.resolve(): folder for folder in folders}.values():
        saved = checkpoint.load(folder / "checkpoint.pt")
        config, history = saved["config"], saved["history"]
        if len(history) < config.epochs:
            raise CheckpointError(
                f"{folder}: only {len(history)} of its {config.epochs} epochs are finished; "
                "continue it with --resume"
            )
        parts = ("network", "optimizer_class", "scheduler_class")
        code = tuple(saved["versions"].get(part) for part in parts)
        group = next((group for group in groups if group.takes(config, code)), None)
        if group is None:
            group = Group("", dataclasses.replace(config, seed=0), code, [], {})
            groups.append(group)
        group.folders.append(folder)
        group.histories[config.seed] = history
    for group in groups:
        group.name = named(group, {other.name for other in groups})
    return groups


def named(group: Group, taken: set[str]) -> str:
    """A name for a group that no other group has: its folder's, without the seed if several."""
    folder = group.folders[0]
    name = folder.relative_to(RUNS).as_posix() if RUNS in folder.parents else folder.name
    if len(group.folders) > 1:
        name = re.sub(r"_seed\d+", "", name)
    numbers = itertools.count(2)
    first = name
    while name in taken:
        name = f"{first} ({next(numbers)})"
    return name


# What is said


def table(groups: list[Group]) -> str:
    """A line for each group: what it was tested on, and its loss and accuracy at the end."""
    width = max(len(group.name) for group in groups)
    lines = [f"{'run':<{width}}  seeds  epochs  tested on   {'loss':<16}  accuracy"]
    for group in groups:
        loss, accuracy = group.last("test_loss"), group.last("test_accuracy", 100)
        lines.append(
            f"{group.name:<{width}}  {len(loss):5d}  {group.config.epochs:6d}  "
            f"{evaluated(group.config):<10}  {mean_and_deviation(loss, 4):<16}  "
            f"{mean_and_deviation(accuracy, 2)} %"
        )
    return "\n".join(lines)


def differences(groups: list[Group]) -> list[str]:
    """For each two groups with common seeds, whether they differ by more than noise, in a line."""
    lines = []
    for one, other in itertools.combinations(groups, 2):
        if len(one.histories.keys() & other.histories.keys()) > 1:
            sets = " or ".join(dict.fromkeys(evaluated(group.config) for group in (other, one)))
            difference = verdict(other.histories, one.histories, sets)
            lines.append(f"{other.name}, against {one.name}: {difference}")
    if len(lines) > 2:
        lines.append(f"Of {len(lines)} such intervals about one in twenty misses 0 by chance.")
    if not lines and len(groups) > 1:
        lines.append(
            "Whether a difference is more than noise cannot be said: that needs at least two seeds "
            "that both runs have; train each of them with --runs 5."
        )
    return lines


def different_images(groups: list[Group]) -> list[str]:
    """Where the groups were not trained, or not tested, on the same images: a line that says so."""

    def trained_on(config: Config) -> str:
        return f"{config.data} {shortened(config.digests[:1])}"

    def tested_on(config: Config) -> str:
        if config.val_size:
            return f"the last {config.val_size:,} images of {trained_on(config)}"
        return f"test images {shortened(config.digests[2:3])}"

    cautions = []
    if alike := listed_by(groups, trained_on):
        cautions.append(f"these runs were trained on different images: {alike}")
    if alike := listed_by(groups, tested_on):
        cautions.append(f"these runs were tested on different images: {alike}")
    return cautions


def listed_by(groups: list[Group], images: Callable[[Config], str]) -> str:
    """The names of the groups for each kind of images, as text; "" if there is only one kind."""
    kinds: dict[str, list[str]] = {}
    for group in groups:
        kinds.setdefault(images(group.config), []).append(group.name)
    parts = [f"{', '.join(names)} on {kind}" for kind, names in kinds.items()]
    return "; ".join(parts) if len(parts) > 1 else ""


def shortened(digests: tuple[str, ...]) -> str:
    """The beginning of a digest of images."""
    return f"(SHA-256 {digests[0][:8]}...)" if digests else "(unknown)"


def picture(names: list[str]) -> Path:
    """The file of the picture; a digest takes the place of names that would be too long."""
    stem = re.sub(r"[^\w.+=-]", "_", "_".join(["compare", *names]))
    if len(stem.encode()) > NAME_BYTES:
        digest = hashlib.sha256(stem.encode()).hexdigest()[:8]
        start = stem.encode()[: NAME_BYTES - 20].decode(errors="ignore")
        stem = f"{start}_{len(names)}_{digest}"
    return PLOTS / f"{stem}.png"
