"""Run every experiment of the documents over its seeds, side by side, and write the results.

    python reproduce.py              # every experiment of the tables: two hours on 2 CPU cores
    python reproduce.py --only lenet5,mlp --seeds 3
    python reproduce.py --study regularization   # the map of dropout and weight decay
    python reproduce.py --commands   # the commands of main.py, for a cluster

Stop it whenever you like: the same command continues, and repeats nothing that is finished. When
all is complete it writes docs/results.csv, the tables in docs/results.md and README.md, and their
pictures in plots/.
"""

from training import program

program.begin(__name__)

import argparse
import functools
import multiprocessing
import os
import shlex
import signal
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dataset import MNIST
from files import CheckpointError, UserError
from main import fit, predict
from study import tables
from study.experiments import ALL, EXPERIMENTS, JUDGED
from study.intervals import History
from training import checkpoint, data, distributed
from training.checkpoint import RUNS
from training.config import Config, one_for_each_seed, parse
from training.program import tell
from training.report import Report

import torch
from tqdm import tqdm


class Planned(NamedTuple):
    """A run of an experiment, and what is there of it."""

    experiment: str
    config: Config
    history: History  # of the epochs so far

    @property
    def finished(self) -> bool:
        return len(self.history) == self.config.epochs


# What is run, and what of it is finished


@functools.cache
def load(source: str, device: torch.device, data_dir: str) -> list[MNIST]:
    options = argparse.Namespace(data=source, device=device, data_dir=data_dir)
    return data.load(("train", "test"), options, lambda line: None)


def sets(experiment: str, options: argparse.Namespace) -> list[MNIST]:
    """The sets of an experiment: "generated" trains on generated digits, and tests on MNIST's."""
    source = "generated" if experiment == "generated" else "auto"
    train_set, _ = load(source, options.device, options.data_dir)
    _, test_set = load("auto", options.device, options.data_dir)
    return [train_set, test_set]


def planned(names: Iterable[str], options: argparse.Namespace) -> list[Planned]:
    """The runs of some experiments; an experiment that is named twice counts once."""
    runs = []
    for name in dict.fromkeys(names):
        config, _ = parse(ALL[name].command.split(), "")
        config, *_ = data.prepared(config, *sets(name, options))
        end = "_tested_on_mnist" * (name == "generated")
        for seeded in one_for_each_seed(replace(config, name=""), options.seeds or ALL[name].seeds):
            config = replace(seeded, name=seeded.name + end)
            runs.append(Planned(name, config, epochs_so_far(config, options.device)))
    return runs


def epochs_so_far(config: Config, device: torch.device) -> History:
    """The history of a run, [] if it was not begun or its file is damaged.

    A run that was made otherwise, with another version of torch say, does not count; a line says
    so, and it starts anew.
    """
    try:
        saved = checkpoint.load(RUNS / config.name)
    except CheckpointError:
        return []
    before = saved["config"].to_dict() | saved["versions"]
    now = config.to_dict() | checkpoint.versions(config, device)
    words = checkpoint.differing(before, now)
    if words:
        tell(f"warning: {config.name} is not counted: {words}")
    return [] if words else saved["history"]


def results_of(runs: list[Planned]) -> tables.Results:
    """The finished runs of each experiment."""
    results: tables.Results = {}
    for run in runs:
        if run.finished:
            results.setdefault(run.experiment, {})[run.config.seed] = run.history
    return results


def complete(runs: list[Planned]) -> tables.Results:
    """The experiments of which the seeds that the documents have are finished, and no others."""
    results = results_of(runs)
    return {
        name: results[name] for name in results if [*results[name]] == [*range(ALL[name].seeds)]
    }


# Running


def run_all(names: Iterable[str], options: argparse.Namespace) -> list[Planned]:
    """Run what is not finished of some experiments, `--jobs` at a time; gives all their runs."""
    runs = planned(names, options)
    if options.write or options.commands:
        return runs
    context = multiprocessing.get_context("spawn")  # a fork cannot use CUDA, nor OpenMP's threads
    with ProcessPoolExecutor(options.jobs, context, begin_process) as pool:
        try:
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the processes inherit it
            futures = [pool.submit(run_one, run, options) for run in runs if not run.finished]
            signal.signal(signal.SIGINT, handler)
            for future in tqdm(as_completed(futures), total=len(futures), unit="run", disable=None):
                tqdm.write(future.result())
        except BrokenProcessPool:
            safe = "finished epochs are safe, and the same command continues"
            raise UserError(f"reproduce.py: the process of a run was killed; {safe}") from None
        finally:
            for process in multiprocessing.active_children():
                process.terminate()
    return planned(names, options)


def begin_process() -> None:
    """Give a process of the pool one thread, and let it end with its parent, even a killed one."""

    def end_with(parent: multiprocessing.Process) -> None:
        parent.join()
        os._exit(1)

    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own one outlives a process that is ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    parent = multiprocessing.parent_process()
    threading.Thread(target=end_with, args=[parent], daemon=True).start()


def run_one(run: Planned, options: argparse.Namespace) -> str:
    """Start or continue a run; gives a line that says how it ended."""
    experiment, config, history = run
    try:
        done = fit(config, *sets(experiment, options), bool(history), Report(quiet=True))
    except (UserError, OSError) as error:
        return f"{config.name}: failed: {error}"
    accuracy = done.history[-1]["test_accuracy"]
    return f"{config.name}: {config.evaluated} accuracy {100 * accuracy:.2f} %"


def show_commands(runs: list[Planned], options: argparse.Namespace) -> None:
    """Print the command of each run that is not finished, one a line."""
    where = ["--threads", "1", "--device", options.device.type, "--data-dir", options.data_dir]
    for run in runs:
        if not run.finished and run.experiment != "generated":
            how = [*ALL[run.experiment].command.split(), "--seed", str(run.config.seed), *where]
            print(shlex.join(["python", "main.py", *how, *["--resume"] * bool(run.history)]))
    if "generated" in options.only:
        tell("note: the experiment generated is not here: python reproduce.py --only generated")


# The results


def write(runs: list[Planned], options: argparse.Namespace) -> None:
    """Write the documents, if the experiments are complete and on the published MNIST."""
    images, results = load("auto", options.device, options.data_dir), results_of(runs)
    published = all(dataset.published for dataset in images)
    if not options.study:
        heading = ["Trained and tested on other images than MNIST's:", ""] * (not published)
        print("\n".join(heading + tables.main_table(results)))
    whole = complete(runs) if published else {}
    wanted = {run.experiment for run in runs} if options.study else EXPERIMENTS.keys()
    if not options.write and whole.keys() != wanted:
        why = "the documents take only complete experiments on the published MNIST"
        print(f"not written: {why}; finish all of them, or use --write")
        return
    if whole:
        tables.write(whole, checkpoint.versions(runs[0].config, options.device))
    tables.write_documents()
    if "best" in whole:
        draw_hardest([run.config.name for run in runs if run.experiment == "best"], images[1])
    print(f"written: docs/results.csv ({', '.join(whole) or 'as it was'}), tables and pictures")


def draw_hardest(names: list[str], test_set: MNIST) -> None:
    """Draw the test images that every network of some runs reads wrong; OSError."""
    from figures import study, style  # here, because matplotlib takes 0.3 s to import

    order, device = torch.arange(len(test_set)), test_set.data.device
    networks = [checkpoint.network(checkpoint.load(RUNS / name)).to(device) for name in names]
    answers = torch.stack([predict(net, test_set, order).argmax(1).cpu() for net in networks])
    figure = study.hardest(test_set.data.cpu(), test_set.targets.cpu(), answers)
    style.save(figure, tables.ROOT / "plots" / "hardest.png")


# The program


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = program.Parser(__doc__)
    add = parser.add_argument
    names, jobs = ",".join(EXPERIMENTS), 1 if torch.cuda.is_available() else os.cpu_count() or 1
    add("--only", default=names, metavar="NAME,NAME", help="experiments to run (default: all)")
    add("--study", choices=["regularization"], help="instead: map dropout and weight decay")
    add(
        "--seeds", type=program.whole, metavar="N", help="seeds 0 to N-1 (default: as in README.md)"
    )
    jobs_help = f"processes at a time, with one thread each (default: {jobs})"
    add("--jobs", type=program.whole, default=jobs, metavar="N", help=jobs_help)
    add("--write", action="store_true", help="train nothing; write what is complete")
    add("--list", action="store_true", help="show the experiments and end")
    add("--commands", action="store_true", help="show the command of each unfinished run and end")
    export_help = "write the weights of seed 0 of the one experiment (default: best)"
    add("--export", type=Path, metavar="FILE", help=export_help)
    add("--device", default="auto", help="as for main.py (default: auto)")
    add("--data-dir", default="data", help="as for main.py (default: data)")
    options = parser.parse_args(argv)
    options.only = list(JUDGED) if options.study else options.only.split(",")
    if unknown := [name for name in options.only if name not in ALL]:
        parser.error(f"argument --only: {unknown[0]!r} is none of {names}")
    seeds = 1 if options.seeds is None else options.seeds
    if not all(1 <= number <= 1000 for number in (options.jobs, seeds)):
        parser.error("arguments --jobs, --seeds: must be from 1 to 1000")
    options.exported = options.only[0] if len(options.only) == 1 else "best"
    if options.export and options.exported not in options.only:
        parser.error("argument --export: name one experiment with --only")
    if options.export and options.export.exists():
        try:
            checkpoint.load(options.export)
        except CheckpointError:
            parser.error(f"argument --export: {options.export} exists and is no checkpoint")
    options.device = parse(["--device", options.device], "")[1].device
    return options


@program.guarded
def main(argv: Sequence[str] | None = None) -> int:
    options = parse_options(argv)
    distributed.require_one_process("reproduce.py")
    if options.list:
        for name in options.only:
            print(f"{name:<12} {ALL[name].seeds:>2} seeds  python main.py {ALL[name].command}")
        return 0
    torch.set_num_threads(1)  # as in every run
    _, test_set = load("auto", options.device, options.data_dir)
    if "generated" in options.only and not test_set.published:
        tell("note: generated is left out: it is tested on MNIST, which is not there")
        options.only.remove("generated")
    runs = run_all(options.only, options)
    if options.study:  # which settings it tests follows from these runs
        best = tables.best_settings(complete(runs)).values()
        runs += run_all([s.tested for b in best for s in (b, b.baseline)], options)
    if options.commands:
        show_commands(runs, options)
        return 0
    write(runs, options)
    if options.export:
        first = next((run for run in runs if run.experiment == options.exported), None)
        if first is None or not first.finished:
            raise UserError(f"--export: seed 0 of {options.exported} is not finished; run it first")
        checkpoint.export(RUNS / first.config.name, options.export)
        print(options.export)
    return 0 if options.write or all(run.finished for run in runs) else 1


if __name__ == "__main__":
    program.end(main())
