"""Cases worked by hand, and small simulations of recipes whose accuracies on digits by new writers are known."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from digits.evaluation import comparison, statistics
from digits.evaluation.comparison import ImageChange, Mistake, Outcome, Result, Verdict

IMAGES = 1000
Writers = NDArray[np.int64]


def result(errors: list[int], seeds_wrong: Mapping[int, int] | range, images: int = IMAGES) -> Result:
    """Return a result; a range is of images that all seeds misclassify."""
    wrong = dict.fromkeys(seeds_wrong, len(errors)) if isinstance(seeds_wrong, range) else seeds_wrong
    return comparison.result(errors, wrong, images)


def compare(base: Result, head: Result, margin: float = 0.1, writers: Writers | None = None) -> Verdict:
    return comparison.compare({"a": (base, head)}, margin=margin, writers=writers)["a"]


# Two seeds that always agree, and two that make one error more and less than these.
GOOD = result([20, 20], range(20))
BAD = result([101, 99], dict.fromkeys(range(99), 2) | {99: 1, 100: 1})


def test_fewer_errors_are_better_and_more_are_worse() -> None:
    better, worse = compare(BAD, GOOD), compare(GOOD, BAD)
    assert (better.outcome, worse.outcome) == (Outcome.BETTER, Outcome.WORSE)
    assert (better.base, better.head) == (worse.head, worse.base)
    assert better.base.mean == pytest.approx(0.9)
    assert better.base.values == pytest.approx([0.899, 0.901])
    assert better.base.std == pytest.approx(0.001 * math.sqrt(2))
    assert (better.head.mean, better.head.std) == (0.98, 0)
    assert better.difference == pytest.approx(0.08)
    assert worse.difference == pytest.approx(-0.08)
    assert better.p_value == better.adjusted == worse.p_value < 0.001
    assert better.interval == pytest.approx([-end for end in reversed(worse.interval)])
    assert 0 < better.interval[0] < 0.08 < better.interval[1]


def test_a_verdict_names_the_images_whose_error_rate_changed_the_most_changed_first() -> None:
    verdict = compare(result([2, 2], {1: 2, 3: 1, 7: 1}), result([2, 1, 2, 2], {3: 2, 5: 1, 7: 4}), margin=0)
    assert verdict.changed == [ImageChange(1, 1.0, 0.0), ImageChange(7, 0.5, 1.0), ImageChange(5, 0.0, 0.25)]


def test_the_variance_of_a_difference_is_that_of_the_seeds_and_of_the_images() -> None:
    base, head = result([2, 4], {0: 2, 1: 2, 2: 1, 3: 1}, 10), result([1, 2], {0: 2, 4: 1}, 10)
    verdict = compare(base, head)
    # The error rates of the seeds are 0.2 and 0.4, and 0.1 and 0.2. The seeds disagree about two images of the base and
    # one of the head, whose rate of 0.5 has the variance 0.25.
    seeds = [0.02 / 2, 0.005 / 2]
    flips = (0.25 * 2 + 0.25) / 10
    differences = np.array([0, -1, -0.5, -0.5, 0.5, 0, 0, 0, 0, 0])
    images = comparison.DIFFERENCE_DESIGN_EFFECT * (differences.var(ddof=1) - flips) / 10
    variance = sum(seeds) + images
    degrees = variance**2 / (seeds[0] ** 2 + seeds[1] ** 2 + images**2 / 9)
    half = statistics.quantile(0.975, degrees) * math.sqrt(variance)
    assert verdict.difference == pytest.approx(0.15)
    assert verdict.interval == pytest.approx((0.15 - half, 0.15 + half))
    assert verdict.p_value == pytest.approx(statistics.p_value(0.15 / math.sqrt(variance), degrees))
    power = statistics.quantile(0.975, degrees) + statistics.quantile(0.8, degrees)
    assert verdict.detectable == pytest.approx(power * math.sqrt(variance))
    assert not verdict.images_only


def test_images_by_the_same_writer_count_as_one() -> None:
    # Ten people wrote 100 images each. All differences are in those of one person.
    base, head = result([60, 60], range(60)), result([30, 30], range(30))
    writers = np.repeat(np.arange(10), 100)
    assert compare(base, head).outcome is Outcome.BETTER
    assert compare(base, head, writers=writers).outcome is Outcome.NO_EVIDENCE
    spread_out = result([60, 60], range(0, 960, 16)), result([30, 30], range(0, 960, 32))
    assert compare(*spread_out, writers=writers).outcome is Outcome.BETTER


def test_the_same_results_are_the_same_and_need_no_test() -> None:
    verdict = compare(BAD, BAD)
    assert verdict.outcome is Outcome.SAME
    assert (verdict.difference, verdict.interval, verdict.detectable) == (0, (0, 0), 0)
    assert (verdict.p_value, verdict.adjusted, verdict.changed) == (1, 1, [])
    assert str(verdict) == "same results"


def test_results_with_the_same_accuracy_but_other_errors_are_not_the_same() -> None:
    verdict = compare(result([1, 1], {3: 2}), result([1, 1], {4: 2}))
    assert verdict.outcome is not Outcome.SAME
    assert (verdict.difference, verdict.p_value) == (0, 1)
    assert compare(result([1, 2], {3: 2, 4: 1}), result([2, 1], {3: 2, 4: 1})).outcome is not Outcome.SAME


def test_sides_whose_interval_is_within_the_margin_are_equal() -> None:
    base = result([40, 40], range(40), 100_000)
    head = result([40, 42], dict.fromkeys(range(40), 2) | {41: 1, 42: 1}, 100_000)
    verdict = compare(base, head, margin=0.1)
    assert max(map(abs, verdict.interval)) < 0.001
    assert verdict.outcome is Outcome.EQUAL
    assert str(verdict) == "equal within 0.1 points"
    assert str(compare(base, head, margin=5)) == "equal within 5 points"
    assert compare(base, head, margin=0).outcome is Outcome.NO_EVIDENCE
    certain = compare(BAD, GOOD, margin=20)
    assert certain.p_value < 0.001
    assert certain.outcome is Outcome.EQUAL


def test_a_difference_that_chance_explains_is_no_evidence() -> None:
    verdict = compare(result([20, 22], {1: 2} | dict.fromkeys(range(2, 42), 1)), GOOD)
    assert verdict.outcome is Outcome.NO_EVIDENCE
    assert str(verdict) == "no evidence of a difference"
    assert verdict.interval[0] < 0 < verdict.interval[1]
    assert verdict.p_value > 0.05


def test_the_same_errors_are_less_evidence_if_the_seeds_vary() -> None:
    steady = result([50, 50, 50], range(50))
    wrong = np.repeat([3, 2, 1], [10, 30, 60])
    varying = result([10, 40, 100], dict(enumerate(wrong.tolist())))
    head = result([20, 20, 20], range(20))
    assert compare(steady, head).outcome is Outcome.BETTER
    verdict = compare(varying, head)
    assert verdict.difference == pytest.approx(0.03)
    assert verdict.outcome is Outcome.NO_EVIDENCE


@pytest.mark.parametrize("one_seed", ["base", "head", "both"])
def test_with_one_seed_the_images_alone_are_accounted_for(one_seed: str) -> None:
    base = BAD if one_seed == "head" else result([100], range(100))
    head = GOOD if one_seed == "base" else result([20], range(20))
    verdict = compare(base, head)
    assert verdict.images_only
    assert verdict.outcome is Outcome.BETTER
    assert str(verdict) == "better (one seed: by the images alone)"
    assert str(compare(base, base)) == "same results"
    differences = head.rates - base.rates
    error = math.sqrt(comparison.DIFFERENCE_DESIGN_EFFECT * differences.var(ddof=1) / IMAGES)
    half = statistics.quantile(0.975, IMAGES - 1) * error
    assert verdict.interval == pytest.approx((0.08 - half, 0.08 + half))


def test_p_values_are_adjusted_for_the_variants_whose_results_differ() -> None:
    pair = result([14, 14], range(14)), result([2, 2], range(2))
    same = GOOD, GOOD
    alone = comparison.compare({"a": pair})["a"]
    assert 0.0125 < alone.p_value == alone.adjusted < 0.05
    assert alone.outcome is Outcome.BETTER
    beside_same = comparison.compare({"b": same, "a": pair, "c": same})
    assert beside_same["a"] == alone
    assert [beside_same[name].outcome for name in "bc"] == [Outcome.SAME] * 2

    other = result([3, 3], range(3)), result([2, 3], {0: 2, 1: 2, 500: 1})
    among = comparison.compare(dict.fromkeys("bcd", other) | {"a": pair})["a"]
    assert among.p_value == alone.p_value
    assert among.adjusted == pytest.approx(4 * alone.p_value)
    assert among.outcome is Outcome.NO_EVIDENCE
    assert among.interval == alone.interval
    assert among.detectable > alone.detectable  # each must pass a stricter level


def test_a_difference_without_any_variance_is_no_evidence() -> None:
    verdict = compare(result([0, 0], {}, 10), result([10, 10], range(10), 10))
    assert (verdict.difference, verdict.p_value) == (-1, 1)
    assert verdict.outcome is Outcome.NO_EVIDENCE


@pytest.mark.parametrize(
    ("errors", "seeds_wrong", "message"),
    [
        ([1], {10: 1}, "image 10 of 10 is misclassified by 1 of 1 seeds"),
        ([1], {-1: 1}, "image -1 of 10 is misclassified by 1 of 1 seeds"),
        ([2, 1], {0: 3}, "image 0 of 10 is misclassified by 3 of 2 seeds"),
        ([0], {0: 0}, "image 0 of 10 is misclassified by 0 of 1 seeds"),
        ([2, 1], {0: 2}, "the seeds make 3 errors, but the images have 2"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(
    errors: list[int], seeds_wrong: dict[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        comparison.result(errors, seeds_wrong, 10)


def test_a_result_has_a_rate_for_each_image() -> None:
    found = comparison.result([1, 2], {4: 2, 1: 1}, 5)
    assert found.wrong.tolist() == [0, 1, 0, 0, 2]
    assert found.rates.tolist() == [0, 0.5, 0, 0, 1]
    assert found.accuracy.values == pytest.approx([0.8, 0.6])


def test_mistakes_are_read_by_the_names_of_their_columns_and_the_index_of_the_image() -> None:
    columns = "label,index,seeds_wrong,answer,probability_answer,probability_label,disputed\n"
    assert comparison.read_mistakes(f"{columns}5,8,3,6,0.948824,0.00239735,1\n") == {
        8: Mistake(8, 5, 3, 6, 0.948824, 0.00239735)
    }
    assert comparison.read_mistakes(columns) == {}


def test_the_interval_of_one_seed_is_that_of_images_with_the_design_effect() -> None:
    variance = comparison.ACCURACY_DESIGN_EFFECT * 0.9 * 0.1 / 999
    expected = statistics.proportion_interval(
        0.9, statistics.Component(variance, 999), IMAGES, comparison.ACCURACY_DESIGN_EFFECT
    )
    assert comparison.accuracy_interval(result([100], range(100))) == pytest.approx(expected)


def width(side: Result, writers: Writers | None = None) -> float:
    lower, upper = comparison.accuracy_interval(side, writers)
    return upper - lower


def test_fewer_seeds_widen_the_interval_of_an_accuracy() -> None:
    # Each has the same error rates of images, and seeds of which one half makes 80 errors and the other 120.
    widths = []
    for half in (1, 2, 5):
        wrong = dict.fromkeys(range(80), 2 * half) | dict.fromkeys(range(80, 120), half)
        widths.append(width(result([80] * half + [120] * half, wrong)))
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1.5 * widths[-1]


def test_errors_with_the_images_of_few_writers_widen_the_interval_of_an_accuracy() -> None:
    side = result([100, 100], range(100))
    together, apart = np.repeat(np.arange(20), 50), np.tile(np.arange(20), 50)
    assert width(side, together) > 1.5 * width(side) > 1.5 * width(side, apart)


# Simulations. Each image, writer and seed is more or less difficult at random, for each recipe anew.

WRITERS = np.repeat(np.arange(100), 20)
TRIALS = 400


def simulate(error_rate: float, rng: np.random.Generator) -> Result:
    """Return a result of a recipe whose error rate on all digits by all people is given."""

    def factor(shape: float, count: int) -> NDArray[np.float64]:
        return rng.gamma(shape, 1 / shape, count)

    chances = error_rate * factor(2, WRITERS.max() + 1)[WRITERS] * factor(0.5, len(WRITERS))
    wrong = rng.random((5, len(WRITERS))) < chances * factor(400, 5)[:, np.newaxis]
    return Result(wrong.sum(axis=1).tolist(), wrong.sum(axis=0))


def verdicts(base: float, head: float, seed: int) -> list[Verdict]:
    rng = np.random.default_rng(seed)
    return [compare(simulate(base, rng), simulate(head, rng), 0, WRITERS) for _ in range(TRIALS)]


def test_the_interval_has_the_true_difference_in_95_of_100_comparisons() -> None:
    intervals = [verdict.interval for verdict in verdicts(0.05, 0.04, seed=0)]
    assert np.mean([low <= 0.01 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.025)


def test_equal_recipes_are_told_apart_in_5_of_100_comparisons() -> None:
    outcomes = [verdict.outcome for verdict in verdicts(0.05, 0.05, seed=1)]
    assert set(outcomes) == {Outcome.BETTER, Outcome.WORSE, Outcome.NO_EVIDENCE}
    assert np.mean([outcome is not Outcome.NO_EVIDENCE for outcome in outcomes]) == pytest.approx(0.05, abs=0.025)


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    difference = 0.0156
    found = verdicts(0.05, 0.05 - difference, seed=2)
    assert np.mean([verdict.detectable for verdict in found]) == pytest.approx(difference, rel=0.05)
    assert np.mean([verdict.outcome is Outcome.BETTER for verdict in found]) == pytest.approx(0.8, abs=0.05)


def test_the_interval_of_an_accuracy_has_the_true_one_in_at_least_95_of_100_tests() -> None:
    rng = np.random.default_rng(3)
    for writers in (WRITERS, None):
        intervals = [comparison.accuracy_interval(simulate(0.05, rng), writers) for _ in range(TRIALS)]
        assert np.mean([low <= 0.95 <= high for low, high in intervals]) > 0.93


def test_other_images_count_with_the_variance_of_both_sides() -> None:
    random = np.random.default_rng(0)
    rates = [random.random(count) < share for count, share in [(2000, 0.1), (500, 0.1), (500, 0.4)]]
    base, like_it, worse = (Result([int(wrong.sum())] * 3, 3 * wrong) for wrong in rates)
    verdicts = comparison.compare({"b": (base, like_it), "c": (base, worse)}, same_images=False)
    assert [verdict.outcome for verdict in verdicts.values()] == [Outcome.NO_EVIDENCE, Outcome.WORSE]
    assert all(verdict.changed == [] for verdict in verdicts.values())
    low, high = verdicts["c"].interval
    parts = [4.0 * wrong.var(ddof=1) / len(wrong) for wrong in rates[::2]]
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(sum(parts)), rel=0.01)
    # As many errors on other images are not the same results.
    verdict = comparison.compare({"b": (base, base)}, same_images=False)["b"]
    assert verdict.outcome is Outcome.NO_EVIDENCE
    assert verdict.interval[0] < 0 < verdict.interval[1]
