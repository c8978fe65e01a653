"""A run's folder: what is in it, whether a run may start there, and its lock.

Nothing finished is lost by accident. A run that was stopped before its last epoch is not started
anew without --overwrite, and the last finished run stays in the folder `previous`.
"""

import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import filelock
import torch

from files import FULL, CheckpointError, UserError, check_writable, remove_leftovers
from training import distributed
from training.checkpoint import FILES, RUNS, begin, load, network, runs_there, versions
from training.config import Config
from training.program import tell

NEEDED_BYTES = 20 * 1024**2  # on disk, for one run and its pictures


class OnDisk(NamedTuple):
    """What a run's folder holds."""

    epochs: int  # finished ones
    planned: int
    saved: dict | None  # the checkpoint; None where it is missing or damaged


def has_checkpoint(config: Config) -> bool:
    """Whether a run has a checkpoint."""
    return (RUNS / config.name / "checkpoint.pt").exists()


def on_disk(config: Config) -> OnDisk:
    """What the run's folder holds; metrics.csv and config.json tell where a checkpoint does not."""
    folder = RUNS / config.name
    try:
        saved = load(folder / "checkpoint.pt")
        return OnDisk(saved["epoch"], saved["config"].epochs, saved)
    except CheckpointError:
        try:
            planned = json.loads((folder / "config.json").read_text(encoding="utf-8"))["epochs"]
            return OnDisk(epochs_in_metrics(config), int(planned), None)
        except (OSError, ValueError, KeyError, TypeError):  # missing, or not what we wrote
            return OnDisk(0, config.epochs, None)


def epochs_in_metrics(config: Config) -> int:
    """How many epochs are in a run's metrics.csv."""
    try:
        text = (RUNS / config.name / "metrics.csv").read_text(encoding="utf-8")
    except (OSError, ValueError):  # not there, or not what we wrote
        return 0
    return max(0, len(text.splitlines()) - 1)


def check_start(config: Config, resume: bool, overwrite: bool) -> OnDisk:
    """What a run's folder holds; CheckpointError where to start would lose a run or mix two."""
    folder = RUNS / config.name
    if resume:
        if not has_checkpoint(config):
            there = runs_there(config.name)
            advice = (
                f"give --name with one that exists: {there}"
                if there
                else "leave --resume out to start it"
            )
            raise CheckpointError(f"{folder}: no such run to resume; {advice}")
        try:
            saved = load(folder / "checkpoint.pt")
        except CheckpointError as error:
            what = str(error).partition(";")[0]
            raise CheckpointError(
                f"{what}, so that it cannot be resumed; --overwrite in place of --resume starts "
                "the run anew, --name NAME another one"
            ) from None
        _check_same_experiment(config, saved, longer=True)
        _check_config_file(folder / "config.json", saved["config"])
        return OnDisk(saved["epoch"], saved["config"].epochs, saved)
    there = on_disk(config)
    if overwrite or not (there.epochs or has_checkpoint(config)):
        return there
    if there.saved:
        _check_same_experiment(config, there.saved)
    if not 0 < there.planned <= there.epochs:
        offers = "--name NAME starts another run, --overwrite starts this one anew"
        if there.saved and _fits(there.saved):
            offers = f"--resume continues it, {offers}"
        done = f"{there.epochs} of {there.planned} epochs are there"
        raise CheckpointError(f"{folder}: {done}; {offers}")
    return there


def stamp(config: Config) -> tuple[int, int] | None:
    """What tells one checkpoint of a run from the next; None without one."""
    try:
        found = (RUNS / config.name / "checkpoint.pt").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def epochs_in_words(number: int) -> str:
    """A number of epochs: "1 epoch", "2 epochs"."""
    return f"{number} epoch{'s' * (number != 1)}"


def check_all(configs: list[Config], resume: bool, overwrite: bool) -> None:
    """Raise CheckpointError if one of several runs may not start, before any of them does."""
    for config in configs if distributed.rank() == 0 else []:
        first = config is configs[0]
        check_start(config, resume and (first or has_checkpoint(config)), overwrite)


def start(config: Config, device: torch.device, resume: bool, overwrite: bool) -> dict | None:
    """The checkpoint that a run continues from; None for a new run. Errors: see `check_start`."""
    folder, there = RUNS / config.name, check_start(config, resume, overwrite)
    if resume and there.saved:
        _tell_what_differs(folder, there.saved["versions"], versions(config, device))
        begin(config, there.saved["history"])
        return there.saved
    if 0 < there.planned <= there.epochs:
        where = f"{folder} moves to {folder / 'previous'}"
        tell(f"note: the finished run in {where} as soon as one epoch of the new one is finished")
    return None


def begin_anew(config: Config) -> None:
    """Make room for a run whose first epoch is finished, and write its configuration; OSError.

    A finished run that is there moves to the folder `previous`, which holds the last finished run.
    This comes no sooner: a training that fails in its first epoch leaves everything as it was.
    """
    if distributed.rank() != 0:
        return
    folder, there = RUNS / config.name, on_disk(config)
    if 0 < there.planned <= there.epochs:
        (folder / "previous").mkdir(exist_ok=True)
        for name in FILES:  # the checkpoint is the last: until then the folder holds a whole run
            if (folder / name).exists():
                os.replace(folder / name, folder / "previous" / name)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    begin(config, [])


def _check_same_experiment(config: Config, saved: dict, longer: bool = False) -> None:
    """Raise CheckpointError unless a checkpoint is of the same experiment.

    With `longer` a run may get more epochs if its learning rate does not depend on their number.
    """
    before, now, labels = saved["config"].to_dict(), config.to_dict(), ("name", "recipe")
    if longer and config.schedule == "constant" and config.epochs >= saved["epoch"]:
        before["epochs"] = config.epochs
    differing = {
        key: f"{key} was {before.get(key)}, is {now.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if key not in labels and before.get(key) != now.get(key)
    }
    if "digests" in differing:
        differing["digests"] = "its data were others"
    if differing:
        planned, advice = saved["config"].epochs, "choose another --name"
        if list(differing) == ["epochs"]:
            fits = f"--name {config.name} --epochs {planned}"
            advice = f"it has {epochs_in_words(saved['epoch'])}: {fits} fits, or {advice}"
        raise CheckpointError(
            f"{RUNS / config.name}: holds another experiment ({'; '.join(differing.values())}); "
            f"{advice}"
        )


def _check_config_file(path: Path, config: Config) -> None:
    """Raise CheckpointError if config.json was edited by hand after the run had begun."""
    if not path.exists():
        return
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        values = json.loads(json.dumps(config.to_dict()))
        # A kill between two writes can leave more epochs in the file than in the checkpoint.
        free = {"name", "recipe", "epochs"}
        known = dict.fromkeys(("model", "lr", "seed")) | written  # these were always written
        edited = [key for key in known if key not in free and known[key] != values.get(key)]
    except (OSError, ValueError, TypeError, IndexError):
        edited = ["it is no JSON object"]
    if edited:
        raise CheckpointError(
            f"{path}: was edited ({', '.join(edited)}), and the checkpoint beside it was not; undo "
            "the edit, or start another run with --name"
        )


def _tell_what_differs(folder: Path, before: dict, now: dict) -> None:
    """Warn where a run continues under circumstances that change its numbers."""
    differing = {key: before[key] for key in now if before.get(key, now[key]) != now[key]}
    if differing.pop("network", None):
        tell(f"warning: {folder}: the network in model.py was edited since, so the run mixes two")
    if differing:
        was = ", ".join(f"{key} {value}" for key, value in differing.items())
        now_is = ", ".join(f"{key} {now[key]}" for key in differing)
        why = "the numbers will not be exactly those of an uninterrupted run"
        tell(f"warning: {folder}: was saved with {was}, now {now_is}; {why}")


def _fits(saved: dict) -> bool:
    """Whether the weights of a checkpoint fit their network."""
    try:
        network(saved)
    except UserError:
        return False
    return True


def preflight(*folders: Path) -> None:
    """Fail now, rather than after the training, where a folder cannot take the results."""
    for folder in folders if distributed.rank() == 0 else ():
        try:
            existing = folder if folder.exists() else Path()
            check_writable(existing)
            remove_leftovers(folder)
            free = shutil.disk_usage(existing).free
        except OSError as error:
            full = "free some space" if error.errno in FULL else "make it a folder to write to"
            why = f"{error.strerror}; {full}"
            raise CheckpointError(f"{folder}: {why}") from None
        if free < NEEDED_BYTES:
            needed = f"{NEEDED_BYTES >> 20} MB are needed"
            why = f"{free >> 20} MB are left on its disk, {needed}; free some space"
            raise CheckpointError(f"{folder}: {why}")


@contextmanager
def locked(config: Config) -> Generator[None]:
    """Lock a run's folder while this process uses it, and make it if need be."""
    folder = RUNS / config.name
    if distributed.rank() != 0:  # rank 0 locks it for all
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        why = "another process is using it; wait until it has ended"
        raise CheckpointError(f"{folder}: {why}") from None
    try:
        for left_by_a_kill in folder.glob(".*.tmp"):
            left_by_a_kill.unlink()
        yield
    finally:
        lock.release()
