"""What a run, or a comparison of several seeds, tells and draws."""

import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from tqdm import tqdm

from dataset import MNIST
from model import parameter_table
from training import distributed
from training.checkpoint import PLOTS, RUNS
from training.config import Config, title
from training.console import tell

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


class Run(NamedTuple):
    """What came of one run."""

    config: Config
    history: list[dict]  # a row for each epoch
    logits: torch.Tensor  # of the images that it was tested on, after the last epoch


class Report:
    """Tells the person at the terminal how runs go; rank 0 does so for all."""

    def __init__(self, quiet: bool = False):
        self.silent = quiet or distributed.rank() > 0
        self.started = time.perf_counter()

    def say(self, text: str = "") -> None:
        """Print a line, unless only the last one is wanted."""
        if not self.silent:
            print(text, flush=True)

    def progress(self, epoch: int, steps: int) -> Callable[[Batches], Iterable]:
        """What wraps an epoch's batches in a progress bar, on a terminal."""
        hidden = self.silent or None  # None: hidden where the output goes to a file
        return partial(
            tqdm, desc=f"epoch {epoch}", total=steps, unit="batch", leave=False, disable=hidden
        )

    def introduce(self, model: nn.Module, device: torch.device) -> None:
        """Show the network's parameters and where it is trained."""
        threads = f", threads: {torch.get_num_threads()}" if device.type == "cpu" else ""
        self.say(f"\n{parameter_table(model)}\n\ndevice: {device}{threads}")

    def begin(self, config: Config, history: list[dict]) -> None:
        """Name a run and head its table; show the epochs that a resumed run has."""
        self.say("\n" + "\n".join((config.name, *title(config))))
        part = "val" if config.val_size else "test"
        self.say(f"epoch  train loss  train acc  {part:>4} loss  {part:>4} acc        lr  seconds")
        for row in history:
            self.epoch(row)
        if len(history) == config.epochs:
            folder = RUNS / config.name
            self.say(f"already complete: all {len(history)} epochs are in {folder}")

    def epoch(self, row: dict) -> None:
        """Show a finished epoch, under the heading of `begin`."""
        self.say(
            f"{row['epoch']:5d}  {row['train_loss']:10.4f}  {100 * row['train_accuracy']:7.2f} %  "
            f"{row['test_loss']:9.4f}  {100 * row['test_accuracy']:6.2f} %  {row['lr']:8.2g}  "
            f"{row['seconds']:7.1f}"
        )

    def end(self, runs: list[Run], test_set: MNIST) -> None:
        """Draw some runs; say where everything is, and last the result."""
        if distributed.rank() != 0 or not runs:
            return
        pictures = draw(runs, test_set)
        self.say()
        for run in runs:
            self.say(f"{RUNS / run.config.name}: config.json, metrics.csv, checkpoint.pt")
        for path in pictures:
            self.say(str(path))
        print(f"{summary(runs)}, {time.perf_counter() - self.started:.1f} s in all)")


def draw(runs: list[Run], test_set: MNIST) -> list[Path]:
    """Draw the curves of all runs, and confusion and mistakes of the first; gives the files."""
    from training import plotting  # here, because matplotlib takes 0.3 s to import

    config, history, logits = runs[0]
    heading = title(config, seeds=len(runs))
    pictures = [PLOTS / f"{stem(runs)}_{what}.png" for what in ("curves", "confusion", "mistakes")]
    images, labels = test_set.data.cpu(), test_set.targets.cpu()
    note = f"of seed {config.seed}, one of {len(runs)} seeds" if len(runs) > 1 else ""
    plotting.curves(pictures[0], heading, [run.history for run in runs], evaluated(config))
    plotting.confusion(pictures[1], heading, logits.cpu(), labels, note=note)
    plotting.mistakes(pictures[2], heading, images, logits.cpu(), labels, note=note)
    return pictures


def summary(runs: list[Run]) -> str:
    """The result of some runs, without the closing time and bracket."""
    config, last = runs[0].config, [run.history[-1] for run in runs]
    accuracies = [100 * row["test_accuracy"] for row in last]
    spread = f" ± {statistics.stdev(accuracies):.2f}" if len(runs) > 1 else ""
    seeds = f", {len(runs)} seeds" if len(runs) > 1 else ""
    loss = statistics.mean(row["test_loss"] for row in last)
    data = " on GENERATED digits, not MNIST" if config.data == "generated" else ""
    return (
        f"{stem(runs)}: {evaluated(config)} accuracy {statistics.mean(accuracies):.2f}{spread} %, "
        f"loss {loss:.4f}{data} (epoch {last[0]['epoch']}{seeds}"
    )


def stem(runs: list[Run]) -> str:
    """The name that the pictures of some runs begin with."""
    return runs[0].config.name + (f"_runs{len(runs)}" if len(runs) > 1 else "")


def evaluated(config: Config) -> str:
    """The set that a run was tested on, in words."""
    return "validation" if config.val_size else "test"


def tell_what_is_safe(run: Run | None) -> None:
    """After an interrupt: which epoch is on disk, and the command that continues."""
    command = "python " + shlex.join(argument for argument in sys.argv if argument != "--resume")
    if run:
        path, epoch = RUNS / run.config.name / "checkpoint.pt", len(run.history)
        tell(f"interrupted: epoch {epoch} is safe in {path}; to continue: {command} --resume")
    else:
        tell(f"interrupted before the first epoch was saved; to start again: {command}")
