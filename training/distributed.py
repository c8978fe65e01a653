"""Several processes when torchrun started them; one process, and nothing to do, otherwise.

torchrun describes the group in the environment (RANK, LOCAL_RANK, WORLD_SIZE), so no option is
needed. The ranks share each batch and each test set: rank r takes every world_size-th row from
row r on, and the results are added up.
"""

import datetime
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from files import LostRank

T = TypeVar("T")


def rank() -> int:
    """Number of this process; rank 0 prints, plots and saves."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """Number of processes on all machines together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_rank() -> int:
    """Number of this process on its machine; its GPU has the same number."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world_size() -> int:
    """Number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def start(device: torch.device) -> None:
    """Join the group: NCCL between GPUs, gloo between CPUs."""
    if world_size() > 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        # The others wait at most this long for the rank that downloads MNIST. They notice at once
        # when it has died.
        dist.init_process_group(backend, timeout=datetime.timedelta(minutes=15))


def stop() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def noticing_lost_ranks() -> Generator[None]:
    """Raise LostRank where torch.distributed raises RuntimeError because a process is gone."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise  # an error of this process
        why = "its own error, or torchrun's report, says why"
        raise LostRank(f"rank {rank()}: another process has ended or hangs; {why}") from error


@contextmanager
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
