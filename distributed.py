"""Several processes when torchrun started them; one process, and nothing to do, otherwise.

torchrun describes the group in the environment (RANK, LOCAL_RANK, WORLD_SIZE), so there is no
option for any of this. The ranks share each batch and each test set: rank r takes every
world_size-th row from r on, and what they counted is added up.
"""

import datetime
import os
from contextlib import contextmanager

import torch
import torch.distributed as dist


def rank():
    """Number of this process; rank 0 prints, plots and saves."""
    return int(os.environ.get("RANK", 0))


def world_size():
    """How many processes there are on all machines together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_rank():
    """Number of this process on its machine, and of the GPU that is its own."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world_size():
    """How many processes there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def start(device):
    """Join the group: NCCL between GPUs, gloo between CPUs."""
    if world_size() > 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        # Others wait this long at most for one that downloads MNIST; a dead one is noticed at once.
        dist.init_process_group(backend, timeout=datetime.timedelta(minutes=15))


def stop():
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


class LostRank(Exception):
    """Another process of the group has ended, or hangs; the message is one line."""


@contextmanager
def noticing_lost_ranks():
    """torch.distributed says that another process is gone by a RuntimeError: LostRank instead."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise  # an error of this process
        why = "its own error, or torchrun's report, says why"
        raise LostRank(f"rank {rank()}: another process has ended or hangs; {why}") from error


@contextmanager
def one_at_a_time_per_machine():
    """The first process of each machine goes ahead (and fills the caches), the others follow."""
    if local_rank() != 0:
        barrier()
    yield
    if local_rank() == 0:
        barrier()


def barrier():
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def share(rows):
    """This rank's part of a batch; with more ranks than rows it may be empty."""
    return rows[rank() :: world_size()] if world_size() > 1 else rows


def total(numbers):
    """The sums of some numbers over the ranks."""
    if world_size() == 1:
        return numbers
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    sums = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


def from_rank_0(function):
    """What a function gives on rank 0, on every rank: files of a run may be there alone."""
    box = [function() if rank() == 0 else None]
    if world_size() > 1:
        dist.broadcast_object_list(box)
    return box[0]


def wrap(model):
    """The model whose backward averages gradients over the ranks."""
    return torch.nn.parallel.DistributedDataParallel(model) if world_size() > 1 else model
