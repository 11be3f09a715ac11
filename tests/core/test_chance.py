from digits.core.chance import is_chance


def test_an_accuracy_is_compared_with_that_of_a_constant_answer() -> None:
    counts = [1000] * 9 + [1010]
    assert is_chance(1010 / 10_010, counts)
    assert is_chance(0.1099, counts)  # 0.1009 and three standard errors of 0.003
    assert not is_chance(0.1100, counts)
    assert is_chance(0.15, [10] * 10)  # fewer images, greater errors
    assert is_chance(1.0, [100])
