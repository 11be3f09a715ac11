import pytest

from digits.core.chance import is_chance

COUNTS = [1000] * 9 + [1010]


@pytest.mark.parametrize(
    ("accuracy", "counts", "chance"),
    [
        (1010 / 10_010, COUNTS, True),
        (0.1099, COUNTS, True),  # 0.1009 and three standard errors of 0.003
        (0.1100, COUNTS, False),
        (0.15, [10] * 10, True),  # fewer images, greater errors
        (1.0, [100], True),
    ],
)
def test_an_accuracy_is_compared_with_that_of_a_constant_answer(
    accuracy: float, counts: list[int], chance: bool
) -> None:
    assert is_chance(accuracy, counts) is chance
