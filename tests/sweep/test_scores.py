"""The results of an experiment, read from its commit."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from support import initialize, run

from digits.core.errors import UserError
from digits.sweep.scores import Score, read_scores

VALIDATION_IMAGES = 15_000
FILES = {
    "metrics/summary.json": json.dumps({"mlp64": {"accuracy": 0.75, "accuracy_std": 0.05, "loss": 1.5}}),
    "metrics/dataset.json": json.dumps({"validation": {"images": VALIDATION_IMAGES}, "test": {"images": 4}}),
    "metrics/variants/mlp64.json": json.dumps(
        {"test": {"errors": {"values": [1, 2]}}, "validation": {"accuracy": {"values": [0.999867, 0.9998]}}}
    ),
    "dvc.lock": """
stages:
  train@mlp64:
    deps:
    - {path: data/processed/validation.npz, md5: of validation}
  evaluate@mlp64:
    deps:
    - {path: data/processed/test.npz, md5: of test}
""",
    "plots/variants/mlp64/validation_errors.csv": "index,seeds_wrong\n7,2\n9,1\n14999,2\n",
    "plots/variants/mlp64/errors.csv": """index,label,seeds_wrong,answer,probability_answer,probability_label
1,0,2,3,0.5,0.5
3,0,1,3,0.5,0.5
""",
}
NOTHING_HELD_OUT = {
    "metrics/variants/mlp64.json": json.dumps({"test": {"errors": {"values": [1, 2]}}, "validation": None}),
    "plots/variants/mlp64/validation_errors.csv": "index,seeds_wrong\n",
}


def scores(folder: Path, changes: dict[str, str]) -> dict[str, Score]:
    """Return the results of a commit with these files."""
    for name, text in (FILES | changes).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    initialize(folder)
    return read_scores(folder, run(folder, "git", "rev-parse", "HEAD").strip())


def test_the_errors_on_the_validation_images_are_those_of_each_seed_at_the_last_epoch(tmp_path: Path) -> None:
    score = scores(tmp_path, {})["mlp64"]
    assert (score.ranked_by, score.images_md5) == ("validation", "of validation")
    assert score.result.errors == [2, 3]
    wrong = np.flatnonzero(score.result.wrong)
    assert dict(zip(wrong.tolist(), score.result.wrong[wrong].tolist(), strict=True)) == {7: 2, 9: 1, 14999: 2}
    assert score.accuracy.mean == pytest.approx(1 - 2.5 / VALIDATION_IMAGES)
    assert (score.test_accuracy, score.test_loss) == (0.75, 1.5)
    assert len(pickle.dumps(score)) < VALIDATION_IMAGES + 1000  # workers send it to the client


def test_without_validation_images_a_variant_is_ranked_by_the_test_images(tmp_path: Path) -> None:
    score = scores(tmp_path, NOTHING_HELD_OUT)["mlp64"]
    assert (score.ranked_by, score.images_md5) == ("test", "of test")
    assert (score.result.errors, score.result.wrong.tolist()) == ([1, 2], [0, 2, 0, 1])
    assert score.accuracy.mean == 1 - 1.5 / 4


@pytest.mark.parametrize(
    "changes",
    [
        {"plots/variants/mlp64/validation_errors.csv": "index,seeds_wrong\n7,2\n"},
        {"metrics/variants/mlp64.json": ""},
        {"dvc.lock": "stages: {}"},
        {"metrics/variants/mlp64.json": json.dumps({"test": {"errors": 2}, "validation": None})},
    ],
)
def test_unreadable_results_are_a_message_of_one_line(tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"^\w+ has no results of mlp64 that this version of digits can read$"):
        scores(tmp_path, changes)
