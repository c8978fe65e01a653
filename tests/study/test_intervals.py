"""Intervals are those of the textbooks; a verdict tells a difference from noise."""

from study import intervals
from study.intervals import seeds_needed
from training.report import accuracy_interval

import numpy as np
import pytest
from scipy import stats


def test_interval_is_students():
    """Against the textbook: differences 1, 2, 3, 4 have mean 2.5 and 3.182 * 1.291 / 2."""
    mean, low, high = intervals.interval([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert high - mean == pytest.approx(3.182446 * 1.2909944 / 2, rel=1e-6)
    assert mean - low == pytest.approx(high - mean)


def test_equal_differences_have_an_interval_of_one_point():
    assert intervals.interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (0.02, "More than noise: better."),
        (-0.02, "More than noise: worse."),
        (0.0, "The interval holds 0: this may be nothing but noise."),
    ],
)
def test_verdict_tells_a_difference_from_noise(gain, words):
    def histories(shift, wobble):
        return {s: [{"test_accuracy": 0.9 + shift + wobble * (-1) ** s}] for s in range(6)}

    line = intervals.verdict(histories(gain, 0.001), histories(0.0, 0.002))
    assert line.startswith(f"{100 * gain:+.2f} points of test accuracy (95 % interval ")
    assert line.endswith(words) and "6 seeds, paired" in line


def test_verdict_pairs_the_common_seeds_alone():
    better = {seed: [{"test_accuracy": 0.9 + seed / 100}] for seed in range(5)}
    worse = {seed: [{"test_accuracy": 0.89 + seed / 100}] for seed in (4, 3, 17)}
    line = intervals.verdict(better, worse)
    assert "+1.00 points" in line and "2 seeds, paired" in line
    assert intervals.verdict(better, {0: better[0]}) == "not enough seeds are finished."


# ---- a checkpoint that is tested


@pytest.mark.parametrize(("right", "number"), [(9965, 10000), (0, 30), (30, 30), (1, 2)])
def test_an_accuracys_interval_is_wilsons(right, number):
    """Against the formula."""
    z, share = 1.959964, right / number
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number)
    half *= (share * (1 - share) / number + z**2 / (4 * number**2)) ** 0.5
    low, high = accuracy_interval(share, number)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-6)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_the_seeds_needed_are_those_of_cohens_tables(effect, seeds):
    """Effects of 0.2, 0.5 and 0.8 deviations: a paired t-test at 5 % with a power of 80 %."""
    assert seeds_needed(0.14, effect * 0.14) == seeds


def test_the_seeds_needed_have_the_power_that_was_asked_for():
    """Simulated comparisons: so many of them find the difference, with one seed less fewer."""
    random = np.random.default_rng(0)
    seeds = seeds_needed(0.2, 0.15)
    for number, enough in ((seeds, True), (seeds - 3, False)):
        samples = random.normal(0.15, 0.2, (20_000, number))
        seen = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
        assert (seen.mean() > 0.79) == enough
