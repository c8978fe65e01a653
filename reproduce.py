"""Every experiment of the documents over many seeds: runs them side by side, writes the results.

    python reproduce.py              # every experiment of the tables: two hours on 2 CPU cores
    python reproduce.py --only lenet5,mlp --seeds 3
    python reproduce.py --study regularization   # the map of dropout and weight decay
    python reproduce.py --commands   # the commands, for a cluster

Stop it whenever you like: the same command continues, and repeats nothing that is finished. When
all is complete it writes docs/results.csv, the tables in docs/results.md and README.md, and their
pictures in plots/.
"""

from training import program as console

console.before_imports(__name__)

import argparse
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
from files import CheckpointError, UserError
from study import tables as results
from study.experiments import ALL, EXPERIMENTS, JUDGED
from study.tables import Results
from training import checkpoint, data, distributed, folder, jobs
from training.checkpoint import PLOTS, RUNS
from training.cli import parse
from training.config import Config, Number, one_for_each_seed
from training.report import Report

NOT_WRITTEN = (
    "not written: the documents take only complete experiments on the published MNIST; finish all "
    "of them, or use --write"
)


# Runs


class Data(NamedTuple):
    """The two sets that some runs need, and what a configuration says of them."""

    name: str
    digests: tuple[str, ...]
    train_set: MNIST
    test_set: MNIST


class Plan(NamedTuple):
    """The runs of some experiments, and the data of each experiment."""

    runs: dict[str, list[Config]]
    data: dict[str, Data]
    device: torch.device


def make_plan(names: Sequence[str], options: argparse.Namespace) -> Plan:
    """Load the data, and plan the runs of some experiments on them."""
    torch.set_num_threads(1)  # as in every run
    base, defaults = parse(["--device", options.device, "--data-dir", options.data_dir], "")
    loaded: dict[tuple[int, str], Data] = {}
    plan = Plan({}, {}, defaults.device)
    for name in names:
        config, _ = parse(ALL[name].command.split(), "")
        kind = config.val_size, config.mix
        if kind not in loaded:
            wanted = replace(base, val_size=config.val_size, mix=config.mix)
            found, *sets = data.load(wanted, defaults, lambda text: None)
            loaded[kind] = Data(found.data, found.digests, *sets)
        own = loaded[kind]
        if name == "generated":
            if own.name != "mnist":
                continue
            own = generated_and(own, options, defaults.device)
        plan.data[name] = own
        config = replace(config, data=own.name, digests=own.digests)
        several = one_for_each_seed(config, options.seeds or ALL[name].seeds)
        tested = "_tested_on_mnist" * (name == "generated")
        plan.runs[name] = [replace(one, name=one.name + tested) for one in several]
    return plan


def generated_and(mnist: Data, options: argparse.Namespace, device: torch.device) -> Data:
    """Generated digits to train on, and MNIST's test set."""
    drawn = MNIST(download.ensure(options.data_dir, "generated"))
    digests = (*drawn.digests, *mnist.test_set.digests)
    return Data("generated", digests, drawn.to(device), mnist.test_set)


def run_one(plan: Plan, name: str) -> int:
    """Start or continue one run of the plan, or find it finished; gives the exit status."""
    found = [(one, key) for key, some in plan.runs.items() for one in some if one.name == name]
    if not found:
        raise UserError(f"--run {name}: no experiment has such a run; --commands shows them")
    config, experiment = found[0]
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
            own = plan.data[experiment]
            main.fit(config, own.train_set, own.test_set, resume, report=Report(quiet=True))
    print(outcome(config))
    return 0


def outcome(config: Config) -> str:
    """A finished run and its accuracy, in words."""
    accuracy = checkpoint.load(RUNS / config.name)["history"][-1]["test_accuracy"]
    part = "validation" if config.val_size else "test"
    return f"{config.name}: {part} accuracy {100 * accuracy:.2f} %"


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
    found: Results = {}
    for name, configs in plan.runs.items():
        for config in configs:
            differing = what_differs(config, plan.device)
            if not differing:
                history = checkpoint.load(RUNS / config.name)["history"]
                found.setdefault(name, {})[config.seed] = history
            elif folder.on_disk(config).epochs >= config.epochs:
                console.tell(f"warning: {config.name} is not counted: {', '.join(differing)}")
    return found


def run_all(plan: Plan, options: argparse.Namespace) -> int:
    """Run what is not finished, `--jobs` at a time; gives how many runs failed."""
    configs = [one for several in plan.runs.values() for one in several]
    script = [sys.executable, str(Path(__file__).resolve())]
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
        return outcome(next(one for one in configs if one.name == name))

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


# The program


def run(options: argparse.Namespace) -> int:
    """Do what the command line asks for; gives the exit status."""
    distributed.require_one_process("reproduce.py")
    if options.list:
        for name in options.only:
            print(f"{name:<12} {ALL[name].seeds:>2} seeds  python main.py {ALL[name].command}")
        return 0
    if options.child:
        jobs.end_with_parent()
    plan = make_plan(options.only, options)
    if options.run:
        return run_one(plan, options.run)
    if options.study:
        plan = with_tests(plan, options)
    if options.commands:
        return show_commands(plan, options)
    folder.preflight(RUNS, PLOTS)
    failed = 0 if options.write else run_all(plan, options)
    if options.study and not failed:
        plan = with_tests(plan, options)  # now that every setting has been judged
        failed = 0 if options.write else run_all(plan, options)
    found = collect(plan)
    if not options.study:
        print("\n".join(results.main_table(found, list(found))))
    write(found, plan, options)
    if options.export:
        export(plan, exported(options.only), options.export)
    return 1 if failed else 0


def with_tests(plan: Plan, options: argparse.Namespace) -> Plan:
    """The plan of the study and, once every setting was judged, the runs on the test set."""
    chosen = results.best_settings(complete(collect(plan), plan))
    if chosen is None:
        return plan
    settings = [one for best in chosen.values() for one in (best, best.baseline)]
    tests = make_plan([one.tested for one in settings], options)
    return Plan(plan.runs | tests.runs, plan.data | tests.data, plan.device)


def complete(found: Results, plan: Plan) -> Results:
    """The experiments of which every planned seed is finished, as many as the documents have."""
    return {
        name: histories
        for name, histories in found.items()
        if len(histories) == ALL[name].seeds == len(plan.runs[name])
    }


def write(found: Results, plan: Plan, options: argparse.Namespace) -> None:
    """Write the documents, if the experiments are complete and on the published MNIST."""
    whole = complete(found, plan)
    genuine = all(one.name == "mnist" or key == "generated" for key, one in plan.data.items())
    wanted = plan.runs.keys() if options.study else EXPERIMENTS.keys()
    if genuine and whole and (options.write or whole.keys() == wanted):
        config = plan.runs[next(iter(whole))][0]
        results.write(whole, checkpoint.versions(config, plan.device))
        results.write_documents()
        if "best" in whole:
            draw_hardest(plan)
        print(f"written: {', '.join(whole)}, in docs/results.csv, the tables and the pictures")
    else:
        print(NOT_WRITTEN)


def draw_hardest(plan: Plan) -> None:
    """Draw the test images that every network of `best` reads wrong; OSError."""
    from figures import study as charts  # here, because matplotlib takes 0.3 s to import
    from figures import style

    test_set = plan.data["best"].test_set
    answers = []
    for config in plan.runs["best"]:
        network = checkpoint.network(checkpoint.load(RUNS / config.name)).to(plan.device)
        logits = main.predict(network, test_set, torch.arange(len(test_set)))
        answers.append(logits.argmax(1).cpu())
    images, labels = test_set.data.cpu(), test_set.targets.cpu()
    picture = results.ROOT / "plots" / "hardest.png"
    style.save(charts.hardest(images, labels, torch.stack(answers)), picture)


def exported(only: Sequence[str]) -> str:
    """The experiment whose weights are exported: the one that was named, else `best`."""
    return only[0] if len(only) == 1 else "best"


def export(plan: Plan, experiment: str, destination: Path) -> None:
    """Write the weights of an experiment's seed 0 as a file that predict.py can use."""
    config = plan.runs[experiment][0]
    if differing := what_differs(config, plan.device):
        raise UserError(f"--export: {config.name} is not finished ({', '.join(differing)})")
    checkpoint.export(RUNS / config.name, destination)
    print(destination)


def names(text: str) -> list[str]:
    """A converter for argparse: names of experiments, with commas between them."""
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in ALL]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(EXPERIMENTS)}")
    return chosen


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = console.Parser(__doc__)
    add = parser.add_argument
    everything, all_help = list(EXPERIMENTS), "experiments to run (default: all)"
    add("--only", type=names, default=everything, metavar="NAME,NAME", help=all_help)
    study_help = "in place of experiments: what dropout and weight decay do, as a map"
    add("--study", choices=["regularization"], help=study_help)
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
    export_help = "write the weights of seed 0 of the one experiment (default: best)"
    add("--export", type=Path, metavar="FILE", help=export_help)
    add("--device", default="auto", help="as for main.py (default: auto)")
    add("--data-dir", default="data", help="as for main.py (default: data)")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.study:
        options.only = list(JUDGED)
    if options.export and exported(options.only) not in options.only:
        parser.error("argument --export: name one experiment with --only")
    return options


def cli(argv: Sequence[str] | None = None) -> int:
    """The program; gives its exit status."""
    advice = "give the same command again (finished work is safe)"
    return console.guarded(lambda: run(parse_options(argv)), distributed.stop, advice)


if __name__ == "__main__":
    console.after_imports()
    console.end(cli())
