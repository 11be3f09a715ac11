import pytest

from digits.evaluation import comparison
from digits.evaluation.comparison import Mistake, Outcome


def mistakes(*indices: int) -> dict[int, Mistake]:
    return {index: Mistake(index, 1, 7, 0.6, 0.3) for index in indices}


def test_a_verdict_names_the_images_and_the_direction() -> None:
    base, head = mistakes(*range(100)), mistakes(*range(90, 110))
    verdict = comparison.compare({"a": (base, head)}, images=1000)["a"]
    assert verdict.newly_right == list(range(90))
    assert verdict.newly_wrong == list(range(100, 110))
    assert verdict.base.accuracy == pytest.approx(0.9)
    assert verdict.head.accuracy == pytest.approx(0.98)
    assert verdict.outcome is Outcome.BETTER
    assert comparison.compare({"a": (head, base)}, images=1000)["a"].outcome is Outcome.WORSE


def test_the_same_mistakes_are_no_evidence() -> None:
    verdict = comparison.compare({"a": (mistakes(1, 2), mistakes(1, 2))}, images=10)["a"]
    assert (verdict.p_value, verdict.outcome) == (1, Outcome.NO_EVIDENCE)
    assert verdict.newly_wrong == verdict.newly_right == []


def test_a_difference_significant_for_one_variant_alone_may_not_be_so_among_several() -> None:
    pair = (mistakes(*range(6)), mistakes())
    same = (mistakes(), mistakes())
    alone = comparison.compare({"a": pair}, images=100)["a"]
    assert alone.p_value == alone.adjusted == pytest.approx(2 / 64)
    assert alone.outcome is Outcome.BETTER
    among = comparison.compare({"a": pair, "b": same}, images=100)["a"]
    assert among.adjusted == pytest.approx(4 / 64)
    assert among.outcome is Outcome.NO_EVIDENCE


def test_mistakes_are_read_by_the_index_of_the_image() -> None:
    text = "index,label,predicted,probability_predicted,probability_label\n8,5,6,0.948824,0.00239735\n"
    assert comparison.read_mistakes(text) == {8: Mistake(8, 5, 6, 0.948824, 0.00239735)}
