import pytest

from digits.core.formatting import percent, percent_spread, points


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.98765), "98.77 %"),
        (percent(1, 0), "100 %"),
        (percent(0.98765, 1, trim=True), "98.8 %"),
        (percent(0.1, trim=True), "10 %"),
        (percent(1, 0, trim=True), "100 %"),  # not the zeros of a whole number
        (percent_spread(0.98765, 0.00123), "98.77 ± 0.12 %"),
        (percent_spread(0.9, 0.02, 1), "90.0 ± 2.0 %"),
        (percent_spread(0.98765, None, 1), "98.8 %"),
        (points(0.00123), "+0.12"),
        (points(-0.0005), "−0.05"),
        (points(-0.00001), "0.00"),
        (points(0.00123, 1, sign=False), "0.1"),
        (points(-0.00223, 1, sign=False), "−0.2"),
    ],
)
def test_shares_are_written_as_percentages_and_their_differences_as_points(text: str, expected: str) -> None:
    assert text == expected
