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
import contextlib
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

from dataset import MNIST
from files import CheckpointError, UserError
from main import fit, predict
from study import tables
from study.experiments import ALL, EXPERIMENTS, JUDGED
from training import checkpoint, data, distributed
from training.checkpoint import RUNS
from training.config import Config, one_for_each_seed, parse
from training.program import tell
from training.report import Report

import torch
from tqdm import tqdm

Plan = dict[str, list[Config]]  # the runs of each experiment


# What is run, and what of it is finished


@functools.lru_cache
def load(source: str, device: torch.device, data_dir: str) -> list[MNIST]:
    options = argparse.Namespace(data=source, device=device, data_dir=data_dir)
    return data.load(("train", "test"), options, lambda line: None)


def sets(experiment: str, device: torch.device, data_dir: str) -> list[MNIST]:
    """The sets of an experiment: "generated" trains on generated digits, and tests on MNIST's."""
    train_set, test_set = load("auto", device, data_dir)
    if experiment == "generated":
        train_set, _ = load("generated", device, data_dir)
    return [train_set, test_set]


def make_plan(names: Iterable[str], options: argparse.Namespace) -> Plan:
    """The runs of some experiments; "generated" has none where there is no MNIST to test on."""
    plan: Plan = {}
    for name in names:
        train_set, test_set = sets(name, options.device, options.data_dir)
        if name == "generated" and not test_set.published:
            continue
        config, _ = parse(ALL[name].command.split(), "")
        config, *_ = data.prepared(config, train_set, test_set)
        configs = one_for_each_seed(replace(config, name=""), options.seeds or ALL[name].seeds)
        end = "_tested_on_mnist" * (name == "generated")
        plan[name] = [replace(config, name=config.name + end) for config in configs]
    return plan


def survey(plan: Plan, device: torch.device) -> tuple[tables.Results, list]:
    """The results of the runs that are finished; and (experiment, config, begun) of the others.

    A run that was made otherwise, with another version of torch say, does not count; a line says
    so, and it starts anew.
    """
    results: tables.Results = {}
    runs, others = [(name, config) for name in plan for config in plan[name]], []
    for name, config in runs:
        history, differing = [], []
        with contextlib.suppress(CheckpointError):  # it was not started, or its file is damaged
            saved = checkpoint.load(RUNS / config.name)
            history = saved["history"]
            before = saved["config"].to_dict() | saved["versions"]
            now = config.to_dict() | checkpoint.versions(config, device)
            differing = [
                f"{key} was {before.get(key)!s:.40}, is {now[key]!s:.40}"
                for key in now
                if key not in ("name", "recipe") and before.get(key) != now[key]
            ]
        if differing:
            tell(f"warning: {config.name} is not counted: {'; '.join(differing)}")
        if differing or len(history) < config.epochs:
            others.append((name, config, bool(history) and not differing))
        else:
            results.setdefault(name, {})[config.seed] = history
    return results, others


def complete(results: tables.Results, plan: Plan) -> tables.Results:
    """The experiments of which every planned seed is finished, as many as the documents have."""
    return {
        name: histories
        for name, histories in results.items()
        if len(histories) == ALL[name].seeds == len(plan[name])
    }


def tests(plan: Plan, options: argparse.Namespace) -> Plan:
    """The runs of the study on the test set, once every setting was judged."""
    results, _ = survey(plan, options.device)
    best = tables.best_settings(complete(results, plan)).values()
    return make_plan([s.tested for setting in best for s in (setting, setting.baseline)], options)


# Running


def run_all(plan: Plan, options: argparse.Namespace) -> bool:
    """Run what is not finished, `--jobs` at a time; gives whether all succeeded."""
    succeeded, (_, others) = True, survey(plan, options.device)
    context = multiprocessing.get_context("spawn")  # a fork cannot use CUDA, nor OpenMP's threads
    with ProcessPoolExecutor(options.jobs, context, begin_process) as pool:
        try:
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the processes inherit it
            futures = [pool.submit(run_one, *o, options.device, options.data_dir) for o in others]
            signal.signal(signal.SIGINT, handler)
            for future in tqdm(as_completed(futures), total=len(futures), unit="run", disable=None):
                success, line = future.result()
                succeeded &= success
                tqdm.write(line)
        except BrokenProcessPool:
            safe = "finished epochs are safe, and the same command continues"
            raise UserError(f"reproduce.py: the process of a run was killed; {safe}") from None
        finally:
            for process in multiprocessing.active_children():
                process.terminate()
    return succeeded


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


def run_one(
    experiment: str, config: Config, resume: bool, device: torch.device, data_dir: str
) -> tuple[bool, str]:
    """Start or continue a run; gives whether it succeeded, and a line that says how it ended."""
    try:
        run = fit(config, *sets(experiment, device, data_dir), resume, Report(quiet=True))
    except (UserError, OSError) as error:
        return False, f"{config.name}: failed: {error}"
    accuracy = run.history[-1]["test_accuracy"]
    return True, f"{config.name}: {config.evaluated} accuracy {100 * accuracy:.2f} %"


def show_commands(plan: Plan, options: argparse.Namespace) -> None:
    """Print the command of each run that is not finished, one a line."""
    where = ["--threads", "1", "--device", options.device.type, "--data-dir", options.data_dir]
    for name, config, resume in survey(plan, options.device)[1]:
        if name != "generated":
            words = ["python", "main.py", *ALL[name].command.split(), "--seed", str(config.seed)]
            print(shlex.join([*words, *where, *["--resume"] * resume]))
    if "generated" in plan:
        tell("note: the experiment generated is not here: python reproduce.py --only generated")


# The results


def write(plan: Plan, options: argparse.Namespace) -> None:
    """Write the documents, if the experiments are complete and on the published MNIST."""
    results, _ = survey(plan, options.device)
    published = all(plan[name][0].data == "mnist" for name in plan if name != "generated")
    if not options.study:
        heading = ["Trained and tested on other images than MNIST's:", ""] * (not published)
        print("\n".join(heading + tables.main_table(results, list(results))))
    whole = complete(results, plan) if published else {}
    if not options.write and whole.keys() != (plan if options.study else EXPERIMENTS).keys():
        why = "the documents take only complete experiments on the published MNIST"
        print(f"not written: {why}; finish all of them, or use --write")
        return
    if whole:
        config = plan[next(iter(whole))][0]
        tables.write(whole, checkpoint.versions(config, options.device))
    tables.write_documents()
    if "best" in whole:
        draw_hardest(plan["best"], sets("best", options.device, options.data_dir)[1])
    print(f"written: docs/results.csv ({', '.join(whole) or 'as it was'}), tables and pictures")


def draw_hardest(configs: list[Config], test_set: MNIST) -> None:
    """Draw the test images that every network of some runs reads wrong; OSError."""
    from figures import study, style  # here, because matplotlib takes 0.3 s to import

    order, device = torch.arange(len(test_set)), test_set.data.device
    saved = [checkpoint.load(RUNS / config.name) for config in configs]
    networks = [checkpoint.network(state).to(device) for state in saved]
    answers = torch.stack([predict(net, test_set, order).argmax(1).cpu() for net in networks])
    figure = study.hardest(test_set.data.cpu(), test_set.targets.cpu(), answers)
    style.save(figure, tables.ROOT / "plots" / "hardest.png")


# The program


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = program.Parser(__doc__)
    add = parser.add_argument
    all_names = ",".join(EXPERIMENTS)
    add("--only", default=all_names, metavar="NAME,NAME", help="experiments to run (default: all)")
    study_help = "in place of experiments: what dropout and weight decay do, as a map"
    add("--study", choices=["regularization"], help=study_help)
    seeds_help = "seeds 0 to N-1 (default: as in the README)"
    add("--seeds", type=program.whole, metavar="N", help=seeds_help)
    cores = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    jobs_help = f"processes at a time, with one thread each (default: {cores})"
    add("--jobs", type=program.whole, default=cores, metavar="N", help=jobs_help)
    write_help = "train nothing; write the documents, with the experiments that are complete"
    add("--write", action="store_true", help=write_help)
    add("--list", action="store_true", help="show the experiments and end")
    add("--commands", action="store_true", help="show the command of each unfinished run and end")
    export_help = "write the weights of seed 0 of the one experiment (default: best)"
    add("--export", type=Path, metavar="FILE", help=export_help)
    add("--device", default="auto", help="as for main.py (default: auto)")
    add("--data-dir", default="data", help="as for main.py (default: data)")
    options = parser.parse_args(argv)
    options.only = list(JUDGED) if options.study else options.only.split(",")
    if unknown := [name for name in options.only if name not in ALL]:
        parser.error(f"argument --only: {unknown[0]!r} is none of {all_names}")
    if not all(1 <= number <= 1000 for number in (options.jobs, options.seeds or 1)):
        parser.error("arguments --jobs, --seeds: must be from 1 to 1000")
    options.exported = options.only[0] if len(options.only) == 1 else "best"
    if options.export and options.exported not in options.only:
        parser.error("argument --export: name one experiment with --only")
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
    plan = make_plan(options.only, options)
    if options.export and options.exported not in plan:
        raise UserError("--export: generated is tested on MNIST, which is not there; get it first")
    if options.study:
        plan |= tests(plan, options)
    if options.commands:
        show_commands(plan, options)
        return 0
    succeeded = options.write or run_all(plan, options)
    if options.study and succeeded and not options.write:
        plan |= tests(plan, options)  # now that every setting was judged
        succeeded = run_all(plan, options)
    write(plan, options)
    if options.export:
        config = plan[options.exported][0]
        if config in [unfinished for _, unfinished, _ in survey(plan, options.device)[1]]:
            raise UserError(f"--export: {config.name} is not finished; run it first")
        checkpoint.export(RUNS / config.name, options.export)
        print(options.export)
    return 0 if succeeded else 1


if __name__ == "__main__":
    program.end(main())
