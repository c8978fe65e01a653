"""What a run is: its configuration, the recipes, the command line, and the names of runs.

A `Config` holds everything that decides a run's numbers. It never changes: `dataclasses.replace`
makes another one, which is checked again. The command line, config.json, the checkpoint, the run's
name and the titles of its pictures are all derived from it.
"""

import argparse
import dataclasses
import inspect
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from digits.augment import AUGMENTATIONS
from files import ConfigError
from handwriting.mix import MIXES
from model import MODELS, title_of
from training import program
from training.distributed import pick_device
from training.schedule import SCHEDULES

Value = str | int | float | bool

LINEAR = {"schedule": "linear", "nesterov": True, "label_smoothing": 0.05}
STRONG = {"lr": 0.05, "nesterov": True, "weight_decay": 0.0005}
RECIPES: dict[str, dict[str, Value]] = {  # the options that each one sets
    "baseline": {},
    "regularized": {"dropout": 0.5, "weight_decay": 0.0001},
    "fast": LINEAR | {"epochs": 1, "batch_size": 32, "lr": 0.03},
    "modern": LINEAR | STRONG,
    "best": STRONG | {"epochs": 60, "schedule": "quadratic", "augment": "elastic"},
}
RECIPES["handwriting"] = RECIPES["best"] | {"mix": "handwriting"}
ABOUT_RECIPES = """\
recipes, with LeNet-5's accuracy on MNIST's test set (docs/results.md):
  baseline     the published recipe: 98.80 ± 0.16 %
  regularized  with dropout and weight decay: 98.74 ± 0.12 %
  fast         1 epoch: 98.90 ± 0.09 %
  modern       5 epochs, rising and falling learning rate, label smoothing: 99.33 ± 0.05 %
  best         60 epochs on distorted images: 99.63 ± 0.06 %
  handwriting  the same with other hands and what is no digit: 99.53 ± 0.02 %"""

CHOICES: dict[str, Collection[str]] = {
    "model": MODELS,
    "recipe": RECIPES,
    "schedule": SCHEDULES,
    "augment": AUGMENTATIONS,
    "mix": MIXES,
    "device": ("auto", "cpu", "cuda"),
    "data": ("auto", "mnist", "generated"),  # where they come from
}
BOUNDS: dict[str, tuple[float, float]] = {  # the lowest and the highest value that makes sense
    "epochs": (1, 100_000),
    "batch_size": (1, 1_000_000),
    "lr": (1e-12, 1e6),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1e6),
    "label_smoothing": (0, 0.9999),
    "val_size": (0, 10**9),
    "seed": (0, 2**32 - 1),
    "hidden": (1, 10_000),
    "dropout": (0, 0.9999),
    "runs": (1, 10_000),
    "threads": (1, 1024),
}
HELP = {  # options of networks that are known by name
    "hidden": "hidden units",
    "dropout": "probability of dropping each hidden unit",
}


def option(default: Value, text: str, compare: bool = True) -> Any:  # noqa: ANN401
    """A field of Config that is also an option of the command line."""
    return field(default=default, metadata={"help": text}, compare=compare)


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's numbers, and the names under which the run is known.

    A value that makes no sense is a ConfigError, wherever it comes from.
    """

    model: str = option("lenet5", "the network")
    # a label: the options that it sets are compared
    recipe: str = option("baseline", "named values of the options below; see the end", False)
    epochs: int = option(5, "passes over the training images")
    batch_size: int = option(64, "images in a step")
    lr: float = option(0.01, "learning rate, the highest of the schedule")
    schedule: str = option(
        "constant",
        "how the learning rate changes; the others rise for 20 %% of the steps and fall to 0",
    )
    momentum: float = option(0.9, "momentum of SGD")
    nesterov: bool = option(False, "Nesterov's momentum")
    network: Mapping[str, Value] = field(default_factory=dict)  # options of its constructor
    weight_decay: float = option(0.0, "lambda, of lambda/2 times the sum of squared weights")
    label_smoothing: float = option(0.0, "share of each target that is spread over all ten digits")
    augment: str = option("none", "distort the training images anew in each epoch")
    mix: str = option("none", "what is mixed into the training images")
    val_size: int = option(0, "hold out the last N training images and test on them")
    seed: int = option(0, "seed of all random numbers")
    data: str = "mnist"  # or "generated", or the name of a folder with other data
    digests: tuple[str, ...] = ()  # of the images and labels; see digits/idx.py
    name: str = option("", "name of the run", False)  # a label; runs/<name>/ is the run's folder

    def __post_init__(self) -> None:
        for key, default in DEFAULTS.items():
            check(key, getattr(self, key), default)
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov", "needs a --momentum above 0")
        check_name(self.name)
        declared = network_options(self.model)
        for key, value in self.network.items():
            if key not in declared:
                owners = ", ".join(model for model in MODELS if key in network_options(model))
                why = f"{self.model} has no such option; {owners or 'no network'} has it"
                raise ConfigError(key, why)
            check(key, value, declared[key])
        object.__setattr__(self, "network", MappingProxyType(declared | dict(self.network)))
        object.__setattr__(self, "digests", tuple(self.digests))

    def __reduce__(self) -> tuple:
        return Config.from_dict, (self.to_dict(),)  # a read-only mapping cannot be pickled

    @property
    def evaluated(self) -> str:
        """The set that a run is tested on, in words."""
        return "validation" if self.val_size else "test"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The configuration in a flat dictionary; what is not a field is the network's option."""
        fields = {f.name for f in dataclasses.fields(cls)} - {"network"}
        network = {key: values[key] for key in values if key not in fields}
        return cls(network=network, **{key: values[key] for key in values if key in fields})

    def to_dict(self) -> dict[str, Any]:
        """The configuration as a flat dictionary of plain values, as config.json shows it."""
        values: dict[str, Any] = {}
        for key, value in vars(self).items():
            values |= value if key == "network" else {key: value}
        return values | {"digests": list(self.digests)}


DEFAULTS: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(Config) if f.metadata}


def check(key: str, value: object, default: Value) -> None:
    """Raise ConfigError unless an option takes a value: its default's type, choice and bounds."""
    kinds = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
        raise ConfigError(key, f"{value!r} is no {type(default).__name__}")
    if value not in CHOICES.get(key, (value,)):
        raise ConfigError(key, f"{value!r} is none of {', '.join(CHOICES[key])}")
    low, high = BOUNDS.get(key, (-math.inf, math.inf))
    if isinstance(value, int | float) and not low <= value <= high:
        raise ConfigError(key, f"{value} is not from {low:,} to {high:,}")


def check_name(name: str) -> None:
    """Raise ConfigError unless a name is empty, or one folder on every system."""
    device = re.fullmatch(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?", name, re.IGNORECASE)
    if device or len(name.encode()) > 180 or not re.fullmatch(r"(\w([\w.+=-]*[\w+=-])?)?", name):
        why = "is no name of a folder everywhere: use letters, digits and _.+=-, 180 at most"
        raise ConfigError("name", f"{name!r} {why}")


def network_options(model: str) -> dict[str, Value]:
    """{option: default} that the constructor of a network declares."""
    declared = {}
    for name, parameter in inspect.signature(MODELS[model]).parameters.items():
        variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not variable:
            raise ConfigError(name, f"{model} has no default for it; give it one in model.py")
        if name in DEFAULTS:
            raise ConfigError(name, f"is an option of the training; rename that of {model}")
        if isinstance(parameter.default, Value):
            declared[name] = parameter.default
    return declared


# Names

LABELS = ("model", "recipe", "name", "data", "digests")  # what a name does not take from options
LAST = ("hidden", "val_size", "seed")
SHORT = {"batch_size": "batch", "weight_decay": "wd", "label_smoothing": "ls", "val_size": "val"}


def run_name(config: Config) -> str:
    """The model, the recipe, each option that differs from the recipe's, the seed, the data."""
    usual = Config.from_dict(RECIPES[config.recipe] | {"model": config.model}).to_dict()
    parts = [config.model] + [config.recipe] * (config.recipe != "baseline")
    values = {k: v for k, v in config.to_dict().items() if k not in LABELS and v != usual[k]}
    for key in sorted(values, key=lambda key: LAST.index(key) if key in LAST else -1):
        value = values[key]
        if value is False or value == "none":
            parts.append(f"no-{key}")
        elif value is True:
            parts.append(key)
        elif isinstance(value, str):
            parts.append(f"{key}-{value}" if key == "mix" else value)  # a recipe has that name, too
        else:
            parts.append(f"{SHORT.get(key, key)}{value}".removesuffix(".0"))
    return "_".join(parts + [config.data] * (config.data != "mnist"))


def named(config: Config) -> Config:
    """The configuration with a name: its own, or one made of its options."""
    return config if config.name else dataclasses.replace(config, name=run_name(config))


def one_for_each_seed(config: Config, runs: int) -> list[Config]:
    """Configurations with the seeds from the given one's on; each has its own name."""
    several = bool(config.name) and runs > 1
    names = {s: config.name + f"_seed{s}" * several for s in range(config.seed, config.seed + runs)}
    return [named(dataclasses.replace(config, seed=s, name=name)) for s, name in names.items()]


def title(config: Config, method: str = "", seeds: int = 1) -> tuple[str, str]:
    """A run, or several seeds of it, in words: the network, data and recipe; then the options.

    `method` says in words how the weights are changed.
    """
    known = {"mnist": "MNIST", "generated": "generated digits, not MNIST"}
    data = known.get(config.data, f"{config.data}, not MNIST")
    recipe = f", recipe {config.recipe}" * (config.recipe != "baseline")
    options = [
        f"{config.epochs} epoch{'s' * (config.epochs > 1)} of batches of {config.batch_size}",
        method,
        *(f"{key} {value}" for key, value in config.network.items() if value),
        f"label smoothing {config.label_smoothing:g}" * (config.label_smoothing > 0),
        f"{config.augment} augmentation" * (config.augment != "none"),
        f"with {config.mix} and non-digits mixed in" * (config.mix != "none"),
        f"seeds {config.seed} to {config.seed + seeds - 1}" if seeds > 1 else f"seed {config.seed}",
    ]
    what = f"{title_of(MODELS[config.model])} on {data}{recipe}"
    return what, ", ".join(text for text in options if text)


# The command line

OPTIONS: dict[str, tuple[Value, str]] = {  # {option: (default, help)} of what changes no number
    "runs": (1, "train N seeds from --seed on; mean and spread"),
    "device": ("auto", "where to train: auto is cuda or cpu"),
    "threads": (1, "threads of the processor"),
    "data_dir": ("data", "folder with the data"),
    "data": ("auto", "where data come from; auto: MNIST, else generated digits"),
    "resume": (False, "continue the run of this name"),
    "quiet": (False, "only the last line, and warnings"),
}
WHAT, WHERE = ("model", "recipe", "name"), ("device", "threads", "data_dir", "data")  # groups
NOT_TRAINED = {*WHERE, "quiet"}  # what fits --evaluate and --compare


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[Config, argparse.Namespace]:
    """The command line as a configuration, and the options that do not change the numbers."""
    parser = program.Parser(description, epilog=ABOUT_RECIPES)
    parser.argument_default = argparse.SUPPRESS  # only options that were given are in the result
    titles = ("what is trained", "how", "where", "what else")
    what, how, where, others = map(parser.add_argument_group, titles)
    for f in dataclasses.fields(Config):
        if f.metadata:
            group = what if f.name in WHAT else how
            add_option(group, f.name, f.metadata["help"], DEFAULTS[f.name])
    declared = {model: network_options(model) for model in MODELS}
    for key in dict.fromkeys(key for options in declared.values() for key in options):
        owners = [model for model in MODELS if key in declared[model]]
        text = f"{HELP.get(key, key)}, of {' and '.join(owners)}"
        add_option(what, key, text, *dict.fromkeys(declared[model][key] for model in owners))
    for key, (default, text) in OPTIONS.items():
        add_option(where if key in WHERE else others, key, text, default)
    add = others.add_argument
    test_help = "only test a checkpoint: its loss, its accuracy with an interval, its mistakes"
    add("--evaluate", type=Path, metavar="CHECKPOINT", help=test_help)
    compare_help = "only compare finished runs: their curves in one picture, and a table"
    add("--compare", nargs="+", metavar="RUN", help=compare_help)

    given = vars(parser.parse_args(argv))
    for alone in given.keys() & {"evaluate", "compare"}:
        if unused := [key for key in given if key not in NOT_TRAINED | {alone}]:
            flag = unused[0].replace("_", "-")
            raise ConfigError(alone, f"trains nothing, so leave out --{flag}")
    options = {key: given.pop(key, default) for key, (default, _) in OPTIONS.items()}
    options |= {key: given.pop(key, None) for key in ("evaluate", "compare")}
    for key in ("runs", "threads"):
        check(key, options[key], 1)
    options["device"] = pick_device(options["device"])
    config = Config.from_dict(RECIPES[given.get("recipe", "baseline")] | given)
    check("seed", config.seed + options["runs"] - 1, 0)  # of the last run
    return config, argparse.Namespace(**options)


def add_option(group: argparse._ArgumentGroup, key: str, text: str, *defaults: Value) -> None:
    """Add an option, of its default's type, to a group; networks may have other defaults for it."""
    default, shown = defaults[0], " or ".join(map(str, defaults)) or "made of the options"
    how: dict[str, Any] = {"help": f"{text} (default: {shown})"}
    if isinstance(default, bool):
        action = argparse.BooleanOptionalAction if key not in OPTIONS else "store_true"
        how = {"help": text, "action": action}
    elif key in CHOICES:
        how["choices"] = CHOICES[key]
    elif isinstance(default, int):
        how |= {"type": program.whole, "metavar": "N"}
    elif isinstance(default, float):
        how |= {"type": program.real, "metavar": "X"}
    group.add_argument(f"--{key.replace('_', '-')}", **how)
