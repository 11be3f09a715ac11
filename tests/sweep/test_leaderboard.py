"""The tables and the chart of a sweep."""

from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.image import imread

from digits.sweep import leaderboard
from digits.sweep.scores import Score
from digits.sweep.trial import Trial


def table_of(accuracies: dict[tuple[str, int], float | None]) -> pd.DataFrame:
    """Return the table of trials with these validation accuracies by units and seed; None: no images were held out."""
    trials = [Trial(f"{units}-{seed}", (f"units={units}", f"train.seed={seed}", "x=1")) for units, seed in accuracies]
    scores = {f"{units}-{seed}": {"mlp64": Score(accuracy, 0.5, 1.0)} for (units, seed), accuracy in accuracies.items()}
    return leaderboard.trial_table(trials, scores)


def test_the_summary_has_mean_deviation_and_best_over_the_seeds() -> None:
    table = table_of({("[8]", 0): 0.7, ("[8]", 1): 0.9, ("[16]", 0): 0.85, ("[16]", 1): 0.85})
    best, other = leaderboard.summary(table).to_dict("records")
    assert (best["units"], best["mean"], best["deviation"]) == ("[16]", pytest.approx(0.85), pytest.approx(0))
    assert other["units"] == "[8]"
    assert other["mean"] == pytest.approx(0.8)
    assert other["deviation"] == pytest.approx(0.2 / 2**0.5)
    assert (other["best"], other["best_trial"], other["trials"]) == (0.9, "[8]-1", 2)
    assert other["ranked_by"] == "validation accuracy"


def test_a_setting_that_all_trials_share_is_no_column() -> None:
    assert list(table_of({("[8]", 0): 0.7, ("[16]", 1): 0.9}))[:2] == ["units", "train.seed"]


def test_without_validation_images_trials_are_ranked_by_test_accuracy() -> None:
    (row,) = leaderboard.summary(table_of({("[8]", 0): None})).to_dict("records")
    assert (row["ranked_by"], row["mean"]) == ("test accuracy", 0.5)
    assert pd.isna(row["deviation"])


def test_tables_and_chart_are_written(tmp_path: Path) -> None:
    trials = [Trial(str(seed), (f"train.seed={seed}",)) for seed in range(2)]
    scores = {trial.name: {"cnn": Score(0.9, 0.8, 1.0)} for trial in trials}
    printed = leaderboard.write(trials, scores, tmp_path / "s")
    assert "0.9000" in printed
    assert len((tmp_path / "s/trials.csv").read_text("utf-8").splitlines()) == 3
    assert len((tmp_path / "s/summary.csv").read_text("utf-8").splitlines()) == 2
    assert imread(tmp_path / "s/trials.png").std() > 0


def test_the_chart_of_a_large_sweep_shows_the_best_settings(tmp_path: Path) -> None:
    """The best 40 of 50 settings look like these 40 alone, except for the title."""
    accuracies: dict[tuple[str, int], float | None] = {
        (f"[{units}]", seed): units / 100 + seed / 1000 for units, seed in product(range(50), range(2))
    }
    best = dict(list(accuracies.items())[20:])
    for name, shown in (("all", accuracies), ("best", best)):
        leaderboard.chart(table_of(shown), tmp_path / f"{name}.png")
    pictures = [imread(tmp_path / f"{name}.png") for name in ("all", "best")]
    title = 40  # pixels
    assert (pictures[0][title:] == pictures[1][title:]).all()
