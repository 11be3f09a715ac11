from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from digits.core.paths import VariantFiles
from digits.stages import analyze
from digits.versioning.results import read_results
from digits.versioning.revisions import workspace

LABELS = np.array([4, 9, 0, 0])


def test_the_answer_is_the_most_frequent_mistake_of_the_seeds_and_of_equals_the_smallest_digit() -> None:
    # Most seeds read the first image as it is labelled; the others disagree.
    predicted = np.array([[4, 4, 5, 0], [4, 4, 3, 0], [4, 7, 3, 0], [9, 7, 3, 6], [9, 7, 5, 8], [7, 9, 0, 8]])
    assert analyze.most_frequent_mistakes(predicted, LABELS).tolist() == [9, 7, 3, 8]
    predicted = np.array([[9, 8, 7, 0], [7, 4, 2, 9]])
    assert analyze.most_frequent_mistakes(predicted, LABELS).tolist() == [7, 4, 2, 9]


def test_an_image_that_no_seed_misclassifies_has_another_digit() -> None:
    answers = analyze.most_frequent_mistakes(np.array([LABELS] * 3), LABELS)
    assert (answers != LABELS).all()


def test_of_many_mistakes_git_holds_the_worst(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = VariantFiles("mlp64")
    before = read_results(workspace(clone), "mlp64", 397)
    assert before is not None
    assert len(before.mistakes) > 5
    monkeypatch.chdir(clone)
    monkeypatch.setattr(analyze, "LISTED", 5)
    analyze.run("mlp64")
    every = pd.read_csv(files.all_errors)
    assert every["index"].tolist() == list(before.mistakes)
    worst = every.sort_values(["seeds_wrong", "probability_answer"], ascending=False, kind="stable").head(5)
    assert pd.read_csv(files.errors).equals(worst.sort_index().reset_index(drop=True))
    assert capsys.readouterr().out == (
        f"mlp64: {files.errors} has the 5 worst of {len(every)} misclassified images; data/errors/mlp64.csv, which is "
        "in the DVC cache, has all\n"
    )
    after = read_results(workspace(clone), "mlp64", 397)
    assert after is not None
    assert after.result.errors == before.result.errors
    assert after.result.wrong.tolist() == before.result.wrong.tolist()
    assert sorted(after.mistakes) == sorted(worst["index"])
