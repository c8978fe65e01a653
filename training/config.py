"""What a run is: its configuration, the recipes, and the name and title of a run.

A `Config` holds everything that decides a run's numbers. It never changes: `dataclasses.replace`
makes another one, which is checked again. The command line, config.json, the checkpoint, the run's
name and the titles of its pictures are all derived from it.
"""

import argparse
import dataclasses
import inspect
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from digits.augment import AUGMENTATIONS
from files import UserError
from handwriting.mix import MIXES
from model import MODELS
from training.schedule import SCHEDULES

Value = str | int | float | bool

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
RECIPES["handwriting"] = RECIPES["best"] | {"mix": "handwriting"}


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
        "how the learning rate changes; the others rise for 20 %% of the steps and fall to 0",
        SCHEDULES,
    )
    momentum: float = option(0.9, "momentum of SGD", Number(float, 0, 1))
    nesterov: bool = option(False, "Nesterov's momentum", bool)
    network: Mapping[str, Value] = field(default_factory=dict)  # options of its constructor
    weight_decay: float = option(0.0, "½·λ·‖w‖² in the optimiser", Number(float, 0), "λ")
    label_smoothing: float = option(
        0.0, "share of each target that is spread over all ten digits", Number(float, 0, 1), "ε"
    )
    augment: str = option("none", "distort the training images anew in each epoch", AUGMENTATIONS)
    mix: str = option("none", "what is mixed into the training images", MIXES)
    val_size: int = option(
        0, "hold out the last N training images and test on them", Number(int, 0), "N"
    )
    seed: int = option(0, "seed of all random numbers", Number(int, 0, 2**32), "N")
    data: str = "mnist"  # or "generated", or the name of a folder with other data
    digests: tuple[str, ...] = ()  # of the images and labels; see digits/idx.py
    name: str = field(default="", compare=False)  # a label; runs/<name>/ is the run's folder

    def __post_init__(self) -> None:
        for key, takes in option_fields().items():
            check(key, getattr(self, key), takes)
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov", "needs a --momentum above 0")
        if self.name:
            check_name(self.name)
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


RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in "123456789"),
}
MAX_NAME_BYTES = 180  # leaves room for what the names of pictures and temporary files add


def check_name(name: object) -> None:
    """Raise ConfigError unless a name is one folder on every system."""
    if not isinstance(name, str) or not re.fullmatch(r"\w([\w.+=-]*[\w+=-])?", name):
        why = "must begin with a letter or digit and have only letters, digits and _.+=-"
    elif name.partition(".")[0].lower() in RESERVED:
        why = "is a name that Windows keeps for itself"
    elif len(name.encode()) > MAX_NAME_BYTES:
        why = f"is longer than {MAX_NAME_BYTES} bytes"
    else:
        return
    raise ConfigError("name", f"{name!r} {why}")


def option_fields() -> dict[str, Takes]:
    """{name of a field that is an option: what it takes}."""
    return {f.name: f.metadata["takes"] for f in dataclasses.fields(Config) if f.metadata}


def network_options(model: str) -> dict[str, Value]:
    """{option: default} that the constructor of a network declares."""
    parameters = inspect.signature(MODELS[model]).parameters
    for name, parameter in parameters.items():
        named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if named and parameter.default is parameter.empty:
            raise ConfigError(name, f"{model} has no default for it; give it one in model.py")
    declared = {
        name: parameter.default
        for name, parameter in parameters.items()
        if isinstance(parameter.default, Value)
    }
    for name in declared.keys() & {one.name for one in dataclasses.fields(Config)}:
        why = f"is already an option of the training; call that of {model} otherwise, in model.py"
        raise ConfigError(name, why)
    return declared


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
            parts.append(f"{key}-{value}" if key == "mix" else value)  # a recipe has that name, too
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
        f"with {config.mix} and non-digits mixed in" * (config.mix != "none"),
        f"seeds {config.seed} to {last_seed}" if seeds > 1 else f"seed {config.seed}",
    ]
    return f"{network} on {data}", ", ".join(text for text in options if text)
