"""What a run keeps on disk: `runs/<name>/checkpoint.pt`, `metrics.csv` and `config.json`.

A checkpoint is a dictionary of plain values and tensors, everything that continuing needs:

    config, epoch, history (a dictionary per epoch), model, optimizer, scheduler, versions

It is saved whole or not at all, and verified before anything in it is used. torch.load does not
check the CRCs of its own zip file, and a pickle may hold code: neither gets through here.
"""

import csv
import io
import json
import math
import os
import pickle
import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import filelock
import torch

import distributed
from model import MODELS, build
from tarball import write_whole

MAX_BYTES = 64 * 1024**2  # of a checkpoint: one of LeNet-5 has 0.4 MB, of --hidden 10000 64 MB
NEEDED_BYTES = 20 * 1024**2  # on disk, for one run and its pictures
KEYS = {"config", "epoch", "history", "model", "optimizer", "scheduler", "versions"}
METRICS = ["epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"]


class CheckpointError(Exception):
    """A run or checkpoint that cannot be used; its message is one line: what, why, what to do."""


def save(folder, state):
    """Write the checkpoint, and the metrics from its history, into a run's folder; OSError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(Path(folder, "checkpoint.pt"), buffer.getbuffer())
    write_metrics(folder, state["history"])


def export(source, destination):
    """Write a checkpoint without what only continuing needs: enough to classify with."""
    state = load(source) | {"optimizer": {"state": {}}, "scheduler": {}}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(destination, buffer.getbuffer())


def write_metrics(folder, history):
    """One row for each finished epoch."""
    table = io.StringIO()
    writer = csv.DictWriter(table, METRICS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_whole(Path(folder, "metrics.csv"), table.getvalue().encode())


def write_config(folder, config):
    """The run's configuration, for people and programs."""
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    write_whole(Path(folder, "config.json"), text.encode())


def load(path):
    """A verified checkpoint; CheckpointError says what is wrong with any other file."""
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
        _verify(state)
    except pickle.UnpicklingError:
        # its own message suggests weights_only=False, which would run the file's code
        why = "holds more than tensors and plain values; train again or use another checkpoint"
        raise CheckpointError(f"{path}: {why}") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}; use another checkpoint or train again") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; make it readable") from None
    except Exception as error:  # whatever a foreign file makes zipfile, pickle and torch raise
        why = f"damaged or not a checkpoint ({type(error).__name__})"
        raise CheckpointError(f"{path}: {why}; use another checkpoint or train again") from None
    return state


def _verify(state):
    """Keys, shapes, dtypes and finite values are those of a network that the config describes."""
    if not isinstance(state, dict) or set(state) != KEYS:
        raise CheckpointError("not a checkpoint of this project")
    if state["config"]["model"] not in MODELS:
        raise CheckpointError("holds a model that this version does not know")
    if len(state["history"]) != state["epoch"] or any(list(r) != METRICS for r in state["history"]):
        raise CheckpointError("its history does not have its epochs")
    if not all(math.isfinite(value) for row in state["history"] for value in row.values()):
        raise CheckpointError("its history holds a value that is not finite")
    with torch.device("meta"):  # shapes alone: the file decides the size, so allocate nothing
        weights = build(state["config"]).state_dict()
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


def previous(folder, config, resume):
    """The checkpoint that a run continues from, None for a new one; an error if it is another's.

    The metrics are written anew from it: a kill may have come between the two.
    """
    path = Path(folder, "checkpoint.pt")
    if not path.exists():
        write_metrics(folder, [])
        return None
    saved = load(path)
    before, differing = saved["config"], []
    for key in sorted(config.keys() | before.keys() - {"name", "recipe"}):
        longer = resume and key == "epochs" and config["schedule"] == "constant"
        if longer and config["epochs"] >= saved["epoch"] or key in ("name", "recipe"):
            continue
        if before.get(key) != config.get(key):
            differing.append(f"{key} was {before.get(key)}, is {config.get(key)}")
    if differing:
        raise CheckpointError(
            f"{folder}: holds another experiment ({'; '.join(differing)}); choose another --name"
        )
    write_metrics(folder, saved["history"])
    return saved if resume else None


def restore(saved, **parts):
    """Give the model, optimizer and scheduler the state that they had."""
    try:
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    except Exception as error:  # sound values in the form of another program, or version of torch
        why = f"does not fit this version ({type(error).__name__}); train again with another --name"
        raise CheckpointError(f"{saved['config']['name']}: its checkpoint {why}") from None


def preflight(folder):
    """Fail now, rather than after the training, where a folder cannot take the results."""
    try:
        existing = folder if folder.exists() else Path()
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        raise CheckpointError(f"{folder}: {error.strerror}; make it a folder to write to") from None
    if free < NEEDED_BYTES:
        raise CheckpointError(f"{folder}: {free >> 20} MB are left on its disk; free some space")


@contextmanager
def only_user(folder, resume=False):
    """Keep other programs out of a run's folder while this one uses it."""
    if distributed.rank() != 0:  # rank 0 keeps them out for all
        yield
        return
    folder = Path(folder)
    if resume and not (folder / "checkpoint.pt").exists():
        there = sorted(run.parent.name for run in folder.parent.glob("*/checkpoint.pt"))
        what = f"--name takes {', '.join(there)}" if there else "leave --resume out to start it"
        raise CheckpointError(f"{folder}: no such run to resume; {what}")
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / ".pid"  # filelock empties its own file when it tries, so not in there
    try:
        with filelock.FileLock(folder / ".lock", timeout=0):
            owner.write_text(str(os.getpid()))
            for left_by_a_kill in folder.glob(".*.tmp"):
                left_by_a_kill.unlink()
            try:
                yield
            finally:
                owner.unlink(missing_ok=True)
    except filelock.Timeout:
        pid = owner.read_text() if owner.exists() else "another"
        raise CheckpointError(
            f"{folder}: process {pid} is using it; wait for it, or choose another --name"
        ) from None
