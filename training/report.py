"""What a run, or several seeds of it, tells and draws."""

import dataclasses
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dataset import MNIST
from handwriting.mix import unseen
from training import checkpoint, data, distributed
from training.checkpoint import METRICS, PLOTS, RUNS, RunFolder
from training.config import Config, title
from training.program import command_line, tell
from training.tally import Tally

import torch
from torch import nn
from tqdm import tqdm


class Run(NamedTuple):
    """What came of one run."""

    config: Config
    history: list[dict]  # a row for each epoch
    logits: torch.Tensor  # of the images that it was tested on, after the last epoch
    test_set: MNIST  # those images
    method: dict[str, Any]  # how its weights were changed
    steps: int  # in all epochs


class Report:
    """Tells the person at the terminal how runs go; rank 0 does so for all."""

    def __init__(self, quiet: bool = False):
        self.silent = quiet or distributed.rank() > 0
        self.started = time.perf_counter()
        self.configs: list[Config] = []  # of the runs so far; the last one is trained now

    def say(self, text: str) -> None:
        """Print a line, unless --quiet was given or this is not rank 0."""
        if not self.silent:
            print(text, flush=True)

    def progress(self, batches: Iterable, epoch: int, steps: int) -> Iterable:
        """An epoch's batches, with a progress bar where stderr is a terminal."""
        hidden = self.silent or None  # None: where it is no terminal
        return tqdm(batches, f"epoch {epoch}", steps, leave=False, unit="batch", disable=hidden)

    def introduce(self, model: nn.Module, device: torch.device) -> None:
        """Say how large the network is and where it is trained."""
        count = sum(parameter.numel() for parameter in model.parameters())
        threads = torch.get_num_threads()
        many = f" with {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else ""
        self.say(f"{count:,} parameters (python model.py lists them), trained on {device}{many}")

    def begin(self, folder: RunFolder) -> None:
        """Name a run and head its table; show the epochs that a resumed run has."""
        config, history = folder.config, folder.history
        self.configs.append(config)
        self.began, self.used = time.perf_counter(), time.process_time()
        self.on_cpu = folder.device.type == "cpu"
        what, options = title(config, in_words(folder.method))
        self.say(f"\n{config.name}: {what}\n{options}")
        part = "val" if config.val_size else "test"
        self.say(f"epoch  train loss  train acc  {part:>4} loss  {part:>4} acc        lr  seconds")
        for row in history:
            self.epoch(row)
        if len(history) == config.epochs:
            self.say(f"already complete: all {len(history)} epochs are in {RUNS / config.name}")

    def epoch(self, row: dict) -> None:
        """Show an epoch that is on disk, under the heading of `begin`; own metrics come last."""
        config = self.configs[-1]
        own = [
            f"  {key} {value:.4g}" if isinstance(value, float) else f"  {key} {value}"
            for key, value in row.items()
            if key not in (*METRICS, "points")
        ]
        self.say(
            f"{row['epoch']:5d}  {row['train_loss']:10.4f}  {100 * row['train_accuracy']:7.2f} %  "
            f"{row['test_loss']:9.4f}  {100 * row['test_accuracy']:6.2f} %  {row['lr']:8.2g}  "
            f"{row['seconds']:7.1f}{''.join(own)}"
        )
        if row["lr"] < 1e-12 and row["epoch"] < 0.9 * config.epochs:
            why = "main.py steps a scheduler after each batch, not each epoch"
            tell(f"warning: with the learning rate {row['lr']:g} nothing more is learned; {why}")
        passed, used = time.perf_counter() - self.began, time.process_time() - self.used
        threads = torch.get_num_threads()
        if row["epoch"] == 1 and passed > 2 and self.on_cpu and used < 2 / 3 * threads * passed:
            advice = "; --threads 1 is faster then" * (threads > 1)
            tell(f"note: other programs use this machine's processor, too{advice}")

    def interrupted(self, argv: Sequence[str] | None) -> str:
        """After Ctrl-C: which epoch is on disk, and the command that continues."""
        command = command_line(argv)
        for config in reversed(self.configs):
            path = RUNS / config.name / "checkpoint.pt"
            if path.exists():
                epoch = f"epoch {checkpoint.load(path)['epoch']} of {config.epochs}"
                return f"interrupted: {epoch} is safe in {path}; to continue: {command} --resume"
        return f"interrupted before the first epoch was saved; to start again: {command}"

    def end(self, runs: list[Run]) -> None:
        """Draw the runs, list the files, print the result, and warn if nothing was learned."""
        if distributed.rank() > 0:
            return
        paths = ([write_seeds(runs)] if len(runs) > 1 else []) + draw(runs)
        config, rows = runs[0].config, [run.history[-1] for run in runs]
        folders = [RUNS / run.config.name for run in runs]
        files = [f"{folder}: {', '.join(checkpoint.FILES)}" for folder in folders]
        self.say("\n".join(["", *files, *map(str, paths)]))
        if config.mix != "none":
            self.say(unseen(checkpoint.network(checkpoint.load(folders[0]))))
        command = f"python predict.py --checkpoint {folders[0]} IMAGE"
        self.say(f"to read your own handwriting with it: {command}")
        accuracy = mean_and_deviation([100 * row["test_accuracy"] for row in rows], 2)
        loss = statistics.mean(row["test_loss"] for row in rows)
        seeds = f", {len(runs)} seeds" if len(runs) > 1 else ""
        seconds = time.perf_counter() - self.started
        print(
            f"{stem(runs)}: {config.evaluated} accuracy {accuracy} %, loss {loss:.4f}"
            f"{on_data(config)} (epoch {rows[0]['epoch']}{seeds}, {seconds:.1f} s in all)",
            flush=True,
        )
        for run in runs:
            if warning := nothing_learned(run):
                tell(warning)


def in_words(facts: dict[str, Any]) -> str:
    """The result of `method` as titles show it."""
    rate = f"lr {facts['lr']:g} {facts['schedule']}"
    if facts["momentum"] is None:
        return f"{facts['optimizer']}, {rate}"
    momentum = f"momentum {facts['momentum']:g}" + " (Nesterov)" * facts["nesterov"]
    decay = f", weight decay {facts['weight_decay']:g}" * (facts["weight_decay"] > 0)
    return f"{rate}, {momentum}{decay}"


def draw(runs: list[Run]) -> list[Path]:
    """Draw the curves of all runs, and confusion and mistakes of the first; gives the files."""
    from figures import run  # here, because matplotlib takes 0.3 s to import

    config, _, logits, test_set, method, _ = runs[0]
    histories = [run.history for run in runs]
    curves = run.curves(title(config, in_words(method), len(runs)), histories, config.evaluated)
    what, options = title(config, in_words(method))
    options += f", the first of {len(runs)} seeds" * (len(runs) > 1)
    return save(stem(runs), {"curves": curves} | answers((what, options), logits, test_set))


def answers(heading: tuple[str, str], logits: torch.Tensor, test_set: MNIST) -> dict[str, Any]:
    """Figures of a network's answers to a set's images."""
    from figures import run

    images, labels, logits = test_set.data.cpu(), test_set.targets.cpu(), logits.cpu()
    return {
        "confusion": run.confusion(heading, logits, labels),
        "mistakes": run.mistakes(heading, images, logits, labels),
    }


def save(name: str, figures: dict[str, Any]) -> list[Path]:
    """Write figures as plots/<name>_<kind>.png; gives the files."""
    from figures import style

    paths = {PLOTS / f"{name}_{kind}.png": figure for kind, figure in figures.items()}
    for path, figure in paths.items():
        style.save(figure, path)
    return list(paths)


def write_seeds(runs: list[Run]) -> Path:
    """Write a CSV file of the seeds' last epochs, their mean and standard deviation; gives it."""
    metrics = ["epochs", "test_loss", "test_accuracy", "train_loss", "train_accuracy", "seconds"]
    rows: list[dict] = []
    for config, history, *_ in runs:
        folder = (RUNS / config.name).as_posix()
        facts = {"seed": config.seed, "folder": folder, "epochs": len(history)}
        seconds = round(sum(row["seconds"] for row in history), 3)
        rows.append(history[-1] | facts | {"seconds": seconds})
    values = {metric: [row[metric] for row in rows] for metric in metrics}
    rows.append({"seed": "mean"} | {m: statistics.mean(values[m]) for m in metrics})
    rows.append({"seed": "standard deviation"} | {m: statistics.stdev(values[m]) for m in metrics})
    path = RUNS / f"{stem(runs)}.csv"
    checkpoint.write_table(path, ["seed", "folder", *metrics], rows)
    return path


def nothing_learned(run: Run) -> str:
    """A warning if a run is no better than one digit as the answer to everything; else ""."""
    config, counts = run.config, torch.bincount(run.test_set.targets)
    digit, number = int(counts.argmax()), int(counts.sum())
    share, accuracy = int(counts[digit]) / number, run.history[-1]["test_accuracy"]
    # Guesses that are right as often as that digit stay below this limit in 95 of 100 tests.
    limit = share + 1.645 * math.sqrt(share * (1 - share) / number)
    if accuracy > limit or accuracy == 1:
        return ""
    advice = f"first try another learning rate (it was --lr {config.lr:g}), then look at the data"
    if run.steps < 300:
        advice = f"{run.steps} steps are few; try more --epochs or a smaller --batch-size"
    return (
        f"warning: {config.name}: the network has learned nothing: {config.evaluated} accuracy is "
        f"{100 * accuracy:.2f} %, always answering {digit} gives {100 * share:.2f} %; {advice}"
    )


def stem(runs: list[Run]) -> str:
    """The name that the files about some runs begin with."""
    name = runs[0].config.name
    return name if len(runs) == 1 else f"{name.removesuffix('_seed0')}_runs{len(runs)}"


def on_data(config: Config) -> str:
    return " on GENERATED digits, not MNIST" if config.data == "generated" else ""


def tell_evaluation(path: Path, saved: dict, tested: Tally, test_set: MNIST) -> None:
    """Print a checkpoint's loss and accuracy on the test set; draw its confusion and mistakes."""
    config = dataclasses.replace(saved["config"], data=data.data_name([test_set]))
    data_set = f"_on_{config.data}" * (config.data != "mnist")
    name = f"{config.name or path.stem}_evaluated{data_set}"
    number = f"{len(test_set):,} images"
    heading = title(config)[0], f"{path}, tested on the {number} of {test_set.path}"
    print(*save(name, answers(heading, tested.logits, test_set)), sep="\n")
    low, high = accuracy_interval(tested.accuracy, len(test_set))
    print(
        f"{path}: test accuracy {100 * tested.accuracy:.2f} % (95 % interval {100 * low:.2f} to "
        f"{100 * high:.2f} %, {number}), loss {tested.loss:.4f}{on_data(config)}"
    )


def mean_and_deviation(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation of the seeds as text; one seed has no deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def accuracy_interval(accuracy: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy (a fraction) that was measured on so many images."""
    from scipy import stats  # here, because it takes half a second to import

    test = stats.binomtest(round(accuracy * images), images)
    low, high = test.proportion_ci(0.95, method="wilson")
    return float(low), float(high)
