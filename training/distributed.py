"""Several processes when torchrun started them; one process, and nothing to do, otherwise.

torchrun describes the group in the environment (RANK, LOCAL_RANK, WORLD_SIZE), so no option is
needed. The ranks share each batch equally: rank r takes every world_size-th row from row r on.
The mean of their means is then the mean over the batch.
"""

import contextlib
import datetime
import math
import os
from collections.abc import Callable, Generator
from typing import TypeVar

from files import ConfigError, UserError
from training.program import tell

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")
PATIENCE = datetime.timedelta(minutes=15)  # the others wait for the rank that downloads or draws


def number(name: str, default: int) -> int:
    """A number that torchrun sets in the environment."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UserError(f"environment: {name} is {text!r}, no number; unset it or use torchrun")
    return int(text)


def rank() -> int:
    """Number of this process; rank 0 prints, plots and saves."""
    return number("RANK", 0) if world_size() > 1 else 0


def world_size() -> int:
    """Number of processes on all machines together."""
    return number("WORLD_SIZE", 1)


def require_one_process(what: str) -> None:
    if world_size() > 1:
        raise UserError(f"{what}: it runs as one process; start it with python, not torchrun")


def pick_device(choice: str) -> torch.device:
    """The device to train on: "auto" is a GPU for each process if there are as many, else the CPU.

    It is never mps: networks this small are no faster there, and some versions of torch abort.
    """
    enough = torch.cuda.device_count() >= number("LOCAL_WORLD_SIZE", 1)
    why = "there is no cuda device for each process"
    if enough and choice != "cpu":
        device = torch.device(f"cuda:{number('LOCAL_RANK', 0)}")
        try:
            torch.ones(2, device=device).add_(1).tolist()
            return device
        except RuntimeError as error:  # torch's wheels have no kernels for old GPUs
            why = f"{device} cannot be used ({' '.join(str(error).split())[:100]})"
        if choice == "auto":
            tell(f"warning: {why}; training on the CPU")
    if choice == "cuda":
        raise ConfigError("device", f"{why}; take cpu")
    return torch.device("cpu")


@contextlib.contextmanager
def group(device: torch.device) -> Generator[None]:
    """Join the processes that torchrun started, and leave them together. Errors: UserError."""
    if world_size() == 1:
        yield
        return
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise UserError(f"environment: {name} is not set; unset WORLD_SIZE or use torchrun")
    if rank() >= world_size() or number("MASTER_PORT", 0) > 65_535:
        raise UserError("environment: RANK or MASTER_PORT is too large; use torchrun")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        yield
        dist.barrier()  # a rank that ended before the others are ready could abort them
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
            raise
        why = "its own error, or torchrun's report, says why"
        raise UserError(f"another process has ended or hangs; {why}") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextlib.contextmanager
def one_at_a_time_per_machine() -> Generator[None]:
    """Let the first process of each machine work (it fills the caches), then the others."""
    if world_size() > 1 and number("LOCAL_RANK", 0) > 0:
        dist.barrier()
    yield
    if world_size() > 1 and number("LOCAL_RANK", 0) == 0:
        dist.barrier()


def shares(images: int, batch_size: int) -> tuple[int, int, int]:
    """How many images of an epoch and of a batch every rank takes, and in how many steps.

    An epoch leaves out at most world_size - 1 images; and a last batch of one image, whose variance
    BatchNorm could not compute. ConfigError if the ranks cannot share a batch equally.
    """
    size, rest = divmod(batch_size, world_size())
    if rest:
        why = f"{world_size()} processes cannot share {batch_size} images equally; give a multiple"
        raise ConfigError("batch_size", why)
    share = images // world_size()
    share -= share % size == 1 and share > 1 and size > 1
    return share, size, math.ceil(share / size)


def shard(order: torch.Tensor) -> torch.Tensor:
    """The rows of an order that are this rank's."""
    return order[rank() :: world_size()]


def all_sum(numbers: list) -> list:
    """The sums of some numbers, also in nested lists, over the ranks."""
    if world_size() == 1:
        return numbers
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    sums = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


def from_rank_0(function: Callable[[], T]) -> T:
    """Call a function on rank 0 alone and give its value to every rank."""
    box: list = [function() if rank() == 0 else None]
    if world_size() > 1:
        dist.broadcast_object_list(box)
    return box[0]


def same_buffers(model: nn.Module) -> None:
    """Give every rank rank 0's buffers, such as BatchNorm's statistics, which are saved."""
    for buffer in model.buffers() if world_size() > 1 else ():
        dist.broadcast(buffer, 0)


def wrap(model: nn.Module) -> nn.Module:
    """The model whose backward averages gradients over the ranks."""
    return nn.parallel.DistributedDataParallel(model) if world_size() > 1 else model
