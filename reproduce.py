"""Every experiment of the README over many seeds: runs them, and writes the results.

    python reproduce.py              # everything: half an hour on 2 CPU cores
    python reproduce.py --only lenet5,mlp --seeds 3
    python reproduce.py --list

Stop it whenever you like: the same command continues, and repeats nothing that is finished. It
writes results.md (also between the README's two markers), plots/comparison.png and
plots/models.png.
"""

import sys

from training import console

if __name__ == "__main__":
    console.before_imports()

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from scipy import stats
from tqdm import tqdm

import main
from dataset import MNIST
from digits import download
from files import write_whole
from model import MODELS
from training import checkpoint, data, distributed
from training.checkpoint import PLOTS, RUNS
from training.config import Config, Number, one_for_each_seed, parse
from training.report import Report

History = list[dict]
Results = dict[str, dict[int, History]]  # {experiment: {seed: history}}


class Experiment(NamedTuple):
    """One row of the tables."""

    command: str  # the options of main.py
    seeds: int
    # Train loss, train accuracy, test loss and test accuracy as published, accuracies in percent.
    published: tuple[float, float, float, float] | None = None


EXPERIMENTS = {
    "lenet5": Experiment("--model lenet5", 10, (0.0301, 99.06, 0.0363, 98.78)),
    "mlp": Experiment("--model mlp", 10, (0.1362, 96.00, 0.1575, 95.27)),
    "regularized": Experiment("--recipe regularized", 10, (0.0358, 99.08, 0.0309, 99.01)),
    "mlp56": Experiment("--model mlp --hidden 56", 10),
    "fast": Experiment("--recipe fast", 10),
    "modern": Experiment("--recipe modern", 10),
    "best": Experiment("--recipe best", 5),
    "generated": Experiment("--model lenet5", 3),  # trained on generated digits, tested on MNIST
}
PAIRS = [  # (experiment, against, what the difference is)
    ("regularized", "lenet5", "real dropout and weight decay, against the baseline"),
    ("fast", "lenet5", "one epoch of `fast`, against the baseline's five"),
    ("modern", "lenet5", "the better schedule, against the baseline"),
    ("best", "modern", "distorted images and 60 epochs, against the better schedule alone"),
    ("lenet5", "mlp56", "LeNet-5, against the MLP with as many parameters"),
]
START, END = "<!-- results: written by reproduce.py -->", "<!-- end of results -->"


# Training


class Counted(Report):
    """Counts the finished epochs of all runs in one progress bar, and prints no tables."""

    def __init__(self, bar: tqdm):
        super().__init__(quiet=True)
        self.bar = bar

    def begin(self, config: Config, history: History) -> None:
        self.bar.set_description(config.name)
        self.bar.update(len(history))

    def epoch(self, row: dict) -> None:
        self.bar.update()


def train_all(
    runs: dict[str, list[Config]],
    train_sets: dict[str, MNIST],
    test_set: MNIST,
    device: torch.device,
) -> None:
    """Train what is not finished yet, with one progress bar over the whole."""
    configs = [config for several in runs.values() for config in several]
    with tqdm(total=sum(one.epochs for one in configs), unit="epoch", disable=None) as bar:
        report = Counted(bar)
        for config in configs:
            resume = checkpoint.exists(config)
            with checkpoint.locked(config, resume):
                train_set = train_sets[config.data]
                run = main.fit(config, train_set, test_set, device, resume, report)
            bar.write(f"{config.name}: {100 * run.history[-1]['test_accuracy']:.2f} %")


def finished(runs: dict[str, list[Config]]) -> Results:
    """The histories of the planned runs that are complete on disk."""
    results: Results = {}
    for name, configs in runs.items():
        for config in configs:
            if checkpoint.exists(config):
                saved = checkpoint.load(RUNS / config.name / "checkpoint.pt")
                if saved["config"] == config and saved["epoch"] == config.epochs:
                    results.setdefault(name, {})[config.seed] = saved["history"]
    return results


# Statistics and tables


def last(histories: dict[int, History], metric: str, scale: float = 1) -> list[float]:
    """A metric after the last epoch, for each seed."""
    return [scale * history[-1][metric] for history in histories.values()]


def mean_sd(values: list[float], digits: int) -> str:
    """Mean ± standard deviation, as text."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Mean of paired differences, and the ends of its 95 % interval (Student's t)."""
    mean, error = statistics.mean(differences), stats.sem(differences)
    if error == 0:
        return mean, mean, mean
    low, high = stats.t.interval(0.95, len(differences) - 1, loc=mean, scale=error)
    return mean, low, high


def verdict(first: str, second: str, what: str, results: Results) -> str:
    """Whether two experiments differ by more than the noise between seeds, in a sentence."""
    seeds = sorted(results.get(first, {}).keys() & results.get(second, {}).keys())
    if len(seeds) < 2:
        return f"- {what}: not enough seeds are finished."
    one, other = (
        last({seed: results[name][seed] for seed in seeds}, "test_accuracy", 100)
        for name in (first, second)
    )
    mean, low, high = interval([a - b for a, b in zip(one, other, strict=True)])
    difference = (
        f"{mean:+.2f} points of test accuracy (95 % interval {low:+.2f} to {high:+.2f}; "
        f"{len(seeds)} seeds, paired)"
    )
    if low <= 0 <= high:
        return f"- {what}: {difference}. The interval holds 0: this may be nothing but noise."
    return f"- {what}: {difference}. More than noise: {'better' if mean > 0 else 'worse'}."


def tables(runs: dict[str, list[Config]], results: Results, images: str) -> str:
    """The text of results.md; `images` says what the accuracies were measured on."""
    lines = [
        f"Accuracy on {images} after the last epoch: mean ± standard deviation over n seeds, and "
        "the range. Time: training and testing, the fastest run.",
        "",
        "| experiment | command | parameters | published | test accuracy (%) | range | n | time |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    details = [
        "| experiment | train loss | train accuracy (%) | test loss | published: train loss, "
        "accuracy, test loss |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, histories in results.items():
        command, _, published = EXPERIMENTS[name]
        model = MODELS[runs[name][0].model](**runs[name][0].network)
        count = sum(p.numel() for p in model.parameters())
        accuracy = last(histories, "test_accuracy", 100)
        seconds = min(sum(row["seconds"] for row in history) for history in histories.values())
        note = ", trained on generated digits" if name == "generated" else ""
        lines.append(
            f"| {name} | `python main.py {command}`{note} | {count:,} | "
            f"{f'{published[3]:.2f}' if published else '–'} | {mean_sd(accuracy, 2)} | "
            f"{min(accuracy):.2f} to {max(accuracy):.2f} | {len(histories)} | {seconds:.0f} s |"
        )
        details.append(
            f"| {name} | {mean_sd(last(histories, 'train_loss'), 4)} | "
            f"{mean_sd(last(histories, 'train_accuracy', 100), 2)} | "
            f"{mean_sd(last(histories, 'test_loss'), 4)} | "
            f"{'{:.4f}, {:.2f}, {:.4f}'.format(*published) if published else '–'} |"
        )
    lines += ["", *details, "", "Are the differences more than noise?", ""]
    lines += [verdict(*pair, results) for pair in PAIRS]
    return "\n".join(lines) + "\n"


def include(path: Path, text: str) -> None:
    """Put the results between the markers of the README, if it has them."""
    readme = path.read_text(encoding="utf-8") if path.exists() else ""
    if START in readme and END in readme:
        before, rest = readme.split(START, 1)
        readme = f"{before}{START}\n\n{text}\n{END}{rest.split(END, 1)[1]}"
        write_whole(path, readme.encode())


# The program


def plan(seeds: int | None, found: Config, drawn: MNIST | None) -> dict[str, list[Config]]:
    """The runs of each experiment on the data that were found, and on digits that were drawn."""
    runs = {}
    for name, experiment in EXPERIMENTS.items():
        config, _ = parse(experiment.command.split(), "")
        config = replace(config, data=found.data, digests=found.digests)
        if name == "generated" and drawn is None:
            continue
        if name == "generated" and drawn is not None:
            test_digests = found.digests[2:]
            config = replace(config, data="generated", digests=(*drawn.digests, *test_digests))
        runs[name] = one_for_each_seed(config, seeds or experiment.seeds)
        if name == "generated":
            named = [replace(one, name=f"{one.name}_tested_on_mnist") for one in runs[name]]
            runs[name] = named
    return runs


def run(options: argparse.Namespace) -> int:
    """Train, write the results, draw the comparison; gives the exit status."""
    from training import charts, plotting  # here, because matplotlib takes 0.3 s to import

    checkpoint.preflight(RUNS, PLOTS)
    base, defaults = parse(["--device", options.device, "--data-dir", options.data_dir], "")
    base, train_set, test_set = data.load(base, defaults)
    train_sets, drawn = {base.data: train_set}, None
    there = Path(options.data_dir, "generated", "train.tar").exists()
    if base.data == "mnist" and ("generated" in options.only or there):
        drawn = MNIST(download.ensure(options.data_dir, "generated"))
        train_sets["generated"] = drawn.to(defaults.device)
        plotting.sheet(PLOTS / "generated_digits.png", drawn.data[:200])
    runs = plan(options.seeds, base, drawn)
    chosen = {name: runs[name] for name in options.only if name in runs}
    train_all(chosen, train_sets, test_set, defaults.device)

    genuine = train_set.published and test_set.published
    what = "MNIST" if genuine else "digits that are NOT the published MNIST"
    results = finished(runs)
    text = tables(runs, results, what)
    suffix = "" if genuine else "_not_mnist"  # nothing else may pass for the README's results
    written = Path(f"results{suffix}.md")
    write_whole(written, text.encode())
    if genuine:
        include(Path("README.md"), text)
    pictures = [PLOTS / f"{name}{suffix}.png" for name in ("comparison", "models")]
    published = {name: one.published for name, one in EXPERIMENTS.items()}
    charts.errors(pictures[0], f"LeNet-5 and MLPs on {what}", results, published)
    charts.models(pictures[1], f"LeNet-5 and the MLP on {what}", results)
    print("\n".join(["", text, str(written), *map(str, pictures)]))
    if options.export:
        checkpoint.export(RUNS / runs["best"][0].name / "checkpoint.pt", options.export)
        print(options.export)
    return 0


def names(text: str) -> list[str]:
    """A converter for argparse: names of experiments, with commas between them."""
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in EXPERIMENTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(EXPERIMENTS)}")
    return chosen


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = console.Parser(__doc__)
    add = parser.add_argument
    add(
        "--only",
        type=names,
        default=list(EXPERIMENTS),
        metavar="NAME,NAME",
        help="experiments to run (default: all)",
    )
    add(
        "--seeds",
        type=Number(int, 1, 1001),
        metavar="N",
        help="seeds 0 to N-1 (default: as in the README)",
    )
    text = "write the weights of best, seed 0, as predict.py's own"
    add("--export", type=Path, metavar="FILE", help=text)
    add("--list", action="store_true", help="show the experiments and end")
    add("--device", default="auto", help="as for main.py (default: auto)")
    add("--data-dir", default="data", help="as for main.py (default: data)")
    return parser.parse_args(argv)


def show_experiments() -> int:
    """Print the command of each experiment."""
    for name, (command, seeds, _) in EXPERIMENTS.items():
        print(f"{name:<12} {seeds:>2} seeds  python main.py {command}")
    return 0


def cli(argv: Sequence[str] | None = None) -> int:
    """The program; gives its exit status."""

    def program() -> int:
        options = parse_options(argv)
        return show_experiments() if options.list else run(options)

    return console.guarded(program, distributed.stop)


if __name__ == "__main__":
    console.after_imports()
    sys.exit(cli())
