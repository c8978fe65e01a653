"""What a run, or a comparison of several seeds, tells and draws."""

import math
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
from handwriting.mix import unseen
from training import distributed
from training.checkpoint import FILES, PLOTS, RUNS, load, network, write_table
from training.config import Config, title
from training.program import command_line, shows_progress_bars, tell
from training.tally import Tally

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
        """Print a line, unless --quiet was given or this is not rank 0."""
        if not self.silent:
            print(text, flush=True)

    def progress(self, epoch: int, steps: int) -> Callable[[Batches], Iterable]:
        """What wraps an epoch's batches in a progress bar, on a terminal."""
        hidden = self.silent or not shows_progress_bars()
        return partial(
            tqdm, desc=f"epoch {epoch}", total=steps, unit="batch", leave=False, disable=hidden
        )

    def introduce(self, model: nn.Module, device: torch.device) -> None:
        """Say how large the network is and where it is trained."""
        count = sum(parameter.numel() for parameter in model.parameters())
        threads = torch.get_num_threads()
        many = f" with {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else ""
        self.say(f"{count:,} parameters (python model.py lists them), trained on {device}{many}")

    def begin(self, config: Config, history: list[dict]) -> None:
        """Name a run and head its table; show the epochs that a resumed run has."""
        what, options = title(config)
        self.say(f"\n{config.name}: {what}\n{options}")
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
        """Draw the runs, list the files, print the result, and warn if nothing was learned."""
        if distributed.rank() != 0 or not runs:
            return
        tables = [write_seeds(runs)] if len(runs) > 1 else []
        pictures = draw(runs, test_set)
        self.say()
        for run in runs:
            self.say(f"{RUNS / run.config.name}: {', '.join(FILES)}")
        for path in tables + pictures:
            self.say(str(path))
        folder = RUNS / runs[0].config.name
        if runs[0].config.mix != "none":
            self.say(unseen(network(load(folder))))
        command = f"python predict.py --checkpoint {folder} IMAGE"
        self.say(f"to read your own handwriting with it: {command}")
        seconds = time.perf_counter() - self.started
        print(f"{summary(runs)}, {seconds:.1f} s in all)", flush=True)
        if warning := nothing_learned(runs, test_set.targets):
            tell(warning)


def draw(runs: list[Run], test_set: MNIST) -> list[Path]:
    """Draw the curves of all runs, and confusion and mistakes of the first; gives the files."""
    from figures import run as plotting  # here, because matplotlib takes 0.3 s to import
    from figures import style

    config, history, logits = runs[0]
    heading = title(config, seeds=len(runs))
    pictures = [PLOTS / f"{stem(runs)}_{what}.png" for what in ("curves", "confusion", "mistakes")]
    images, labels = test_set.data.cpu(), test_set.targets.cpu()
    note = f"of seed {config.seed}, one of {len(runs)} seeds" if len(runs) > 1 else ""
    histories = [run.history for run in runs]
    style.save(plotting.curves(heading, histories, evaluated(config)), pictures[0])
    style.save(plotting.confusion(heading, logits.cpu(), labels, note=note), pictures[1])
    style.save(plotting.mistakes(heading, images, logits.cpu(), labels, note=note), pictures[2])
    return pictures


def summary(runs: list[Run]) -> str:
    """The result of some runs, without the closing time and bracket."""
    config, last = runs[0].config, [run.history[-1] for run in runs]
    accuracies = [100 * row["test_accuracy"] for row in last]
    seeds = f", {len(runs)} seeds" if len(runs) > 1 else ""
    loss = statistics.mean(row["test_loss"] for row in last)
    data = " on GENERATED digits, not MNIST" if config.data == "generated" else ""
    return (
        f"{stem(runs)}: {evaluated(config)} accuracy {mean_and_deviation(accuracies, 2)} %, "
        f"loss {loss:.4f}{data} (epoch {last[0]['epoch']}{seeds}"
    )


def write_seeds(runs: list[Run]) -> Path:
    """Write a CSV file of the seeds' last epochs, their mean and standard deviation; gives it."""
    metrics = ["epochs", "test_loss", "test_accuracy", "train_loss", "train_accuracy", "seconds"]
    rows: list[dict] = []
    for config, history, _ in runs:
        seconds = round(sum(row["seconds"] for row in history), 3)
        sums = {"epochs": len(history), "seconds": seconds}
        folder = (RUNS / config.name).as_posix()
        rows.append({"seed": config.seed, "folder": folder} | history[-1] | sums)
    seeds = [[row[metric] for row in rows] for metric in metrics]
    for name, of in (("mean", statistics.mean), ("standard deviation", statistics.stdev)):
        rows.append({"seed": name} | dict(zip(metrics, map(of, seeds), strict=True)))
    path = RUNS / f"{stem(runs)}.csv"
    write_table(path, ["seed", "folder", *metrics], rows)
    return path


def nothing_learned(runs: list[Run], labels: torch.Tensor) -> str:
    """A warning if runs are no better than one digit as the answer to everything; else "".

    `labels` (int64, N) are those of the images that the runs were tested on.
    """
    counts = torch.bincount(labels.cpu())
    digit, share = int(counts.argmax()), counts.max().item() / len(labels)
    # Guesses that are right as often as that digit stay below this limit in 95 of 100 tests. It
    # suits small test sets, and those with much of one digit, better than a number of points.
    limit = share + 1.645 * math.sqrt(share * (1 - share) / len(labels))
    accuracies = [run.history[-1]["test_accuracy"] for run in runs]
    failed = [accuracy for accuracy in accuracies if accuracy <= limit and accuracy < 1]
    if not failed:
        return ""
    which = f"{len(failed)} of {len(runs)} seeds have" if len(runs) > 1 else "the network has"
    reached = f"{100 * max(failed):.2f} %" + " at most" * (len(failed) > 1)
    config = runs[0].config
    return (
        f"warning: {stem(runs)}: {which} learned nothing: {evaluated(config)} accuracy {reached}, "
        f"while always answering {digit} gives {100 * share:.2f} %; first try another learning "
        f"rate (it was --lr {config.lr:g}), then look at the data"
    )


def stem(runs: list[Run]) -> str:
    """The name that the files about some runs begin with."""
    return runs[0].config.name + (f"_runs{len(runs)}" if len(runs) > 1 else "")


def evaluated(config: Config) -> str:
    """The set that a run was tested on, in words."""
    return "validation" if config.val_size else "test"


def tell_what_is_safe(run: Run | None) -> None:
    """After an interrupt: which epoch is on disk, and the command that continues."""
    if run:
        path = RUNS / run.config.name / "checkpoint.pt"
        epoch = f"epoch {len(run.history)} of {run.config.epochs}"
        command = command_line(sys.argv, resume=True)
        tell(f"interrupted: {epoch} is safe in {path}; to continue: {command}")
    else:
        command = command_line(sys.argv)
        tell(f"interrupted before the first epoch was saved; to start again: {command}")


def tell_evaluation(path: Path, saved: dict, tested: Tally, test_set: MNIST) -> None:
    """Print a checkpoint's loss and accuracy on the test set; draw its confusion and mistakes."""
    from figures import run as plotting  # here, because matplotlib takes 0.3 s to import
    from figures import style

    config, number = saved["config"], len(test_set)
    name = config.name or path.stem
    heading = (title(config)[0], f"{path}, tested on the {number:,} images of {test_set.path}")
    pictures = [PLOTS / f"{name}_evaluated_{what}.png" for what in ("confusion", "mistakes")]
    images, labels, logits = test_set.data.cpu(), test_set.targets.cpu(), tested.logits.cpu()
    style.save(plotting.confusion(heading, logits, labels), pictures[0])
    style.save(plotting.mistakes(heading, images, logits, labels), pictures[1])
    for picture in pictures:
        print(picture)
    low, high = accuracy_interval(tested.accuracy, number)
    print(
        f"{path}: test accuracy {100 * tested.accuracy:.2f} % (95 % interval {100 * low:.2f} to "
        f"{100 * high:.2f} %, {number:,} images), loss {tested.loss:.4f}"
    )


def mean_and_deviation(values: list[float], digits: int) -> str:
    """Mean ± standard deviation of the seeds as text; one seed has no deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def accuracy_interval(accuracy: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy (a fraction) that was measured on so many images."""
    from scipy import stats  # here, because it takes half a second to import

    test = stats.binomtest(round(accuracy * images), images)
    low, high = test.proportion_ci(0.95, method="wilson")
    return float(low), float(high)
