import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from digits.evaluation import statistics


@given(st.integers(1, 10_000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_the_interval_of_an_accuracy_is_that_of_statsmodels(counts: tuple[int, int]) -> None:
    lower, upper = statistics.accuracy_interval(*counts)
    assert 0 <= lower <= counts[0] / counts[1] <= upper <= 1
    assert (lower, upper) == pytest.approx(proportion_confint(*counts, method="wilson"), abs=1e-12)


def test_the_interval_of_a_case_worked_by_hand() -> None:
    # z = 1.96: (0.5 + z^2 / 200 ± z sqrt(0.25 / 100 + z^2 / 40000)) / (1 + z^2 / 100)
    assert statistics.accuracy_interval(50, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)


@settings(max_examples=10)  # statsmodels takes 40 ms for each
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_adjustment_of_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    assert statistics.holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_the_adjustment_of_holm_in_a_case_worked_by_hand() -> None:
    assert statistics.holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert statistics.holm([]) == []


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_p_value_of_mcnemar_is_that_of_statsmodels(newly_wrong: int, newly_right: int) -> None:
    expected = mcnemar(np.array([[5, newly_wrong], [newly_right, 5]]), exact=True).pvalue
    assert statistics.mcnemar(newly_wrong, newly_right) == pytest.approx(min(1.0, expected))


def test_the_p_value_of_mcnemar_in_a_case_worked_by_hand() -> None:
    # At most one of six discordant images, on either side: 2 * (1 + 6) / 2^6.
    assert statistics.mcnemar(1, 5) == pytest.approx(2 * 7 / 64)
    assert statistics.mcnemar(0, 0) == 1
