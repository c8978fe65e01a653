"""Intervals are those of the textbooks; a verdict tells a difference from noise."""

from study import intervals
from study.intervals import seeds_needed
from training.report import accuracy_interval

import pytest


def test_interval_is_students_and_one_point_where_all_differences_are_equal():
    """Against the textbook: differences 1, 2, 3, 4 have mean 2.5 and 3.182 * 1.291 / 2."""
    mean, low, high = intervals.interval([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert [high - mean, mean - low] == pytest.approx([3.182446 * 1.2909944 / 2] * 2, rel=1e-6)
    assert intervals.interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (0.02, "More than noise: better."),
        (-0.02, "More than noise: worse."),
        (0.0, "The interval holds 0: this may be nothing but noise."),
    ],
)
def test_a_verdict_on_the_common_seeds_tells_a_difference_from_noise(gain, words):
    """The seeds come in any order; 6 and 17 are of one experiment each."""

    def histories(seeds, shift, wobble):
        accuracies = {seed: 0.5 + seed / 64 + shift + wobble * (-1) ** seed for seed in seeds}
        return {seed: [{"test_accuracy": accuracy}] for seed, accuracy in accuracies.items()}

    experiment = histories(range(7), gain, 2**-10)
    line = intervals.verdict(experiment, histories((5, 3, 17, 0, 1, 2, 4), 0.0, 2**-9))
    assert line.startswith(f"{100 * gain:+.2f} points of test accuracy (95 % interval ")
    assert line.endswith(words) and "6 seeds, paired" in line
    assert intervals.verdict(experiment, {0: experiment[0]}) == "not enough seeds are finished."


@pytest.mark.parametrize(("right", "number"), [(9965, 10000), (0, 30), (30, 30), (1, 2)])
def test_an_accuracys_interval_is_wilsons(right, number):
    """Against the formula."""
    z, share = 1.959964, right / number
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number)
    half *= (share * (1 - share) / number + z**2 / (4 * number**2)) ** 0.5
    low, high = accuracy_interval(share, number)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-6)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (2, 5)])
def test_the_seeds_needed_are_those_of_cohens_tables(effect, seeds):
    """Effects of 0.2 to 2 deviations: a paired t-test at 5 % with a power of 80 %."""
    assert seeds_needed(0.14, effect * 0.14) == seeds
