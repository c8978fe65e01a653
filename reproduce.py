"""Every experiment of the README over many seeds: runs them side by side, and writes the results.

    python reproduce.py              # everything: two hours on 2 CPU cores
    python reproduce.py --only lenet5,mlp --seeds 3
    python reproduce.py --commands   # the commands, for a cluster

Stop it whenever you like: the same command continues, and repeats nothing that is finished. When
all is complete it writes docs/results.csv, the tables in docs/results.md and README.md, and the
pictures plots/comparison.png and plots/models.png.
"""

from training import console

console.before_imports(__name__)

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

import main
from dataset import MNIST
from digits import download
from files import CheckpointError, UserError, write_whole
from model import build
from training import checkpoint, data, distributed, folder, jobs
from training.checkpoint import METRICS, PLOTS, RUNS
from training.cli import RESULTS, parse
from training.config import Config, Number, one_for_each_seed
from training.intervals import mean_and_deviation, verdict
from training.report import Report

ROOT = Path(__file__).resolve().parent
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
    "best": Experiment("--recipe best", 10),
    "generated": Experiment("--model lenet5", 5),  # trained on generated digits, tested on MNIST
}
PAIRS = [  # (experiment, against, what the difference is)
    ("regularized", "lenet5", "real dropout and weight decay, against the baseline"),
    ("fast", "lenet5", "one epoch of `fast`, against the baseline's five"),
    ("modern", "lenet5", "the better schedule, against the baseline"),
    ("best", "modern", "60 epochs on distorted images, against the better schedule alone"),
    ("lenet5", "mlp56", "LeNet-5, against the MLP with as many parameters"),
]
IN_README = ["lenet5", "mlp", "regularized", "fast", "modern", "best"]
NOT_WRITTEN = (
    "not written: the documents take only complete experiments on the published MNIST; finish all "
    "of them, or use --write"
)
VERSIONS = ["python", "torch", "threads"]  # columns of docs/results.csv
START, END = "<!-- results: written by reproduce.py -->", "<!-- end of results -->"


# Runs


class Plan(NamedTuple):
    """The runs of the experiments, and the data that they need."""

    runs: dict[str, list[Config]]  # of each experiment
    train_sets: dict[str, MNIST]  # by the name of the data
    test_set: MNIST
    device: torch.device


def make_plan(options: argparse.Namespace) -> Plan:
    """Load the data, and plan the runs of the chosen experiments on them."""
    torch.set_num_threads(1)  # as in every run
    base, defaults = parse(["--device", options.device, "--data-dir", options.data_dir], "")
    base, train_set, test_set = data.load(base, defaults, lambda text: None)
    train_sets, runs = {base.data: train_set}, {}
    for name in options.only:
        config, _ = parse(EXPERIMENTS[name].command.split(), "")
        config = replace(config, data=base.data, digests=base.digests)
        if name == "generated":
            if base.data != "mnist":
                continue
            drawn = MNIST(download.ensure(options.data_dir, "generated"))
            train_sets["generated"] = drawn.to(defaults.device)
            config = replace(config, data="generated", digests=(*drawn.digests, *test_set.digests))
        several = one_for_each_seed(config, options.seeds or EXPERIMENTS[name].seeds)
        tested = "_tested_on_mnist" * (name == "generated")
        runs[name] = [replace(one, name=one.name + tested) for one in several]
    return Plan(runs, train_sets, test_set, defaults.device)


def run_one(plan: Plan, name: str) -> int:
    """Start or continue one run of the plan, or find it finished; gives the exit status."""
    found = [config for several in plan.runs.values() for config in several if config.name == name]
    if not found:
        raise UserError(f"--run {name}: no experiment has such a run; --commands shows them")
    (config,) = found
    with folder.locked(config):
        differing = what_differs(config, plan.device)
        there = folder.on_disk(config)
        resume = 0 < there.epochs < there.planned
        if there.saved and there.saved["config"] != config:
            raise UserError(f"{RUNS / name}: holds another experiment or other data; move it away")
        if resume and (others := other_versions(config, plan.device)):
            raise UserError(
                f"{RUNS / name}: was begun with other versions ({', '.join(others)}); finish it "
                "with those, or move it away"
            )
        if differing:
            train_set = plan.train_sets[config.data]
            main.fit(config, train_set, plan.test_set, resume, report=Report(quiet=True))
    accuracy = checkpoint.load(RUNS / name)["history"][-1]["test_accuracy"]
    print(f"{name}: test accuracy {100 * accuracy:.2f} %")
    return 0


def what_differs(config: Config, device: torch.device) -> list[str]:
    """Why a run does not count as finished: nothing for one that does."""
    if not folder.has_checkpoint(config):
        return ["not started"]
    try:
        saved = checkpoint.load(RUNS / config.name)
    except CheckpointError as error:
        return [str(error)]
    if saved["epoch"] < config.epochs:
        return [f"{saved['epoch']} of {config.epochs} epochs"]
    values, planned = saved["config"].to_dict(), config.to_dict()
    labels = ("name", "recipe")
    differing = [key for key in planned if key not in labels and values.get(key) != planned[key]]
    return differing + other_versions(config, device)


def other_versions(config: Config, device: torch.device) -> list[str]:
    """How the versions of a run on disk differ from those of a run that would start now."""
    now, before = (
        checkpoint.versions(config, device),
        checkpoint.load(RUNS / config.name)["versions"],
    )
    return [
        f"{key} {before.get(key)} instead of {now[key]}"
        for key in now
        if before.get(key) != now[key]
    ]


def collect(plan: Plan) -> Results:
    """The histories of the runs that count as finished; names finished ones that do not."""
    results: Results = {}
    for name, configs in plan.runs.items():
        for config in configs:
            differing = what_differs(config, plan.device)
            if not differing:
                history = checkpoint.load(RUNS / config.name)["history"]
                results.setdefault(name, {})[config.seed] = history
            elif folder.on_disk(config).epochs >= config.epochs:
                console.tell(f"warning: {config.name} is not counted: {', '.join(differing)}")
    return results


def run_all(plan: Plan, options: argparse.Namespace) -> int:
    """Run what is not finished, `--jobs` at a time; gives how many runs failed."""
    configs = [one for several in plan.runs.values() for one in several]
    script = [sys.executable, str(ROOT / "reproduce.py")]
    commands = {
        one.name: [*script, *passed_on(options, name), "--run", one.name, "--child"]
        for name, several in plan.runs.items()
        for one in several
        if what_differs(one, plan.device)
    }

    def epochs_done() -> int:
        return sum(min(one.epochs, folder.epochs_in_metrics(one)) for one in configs)

    def tell_end(name: str, status: int, error: str) -> str:
        if status:
            return f"{name}: failed with status {status}: {error}"
        accuracy = checkpoint.load(RUNS / name)["history"][-1]["test_accuracy"]
        return f"{name}: {100 * accuracy:.2f} %"

    total = sum(one.epochs for one in configs)
    return jobs.run_all(commands, options.jobs, total, epochs_done, tell_end)


def passed_on(options: argparse.Namespace, experiment: str) -> list[str]:
    """The options that a run of an experiment gets, too."""
    given = ["--device", options.device, "--data-dir", options.data_dir, "--only", experiment]
    return given + (["--seeds", str(options.seeds)] if options.seeds else [])


def show_commands(plan: Plan, options: argparse.Namespace) -> int:
    """Print the command of each run that is not finished, one a line."""
    for name, several in plan.runs.items():
        for config in several:
            if what_differs(config, plan.device):
                command = ["reproduce.py", *passed_on(options, name), "--run", config.name]
                print(console.command_line(command))
    return 0


# Tables


def last(histories: dict[int, History], metric: str, scale: float = 1) -> list[float]:
    """A metric after the last epoch, for each seed."""
    return [scale * history[-1][metric] for history in histories.values()]


def main_table(results: Results, names: Sequence[str]) -> list[str]:
    """The lines of the table of test accuracies."""
    lines = [
        "| experiment | command | parameters | published | test accuracy (%) | range | n | time |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in (name for name in names if name in results):
        command, _, published = EXPERIMENTS[name]
        config, _ = parse(command.split(), "")
        count = sum(p.numel() for p in build(config.model, config.network).parameters())
        accuracy = last(results[name], "test_accuracy", 100)
        seconds = min(sum(row["seconds"] for row in h) for h in results[name].values())
        note = ", trained on generated digits" if name == "generated" else ""
        lines.append(
            f"| {name} | `python main.py {command}`{note} | {count:,} | "
            f"{f'{published[3]:.2f}' if published else '–'} | {mean_and_deviation(accuracy, 2)} | "
            f"{min(accuracy):.2f} to {max(accuracy):.2f} | {len(accuracy)} | {seconds:.0f} s |"
        )
    return lines


def all_tables(results: Results) -> str:
    """The tables of docs/results.md, and whether the differences are more than noise."""
    details = [
        "| experiment | train loss | train accuracy (%) | test loss | published: train loss, "
        "accuracy, test loss |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, histories in results.items():
        published = EXPERIMENTS[name].published
        details.append(
            f"| {name} | {mean_and_deviation(last(histories, 'train_loss'), 4)} | "
            f"{mean_and_deviation(last(histories, 'train_accuracy', 100), 2)} | "
            f"{mean_and_deviation(last(histories, 'test_loss'), 4)} | "
            f"{'{:.4f}, {:.2f}, {:.4f}'.format(*published) if published else '–'} |"
        )
    verdicts = [
        f"- {what}: {verdict(results.get(first, {}), results.get(second, {}))}"
        for first, second, what in PAIRS
    ]
    return "\n".join(
        [*main_table(results, list(results)), "", *details, "", "Are the differences noise?", ""]
        + verdicts
    )


# Documents


def read_results(path: Path = RESULTS) -> Results:
    """The results in the committed file."""
    results: Results = {}
    if path.exists():
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                history = results.setdefault(row["experiment"], {}).setdefault(int(row["seed"]), [])
                history.append({key: float(row[key]) for key in METRICS})
    return {name: results[name] for name in EXPERIMENTS if name in results}


def write_documents(found: Results, versions: dict) -> None:
    """Put complete experiments into docs/results.csv; make tables and pictures of that file."""
    from training import charts  # here, because matplotlib takes 0.3 s to import

    columns = ["experiment", "seed", *METRICS, *VERSIONS]
    rows = {name: [] for name in EXPERIMENTS}
    if RESULTS.exists():
        with open(RESULTS, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["experiment"], []).append(row)
    for name, histories in found.items():
        rows[name] = [
            {"experiment": name, "seed": seed} | row | {key: versions[key] for key in VERSIONS}
            for seed, history in histories.items()
            for row in history
        ]
    checkpoint.write_table(RESULTS, columns, [row for some in rows.values() for row in some])
    results = read_results()
    include(ROOT / "docs" / "results.md", all_tables(results))
    include(ROOT / "README.md", "\n".join(main_table(results, IN_README)))
    published = {name: one.published for name, one in EXPERIMENTS.items()}
    pictures = ROOT / "plots"
    charts.errors(pictures / "comparison.png", "Test error on MNIST", results, published)
    charts.models(pictures / "models.png", "LeNet-5 and the MLP on MNIST", results)


def include(path: Path, text: str) -> None:
    """Put a text between the two markers of a document."""
    document = path.read_text(encoding="utf-8")
    before, rest = document.split(START, 1)
    document = f"{before}{START}\n\n{text}\n\n{END}{rest.split(END, 1)[1]}"
    write_whole(path, document.encode())


# The program


def run(options: argparse.Namespace) -> int:
    """Do what the command line asks for; gives the exit status."""
    distributed.require_one_process("reproduce.py")
    if options.list:
        for name, (command, seeds, _) in EXPERIMENTS.items():
            print(f"{name:<12} {seeds:>2} seeds  python main.py {command}")
        return 0
    if options.child:
        jobs.end_with_parent()
    plan = make_plan(options)
    if options.run:
        return run_one(plan, options.run)
    if options.commands:
        return show_commands(plan, options)
    folder.preflight(RUNS, PLOTS)
    failed = 0 if options.write else run_all(plan, options)
    results = collect(plan)
    print("\n".join(main_table(results, list(results))))
    complete = {
        name: histories
        for name, histories in results.items()
        if len(histories) == EXPERIMENTS[name].seeds == len(plan.runs[name])
    }
    genuine = plan.test_set.published and set(plan.train_sets) <= {"mnist", "generated"}
    if genuine and complete and (options.write or complete.keys() == EXPERIMENTS.keys()):
        config = plan.runs[next(iter(complete))][0]
        write_documents(complete, checkpoint.versions(config, plan.device))
        print(f"written: {', '.join(complete)}, in docs/results.csv, the tables and the pictures")
    else:
        print(NOT_WRITTEN)
    if options.export:
        export(plan, options.export)
    return 1 if failed else 0


def export(plan: Plan, destination: Path) -> None:
    """Write the weights of `best`, seed 0, as a file that predict.py can use."""
    config = plan.runs["best"][0]
    if differing := what_differs(config, plan.device):
        raise UserError(f"--export: {config.name} is not finished ({', '.join(differing)})")
    checkpoint.export(RUNS / config.name, destination)
    print(destination)


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
    everything, all_help = list(EXPERIMENTS), "experiments to run (default: all)"
    add("--only", type=names, default=everything, metavar="NAME,NAME", help=all_help)
    seeds_help = "seeds 0 to N-1 (default: as in the README)"
    add("--seeds", type=Number(int, 1, 1001), metavar="N", help=seeds_help)
    cores = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    jobs_help = f"processes at a time, with one thread each (default: {cores})"
    add("--jobs", type=Number(int, 1, 1025), default=cores, metavar="N", help=jobs_help)
    write_help = "train nothing; write the documents from the experiments that are complete"
    add("--write", action="store_true", help=write_help)
    add("--list", action="store_true", help="show the experiments and end")
    add("--commands", action="store_true", help="show the command of each unfinished run and end")
    add("--run", metavar="NAME", help="start or continue one run, as --commands shows it")
    export_help = "write the weights of best, seed 0, as predict.py's own"
    add("--export", type=Path, metavar="FILE", help=export_help)
    add("--device", default="auto", help="as for main.py (default: auto)")
    add("--data-dir", default="data", help="as for main.py (default: data)")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.export and "best" not in options.only:
        parser.error("argument --export: exports best, which --only leaves out")
    return options


def cli(argv: Sequence[str] | None = None) -> int:
    """The program; gives its exit status."""
    advice = "give the same command again (finished work is safe)"
    return console.guarded(lambda: run(parse_options(argv)), distributed.stop, advice)


if __name__ == "__main__":
    console.after_imports()
    console.end(cli())
