"""What a run is: its configuration, the recipes, the command line, and the name and title of a run.

A `Config` holds everything that decides a run's numbers. It never changes: `dataclasses.replace`
makes another one, which is checked again. The command line, config.json, the checkpoint, the run's
name and the titles of its pictures are all derived from it.
"""

import argparse
import csv
import dataclasses
import inspect
import math
import re
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from digits.augment import AUGMENTATIONS
from files import UserError
from model import MODELS
from training import distributed
from training.console import Parser, tell
from training.optim import SCHEDULES

Value = str | int | float | bool
RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results.csv"  # of reproduce.py

RECIPES: dict[str, dict[str, Value]] = {  # the options that each one sets
    "baseline": {},
    "regularized": {"dropout": 0.5, "weight_decay": 0.0001},
    "fast": {
        "epochs": 1,
        "batch_size": 32,
        "lr": 0.03,
        "schedule": "linear",
        "nesterov": True,
        "label_smoothing": 0.05,
    },
    "modern": {
        "lr": 0.05,
        "schedule": "linear",
        "nesterov": True,
        "weight_decay": 0.0005,
        "label_smoothing": 0.05,
    },
    "best": {
        "epochs": 60,
        "lr": 0.05,
        "schedule": "quadratic",
        "nesterov": True,
        "weight_decay": 0.0005,
        "augment": "elastic",
    },
}
ABOUT = {
    "baseline": "the published recipe",
    "regularized": "with dropout and weight decay",
    "fast": "1 epoch",
    "modern": "5 epochs, rising and falling learning rate, label smoothing",
    "best": "60 epochs on distorted images",
}


@dataclass(frozen=True)
class Number:
    """Numbers that an option takes: from `low` on (or above it), and below `below`."""

    kind: type[int] | type[float]
    low: float = -math.inf
    below: float = math.inf
    above: bool = False

    def __call__(self, text: str) -> int | float:
        """The number in a text, for argparse."""
        # int() and float() would also take 1_0, nan and digits of other scripts.
        whole, real = r"[0-9]{1,18}", r"([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?"
        digits = whole if self.kind is int else real
        value = self.kind(text) if re.fullmatch(f"[+-]?{digits}", text, re.I) else math.nan
        if not self.holds(value):
            hint = (
                f"; write {text.replace(',', '.')}" if re.fullmatch(r"[0-9]*,[0-9]+", text) else ""
            )
            raise argparse.ArgumentTypeError(f"{text!r} is not {self}{hint}")
        return value

    def holds(self, value: object) -> bool:
        """Whether a value is one of these numbers."""
        if isinstance(value, bool) or not isinstance(value, self.kind | int):
            return False
        return (self.low < value if self.above else self.low <= value) and value < self.below

    def __str__(self) -> str:
        text = "a whole number" if self.kind is int else "a number"
        if self.kind is int and self.below < math.inf:
            return f"{text} from {self.low:,} to {self.below - 1:,}"
        if self.low > -math.inf:
            text += f" above {self.low}" if self.above else f" of at least {self.low}"
        return text + f" and below {self.below}" * (self.below < math.inf)


Takes = Number | Collection[str] | type  # what an option takes: a range, some words, any of a type


class ConfigError(UserError):
    """An option's value that makes no sense."""

    status = 2  # of a bad command line
    same_on_every_rank = True

    def __init__(self, option: str, why: str):
        super().__init__(f"argument --{option.replace('_', '-')}: {why}")


def option(default: Value, text: str, takes: Takes, metavar: str | None = None) -> Any:  # noqa: ANN401
    """A field of Config that is also an option of the command line."""
    return field(default=default, metadata={"help": text, "takes": takes, "metavar": metavar})


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's numbers, and the names under which the run is known.

    A value that makes no sense is a ConfigError, wherever it comes from.
    """

    model: str = option("lenet5", "the network", MODELS)
    recipe: str = dataclasses.field(
        default="baseline",
        compare=False,  # a label: the options that it sets are compared
        metadata={"help": "named values of the options below; see the end", "takes": RECIPES},
    )
    epochs: int = option(5, "passes over the training images", Number(int, 1, 100_000), "N")
    batch_size: int = option(64, "images in a step", Number(int, 1, 1_000_000), "N")
    lr: float = option(
        0.01, "learning rate, the highest of the schedule", Number(float, 0, above=True)
    )
    schedule: str = option(
        "constant",
        "of the learning rate; the others rise for 20 %% of the steps and fall to 0",
        SCHEDULES,
    )
    momentum: float = option(0.9, "of SGD", Number(float, 0, 1))
    nesterov: bool = option(False, "Nesterov's momentum", bool)
    network: Mapping[str, Value] = field(default_factory=dict)  # options of its constructor
    weight_decay: float = option(0.0, "½·λ·‖w‖² in the optimiser", Number(float, 0), "λ")
    label_smoothing: float = option(
        0.0, "share of each target that is spread over all ten digits", Number(float, 0, 1), "ε"
    )
    augment: str = option("none", "distort the training images anew in each epoch", AUGMENTATIONS)
    val_size: int = option(
        0, "hold out the last N training images and test on them", Number(int, 0), "N"
    )
    seed: int = option(0, "of everything random", Number(int, 0, 2**32), "N")
    data: str = "mnist"  # or "generated", or the name of a folder with other data
    digests: tuple[str, ...] = ()  # of the images and labels; see digits/idx.py
    name: str = field(default="", compare=False)  # a label; runs/<name>/ is the run's folder

    def __post_init__(self) -> None:
        for key, takes in option_fields().items():
            check(key, getattr(self, key), takes)
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov", "needs a --momentum above 0")
        declared = network_options(self.model)
        for key, value in self.network.items():
            if key not in declared:
                having = ", ".join(name for name in MODELS if key in network_options(name))
                who = having or "no network"
                raise ConfigError(key, f"{self.model} has no such option; {who} has it")
            check(key, value, network_takes(key, declared[key]))
        object.__setattr__(self, "network", MappingProxyType(declared | dict(self.network)))
        object.__setattr__(self, "digests", tuple(self.digests))

    def __reduce__(self) -> tuple:
        """Pickling goes through plain values; a read-only mapping cannot be pickled."""
        return Config.from_dict, (self.to_dict(),)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The configuration in a flat dictionary; what is not a field is the network's option."""
        fields = {one.name for one in dataclasses.fields(cls)} - {"network"}
        known = {key: value for key, value in values.items() if key in fields}
        network = {key: value for key, value in values.items() if key not in fields}
        return cls(**known, network=network)

    def to_dict(self) -> dict[str, object]:
        """The configuration as a flat dictionary of plain values, as config.json shows it."""
        values: dict[str, object] = {}
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            values |= value if one.name == "network" else {one.name: value}
        return values | {"digests": list(self.digests)}


KNOWN = {  # options that a network may declare, and that we know something about
    "hidden": ("hidden units", Number(int, 1, 10_001)),
    "dropout": ("probability of dropping each hidden unit", Number(float, 0, 1)),
}


def option_fields() -> dict[str, Takes]:
    """{name of a field that is an option: what it takes}."""
    return {f.name: f.metadata["takes"] for f in dataclasses.fields(Config) if f.metadata}


def network_options(model: str) -> dict[str, Value]:
    """{option: default} that the constructor of a network declares."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(MODELS[model]).parameters.items()
        if isinstance(parameter.default, Value)
    }


def network_takes(key: str, default: Value) -> Takes:
    """What an option of a network takes: known ranges by name, others by the default's type."""
    if key in KNOWN:
        return KNOWN[key][1]
    kind = type(default)
    return Number(kind) if kind in (int, float) else kind


def check(key: str, value: object, takes: Takes) -> None:
    """Raise ConfigError unless an option takes a value."""
    if isinstance(takes, Number):
        if not takes.holds(value):
            raise ConfigError(key, f"{value!r} is not {takes}")
    elif isinstance(takes, type):
        if not isinstance(value, takes):
            raise ConfigError(key, f"{value!r} is no {takes.__name__}")
    elif value not in takes:
        raise ConfigError(key, f"{value!r} is none of {', '.join(takes)}")


# The command line


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
        default = network_options(models[0])[key]
        text = f"{KNOWN.get(key, (key,))[0]}, of {' and '.join(models)}"
        add(key, default, text, network_takes(key, default))

    add("runs", 1, "train N seeds from --seed on; mean and spread", Number(int, 1, 10_000), "N")
    add("device", "auto", "where to train", ("auto", "cpu", "cuda", "mps"))
    add("data_dir", "data", "folder of train.tar and test.tar", str, "FOLDER")
    add("data", "auto", "auto: MNIST, or generated digits", ("auto", "mnist", "generated"))
    add(
        "threads",
        None,
        "of the processor (default: 2, or 1 on one core)",
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


SWITCHES = {
    "resume": "continue the run of this name",
    "overwrite": "start a run anew that was stopped before its last epoch",
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
RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in "123456789"),
}
MAX_NAME_BYTES = 180  # leaves room for what the names of pictures and temporary files add


def folder_name(text: str) -> str:
    """A converter for argparse: a name that is one folder on every system."""
    if not re.fullmatch(r"\w([\w.+=-]*[\w+=-])?", text):
        why = "must begin with a letter or digit and have only letters, digits and _.+=-"
    elif text.partition(".")[0].lower() in RESERVED:
        why = "is a name that Windows keeps for itself"
    elif len(text.encode()) > MAX_NAME_BYTES:
        why = f"is longer than {MAX_NAME_BYTES} bytes"
    else:
        return text
    raise argparse.ArgumentTypeError(f"{text!r} {why}")


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
    return torch.device("cpu" if choice in ("auto", "cuda") else choice)


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


# Names

LABELS = ("model", "recipe", "name", "data", "digests")  # what a name does not take from options
LAST = ("hidden", "val_size", "seed")
SHORT = {"batch_size": "batch", "weight_decay": "wd", "label_smoothing": "ls", "val_size": "val"}


def run_name(config: Config) -> str:
    """The model, the recipe, each option that differs from the recipe's, the seed, the data."""
    usual = Config.from_dict(RECIPES[config.recipe] | {"model": config.model}).to_dict()
    parts = [config.model] + [config.recipe] * (config.recipe != "baseline")
    values = config.to_dict()
    for key in sorted(values, key=lambda key: LAST.index(key) if key in LAST else -1):
        value = values[key]
        if key in LABELS or value == usual[key]:
            continue
        if value is False or value == "none":
            parts.append(f"no-{key}")
        elif value is True:
            parts.append(key)
        elif isinstance(value, str):
            parts.append(value)
        else:
            parts.append(f"{SHORT.get(key, key)}{value}".removesuffix(".0"))
    if config.data != "mnist":
        parts.append(config.data)
    return "_".join(parts)


def named(config: Config) -> Config:
    """The configuration with a name: its own, or one made of its options."""
    return config if config.name else dataclasses.replace(config, name=run_name(config))


def one_for_each_seed(config: Config, runs: int) -> list[Config]:
    """Configurations with the seeds from the given one's on; each has its own name."""
    configs = []
    for seed in range(config.seed, config.seed + runs):
        name = f"{config.name}_seed{seed}" if config.name and runs > 1 else config.name
        configs.append(named(dataclasses.replace(config, seed=seed, name=name)))
    return configs


def title(config: Config, seeds: int = 1) -> tuple[str, str]:
    """A run, or several seeds of it, in words: the network and the data, then the options."""
    network = getattr(MODELS[config.model], "title", MODELS[config.model].__name__)
    known = {"mnist": "MNIST", "generated": "generated digits, not MNIST"}
    data = known.get(config.data, f"{config.data}, not MNIST")
    own = [f"{key} {value}" for key, value in config.network.items() if value]
    last_seed = config.seed + seeds - 1
    options = [
        f"{config.epochs} epoch{'s' * (config.epochs > 1)} of batches of {config.batch_size}",
        f"lr {config.lr:g} {config.schedule}",
        f"momentum {config.momentum:g}" + " (Nesterov)" * config.nesterov,
        f"weight decay {config.weight_decay:g}" * (config.weight_decay > 0),
        *own,
        f"label smoothing {config.label_smoothing:g}" * (config.label_smoothing > 0),
        f"{config.augment} augmentation" * (config.augment != "none"),
        f"seeds {config.seed} to {last_seed}" if seeds > 1 else f"seed {config.seed}",
    ]
    return f"{network} on {data}", ", ".join(text for text in options if text)
