import pytest

from digits.core.formatting import percent, percent_spread, points


@pytest.mark.parametrize(("share", "text"), [(0.9, "90.00 %"), (0.98765, "98.77 %"), (1, "100.00 %"), (0, "0.00 %")])
def test_a_percentage_has_two_places_by_default(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.9, "90 %"), (0.995, "99.5 %"), (0.98765, "98.8 %"), (1, "100 %"), (0.1, "10 %")]
)
def test_final_zeros_can_be_trimmed(share: float, text: str) -> None:
    assert percent(share, 1, trim=True) == text


def test_trimming_keeps_the_zeros_of_a_whole_number() -> None:
    assert percent(1, 0, trim=True) == percent(1, 0) == "100 %"
    assert percent(0.1, 2, trim=True) == "10 %"


def test_a_mean_share_has_its_standard_deviation_in_the_same_unit() -> None:
    assert percent_spread(0.98765, 0.00123) == "98.77 ± 0.12 %"
    assert percent_spread(0.9, 0.02, 1) == "90.0 ± 2.0 %"
    assert percent_spread(0.9, 0.0) == "90.00 ± 0.00 %"


def test_a_share_without_a_standard_deviation_is_a_percentage() -> None:
    assert percent_spread(0.98765, None, 1) == "98.8 %"


@pytest.mark.parametrize(
    ("share", "text"), [(0.00123, "+0.12"), (-0.0005, "−0.05"), (0, "0.00"), (-0.00001, "0.00"), (0.1, "+10.00")]
)
def test_a_difference_in_points_has_a_sign(share: float, text: str) -> None:
    assert points(share) == text


def test_the_sign_of_a_positive_number_of_points_can_be_omitted() -> None:
    assert points(0.00123, 1, sign=False) == "0.1"
    assert points(-0.00223, 1, sign=False) == "−0.2"
