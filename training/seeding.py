"""What is random in a run, and the seed that each of it is derived from.

Everything random in an epoch follows from the run's seed and the epoch's number, so a resumed run
needs no state of a generator to continue exactly.
"""

import numpy as np
import torch

from training import distributed


def derived_seed(*numbers: int) -> int:
    """One seed from several numbers, such that no other numbers are likely to give the same."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def seed_weights(seed: int) -> None:
    """Seed torch for the initial weights of a run."""
    torch.manual_seed(derived_seed(seed, 0))


def start_epoch(count: int, seed: int, epoch: int) -> torch.Tensor:
    """Seed torch for dropout and distortion in an epoch; gives the order of its images.

    The order is a permutation of `count` rows, the same on every rank; the rest of the randomness
    is each rank's own.
    """
    torch.manual_seed(derived_seed(seed, epoch, 1 + distributed.rank()))
    generator = torch.Generator().manual_seed(derived_seed(seed, epoch, 0))
    return torch.randperm(count, generator=generator)
