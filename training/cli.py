"""The command line of main.py: its options are the fields of `Config`, and how a run is made."""

import argparse
import csv
import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch

from model import MODELS
from training import distributed
from training.config import (
    KNOWN,
    RECIPES,
    Config,
    ConfigError,
    Number,
    Takes,
    check_name,
    network_options,
    network_takes,
)
from training.program import Parser, tell

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results.csv"  # of reproduce.py
ABOUT = {
    "baseline": "the published recipe",
    "regularized": "with dropout and weight decay",
    "fast": "1 epoch",
    "modern": "5 epochs, rising and falling learning rate, label smoothing",
    "best": "60 epochs on distorted images",
    "handwriting": "60 epochs on distorted images, other hands and what is no digit",
}
SWITCHES = {
    "resume": "continue the run of this name",
    "overwrite": "start anew although another or an unfinished run has this name",
    "quiet": "only the last line, and warnings",
}
OPTIONS = {  # of the command line, those that do not change what a run is; and their defaults
    "runs": 1,
    "device": "auto",
    "data_dir": "data",
    "data": "auto",
    "threads": None,
    "evaluate": None,
    "compare": None,
    **dict.fromkeys(SWITCHES, False),
}


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[Config, argparse.Namespace]:
    """The command line as a configuration and the options that do not change the numbers."""
    reached = recipe_accuracies()
    recipes = [
        f"  {name:<12} {about}" + (f": {reached[name]} %" if name in reached else "")
        for name, about in ABOUT.items()
    ]
    end = "recipes, with LeNet-5's accuracy on MNIST's test set:\n" + "\n".join(recipes)
    parser = Parser(description, epilog=end)
    parser.argument_default = argparse.SUPPRESS  # only options that were given are in the result

    def add(key: str, default: object, text: str, takes: Takes, metavar: str | None = None):
        shown = "" if default is None or default is False else f" (default: {default})"
        how: dict = {"metavar": metavar, "type": takes}
        if isinstance(default, bool):
            how = {"action": argparse.BooleanOptionalAction}
        elif not isinstance(takes, Number | type):
            how = {"choices": takes}
        parser.add_argument(f"--{key.replace('_', '-')}", help=text + shown, **how)

    for one in dataclasses.fields(Config):
        if one.metadata:
            add(one.name, one.default, *one.metadata.values())
    owners: dict[str, list[str]] = {}
    for model in MODELS:
        for key in network_options(model):
            owners.setdefault(key, []).append(model)
    for key, models in owners.items():
        defaults = [network_options(model)[key] for model in models]
        default = defaults[0]
        text = f"{KNOWN.get(key, (key,))[0]}, of {' and '.join(models)}"
        if len(set(defaults)) > 1:
            text, default = f"{text} (defaults: {', '.join(map(str, defaults))})", None
        add(key, default, text, network_takes(key, defaults[0]))

    add("runs", 1, "train N seeds from --seed on; mean and spread", Number(int, 1, 10_000), "N")
    add("device", "auto", "where to train", ("auto", "cpu", "cuda", "mps"))
    add("data_dir", "data", "folder of train.tar and test.tar", str, "FOLDER")
    add(
        "data",
        "auto",
        "where data come from; auto: MNIST, else generated digits",
        ("auto", "mnist", "generated"),
    )
    add(
        "threads",
        None,
        "threads of the processor (default: 2, or 1 on one core)",
        Number(int, 1, 1025),
        "N",
    )
    name_help = "name of the run (default: made of the options)"
    parser.add_argument("--name", type=folder_name, help=name_help)
    for key, text in SWITCHES.items():
        parser.add_argument(f"--{key}", help=text, action="store_true")
    test_help = "only test a checkpoint: its loss, its accuracy with an interval, its mistakes"
    parser.add_argument("--evaluate", type=Path, metavar="CHECKPOINT", help=test_help)
    compare_help = "only compare finished runs: their curves in one picture, and a table"
    parser.add_argument("--compare", nargs="+", metavar="RUN", help=compare_help)

    given = vars(parser.parse_args(argv))
    options = argparse.Namespace(**{k: given.pop(k, default) for k, default in OPTIONS.items()})
    try:
        config = Config.from_dict(RECIPES[given.get("recipe", "baseline")] | given)
        dataclasses.replace(config, seed=config.seed + options.runs - 1)  # the last one is checked
        options.device = pick_device(options.device)
        if options.resume and options.overwrite:
            raise ConfigError("overwrite", "starts a run anew, and --resume continues it")
    except ConfigError as error:
        parser.error(str(error))
    return config, options


def folder_name(text: str) -> str:
    """A converter for argparse: a name that is one folder on every system."""
    try:
        check_name(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).partition(": ")[2]) from None
    return text


def pick_device(choice: str) -> torch.device:
    """The device to train on, with a GPU for each process; "auto" is cuda or cpu.

    It is never mps: networks this small are no faster there, and some versions of torch abort.
    """
    gpus = torch.cuda.device_count() >= distributed.local_world_size()
    mps = torch.backends.mps.is_available() and distributed.world_size() == 1
    if not {"cuda": gpus, "mps": mps}.get(choice, True):
        raise ConfigError("device", f"{choice} is not available, or not for each process")
    if choice == "mps":
        tell("warning: --device mps is not tested; --device cpu is as fast for networks this small")
    if choice == "cuda" or (choice == "auto" and gpus):
        device = torch.device(f"cuda:{distributed.local_rank()}")
        if choice == "cuda" or works(device):
            return device
    return torch.device("cpu" if choice == "auto" else choice)


def works(device: torch.device) -> bool:
    """Whether torch has kernels for a GPU: its wheels have none for old ones."""
    try:
        torch.ones(2, device=device).add_(1).tolist()
    except RuntimeError as error:
        why = " ".join(str(error).split())[:100]
        tell(f"warning: {device} cannot be used ({why}); training on the CPU")
        return False
    return True


def recipe_accuracies() -> dict[str, str]:
    """{recipe: mean ± deviation in %} from the results of reproduce.py, where they are there."""
    final: dict[str, dict[str, float]] = {}  # {experiment: {seed: accuracy after the last epoch}}
    if RESULTS.exists():
        with open(RESULTS, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                name = "baseline" if row["experiment"] == "lenet5" else row["experiment"]
                accuracy = 100 * float(row["test_accuracy"])
                final.setdefault(name, {})[row["seed"]] = accuracy
    return {
        name: f"{statistics.mean(values.values()):.2f} ± {statistics.stdev(values.values()):.2f}"
        for name, values in final.items()
        if name in RECIPES and len(values) > 1
    }
