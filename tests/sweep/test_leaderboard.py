"""The ranking of a sweep: verdicts, the table, the text and the chart."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from digits.core.params import Writers
from digits.evaluation.comparison import Result
from digits.sweep import leaderboard
from digits.sweep.leaderboard import Row
from digits.sweep.scores import Score, Split
from digits.sweep.trial import Trial
from digits.versioning.settings import ComparisonSettings

IMAGES = 1000
SETTINGS = ComparisonSettings(0.1, None)


def score(*errors: int, split: Split = "validation", md5: str = "a") -> Score:
    """Return a score in which each seed misclassifies the first images."""
    wrong = np.sum([np.arange(IMAGES) < count for count in errors], axis=0)
    return Score(split, md5, Result(list(errors), wrong.astype(np.uint8)), 0.5, 1.0)


def rank(settings: ComparisonSettings = SETTINGS, **scores: Score) -> list[list[Row]]:
    """Rank trials of mlp64, with the units that their names end with."""
    trials = [Trial(name, (f"models.mlp64.units=[{name[1:]}]", "train.epochs=3")) for name in scores]
    return leaderboard.rank(trials, {name: {"mlp64": each} for name, each in scores.items()}, settings, Path())


def verdicts(groups: Sequence[Sequence[Row]]) -> list[dict[str, str]]:
    return [{row.trial.name: row.verdict for row in group} for group in groups]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved from now on, which are not written."""
    figures: list[Figure] = []
    monkeypatch.setattr(leaderboard, "save", lambda figure, _: figures.append(figure))
    return figures


def test_trials_are_ranked_by_their_means_and_compared_with_the_best() -> None:
    groups = rank(n8=score(200, 210), n16=score(40, 44), n32=score(38, 42), n64=score(38, 42))
    close = dict.fromkeys(["n64", "n16"], "can't be told apart")
    assert verdicts(groups) == [{"n32": "leader", **close, "n8": "worse"}]


def test_more_comparisons_need_more_evidence() -> None:
    """n2 is significant by itself, but not after Holm's adjustment for two comparisons, which doubles its p-value."""
    best, n2 = score(10, 14, 12), score(19, 23, 21)
    alone = rank(n1=best, n2=n2)
    assert verdicts(alone) == [{"n1": "leader", "n2": "worse"}]
    assert leaderboard.text(alone).endswith("All others are worse.")
    assert verdicts(rank(n1=best, n2=n2, n3=score(11, 15, 13)))[0]["n2"] == "can't be told apart"


def test_only_trials_on_the_same_images_are_compared(drawn: list[Figure]) -> None:
    on_test = {"n1": score(10, 12, split="test"), "n4": score(20, 30, split="test")}
    groups = rank(**on_test, n2=score(300, 310, md5="b"), n3=score(200, 210))
    assert verdicts(groups)[:2] == [{"n3": "leader"}, {"n2": "leader"}]
    assert verdicts(groups)[2]["n1"] == "leader"
    text = leaderboard.text(groups)
    assert "\nBest on validation: n3 (79.50 ± 0.71 %).\n" in text
    assert "\nBest on test: n1 " in text
    assert text.endswith("Trials that are ranked on different images are not compared with each other.")
    leaderboard.chart(groups, Path())
    panels = [(axis.get_title(loc="left").removeprefix("ranked by "), len(axis.lines) / 2) for axis in drawn[0].axes]
    assert panels == [("validation", 1), ("validation", 1), ("test", 2)]


def test_the_margin_and_the_writers_of_the_commit_are_used(tmp_path: Path) -> None:
    """One person wrote all images that n2 misclassifies and n1 does not: that is evidence of one writer only."""
    scores = {"n1": score(20, 20, 20, split="test"), "n2": score(60, 60, 60, split="test")}
    assert verdicts(rank(**scores)) == [{"n1": "leader", "n2": "worse"}]
    assert verdicts(rank(ComparisonSettings(10, None), **scores))[0]["n2"] == "can't be told apart"
    lines = [f"0\t0\t{0 if index < 60 else index}\n" for index in range(IMAGES)]
    (tmp_path / "writers.tsv").write_text("".join(lines), "utf-8")
    digest = hashlib.sha256((tmp_path / "writers.tsv").read_bytes()).hexdigest()
    settings = ComparisonSettings(0.1, Writers(source=str(tmp_path / "writers.tsv"), sha256=digest))
    assert verdicts(rank(settings, **scores))[0]["n2"] == "can't be told apart"
    validation = rank(settings, n1=score(20, 20, 20), n2=score(60, 60, 60))
    assert verdicts(validation)[0]["n2"] == "worse"  # the table is that of the test images


def test_the_table_has_a_row_a_trial_and_no_setting_that_all_trials_share() -> None:
    first, second = leaderboard.table(rank(n8=score(200, 210), n16=score(30, 40))).to_dict("records")
    assert list(first)[:3] == ["models.mlp64.units", "variant", "trial"]
    assert "train.epochs" not in first
    assert (first["models.mlp64.units"], first["trial"], first["verdict"]) == ("[16]", "n16", "leader")
    assert (first["ranked_by"], first["seeds"]) == ("validation", 2)
    assert first["mean"] == pytest.approx(0.965)
    assert first["std"] == pytest.approx(0.005 * 2**0.5)
    assert (first["test_accuracy"], first["test_loss"]) == (0.5, 1.0)
    assert pd.isna(first["difference"])
    assert second["difference"] == pytest.approx(-17)
    assert second["interval_low"] < -17 < second["interval_high"] < 0
    single = leaderboard.table(rank(n8=score(20)))
    assert list(single)[:2] == ["models.mlp64.units", "train.epochs"]
    assert single["std"].isna().all()


def test_the_text_and_the_chart_of_a_large_sweep_show_the_best_trials(drawn: list[Figure]) -> None:
    groups = rank(**{f"n{number}": score(40 + number) for number in range(50)})
    lines = leaderboard.text(groups).splitlines()
    assert [line.split()[-1] for line in lines[1:41]] == [f"n{number}" for number in range(40)]
    assert re.search(r" 96\.00 % +leader ", lines[1])
    assert lines[41:] == [
        "… and 10 more",
        "Best on validation: n0 (96.00 %). Can't be told apart from it: n1, n2, n3 and 20 more.",
        "Trials with one seed are compared by the images alone: other seeds may turn the verdict.",
    ]
    leaderboard.chart(groups, Path())
    (axis,) = drawn[0].axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [f"units=[{number}]" for number in range(40)]
    assert drawn[0].get_suptitle() == "Trials of the sweep (the best 40 of 50)"


def test_the_chart_shows_every_seed_and_marks_what_is_worse(drawn: list[Figure]) -> None:
    leaderboard.chart(rank(n1=score(10, 12), n2=score(11, 13), n3=score(200, 210)), Path())
    (axis,) = drawn[0].axes
    dots, strokes = axis.lines[::2], axis.lines[1::2]
    values = [np.asarray(line.get_xdata()).tolist() for line in dots]
    means = [float(np.asarray(line.get_xdata())[0]) for line in strokes]
    assert values == [[0.99, 0.988], [0.989, 0.987], [0.8, 0.79]]
    assert means == pytest.approx([0.989, 0.988, 0.795])
    best, close, worse = (line.get_color() for line in dots)
    assert best == close != worse
    legend = {str(handle.get_label()): handle for handle in drawn[0].legends[0].legend_handles if handle}
    colors = {label: handle.get_color() for label, handle in legend.items()}  # type: ignore[attr-defined]
    assert colors.items() >= {"the best, or can't be told apart from it": best, "worse": worse}.items()
    assert all(label.get_text().endswith(" %") for label in axis.get_xticklabels())
