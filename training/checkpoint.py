"""A run's folder and its files: started, locked, saved, loaded, continued.

    runs/<name>/checkpoint.pt, metrics.csv, steps.csv, config.json

A checkpoint is a dictionary of tensors and plain values, everything that continuing needs:

    config, epoch, history (a dictionary for each epoch), model, optimizer, scheduler, versions

It is saved whole or not at all, and its file is verified before anything in it is used: torch.load
does not check the CRCs of its own zip file, and a pickle may hold code. Whether it fits a network
or an optimizer is found out by loading it; nothing here knows today's network or optimizer.
"""

import contextlib
import csv
import functools
import hashlib
import inspect
import io
import itertools
import json
import math
import pickle
import platform
import textwrap
import zipfile
from collections.abc import Generator, Mapping, Sequence
from os.path import commonprefix
from pathlib import Path
from typing import Any

from files import CheckpointError, UserError, write_whole
from model import MODELS, build
from training import distributed
from training.config import Config
from training.program import tell
from training.schedule import method

import filelock
import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

RUNS, PLOTS = Path("runs"), Path("plots")
MAX_BYTES = 1024**3  # of a checkpoint; one of LeNet-5 has 0.4 MB
KEYS = {"config", "epoch", "history", "model", "optimizer", "scheduler", "versions"}
METRICS = ["epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"]
STEPS = ["epoch", "train_loss", "train_accuracy"]
FILES = ["metrics.csv", "steps.csv", "config.json", "checkpoint.pt"]  # of a run, in its folder


# Starting


@contextlib.contextmanager
def locked(config: Config) -> Generator[None]:
    """Lock a run's name while this process uses it; rank 0 does so for all. CheckpointError."""
    lock = filelock.FileLock(RUNS / f".{config.name}.lock", timeout=0)
    try:
        with lock if distributed.rank() == 0 else contextlib.nullcontext():
            yield
    except filelock.Timeout:
        why = "another process is using it; wait until it has ended"
        raise CheckpointError(f"{RUNS / config.name}: {why}") from None


def start(config: Config, device: torch.device, resume: bool) -> dict | None:
    """The checkpoint that a run continues from, or None for a new run; CheckpointError.

    A new run has the folder for itself: what is there moves to the next free number.
    """
    folder = RUNS / config.name
    if not resume:
        if folder.exists():
            places = (folder.with_name(f"{folder.name}.{n}") for n in itertools.count(1))
            aside = next(place for place in places if not place.exists())
            folder.rename(aside)
            tell(f"note: what was in {folder} is in {aside} now")
        return None
    if not (folder / "checkpoint.pt").exists():
        raise CheckpointError(f"{folder}: no such run to resume; leave --resume out to start it")
    saved = load(folder)
    before = saved["config"].to_dict()
    if config.schedule == "constant" and config.epochs >= saved["epoch"]:
        before["epochs"] = config.epochs  # one may add epochs
    if words := differing(before, config.to_dict()):
        advice = "choose another --name, or leave --resume out to start it anew"
        raise CheckpointError(f"{folder}: another experiment ({words}); {advice}")
    if edited(saved):
        tell(f"warning: {folder}: the network in model.py was edited since, so the run mixes two")
    now = versions(config, device)
    del now["source"]  # that it was edited is said already
    if words := differing(saved["versions"], now):
        tell(f"warning: {folder}: {words}; numbers as if never stopped need the same")
    return saved


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which of some options or versions have another value now, in words; "" if none has."""
    words = []
    for key, value in now.items():
        if key not in ("name", "recipe") and before.get(key) != value:
            change = f"{key} was {before.get(key)!s:.40}, is {value!s:.40}"
            words.append("other data" if key == "digests" else change)
    return ", ".join(words)


def versions(config: Config, device: torch.device) -> dict[str, str | int]:
    """What the exact numbers depend on besides the configuration."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "processes": distributed.world_size(),
        "source": source_digest(MODELS[config.model]),
    }


@functools.cache
def source_digest(network: type[nn.Module]) -> str:
    """The SHA-256 of the source of a network's class; "unknown" if it was typed into a notebook."""
    try:
        return hashlib.sha256(inspect.getsource(network).encode()).hexdigest()
    except (OSError, TypeError):
        return "unknown"


def edited(saved: dict) -> bool:
    """Whether the network's source was edited after a checkpoint was saved."""
    now = source_digest(MODELS[saved["config"].model])
    return saved["versions"].get("source", now) != now


# Saving


class RunFolder:
    """A run's folder while it is locked, and the history of the run's finished epochs.

    `parts` are the model, the optimizer and the scheduler; a run that is resumed gives them their
    saved state. Errors: CheckpointError.
    """

    def __init__(self, config: Config, device: torch.device, resume: bool, parts: dict[str, Any]):
        self.config, self.device, self.path = config, device, RUNS / config.name
        # torch.compile's wrapper of a model has other names
        self.parts = {name: getattr(part, "_orig_mod", part) for name, part in parts.items()}
        self.method = method(config.schedule, parts["optimizer"], parts["scheduler"])
        saved = distributed.from_rank_0(lambda: start(config, device, resume))
        self.history = restore(saved, config, **self.parts) if saved else []
        if saved and distributed.rank() == 0:
            self.write_tables()  # a kill may have come before them

    def add(self, row: dict) -> None:
        """Write the four files with one more epoch; OSError, and UserError for what cannot be."""
        # numbers of numpy and torch become Python's
        row = {k: value.item() if hasattr(value, "item") else value for k, value in row.items()}
        self.history.append(row)
        if distributed.rank() > 0:
            return
        classes = {f"{name}_class": type(part).__name__ for name, part in self.parts.items()}
        state = {
            "config": self.config,
            "epoch": len(self.history),
            "history": self.history,
            **{name: part.state_dict() for name, part in self.parts.items()},
            "versions": versions(self.config, self.device) | classes,
        }
        write_state(self.path / "checkpoint.pt", state)
        self.write_tables()

    def write_tables(self) -> None:
        """Write config.json, metrics.csv with a row for each epoch, steps.csv with about fifty."""
        values = self.config.to_dict() | self.method
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        own = [key for row in self.history for key in row if key != "points"]
        columns = list(dict.fromkeys([*METRICS, *own, "evaluated_on"]))
        rows = [row | {"evaluated_on": self.config.evaluated} for row in self.history]
        points = [point for row in self.history for point in row.get("points", [])]
        steps = [dict(zip(STEPS, point, strict=True)) for point in points]
        try:
            write_whole(self.path / "config.json", text.encode())
            write_table(self.path / "metrics.csv", columns, rows)
            write_table(self.path / "steps.csv", STEPS, steps)
        except PermissionError as error:  # held by another program; the next epoch writes it again
            tell(f"warning: {error.filename}: {error.strerror}; the training goes on")


def write_state(path: Path, state: dict) -> None:
    """Write a checkpoint's file, whole or not at all, after reading it back in memory."""
    buffer = io.BytesIO()
    try:
        torch.save(state | {"config": state["config"].to_dict()}, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:  # pickle and torch raise many kinds
        why = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise UserError(
            f"{path}: the run cannot be saved and read back ({why}); its model, optimizer, "
            "scheduler and history may only hold tensors, numbers and texts"
        ) from None
    write_whole(path, buffer.getvalue())


def export(source: Path, destination: Path) -> None:
    """Write a copy that can classify but not continue: without optimizer, scheduler and points."""
    state = load(source)
    history = [{key: row[key] for key in row if key != "points"} for row in state["history"]]
    state |= {"history": history, "optimizer": {"state": {}}, "scheduler": {}}
    write_state(destination, state)


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping]) -> None:
    """Write some columns of rows as a CSV file."""
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, table.getvalue().encode())


# Loading


def load(path: str | Path) -> dict:
    """A checkpoint whose file is whole and harmless, its "config" a Config; else CheckpointError.

    `path` is the file, a run's folder or a run's name. A file of weights alone, such as that of a
    `model.state_dict()`, is a checkpoint without a history, of the first network that it fits.
    """
    path = Path(path)
    if not path.exists() and (RUNS / path).exists():
        path = RUNS / path
    if path.is_dir():
        path /= "checkpoint.pt"
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError("not a file")
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError("too large for a checkpoint of this project")
        content = path.read_bytes()
        if content[:2] == b"\x80\x02":
            raise CheckpointError("torch's format of before 2020; save it again with torch.save")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise CheckpointError("not a checkpoint (compressed)")
            if damaged := archive.testzip():
                raise CheckpointError(f"damaged at {damaged!r}")
        return verified(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except pickle.UnpicklingError:
        # its own message suggests weights_only=False, which would run the file's code
        why = "holds more than tensors and plain values, which model.state_dict() would be"
    except UserError as error:
        why = str(error)
    except OSError as error:
        why = error.strerror
    except Exception as error:  # whatever a foreign file makes zipfile, pickle and torch raise
        why = f"damaged or not a checkpoint ({type(error).__name__})"
    raise CheckpointError(f"{path}: {why}; use another checkpoint, or train again")


def verified(state: Any) -> dict:  # noqa: ANN401
    """The contents of a checkpoint's file with their Config, if they are what a run writes."""
    if not isinstance(state, dict) or not state.keys() >= KEYS:
        return weights_alone(state)
    history, parts = state["history"], [state[key] for key in KEYS - {"epoch", "history"}]
    whole = all(isinstance(part, dict) for part in parts) and len(history) == state["epoch"]
    if not whole or not all(math.isfinite(row[metric]) for row in history for metric in METRICS):
        raise CheckpointError("its parts or its history are not those of a run")
    return state | {"config": Config.from_dict(state["config"])}


def weights_alone(state: Any) -> dict:  # noqa: ANN401
    """A checkpoint around weights that somebody else saved, of the first network that they fit.

    They are the file's mapping of names to tensors, or one in it, whatever the names begin with; a
    line says so where that is not all.
    """
    parts = {"": state} | state if isinstance(state, dict) else {}
    mappings = {key: part for key, part in parts.items() if isinstance(part, dict)}
    for name in MODELS:
        own = build(name, {}).state_dict()
        shapes = {layer: tensor.shape for layer, tensor in own.items()}
        for key, weights in mappings.items():
            prefix = commonprefix([*map(str, weights)]).removesuffix(commonprefix([*own]))
            model = {str(layer).removeprefix(prefix): weights[layer] for layer in weights}
            if {layer: getattr(model[layer], "shape", None) for layer in model} == shapes:
                words = [f"its {key!r}"] * bool(key) + [f"without {prefix!r}"] * bool(prefix)
                if words:
                    tell(f"note: the weights are {', '.join(words)}, and fit {name}")
                run = {"config": Config(model=name), "epoch": 0, "history": [], "model": model}
                return dict.fromkeys(KEYS, {}) | run
    names = " or ".join(MODELS)
    raise CheckpointError(f"holds no weights of {names}, as model.state_dict() gives them")


def network(saved: dict) -> nn.Module:
    """The network of a checkpoint with its weights, in evaluation mode; CheckpointError."""
    config = saved["config"]
    name = config.name or "checkpoint"
    try:
        model = build(config.model, config.network)
        model.load_state_dict(saved["model"])
    except (MemoryError, RuntimeError, AttributeError) as error:
        why = textwrap.shorten(str(error), 150, placeholder=" ...")
        raise CheckpointError(
            f"{name}: its weights do not fit {config.model} as model.py has it now ({why}); undo "
            "the edit there, or use the weights of a run made since"
        ) from None
    if any(values.isnan().any() for values in [*model.parameters(), *model.buffers()]):
        raise CheckpointError(f"{name}: a weight in it is not a number; use another checkpoint")
    return model.eval()


def restore(saved: dict, config: Config, **parts: Any) -> list[dict]:  # noqa: ANN401
    """Give the model, optimizer and scheduler their saved state; gives the history so far."""
    epochs = saved["config"].epochs
    for name, part in parts.items():
        kind = type(part).__name__
        before = saved["versions"].get(f"{name}_class", kind)
        longer = name == "scheduler" and config.epochs != epochs
        try:
            if kind != before or (longer and kind != LambdaLR.__name__):
                raise ValueError(f"it was {before} for {epochs} epochs")
            part.load_state_dict(saved[name])
        except Exception as error:  # torch raises many kinds, with messages of many lines
            why = textwrap.shorten(str(error), 200, placeholder=" ...")
            raise CheckpointError(
                f"{config.name}: its {name} is not the {name} of this program ({why}); undo the "
                "edit, or start it anew without --resume"
            ) from None
    return saved["history"]
