"""How sure a difference is: paired intervals, a verdict, and how many seeds it takes.

Two experiments are {seed: history} each; their common seeds are compared in pairs.
"""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

History = list[dict]  # a row for each epoch


def differences(experiment: Mapping[int, History], reference: Mapping[int, History]) -> list[float]:
    """By how many points of accuracy an experiment is above another, for each common seed."""
    return [
        100 * (experiment[seed][-1]["test_accuracy"] - reference[seed][-1]["test_accuracy"])
        for seed in sorted(experiment.keys() & reference.keys())
    ]


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Mean of paired differences, and the ends of its 95 % interval (Student's t)."""
    from scipy import stats  # here, because it takes half a second to import

    mean = statistics.mean(differences)
    half = float(stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences))
    return mean, mean - half, mean + half


def verdict(
    experiment: Mapping[int, History], reference: Mapping[int, History], tested_on: str = "test"
) -> str:
    """Whether an experiment differs from another by more than the noise between seeds."""
    points = differences(experiment, reference)
    if len(points) < 2:
        return "not enough seeds are finished."
    mean, low, high = interval(points)
    difference = (
        f"{mean:+.2f} points of {tested_on} accuracy (95 % interval {low:+.2f} to {high:+.2f}; "
        f"{len(points)} seeds, paired)"
    )
    if low <= 0 <= high:
        return f"{difference}. The interval holds 0: this may be nothing but noise."
    return f"{difference}. More than noise: {'better' if mean > 0 else 'worse'}."


def seeds_needed(deviation: float, difference: float) -> int:
    """How many seeds show a difference, in 80 % of all paired comparisons, at the 5 % level.

    `deviation` is that of the paired differences between the seeds. The test is the two-sided
    paired t-test, whose power is that of the noncentral t distribution.
    """
    from scipy import stats  # here, because it takes half a second to import

    def power(seeds: int) -> float:
        freedom, shift = seeds - 1, difference / deviation * math.sqrt(seeds)
        limit = stats.t.ppf(0.975, freedom)
        return stats.nct.sf(limit, freedom, shift)  # on the other side: one in a million

    return next(seeds for seeds in itertools.count(2) if power(seeds) >= 0.8)
