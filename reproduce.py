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

from dataset import MNIST
from files import CheckpointError, UserError
from main import fit, predict
from study import tables
from study.experiments import ALL, EXPERIMENTS, JUDGED
from training import checkpoint, data, distributed
from training.checkpoint import RUNS
from training.config import Config, one_for_each_seed, parse
from training.report import Report, evaluated

import torch
from tqdm import tqdm

Plan = dict[str, list[Config]]  # the runs of each experiment


# What is run, and what of it is finished


@functools.lru_cache
def load(source: str, device: torch.device, data_dir: str) -> list[MNIST]:
    """The training set and the test set; DataError."""
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
        config, _, _ = data.prepared(config, train_set, test_set)
        configs = one_for_each_seed(replace(config, name=""), options.seeds or ALL[name].seeds)
        end = "_tested_on_mnist" * (name == "generated")
        plan[name] = [replace(config, name=config.name + end) for config in configs]
    return plan


def on_disk(config: Config, device: torch.device) -> tuple[list[dict], list[str]]:
    """The history of a run, and what keeps it from counting, such as another version of torch."""
    try:
        saved = checkpoint.load(RUNS / config.name)
    except CheckpointError as error:
        return [], [str(error)]
    before = saved["config"].to_dict() | saved["versions"]
    now = config.to_dict() | checkpoint.versions(config, device)
    return saved["history"], [
        f"{key} was {before.get(key)!s:.40}, is {value!s:.40}"
        for key, value in now.items()
        if key not in ("name", "recipe") and before.get(key) != value
    ]


def unfinished(plan: Plan, device: torch.device) -> list[tuple[str, Config, bool]]:
    """The experiment and the configuration of each run to do, and whether it was begun."""
    states = [(name, config, *on_disk(config, device)) for name in plan for config in plan[name]]
    return [
        (name, config, bool(history) and not differing)
        for name, config, history, differing in states
        if differing or len(history) < config.epochs
    ]


def collect(plan: Plan, device: torch.device) -> tables.Results:
    """The histories of the runs that count as finished; names those that do not."""
    results: tables.Results = {}
    for name, configs in plan.items():
        for config in configs:
            history, differing = on_disk(config, device)
            if history and differing:
                program.tell(f"warning: {config.name} is not counted: {'; '.join(differing)}")
            elif len(history) == config.epochs:
                results.setdefault(name, {})[config.seed] = history
    return results


def complete(results: tables.Results, plan: Plan) -> tables.Results:
    """The experiments of which every planned seed is finished, as many as the documents have."""
    return {
        name: histories
        for name, histories in results.items()
        if len(histories) == ALL[name].seeds == len(plan[name])
    }


# Running


def run_all(plan: Plan, options: argparse.Namespace) -> bool:
    """Run what is not finished, `--jobs` at a time; gives whether all succeeded."""
    succeeded = True
    context = multiprocessing.get_context("spawn")  # a fork cannot use CUDA, nor OpenMP's threads
    with ProcessPoolExecutor(options.jobs, context, begin_process) as pool:
        try:
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the processes inherit it
            futures = [
                pool.submit(run_one, *run, options.device, options.data_dir)
                for run in unfinished(plan, options.device)
            ]
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
        train_set, test_set = sets(experiment, device, data_dir)
        run = fit(config, train_set, test_set, resume, Report(quiet=True))
    except (UserError, OSError) as error:
        return False, f"{config.name}: failed: {error}"
    accuracy = run.history[-1]["test_accuracy"]
    return True, f"{config.name}: {evaluated(config)} accuracy {100 * accuracy:.2f} %"


def show_commands(plan: Plan, options: argparse.Namespace) -> None:
    """Print the command of each run that is not finished, one a line."""
    where = ["--threads", "1", "--device", options.device.type, "--data-dir", options.data_dir]
    for name, config, resume in unfinished(plan, options.device):
        if name != "generated":
            words = ["python", "main.py", *ALL[name].command.split(), "--seed", str(config.seed)]
            print(shlex.join([*words, *where, *["--resume"] * resume]))
    if "generated" in plan:
        program.tell(
            "note: main.py cannot train on generated digits and test on MNIST; this does: "
            "python reproduce.py --only generated"
        )


# The results


def write(plan: Plan, options: argparse.Namespace) -> None:
    """Write the documents, if the experiments are complete and on the published MNIST."""
    results = collect(plan, options.device)
    if not options.study:
        print("\n".join(tables.main_table(results, list(results))))
    published = all(plan[name][0].data == "mnist" for name in plan if name != "generated")
    whole = complete(results, plan) if published else {}
    if not options.write and whole.keys() != (plan if options.study else EXPERIMENTS).keys():
        print(
            "not written: the documents take only complete experiments on the published MNIST; "
            "finish all of them, or use --write"
        )
        return
    if whole:
        config = plan[next(iter(whole))][0]
        tables.write(whole, checkpoint.versions(config, options.device))
    tables.write_documents()
    if "best" in whole:
        draw_hardest(plan["best"], options)
    print(f"written: docs/results.csv ({', '.join(whole) or 'as it was'}), tables and pictures")


def draw_hardest(configs: list[Config], options: argparse.Namespace) -> None:
    """Draw the test images that every network of some runs reads wrong; OSError."""
    from figures import study, style  # here, because matplotlib takes 0.3 s to import

    _, test_set = load("auto", options.device, options.data_dir)
    answers = []
    for config in configs:
        network = checkpoint.network(checkpoint.load(RUNS / config.name)).to(options.device)
        logits = predict(network, test_set, torch.arange(len(test_set)))
        answers.append(logits.argmax(1).cpu())
    images, labels = test_set.data.cpu(), test_set.targets.cpu()
    figure = study.hardest(images, labels, torch.stack(answers))
    style.save(figure, tables.ROOT / "plots" / "hardest.png")


def export(plan: Plan, options: argparse.Namespace) -> None:
    """Write the weights of an experiment's seed 0 as a file that predict.py can use."""
    config = plan[exported(options)][0]
    history, differing = on_disk(config, options.device)
    if differing or len(history) < config.epochs:
        why = "; ".join(differing) or f"{len(history)} of {config.epochs} epochs"
        raise UserError(f"--export: {config.name} is not finished ({why})")
    checkpoint.export(RUNS / config.name, options.export)
    print(options.export)


def exported(options: argparse.Namespace) -> str:
    return options.only[0] if len(options.only) == 1 else "best"


# The program


def experiments(text: str) -> list[str]:
    """A converter for argparse: names of experiments, with commas between them."""
    names = text.split(",")
    if unknown := [name for name in names if name not in ALL]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(EXPERIMENTS)}")
    return names


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = program.Parser(__doc__)
    add = parser.add_argument
    only_help = "experiments to run (default: all)"
    add("--only", type=experiments, default=list(EXPERIMENTS), metavar="NAME,NAME", help=only_help)
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
    if options.study:
        options.only = list(JUDGED)
    for key in ("seeds", "jobs"):
        if not 1 <= (getattr(options, key) or 1) <= 1000:
            parser.error(f"argument --{key}: must be from 1 to 1000")
    if options.export and exported(options) not in options.only:
        parser.error("argument --export: name one experiment with --only")
    options.device = parse(["--device", options.device], "")[1].device
    return options


def tests(plan: Plan, options: argparse.Namespace) -> Plan:
    """The runs of the study on the test set, once every setting was judged."""
    best = tables.best_settings(complete(collect(plan, options.device), plan)).values()
    return make_plan([s.tested for setting in best for s in (setting, setting.baseline)], options)


@program.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """The program; gives its exit status."""
    options = parse_options(argv)
    distributed.require_one_process("reproduce.py")
    if options.list:
        for name in options.only:
            print(f"{name:<12} {ALL[name].seeds:>2} seeds  python main.py {ALL[name].command}")
        return 0
    torch.set_num_threads(1)  # as in every run
    plan = make_plan(options.only, options)
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
        export(plan, options)
    return 0 if succeeded else 1


if __name__ == "__main__":
    program.end(main())
