import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats import contingency_tables

from digits import verdicts
from digits.verdicts import Mistake, Word


def mistakes(*indices: int) -> dict[int, Mistake]:
    return {index: Mistake(index, 1, 7, 0.6, 0.3) for index in indices}


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_that_of_statsmodels(newly_wrong: int, newly_right: int) -> None:
    expected = contingency_tables.mcnemar(np.array([[5, newly_wrong], [newly_right, 5]]), exact=True).pvalue
    assert verdicts.mcnemar(newly_wrong, newly_right) == pytest.approx(min(1.0, expected))


def test_mcnemar_by_hand() -> None:
    # One of six discordant images: 2 * (1 + 6) / 2^6.
    assert verdicts.mcnemar(1, 5) == pytest.approx(2 * 7 / 64)
    assert verdicts.mcnemar(0, 0) == 1


def test_a_verdict_names_the_images_and_the_direction() -> None:
    base, head = mistakes(*range(100)), mistakes(*range(90, 110))
    verdict = verdicts.judge({"a": (base, head)}, images=1000)["a"]
    assert verdict.newly_right == list(range(90))
    assert verdict.newly_wrong == list(range(100, 110))
    assert verdict.base.accuracy == pytest.approx(0.9)
    assert verdict.head.accuracy == pytest.approx(0.98)
    assert verdict.word is Word.BETTER
    assert verdicts.judge({"a": (head, base)}, images=1000)["a"].word is Word.WORSE


def test_the_same_mistakes_are_no_evidence() -> None:
    verdict = verdicts.judge({"a": (mistakes(1, 2), mistakes(1, 2))}, images=10)["a"]
    assert (verdict.p_value, verdict.word) == (1, Word.NO_EVIDENCE)
    assert verdict.newly_wrong == verdict.newly_right == []


def test_what_one_variant_alone_would_show_may_be_luck_among_many() -> None:
    pair = (mistakes(*range(6)), mistakes())
    same = (mistakes(), mistakes())
    alone = verdicts.judge({"a": pair}, images=100)["a"]
    assert alone.p_value == alone.adjusted == pytest.approx(2 / 64)
    assert alone.word is Word.BETTER
    among = verdicts.judge({"a": pair, "b": same}, images=100)["a"]
    assert among.adjusted == pytest.approx(4 / 64)
    assert among.word is Word.NO_EVIDENCE


def test_rows_are_read_by_index() -> None:
    text = "index,label,predicted,probability_predicted,probability_label\n8,5,6,0.948824,0.00239735\n"
    assert verdicts.read_mistakes(text) == {8: Mistake(8, 5, 6, 0.948824, 0.00239735)}
