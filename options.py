"""What a run is: its options and recipes, the command line that sets them, its name and title.

A configuration is a plain dictionary of what decides the numbers; it is kept with every run.
"""

import argparse
import math
import re
import sys

import torch

import distributed
from dataset import AUGMENTATIONS
from model import MODELS

BASELINE = {  # the published recipe
    "epochs": 5, "batch_size": 64, "lr": 0.01, "schedule": "constant", "momentum": 0.9,
    "nesterov": False, "dropout": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0,
    "augment": "none",
}  # fmt: skip
RECIPES = {  # what each one changes of it
    "baseline": {},
    "regularized": {"dropout": 0.5, "weight_decay": 0.0001},
    "fast": {
        "epochs": 1, "batch_size": 32, "lr": 0.03, "schedule": "linear", "nesterov": True,
        "label_smoothing": 0.05,
    },
    "modern": {
        "lr": 0.05, "schedule": "linear", "nesterov": True, "weight_decay": 0.0005,
        "label_smoothing": 0.05,
    },
    "best": {
        "epochs": 60, "lr": 0.05, "schedule": "quadratic", "nesterov": True, "weight_decay": 0.0005,
        "augment": "elastic",
    },
}  # fmt: skip
REACHES = {  # on MNIST's test set, LeNet-5, mean over the seeds of reproduce.py
    "baseline": "the published recipe: 98.79 %",
    "regularized": "with dropout and weight decay: 98.75 %",
    "fast": "1 epoch: 98.90 %",
    "modern": "5 epochs, rising and falling learning rate, label smoothing: 99.31 %",
    "best": "60 epochs on distorted images: 99.63 %",
}
SHORT = {"batch_size": "batch", "weight_decay": "wd", "label_smoothing": "ls", "val_size": "val"}
DEFAULTS = {
    "model": "lenet5", "recipe": "baseline", "hidden": 20, "seed": 0, "val_size": 0, "runs": 1,
    "device": "auto", "data_dir": "data", "data": "auto", "resume": False, "name": None,
    "quiet": False,
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """One line for a bad command line, which names the option; status 2."""

    def error(self, message):
        if distributed.local_rank() == 0:  # the others of this machine were given the same
            print(f"error: {message}; see --help", file=sys.stderr)
        sys.exit(2)


def number(kind, low, below=math.inf, above=False):
    """A converter for argparse: an int or float of at least (or above) `low`, below `below`."""
    digits = (
        r"[+-]?[0-9]{1,18}" if kind is int else r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?"
    )

    def convert(text):  # int() and float() take 1_0, nan and digits of other scripts, too
        value = kind(text) if re.fullmatch(digits, text, re.IGNORECASE) else math.nan
        if not (low < value if above else low <= value) or not value < below:
            bounds = f"{'above' if above else 'at least'} {low}"
            bounds += f" and below {below}" if below < math.inf else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {bounds}")
        return value

    return convert


def parse(argv, description):
    """The command line as (config, options): what decides the numbers, and the rest."""
    recipes = "\n".join(f"  {name:<12} {reach}" for name, reach in REACHES.items())
    parser = Parser(
        description=description, epilog=f"recipes:\n{recipes}", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, argument_default=argparse.SUPPRESS,
    )  # fmt: skip

    def add(option, text, **how):
        default = (BASELINE | DEFAULTS)[option[2:].replace("-", "_")]
        shown = "" if default is None or default is False else f" (default: {default})"
        parser.add_argument(option, help=text + shown, **how)

    switch = {"action": argparse.BooleanOptionalAction}
    add("--model", "the network", choices=MODELS)
    add("--recipe", "named values of the options below; see the end", choices=RECIPES)
    add("--epochs", "passes over the training images", type=number(int, 1, 100_000), metavar="N")
    add("--batch-size", "images in a step", type=number(int, 1, 1_000_000), metavar="N")
    add("--lr", "learning rate, the highest of the schedule", type=number(float, 0, above=True))
    add("--momentum", "of SGD", type=number(float, 0, below=1))
    add("--nesterov", "Nesterov's momentum", **switch)
    add("--schedule", "of the learning rate; not constant: up for 20 %% of the steps, down to 0",
        choices=["constant", "linear", "quadratic"])  # fmt: skip
    add("--weight-decay", "½·λ·‖w‖² in the optimiser", type=number(float, 0), metavar="λ")
    add("--dropout", "probability, after the hidden linear layers", type=number(float, 0, below=1))
    add("--label-smoothing", "share of each target that is spread over all ten digits",
        type=number(float, 0, below=1), metavar="ε")  # fmt: skip
    add("--hidden", "hidden units of the mlp", type=number(int, 1, 10_001), metavar="N")
    add("--augment", "deform the training images anew in each epoch", choices=AUGMENTATIONS)
    add("--seed", "of everything random", type=number(int, 0, below=2**32), metavar="N")
    add("--runs", "train with N seeds from --seed on, mean and spread at the end",
        type=number(int, 1, 10_000), metavar="N")  # fmt: skip
    add("--val-size", "hold out the last N training images and test on them", metavar="N",
        type=number(int, 0))  # fmt: skip
    add("--device", "where to train", choices=["auto", "cpu", "cuda", "mps"])
    add("--data-dir", "folder of train.tar and test.tar", metavar="FOLDER")
    add("--data", "auto: MNIST, or generated digits where it cannot be had",
        choices=["auto", "mnist", "generated"])  # fmt: skip
    add("--resume", "continue the run of this name", action="store_true")
    add("--name", "name of the run (default: from the options)", type=name)
    add("--quiet", "only the last line, and warnings", action="store_true")

    given = vars(parser.parse_args(argv))
    values = BASELINE | DEFAULTS | RECIPES[given.get("recipe", "baseline")] | given
    if "hidden" in given and values["model"] != "mlp":
        parser.error("argument --hidden: only the mlp has it; add --model mlp")
    if values["nesterov"] and values["momentum"] == 0:
        parser.error("argument --nesterov: needs a --momentum above 0")
    options = argparse.Namespace(device=pick_device(values["device"], parser))
    config = {key: values[key] for key in ("model", "recipe", "seed", "val_size", *BASELINE)}
    if values["model"] == "mlp":
        config["hidden"] = values["hidden"]
    for key in ("runs", "data_dir", "data", "resume", "name", "quiet"):
        setattr(options, key, values[key])
    return config, options


def name(text):
    """A converter for argparse: a name that is one folder on every system."""
    if not re.fullmatch(r"\w[\w.+=-]{0,99}", text):
        raise argparse.ArgumentTypeError(f"{text!r} has more than letters, digits and _.+=-")
    return text


def run_name(config):
    """The model, the recipe, each option that differs from the recipe's, and the seed."""
    usual = BASELINE | DEFAULTS | RECIPES[config["recipe"]]
    parts = [config["model"]] + [config["recipe"]] * (config["recipe"] != "baseline")
    for key in (*BASELINE, "hidden", "val_size", "seed"):
        value = config.get(key, usual[key])
        if value != usual[key]:
            short = SHORT.get(key, key)
            if value is False or value == "none":
                parts.append(f"no-{key}")
            elif isinstance(value, str) or value is True:
                parts.append(value if isinstance(value, str) else key)
            else:
                parts.append(f"{short}{value}".removesuffix(".0"))
    if config["data"] != "mnist":
        parts.append(config["data"])
    return "_".join(parts)


def pick_device(choice, parser):
    """The device to train on; the best there is for auto, with a GPU for each process."""
    there = {
        "cuda": torch.cuda.device_count() >= distributed.local_world_size(),
        "mps": torch.backends.mps.is_available() and distributed.world_size() == 1,
    }
    if choice == "auto":
        choice = next((kind for kind in there if there[kind]), "cpu")
    elif not there.get(choice, True):
        parser.error(f"argument --device: {choice} is not available, or not for each process")
    return torch.device(choice, distributed.local_rank() if choice == "cuda" else None)


def describe(config):
    """A run in words, for a title: the network and the data, then the options."""
    network = {"lenet5": "LeNet-5", "mlp": f"MLP, {config.get('hidden')} hidden units"}
    data = {"mnist": "MNIST", "generated": "generated digits (not MNIST)"}
    options = [
        f"{config['epochs']} epochs of batches of {config['batch_size']}",
        f"SGD, lr {config['lr']:g} {config['schedule']}",
        f"momentum {config['momentum']:g}" + " (Nesterov)" * config["nesterov"],
        f"weight decay {config['weight_decay']:g}" * (config["weight_decay"] > 0),
        f"dropout {config['dropout']:g}" * (config["dropout"] > 0),
        f"label smoothing {config['label_smoothing']:g}" * (config["label_smoothing"] > 0),
        f"{config['augment']} augmentation" * (config["augment"] != "none"),
        f"seed {config['seed']}",
    ]
    options = ", ".join(option for option in options if option)
    return f"{network[config['model']]} on {data[config['data']]}", options
