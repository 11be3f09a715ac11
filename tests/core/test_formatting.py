import pytest

from digits.core.formatting import percent


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
