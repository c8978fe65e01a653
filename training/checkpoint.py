"""What a run keeps on disk: `runs/<name>/checkpoint.pt`, `metrics.csv`, `steps.csv`, `config.json`.

A checkpoint is a dictionary of tensors and plain values, everything that continuing needs:

    config, epoch, history (a dictionary for each epoch), model, optimizer, scheduler, versions

It is saved whole or not at all, and its file is verified before anything in it is used: torch.load
does not check the CRCs of its own zip file, and a pickle may hold code. Whether it fits a network
or an optimizer is found out by loading it; nothing here knows today's network or optimizer.
"""

import csv
import difflib
import io
import json
import math
import pickle
import platform
import textwrap
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from files import CheckpointError, UserError, write_whole
from model import MODELS, build
from training import distributed
from training.config import Config
from training.program import tell
from training.source import network_digest

RUNS, PLOTS = Path("runs"), Path("plots")
MAX_BYTES = 1024**3  # of a checkpoint, packed or unpacked; one of LeNet-5 has 0.4 MB
KEYS = {"config", "epoch", "history", "model", "optimizer", "scheduler", "versions"}
METRICS = ["epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"]
LENGTHS = ["total_steps", "T_max", "total_iters"]  # how torch's schedulers call their length
FILES = ["metrics.csv", "steps.csv", "config.json", "checkpoint.pt"]  # of a run, in its folder


class Stateful(Protocol):
    """A model, optimizer or scheduler."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict, /) -> object: ...


# Writing


def begin(config: Config, history: list[dict]) -> None:
    """Write the configuration of a run, and the metrics that it has so far; OSError."""
    if distributed.rank() == 0:
        write_metrics(config, history)
        text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_whole(RUNS / config.name / "config.json", text.encode())


def save(config: Config, history: list[dict], device: torch.device, **parts: Stateful) -> None:
    """Write the checkpoint after an epoch, and the metrics of its history; OSError.

    `parts` are the model, the optimizer and the scheduler.
    """
    if distributed.rank() == 0:
        folder = RUNS / config.name
        write_state(
            folder / "checkpoint.pt",
            {
                "config": config,
                "epoch": len(history),
                "history": history,
                **{name: bare(part).state_dict() for name, part in parts.items()},
                "versions": versions(config, device) | kinds(**parts),
            },
        )
        try:
            write_metrics(config, history)
        except PermissionError as error:  # held by another program; the next epoch writes it again
            tell(f"warning: {error.filename or folder}: {error.strerror}; the training goes on")


def write_state(path: Path, state: dict) -> None:
    """Write a checkpoint's file, whole or not at all; OSError."""
    buffer = io.BytesIO()
    torch.save(state | {"config": state["config"].to_dict()}, buffer)
    write_whole(path, buffer.getvalue())


def export(source: Path, destination: Path) -> None:
    """Write a copy that can classify but not continue: without optimizer, scheduler and points."""
    state = load(source)
    history = [{key: row[key] for key in row if key != "points"} for row in state["history"]]
    state |= {"history": history, "optimizer": {"state": {}}, "scheduler": {}}
    write_state(destination, state)


def write_metrics(config: Config, history: list[dict]) -> None:
    """Write metrics.csv, a row for each epoch, and steps.csv, about fifty rows for each."""
    extra = dict.fromkeys(key for row in history for key in row if key not in METRICS)
    extra.pop("points", None)
    where = {"evaluated_on": "validation" if config.val_size else "test"}
    rows = [row | where for row in history]
    folder = RUNS / config.name
    write_table(folder / "metrics.csv", [*METRICS, *extra, "evaluated_on"], rows)
    columns = ["epoch", "train_loss", "train_accuracy"]
    points = [point for row in history for point in row.get("points", [])]
    write_table(folder / "steps.csv", columns, [dict(zip(columns, p, strict=True)) for p in points])


def write_table(path: Path, columns: list[str], rows: list[dict]) -> None:
    """Write some columns of rows as a CSV file."""
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, table.getvalue().encode())


def plain(row: Mapping[str, object]) -> dict:
    """A row of the history in Python's own values: numbers of numpy and torch become Python's."""
    if missing := [metric for metric in METRICS if metric not in row]:
        raise UserError(f"main.py: the history needs {', '.join(missing)}; put it back")
    values = {}
    for key, value in row.items():
        if isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.ndim == 0):
            value = value.item()
        if key != "points" and not isinstance(value, int | float | str | None):
            kind = type(value).__name__
            raise UserError(f"main.py: the history's {key!r} is a {kind}; give a number or a text")
        values[key] = value
    return values


def versions(config: Config, device: torch.device) -> dict[str, str | int]:
    """What the exact numbers depend on besides the configuration."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "processes": distributed.world_size(),
        "network": network_digest(MODELS[config.model]),
    }


def kinds(**parts: Stateful) -> dict[str, str]:
    """The classes of the optimizer and the scheduler, by name."""
    return {f"{k}_class": type(parts[k]).__name__ for k in ("optimizer", "scheduler") if k in parts}


# Reading


def load(path: str | Path) -> dict:
    """A checkpoint whose file is whole and harmless, its "config" a Config; else CheckpointError.

    `path` is the file, a run's folder or a run's name. A file of weights alone, that is of a
    `model.state_dict()`, is a checkpoint without a history, of the first network that it fits.
    """
    path = Path(path)
    if not path.exists() and (RUNS / path / "checkpoint.pt").exists():
        path = RUNS / path
    if path.is_dir() and (path / "checkpoint.pt").exists():
        path /= "checkpoint.pt"
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
        why = "holds more than tensors and plain values, which model.state_dict() would be"
    except UserError as error:
        why = str(error)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; make it readable") from None
    except Exception as error:  # whatever a foreign file makes zipfile, pickle and torch raise
        why = f"damaged or not a checkpoint ({type(error).__name__})"
    raise CheckpointError(f"{path}: {why}; use another checkpoint, or train again")


def _verified(state: dict) -> dict:
    """The contents of a checkpoint's file with their Config, if they are what `save` writes."""
    if not isinstance(state, dict):
        raise CheckpointError("not a checkpoint of this project")
    tensors = list(_tensors(state))
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors) > MAX_BYTES:
        raise CheckpointError("holds a network that is too large for this project")
    if set(state) >= KEYS:
        config, history = Config.from_dict(state["config"]), state["history"]
        if len(history) != state["epoch"] or any(not set(row) >= set(METRICS) for row in history):
            raise CheckpointError("its history does not have its epochs")
        if not all(math.isfinite(row[metric]) for row in history for metric in METRICS):
            raise CheckpointError("its history holds a value that is not finite")
        state = state | {"config": config}
    elif not state or len(tensors) != len(state):
        raise CheckpointError("not a checkpoint of this project")
    if any(tensor.isnan().any() for tensor in tensors):
        raise CheckpointError("a value in it is not a number")
    return state if "config" in state else _weights_alone(state)


def _tensors(part: object) -> Iterator[torch.Tensor]:
    """All tensors in nested dictionaries and lists."""
    if isinstance(part, torch.Tensor):
        yield part
    elif isinstance(part, Mapping | Sequence) and not isinstance(part, str | bytes):
        for value in part.values() if isinstance(part, Mapping) else part:
            yield from _tensors(value)


def _weights_alone(weights: dict) -> dict:
    """A checkpoint around weights that were saved by hand, of the first network that they fit."""
    for name in MODELS:
        config = Config(model=name)
        state = dict.fromkeys(KEYS, {}) | {"config": config, "epoch": 0, "history": []}
        try:
            network(state | {"model": weights})
        except CheckpointError:
            continue
        return state | {"model": weights}
    raise CheckpointError(f"holds weights that fit none of the networks {', '.join(MODELS)}")


def runs_there(name: str) -> str:
    """The runs that have a checkpoint, those with the most similar names first; "" without any."""
    names = sorted(path.parent.name for path in RUNS.glob("*/checkpoint.pt"))
    close = difflib.get_close_matches(name, names, 5, 0.0)
    left = len(names) - len(close)
    others = f" or one of {left} other{'s' * (left > 1)}" if left else ""
    return ", ".join(close) + others


def network(saved: dict) -> nn.Module:
    """The network of a checkpoint with its weights, in evaluation mode; CheckpointError."""
    config = saved["config"]
    try:
        model = build(config.model, config.network)
    except (MemoryError, RuntimeError) as error:  # the file decides how large it is
        why = f"its network cannot be built ({' '.join(str(error).split())[:200]})"
        raise CheckpointError(f"{config.name}: {why}; use another checkpoint") from None
    try:
        restore(saved, model=model)
    except CheckpointError:
        raise CheckpointError(
            f"{config.name or 'checkpoint'}: its weights do not fit {type(model).__name__} as "
            "model.py has it now; undo the edit there, or use the weights of a run made since the "
            "edit (--checkpoint runs/NAME)"
        ) from None
    return model.eval()


def edited(saved: dict) -> bool:
    """Whether the network's source was edited after a checkpoint was saved."""
    before = saved["versions"].get("network")
    return bool(before) and before != network_digest(MODELS[saved["config"].model])


def restore(saved: dict | None, **parts: Stateful) -> list[dict]:
    """Give the model, optimizer and scheduler their saved state; gives the history so far."""
    if saved is None:
        return []
    for key, kind in kinds(**parts).items():
        before = saved["versions"].get(key, kind)
        if before != kind:
            raise CheckpointError(
                f"{saved['config'].name}: its {key.partition('_')[0]} was {before}, and this "
                f"program's is {kind}; undo the edit, or train again under another --name"
            )
    for name, part in parts.items():
        planned = [getattr(part, key, None) for key in LENGTHS]
        try:
            bare(part).load_state_dict(saved[name])
        except Exception as error:  # torch raises many kinds, with messages of many lines
            why = textwrap.shorten(str(error), 250, placeholder=" ...")
            raise CheckpointError(
                f"{saved['config'].name or 'checkpoint'}: its {name} is not the {name} of this "
                f"program ({why}); undo the edit, or train again under another --name"
            ) from None
        if planned != [getattr(part, key, None) for key in LENGTHS]:
            raise CheckpointError(
                f"{saved['config'].name}: its scheduler was made for another number of epochs; "
                "give the --epochs that it had, or train again under another --name"
            )
    return saved["history"]


def bare(part: Stateful) -> Stateful:
    """A model without the wrapper of torch.compile, whose state has other names."""
    return getattr(part, "_orig_mod", part)


def check_can_be_saved(**parts: Stateful | None) -> None:
    """Save and load the state of model, optimizer and scheduler in memory; UserError.

    What cannot be saved is found out now, and not after an epoch of training.
    """
    for name, part in parts.items():
        if part is None:
            advice = "; ConstantLR(optimizer, 1.0) is one that changes nothing"
            raise UserError(f"main.py: there is no {name}" + advice * (name == "scheduler"))
        try:
            buffer = io.BytesIO()
            torch.save(bare(part).state_dict(), buffer)
            buffer.seek(0)
            bare(part).load_state_dict(torch.load(buffer, weights_only=True))
        except Exception as error:  # pickle and torch raise many kinds
            why = textwrap.shorten(str(error), 250, placeholder=" ...")
            raise UserError(
                f"main.py: the state of the {name} cannot be saved and read back ({why}); only "
                "tensors, numbers and texts can"
            ) from None
