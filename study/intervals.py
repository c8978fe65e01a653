"""How sure a difference is: paired intervals, a verdict, and how many seeds it takes."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Mean of paired differences, and the ends of its 95 % interval (Student's t)."""
    from scipy import stats  # here, because it takes half a second to import

    mean, error = statistics.mean(differences), stats.sem(differences)
    if error == 0:
        return mean, mean, mean
    low, high = stats.t.interval(0.95, len(differences) - 1, loc=mean, scale=error)
    return mean, low, high


def verdict(
    one: Mapping[int, list[dict]], other: Mapping[int, list[dict]], tested_on: str = "test"
) -> str:
    """Whether one experiment differs from another by more than the noise between seeds.

    Both are {seed: history}; their common seeds are compared in pairs.
    """
    points = differences(one, other)
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


def differences(one: Mapping[int, list[dict]], other: Mapping[int, list[dict]]) -> list[float]:
    """By how many points of accuracy one experiment is above another, for each common seed."""
    return [
        100 * (one[seed][-1]["test_accuracy"] - other[seed][-1]["test_accuracy"])
        for seed in sorted(one.keys() & other.keys())
    ]


def seeds_needed(deviation: float, difference: float, power: float = 0.8) -> int:
    """How many seeds show a difference, in `power` of all paired comparisons, at the 5 % level.

    `deviation` is that of the paired differences between the seeds. The test is the two-sided
    paired t-test, whose power is that of the noncentral t distribution.
    """
    from scipy import stats  # here, because it takes half a second to import

    for seeds in itertools.count(2):
        freedom, shift = seeds - 1, difference / deviation * math.sqrt(seeds)
        limit = stats.t.ppf(0.975, freedom)
        seen = stats.nct.sf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift)
        if seen >= power:
            break
    return seeds
