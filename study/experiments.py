"""The experiments behind the documents: what reproduce.py runs, and over how many seeds."""

import itertools
from typing import NamedTuple


class Experiment(NamedTuple):
    """Some seeds of one command."""

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
    "handwriting": Experiment("--recipe handwriting", 3),
    "generated": Experiment("--model lenet5", 5),  # trained on generated digits, tested on MNIST
}
PAIRS = [  # (experiment, against, what the difference is)
    ("regularized", "lenet5", "real dropout and weight decay, against the baseline"),
    ("fast", "lenet5", "one epoch of `fast`, against the baseline's five"),
    ("modern", "lenet5", "the better schedule, against the baseline"),
    ("best", "modern", "60 epochs on distorted images, against the better schedule alone"),
    ("lenet5", "mlp56", "LeNet-5, against the MLP with as many parameters"),
]


# The study of regularisation: a map of settings, each judged on held-out training images. Only the
# best setting of each length is then tested, beside the baseline of that length.


class Setting(NamedTuple):
    """One point of the map."""

    epochs: int
    dropout: float
    decay: float

    @property
    def command(self) -> str:
        return f"--epochs {self.epochs} --dropout {self.dropout} --weight-decay {self.decay}"

    @property
    def judged(self) -> str:  # the name of an experiment; `tested` is that of the other one
        return f"{self.tested}_val"

    @property
    def tested(self) -> str:
        return f"epochs{self.epochs}_dropout{self.dropout}_wd{self.decay}"

    @property
    def baseline(self) -> "Setting":
        return Setting(self.epochs, 0, 0)


LENGTHS, DROPOUTS, DECAYS = (5, 20), (0, 0.1, 0.25, 0.5), (0, 0.0001, 0.0005, 0.002)
SETTINGS = [Setting(*values) for values in itertools.product(LENGTHS, DROPOUTS, DECAYS)]
HELD_OUT = 10_000  # training images
JUDGED = {s.judged: Experiment(f"{s.command} --val-size {HELD_OUT}", 5) for s in SETTINGS}
TESTED = {s.tested: Experiment(s.command, 10) for s in SETTINGS}
ALL = EXPERIMENTS | JUDGED | TESTED
