"""Several processes when torchrun started them; one process, and nothing to do, otherwise.

torchrun describes the group in the environment (RANK, LOCAL_RANK, WORLD_SIZE), so no option is
needed. The ranks share each batch and each test set: rank r takes every world_size-th row from
row r on, and the results are added up.
"""

import contextlib
import datetime
import os
import re
from collections.abc import Callable, Generator
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from files import LostRank, UserError

T = TypeVar("T")

# The others wait at most this long for the rank that downloads MNIST. They notice at once when it
# has died.
DOWNLOAD = datetime.timedelta(minutes=15)
# At the end the others wait at most this long for rank 0, which draws.
DRAWING = datetime.timedelta(minutes=2)


def rank() -> int:
    """Number of this process; rank 0 prints, plots and saves."""
    return _number("RANK", 0)


def world_size() -> int:
    """Number of processes on all machines together."""
    return _number("WORLD_SIZE", 1)


def local_rank() -> int:
    """Number of this process on its machine; its GPU has the same number."""
    return _number("LOCAL_RANK", 0)


def local_world_size() -> int:
    """Number of processes on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def _number(name: str, default: int) -> int:
    """A number that torchrun sets in the environment; UserError if it is something else."""
    text = os.environ.get(name, str(default))
    if not re.fullmatch("[0-9]{1,9}", text):
        raise UserError(
            f"environment: {name} is {text!r}, which is no number; unset it, or start with torchrun"
        )
    return int(text)


def check_environment() -> None:
    """Raise UserError if the environment does not describe a process as torchrun does."""
    if rank() >= world_size():
        size = f"is {world_size()}" if "WORLD_SIZE" in os.environ else "is not set"
        raise UserError(
            f"environment: RANK is {rank()}, but WORLD_SIZE {size}; unset RANK, or start with "
            "torchrun"
        )
    needed = "RANK", "MASTER_ADDR", "MASTER_PORT"
    missing = [name for name in needed if name not in os.environ]
    if world_size() > 1 and missing:
        raise UserError(
            f"environment: WORLD_SIZE is {world_size()}, but {missing[0]} is not set; unset "
            "WORLD_SIZE, or start with torchrun"
        )


def require_one_process(what: str) -> None:
    """Raise UserError under torchrun; `what` is a script or an option that has no use for it."""
    check_environment()
    if world_size() > 1:
        error = UserError(f"{what}: it runs as one process; start it with python, not torchrun")
        error.same_on_every_rank = True
        raise error


def start(device: torch.device) -> None:
    """Join the group: NCCL between GPUs, gloo between CPUs. Errors: UserError."""
    check_environment()
    if world_size() > 1:
        if not dist.is_available():
            raise UserError(
                "torch: this build has no torch.distributed; start one process with python, or "
                "install another build of torch"
            )
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=DOWNLOAD)


def stop(succeeded: bool = False) -> None:
    """Leave the group; after a success, all ranks together.

    A rank that ended while another one is still there could abort, or let that one fail.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    if succeeded:
        with contextlib.suppress(RuntimeError):  # a rank is lost, after everything was saved
            if dist.get_backend() == "gloo":
                dist.monitored_barrier(timeout=DRAWING)
            else:
                dist.barrier()
    dist.destroy_process_group()


@contextlib.contextmanager
def noticing_lost_ranks() -> Generator[None]:
    """Raise LostRank where torch.distributed raises RuntimeError because a process is gone."""
    try:
        yield
    except RuntimeError as error:
        lost = dist.is_available() and isinstance(error, dist.DistError)
        if not (lost or "gloo" in str(error)):
            raise  # an error of this process
        why = "its own error, or torchrun's report, says why"
        raise LostRank(f"rank {rank()}: another process has ended or hangs; {why}") from error


@contextlib.contextmanager
def one_at_a_time_per_machine() -> Generator[None]:
    """Let the first process of each machine work (it fills the caches), then the others."""
    if local_rank() != 0:
        barrier()
    yield
    if local_rank() == 0:
        barrier()


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def shard() -> slice:
    """The rows of a batch that are this rank's; with more ranks than rows there may be none."""
    return slice(rank(), None, world_size())


def all_sum(numbers: list[float]) -> list[float]:
    """The sums of some numbers over the ranks."""
    if world_size() == 1:
        return numbers
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    sums = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


def broadcast(function: Callable[[], T]) -> T:
    """Call a function on rank 0 alone and give its value to every rank."""
    box: list = [function() if rank() == 0 else None]
    if world_size() > 1:
        dist.broadcast_object_list(box)
    return box[0]


def wrap(model: nn.Module) -> nn.Module:
    """The model whose backward averages gradients over the ranks."""
    return nn.parallel.DistributedDataParallel(model) if world_size() > 1 else model
