"""Learning-rate schedules, and torch's SGD without a second of imports.

torch wraps the methods of its optimisers for torch.compile, and the first call of a wrapper imports
the compiler. `inspect.unwrap` gives the methods themselves.
"""

from collections.abc import Callable
from inspect import unwrap

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

SCHEDULES = ("constant", "linear", "quadratic")


class SGD(torch.optim.SGD):
    """torch.optim.SGD without its torch.compile wrappers."""

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


def highest_rate(scheduler: LRScheduler, first: int, last: int) -> float:
    """The highest learning rate of the steps from `first` up to `last`, which begin now.

    It is known for schedules that are a function of the step. For others it is the first one.
    """
    if not isinstance(scheduler, LambdaLR):
        return float(max(scheduler.get_last_lr()))
    rates = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    return max(float(rate) * factor(step) for rate, factor in rates for step in range(first, last))
