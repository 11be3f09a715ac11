import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from digits.evaluation import statistics
from digits.evaluation.statistics import Component, Spread

RNG = np.random.default_rng(0)


def test_a_spread_has_the_sample_standard_deviation() -> None:
    assert statistics.spread([1, 2, 6]) == Spread(3, math.sqrt((4 + 1 + 9) / 2), [1, 2, 6])
    assert statistics.spread([0.5]) == Spread(0.5, None, [0.5])


def test_flips_are_the_variance_of_a_rate_over_seeds_that_disagree() -> None:
    # Two, one, all and none of four seeds misclassify the images; p(1 - p) / (n - 1) estimates the variance of a mean
    # of n coins without bias.
    rates = np.array([2, 1, 4, 0]) / 4
    assert statistics.flips(rates, 4) == pytest.approx((1 / 4 + 3 / 16) / 4 / 3)
    assert statistics.flips(np.array([0.0, 1.0]), 4) == statistics.flips(np.array([0.0, 1.0]), 1) == 0
    seeds, images = 5, 200_000
    chances = RNG.beta(0.3, 2, images)
    rates = RNG.binomial(seeds, chances) / seeds
    expected = (chances * (1 - chances)).mean() / seeds
    assert statistics.flips(rates, seeds) == pytest.approx(expected, rel=0.02)
    assert rates.var() - statistics.flips(rates, seeds) == pytest.approx(chances.var(), rel=0.02)


def test_the_variance_between_seeds_is_that_of_their_mean() -> None:
    found = statistics.variance_between_seeds([0.1, 0.2, 0.6], flips=0.001, images=10)
    assert found == pytest.approx((0.07 / 3, 2))
    assert statistics.variance_between_seeds([0.1], flips=0.0, images=10) is None
    # Of seeds with as many errors it is that of independent flips. The mean of three times 0.1 is not 0.1 as a float.
    assert statistics.variance_between_seeds([0.1] * 3, flips=0.02, images=10) == pytest.approx((0.002, 2))


def test_the_variance_of_independent_images_is_that_of_a_mean_times_the_design_effect() -> None:
    values = np.array([1.0, 2.0, 6.0, 3.0])  # mean 3, variance 14 / 3
    found = statistics.variance_between_images(values, 0.0, 2.0, None)
    assert found == pytest.approx((2 * 14 / 3 / 4, 3))
    without_flips = statistics.variance_between_images(values, 2 / 3, 2.0, None)
    assert without_flips == pytest.approx((2 * 4 / 4, 3))
    assert statistics.variance_between_images(values, 5.0, 2.0, None) == (0, 3)


def test_the_variance_of_images_by_writers_is_that_of_the_sums_over_each_writer() -> None:
    values = np.array([1.0, 2.0, 6.0, 3.0, 3.0])  # mean 3: deviations -2, -1, 3, 0, 0
    writers = np.array([7, 7, 2, 9, 2])  # sums over each: -3, 3, 0
    variance = 3 / 2 * (9 + 9 + 0) / 25
    assert statistics.variance_between_images(values, 0.0, 2.0, writers) == pytest.approx((variance, 2))
    found = statistics.variance_between_images(values, 0.5, 2.0, writers)
    assert found == pytest.approx((variance - 0.5 / 5, 2))
    assert statistics.variance_between_images(values, 100.0, 2.0, writers) == (0, 2)


def test_the_degrees_of_freedom_of_a_sum_are_those_of_satterthwaite() -> None:
    found = statistics.combine([Component(1, 4), Component(2, 10)])
    assert found == pytest.approx((3, 9 / (1 / 4 + 4 / 10)))
    assert statistics.combine([Component(2, 7)]) == pytest.approx((2, 7))
    # A part that is known exactly adds no uncertainty.
    assert statistics.combine([Component(1, 4), Component(1, math.inf)]) == pytest.approx((2, 16))
    assert statistics.combine([Component(1, math.inf)]) == (1, math.inf)
    assert statistics.combine([Component(0, 3), Component(0, 9)]) == (0, math.inf)
    assert statistics.combine([]) == (0, math.inf)


def test_the_p_value_and_the_interval_of_a_mean_are_those_of_a_t_test() -> None:
    values = RNG.normal(0.5, 1, 9)
    expected = ttest_1samp(values, 0)
    statistic = values.mean() / (values.std(ddof=1) / 3)
    assert statistics.p_value(statistic, 8) == pytest.approx(expected.pvalue)
    assert statistics.p_value(-statistic, 8) == pytest.approx(expected.pvalue)
    assert statistics.quantile(0.975, math.inf) == pytest.approx(1.959964)
    interval = expected.confidence_interval(0.95)
    assert statistics.mean_interval(values.tolist()) == pytest.approx((interval.low, interval.high))
    assert statistics.mean_interval([0.9]) is None


def test_the_prediction_interval_of_a_case_worked_by_hand() -> None:
    # Mean 3 and standard deviation sqrt(7); t = 4.302653 with two degrees of freedom.
    half = 4.302653 * math.sqrt(7 * (1 + 1 / 3))
    assert statistics.prediction_interval([1, 2, 6]) == pytest.approx((3 - half, 3 + half))
    assert statistics.prediction_interval([5, 5, 5]) == (5, 5)
    assert statistics.prediction_interval([0.9]) is None


def test_the_prediction_interval_of_a_proportion_has_the_binomial_variance_of_both() -> None:
    values = [0.88, 0.90, 0.92]
    seeds, images = 0.0004 * 4 / 3, 2 * 0.9 * 0.1 / 500
    degrees = (seeds + images) ** 2 / (seeds**2 / 2)
    half = statistics.quantile(0.975, degrees) * math.sqrt(seeds + images)
    assert statistics.prediction_interval(values, proportion_of=500) == pytest.approx((0.9 - half, 0.9 + half))


@given(st.integers(1, 10_000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_the_interval_of_a_binomial_proportion_is_that_of_scipy(counts: tuple[int, int]) -> None:
    right, images = counts
    share = right / images
    # With the binomial variance, known exactly, the interval is Wilson's.
    variance = Component(share * (1 - share) / images, math.inf)
    lower, upper = statistics.proportion_interval(share, variance, images, design_effect=1)
    assert 0 <= lower <= upper <= 1
    expected = binomtest(right, images).proportion_ci(method="wilson")
    assert (lower, upper) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_interval_of_a_proportion_in_a_case_worked_by_hand() -> None:
    # Four times the binomial variance of 100 images leaves 25: with z = 1.96,
    # (0.5 + z^2 / 50 ± z sqrt(0.25 / 25 + z^2 / 2500)) / (1 + z^2 / 25).
    found = statistics.proportion_interval(0.5, Component(0.01, math.inf), 100, design_effect=4)
    assert found == pytest.approx((0.31752, 0.68248), abs=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 10_000), st.floats(0, 1), st.floats(1, 1e6))
def test_the_interval_of_a_proportion_contains_it_and_stays_within_0_and_1(
    right: int, wrong: int, variance: float, degrees: float
) -> None:
    share, images = right / (right + wrong), right + wrong
    lower, upper = statistics.proportion_interval(share, Component(variance, degrees), images, design_effect=4)
    assert 0 <= lower <= share + 1e-12  # rounding
    assert share - 1e-12 <= upper <= 1


def test_without_errors_or_with_errors_alone_the_interval_is_that_of_fewer_images() -> None:
    expected = tuple(binomtest(0, 25).proportion_ci(method="wilson"))
    found = [statistics.proportion_interval(share, Component(0, math.inf), 100, 4) for share in (0.0, 1.0)]
    assert found[0] == pytest.approx(expected)
    assert found[1] == pytest.approx((1 - expected[1], 1))
    assert found[0][1] > 0.1


def test_fewer_degrees_of_freedom_widen_the_interval_of_a_proportion() -> None:
    widths = []
    for degrees in (2, 4, 30, math.inf):
        lower, upper = statistics.proportion_interval(0.9, Component(0.0001, degrees), 1000, 4)
        widths.append(upper - lower)
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 2 * widths[-1]


def test_the_adjustment_of_holm_in_a_case_worked_by_hand() -> None:
    assert statistics.holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert statistics.holm([0.6, 0.7]) == [1, 1]
    assert statistics.holm([]) == []
