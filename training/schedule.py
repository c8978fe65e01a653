"""Seeds, learning rates and SGD.

Everything random in an epoch follows from the run's seed and the epoch's number, so a resumed run
needs no state of a generator to continue exactly.
"""

from collections.abc import Callable
from inspect import unwrap

from training import distributed

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

SCHEDULES = ("constant", "linear", "quadratic")


def derived_seed(*numbers: int) -> int:
    """One seed from several numbers, such that no other numbers are likely to give the same."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def shuffled(count: int, seed: int, epoch: int) -> torch.Tensor:
    """The order of an epoch's images; seeds torch for its dropout and distortion.

    The order is a permutation of `count` rows, the same on every rank; the rest of the randomness
    is each rank's own.
    """
    torch.manual_seed(derived_seed(seed, epoch, 1 + distributed.rank()))
    generator = torch.Generator().manual_seed(derived_seed(seed, epoch, 0))
    return torch.randperm(count, generator=generator)


class SGD(torch.optim.SGD):
    """torch.optim.SGD without its torch.compile wrappers, whose import takes a second."""

    add_param_group = unwrap(torch.optim.SGD.add_param_group)
    zero_grad = unwrap(torch.optim.SGD.zero_grad)
    step = torch.no_grad()(unwrap(torch.optim.SGD.step))
    state_dict = unwrap(torch.optim.SGD.state_dict)
    load_state_dict = unwrap(torch.optim.SGD.load_state_dict)


def learning_rate(schedule: str, steps: int) -> Callable[[int], float]:
    """The factor of the learning rate at each step of a run of `steps` steps.

    "constant" is 1. The others rise to 1 over the first 20 % and fall to 0: along a straight line
    ("linear") or a parabola ("quadratic").
    """
    if schedule == "constant":
        return lambda step: 1.0
    peak, power = 0.2 * steps, {"linear": 1, "quadratic": 2}[schedule]
    return lambda step: min(1.0, (step + 1) / peak, ((steps - step) / (steps - peak)) ** power)


def highest_rate(scheduler: LRScheduler, steps: int) -> float:
    """The highest learning rate of the next `steps` steps; of other schedulers, the next one."""
    if type(scheduler) is not LambdaLR:
        return float(max(scheduler.get_last_lr()))
    step = scheduler.last_epoch
    rates = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    return max(float(lr) * factor(step + k) for lr, factor in rates for k in range(steps))


def method(schedule: str, optimizer: torch.optim.Optimizer, scheduler: LRScheduler) -> dict:
    """How the weights are changed, for config.json and titles, in the optimizer's own numbers."""
    facts: dict = dict.fromkeys(("momentum", "nesterov", "weight_decay"))
    if isinstance(optimizer, torch.optim.SGD):
        facts = {key: optimizer.defaults[key] for key in facts}
    if type(scheduler) is not LambdaLR:
        schedule = type(scheduler).__name__
    lr = optimizer.defaults.get("lr")
    return facts | {"optimizer": type(optimizer).__name__, "lr": lr, "schedule": schedule}
