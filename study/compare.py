"""Finished runs side by side: a table, the differences with their intervals, and a picture."""

import csv
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from files import CheckpointError
from study.intervals import History, verdict
from training import checkpoint, distributed
from training.checkpoint import PLOTS, RUNS
from training.config import Config
from training.program import tell
from training.report import mean_and_deviation

CODE = ("source", "optimizer_class", "scheduler_class")  # what a person may edit in the program


@dataclass
class Group:
    """Runs that differ in nothing but their seed."""

    name: str
    config: Config  # with seed 0
    code: list[str | None]
    histories: dict[int, History]  # by seed


def compare(names: Sequence[str]) -> int:
    """Print and draw finished runs together; gives the exit status. Only rank 0 does anything.

    A name is a run's folder or the common beginning of the folders of several seeds; see `find`.
    Errors: CheckpointError, OSError.
    """
    if distributed.rank() > 0:
        return 0
    from figures import study, style  # here, because matplotlib takes 0.3 s to import

    groups = grouped(folder for name in names for folder in find(name))
    if caution := different_images(groups):
        tell(f"warning: {caution}")
    print("\n".join([*table(groups), "", *differences(groups)]))
    results = {group.name: group.histories for group in groups}
    path = picture(names)
    style.save(study.comparison(results, tested_on(*groups), [caution]), path)
    print(f"\n{path}")
    return 0


def find(name: str) -> list[Path]:
    """The folders that a name stands for. Errors: CheckpointError.

    `lenet5` and `runs/lenet5` are a run; `a` is all of `a_seed0`, `a_seed1` and so on if there is
    no run `a`; `lenet5_runs3` is what runs/lenet5_runs3.csv lists.
    """
    for place in (RUNS / name, Path(name)):
        if (place / "checkpoint.pt").is_file():
            return [place]
        seed = re.compile(re.escape(place.name) + "_seed[0-9]+")
        runs = [path.parent for path in place.parent.glob("*/checkpoint.pt")]
        if folders := [run for run in runs if seed.fullmatch(run.name)]:
            return sorted(folders)
        listing = place.parent / f"{place.name.removesuffix('.csv')}.csv"
        if listing.is_file():
            rows = csv.DictReader(
                listing.read_text(encoding="utf-8", errors="replace").splitlines()
            )
            listed = [row.get("folder") for row in rows]
            if folders := [listing.parent / Path(folder).name for folder in listed if folder]:
                return folders
    runs = ", ".join(sorted(path.parent.name for path in RUNS.glob("*/checkpoint.pt")))
    raise CheckpointError(f"{name}: no run that has finished an epoch; take {runs or 'another'}")


def grouped(folders: Iterable[Path]) -> list[Group]:
    """Finished runs in the order of their folders, seeds of one experiment together.

    A folder that comes twice counts once. Errors: CheckpointError.
    """
    groups: list[Group] = []
    for folder in {folder.resolve(): folder for folder in folders}.values():
        saved = checkpoint.load(folder)
        seed, history = saved["config"].seed, saved["history"]
        if len(history) < saved["config"].epochs:
            epochs = f"{len(history)} of its {saved['config'].epochs} epochs"
            raise CheckpointError(f"{folder}: only {epochs} are finished; continue it (--resume)")
        config = dataclasses.replace(saved["config"], seed=0)
        code = [saved["versions"].get(part) for part in CODE]
        alike = [group for group in groups if (group.config, group.code) == (config, code)]
        lacking = [group for group in alike if seed not in group.histories]
        if not lacking:
            name = folder.name if folder.parent == RUNS else str(folder)
            lacking = [Group(name, config, code, {})]
            groups += lacking
        lacking[0].histories[seed] = history
    stems = [re.sub(r"_seed\d+", "", group.name) for group in groups]
    for group, stem in zip(groups, stems, strict=True):
        if len(group.histories) > 1 and stems.count(stem) == 1:
            group.name = stem
    return groups


def tested_on(*groups: Group) -> str:
    return " or ".join(dict.fromkeys(group.config.evaluated for group in groups))


def table(groups: list[Group]) -> list[str]:
    """A line for each group: what it was tested on, and its loss and accuracy at the end."""
    width = max(len(group.name) for group in groups)
    lines = [f"{'run':<{width}}  seeds  epochs  tested on   {'loss':<16}  accuracy"]
    for group in groups:
        rows = [history[-1] for history in group.histories.values()]
        loss = mean_and_deviation([row["test_loss"] for row in rows], 4)
        accuracy = mean_and_deviation([100 * row["test_accuracy"] for row in rows], 2)
        lines.append(
            f"{group.name:<{width}}  {len(rows):5d}  {group.config.epochs:6d}  "
            f"{tested_on(group):<10}  {loss:<16}  {accuracy} %"
        )
    return lines


def differences(groups: list[Group]) -> list[str]:
    """For each two groups with common seeds, whether they differ by more than noise, in a line."""
    lines = [
        f"{group.name}, against {reference.name}: "
        f"{verdict(group.histories, reference.histories, tested_on(group, reference))}"
        for reference, group in itertools.combinations(groups, 2)
        if len(reference.histories.keys() & group.histories.keys()) > 1
    ]
    if len(lines) > 2:
        lines.append(f"Of {len(lines)} such intervals about one in twenty misses 0 by chance.")
    if not lines and len(groups) > 1:
        lines.append(
            "Whether a difference is more than noise cannot be said: that needs at least two seeds "
            "that both runs have; train each of them with --runs 5."
        )
    return lines


def different_images(groups: list[Group]) -> str:
    """A line that says so if the groups were not trained and tested on the same images; else ""."""
    images = {}
    for group in groups:
        config = group.config
        digests = ", ".join(digest[:8] for digest in config.digests)
        held_out = f", the last {config.val_size:,} held out" * (config.val_size > 0)
        images[group.name] = f"{config.data} (SHA-256 {digests}){held_out}"
    listed = "; ".join(f"{name}: {text}" for name, text in images.items())
    return f"these runs have different images: {listed}" * (len(set(images.values())) > 1)


def picture(names: Sequence[str]) -> Path:
    """The file of the picture of some names; a digest ends those that would be too long."""
    stem = "compare_" + "_with_".join(re.sub(r"[^\w.+=-]", "_", Path(n).name) for n in names)
    if len(stem.encode()) > 120:  # no file system refuses so few bytes
        digest = hashlib.sha256(stem.encode()).hexdigest()[:8]
        stem = f"{stem.encode()[:100].decode(errors='ignore')}_{digest}"
    return PLOTS / f"{stem}.png"
