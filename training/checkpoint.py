"""What a run keeps on disk: `runs/<name>/checkpoint.pt`, `metrics.csv` and `config.json`.

A checkpoint is a dictionary of tensors and plain values, everything that continuing needs:

    config, epoch, history (a dictionary for each epoch), model, optimizer, scheduler, versions

It is saved whole or not at all, and verified before anything in it is used. torch.load does not
check the CRCs of its own zip file, and a pickle may hold code: neither gets through here.
"""

import csv
import io
import json
import math
import pickle
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import filelock
import torch

from files import CheckpointError, UserError, write_whole
from model import MODELS
from training import distributed
from training.config import Config

RUNS, PLOTS = Path("runs"), Path("plots")
MAX_BYTES = 64 * 1024**2  # of a checkpoint: one of LeNet-5 has 0.4 MB, of --hidden 10000 64 MB
NEEDED_BYTES = 20 * 1024**2  # on disk, for one run and its pictures
KEYS = {"config", "epoch", "history", "model", "optimizer", "scheduler", "versions"}
METRICS = ["epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"]


class Stateful(Protocol):
    """A model, optimizer or scheduler."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict, /) -> object: ...


def begin(config: Config, history: list[dict]) -> None:
    """Write the configuration of a run, and the metrics that it has so far; OSError."""
    if distributed.rank() == 0:
        write_metrics(RUNS / config.name, history)
        write_config(RUNS / config.name, config)


def save(config: Config, history: list[dict], device: torch.device, **parts: Stateful) -> None:
    """Write the checkpoint after an epoch, and the metrics of its history; OSError.

    `parts` are the model, optimizer and scheduler.
    """
    if distributed.rank() == 0:
        state = {
            "config": config,
            "epoch": len(history),
            "history": history,
            **{name: part.state_dict() for name, part in parts.items()},
            "versions": versions(device),
        }
        write_state(RUNS / config.name / "checkpoint.pt", state)
        write_metrics(RUNS / config.name, history)


def versions(device: torch.device) -> dict[str, str | int]:
    """What the exact numbers depend on besides the configuration."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processes": distributed.world_size(),
    }


def write_state(path: Path, state: dict) -> None:
    """Write a checkpoint's file, whole or not at all; OSError."""
    buffer = io.BytesIO()
    torch.save(state | {"config": state["config"].to_dict()}, buffer)
    write_whole(path, buffer.getvalue())


def export(source: Path, destination: Path) -> None:
    """Write a checkpoint without what only continuing needs: enough to classify with."""
    write_state(destination, load(source) | {"optimizer": {"state": {}}, "scheduler": {}})


def write_metrics(folder: Path, history: list[dict]) -> None:
    """Write metrics.csv, a row for each finished epoch."""
    table = io.StringIO()
    writer = csv.DictWriter(table, METRICS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_whole(folder / "metrics.csv", table.getvalue().encode())


def write_config(folder: Path, config: Config) -> None:
    """Write config.json, the run's configuration for people and programs."""
    text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / "config.json", text.encode())


def load(path: str | Path) -> dict:
    """A verified checkpoint, its "config" a Config; any other file is a CheckpointError."""
    path = Path(path)
    try:
        if not path.is_file():
            raise CheckpointError("not there" if not path.exists() else "not a file")
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError("too large for a checkpoint of this project")
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise CheckpointError("not a checkpoint (compressed)")
            if damaged := archive.testzip():
                raise CheckpointError(f"damaged at {damaged!r}")
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return _verified(state)
    except pickle.UnpicklingError:
        # its own message suggests weights_only=False, which would run the file's code
        why = "holds more than tensors and plain values; train again or use another checkpoint"
        raise CheckpointError(f"{path}: {why}") from None
    except UserError as error:
        raise CheckpointError(f"{path}: {error}; use another checkpoint or train again") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; make it readable") from None
    except Exception as error:  # whatever a foreign file makes zipfile, pickle and torch raise
        why = f"damaged or not a checkpoint ({type(error).__name__})"
        raise CheckpointError(f"{path}: {why}; use another checkpoint or train again") from None


def _verified(state: dict) -> dict:
    """The state, if its shapes, types and values are those of the network that it describes."""
    if not isinstance(state, dict) or set(state) != KEYS:
        raise CheckpointError("not a checkpoint of this project")
    if state["config"]["model"] not in MODELS:
        raise CheckpointError("holds a model that this version does not know")
    config = Config.from_dict(state["config"])
    if len(state["history"]) != state["epoch"] or any(list(r) != METRICS for r in state["history"]):
        raise CheckpointError("its history does not have its epochs")
    if not all(math.isfinite(value) for row in state["history"] for value in row.values()):
        raise CheckpointError("its history holds a value that is not finite")
    with torch.device("meta"):  # shapes alone: the file decides the size, so allocate nothing
        weights = MODELS[config.model](**config.network).state_dict()
    if sum(weight.nbytes for weight in weights.values()) > MAX_BYTES:
        raise CheckpointError("holds a network that is too large for this project")
    momenta = [entry["momentum_buffer"] for entry in state["optimizer"]["state"].values()]
    pairs = [(weight, state["model"].get(name)) for name, weight in weights.items()]
    if momenta and momenta[0] is not None:
        pairs += zip(weights.values(), momenta, strict=True)
    if set(weights) != set(state["model"]):
        raise CheckpointError("its layers are not the model's")
    for expected, found in pairs:
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise CheckpointError("a shape or type in it is not the model's")
        if not found.isfinite().all():
            raise CheckpointError("a value in it is not finite")
    return state | {"config": config}


def load_for_resume(config: Config, resume: bool) -> dict | None:
    """The checkpoint to continue from; None to begin anew. Another experiment's is an error."""
    folder = RUNS / config.name
    path = folder / "checkpoint.pt"
    if not path.exists():
        return None
    saved = load(path)
    before, now = saved["config"].to_dict(), config.to_dict()
    if resume and config.schedule == "constant" and saved["epoch"] <= config.epochs:
        before["epochs"] = config.epochs  # more epochs do not change those that are there
    differing = [
        f"{key} was {before.get(key)}, is {now.get(key)}"
        for key in sorted(before.keys() | now.keys() - {"name", "recipe"})
        if key not in ("name", "recipe") and before.get(key) != now.get(key)
    ]
    if differing:
        raise CheckpointError(
            f"{folder}: holds another experiment ({'; '.join(differing)}); choose another --name"
        )
    return saved if resume else None


def restore(saved: dict | None, **parts: Stateful) -> list[dict]:
    """Give the model, optimizer and scheduler their saved state; gives the history so far."""
    if saved is None:
        return []
    try:
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    except Exception as error:  # sound values in the form of another program, or version of torch
        why = f"does not fit this version ({type(error).__name__}); train again with another --name"
        raise CheckpointError(f"{saved['config'].name}: its checkpoint {why}") from None
    return saved["history"]


def exists(config: Config) -> bool:
    """Whether a run has a checkpoint."""
    return (RUNS / config.name / "checkpoint.pt").exists()


def preflight(*folders: Path) -> None:
    """Fail now, rather than after the training, where a folder cannot take the results."""
    for folder in folders if distributed.rank() == 0 else ():
        try:
            existing = folder if folder.exists() else Path()
            with tempfile.TemporaryFile(dir=existing):
                free = shutil.disk_usage(existing).free
        except OSError as error:
            why = f"{error.strerror}; make it a folder to write to"
            raise CheckpointError(f"{folder}: {why}") from None
        if free < NEEDED_BYTES:
            why = f"{free >> 20} MB are left on its disk; free some space"
            raise CheckpointError(f"{folder}: {why}")


@contextmanager
def locked(config: Config, resume: bool = False) -> Generator[None]:
    """Lock a run's folder while this process uses it, and make it if need be."""
    folder = RUNS / config.name
    if distributed.rank() != 0:  # rank 0 locks it for all
        yield
        return
    if resume and not exists(config):
        there = sorted(run.parent.name for run in folder.parent.glob("*/checkpoint.pt"))
        what = f"--name takes {', '.join(there)}" if there else "leave --resume out to start it"
        raise CheckpointError(f"{folder}: no such run to resume; {what}")
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        why = "another process is using it; wait for it, or choose another --name"
        raise CheckpointError(f"{folder}: {why}") from None
    try:
        for left_by_a_kill in folder.glob(".*.tmp"):
            left_by_a_kill.unlink()
        yield
    finally:
        lock.release()
