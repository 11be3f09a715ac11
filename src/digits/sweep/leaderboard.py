"""The results of a sweep as tables and a chart: mean, standard deviation and best of each setting over its seeds."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from digits.core.artifacts import write_csv
from digits.core.formatting import percent
from digits.plots import COLORS, STYLE, save
from digits.sweep.scores import Score
from digits.sweep.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas.api.typing import DataFrameGroupBy

SEED = "train.seed"
RESULTS = ["trial", "ranked_by", "ranked", "test_accuracy", "test_loss"]  # the columns that are no settings
CHART_ROWS = 40  # at most


def trial_table(trials: Sequence[Trial], scores: Mapping[str, Mapping[str, Score]]) -> pd.DataFrame:
    """Return a row for each variant of each trial that has scores.

    Args:
        trials: the trials.
        scores: by trial and variant.

    Returns:
        The settings in which the trials differ, and the columns variant, trial, ranked_by, ranked (the accuracy that
        trials are ranked by), test_accuracy and test_loss.
    """
    table = pd.DataFrame(
        {
            **dict(setting.split("=", 1) for setting in trial.settings),
            "variant": variant,
            "trial": trial.name,
            "ranked_by": f"{score.ranked_by} accuracy",
            "ranked": score.ranked_accuracy,
            "test_accuracy": score.accuracy,
            "test_loss": score.loss,
        }
        for trial in trials
        for variant, score in scores.get(trial.name, {}).items()
    )
    if len(trials) == 1:
        return table
    settings = [column for column in table if column not in ["variant", *RESULTS]]
    return table.drop(columns=[key for key in settings if table[key].nunique(dropna=False) == 1])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each combination of settings and variant over its seeds, the best mean first.

    Args:
        table: as `trial_table` returns it.

    Returns:
        The settings except the seed, and the columns variant, ranked_by, trials (their number), mean, deviation (of the
        sample; missing for a single trial), best, test_accuracy (mean) and best_trial.
    """
    groups = _group_seeds(table)
    rows = groups.agg(
        trials=("trial", "size"),
        mean=("ranked", "mean"),
        deviation=("ranked", "std"),
        best=("ranked", "max"),
        test_accuracy=("test_accuracy", "mean"),
    )
    rows["best_trial"] = table.loc[groups["ranked"].idxmax(), "trial"].to_numpy()
    return rows.reset_index().sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def chart(table: pd.DataFrame, path: Path) -> None:
    """Draw each trial as a dot and the mean of each combination of settings as a stroke, the best on top.

    Args:
        table: as `trial_table` returns it.
        path: the PNG file.
    """
    groups = _group_seeds(table)
    means = groups["ranked"].mean().reset_index().sort_values("ranked", ascending=False, kind="stable")
    shown = means.head(CHART_ROWS)
    row_of_group = pd.Series(range(len(shown)), index=shown.index)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.7, 1.5 + 0.34 * len(shown)), layout="constrained")
        axis = figure.subplots()
        # The rows of groups that are not shown are missing, and Matplotlib skips them.
        axis.plot(table["ranked"], groups.ngroup().map(row_of_group), "o", color=COLORS[0], alpha=0.7, label="trial")
        axis.plot(shown["ranked"], row_of_group, "|", color=COLORS[1], markersize=14, markeredgewidth=2.5, label="mean")
        _label_axes(axis, shown)
        figure.legend(loc="outside lower center", ncols=2)
        rest = f" (the best {CHART_ROWS} settings of {len(means)})" if len(means) > CHART_ROWS else ""
        figure.suptitle(f"Trials of the sweep{rest}")
        save(figure, path)


def write(trials: Sequence[Trial], scores: Mapping[str, Mapping[str, Score]], folder: Path) -> str:
    """Write `trials.csv`, `summary.csv` and `trials.png` into a folder, and return the summary as text."""
    table = trial_table(trials, scores)
    rows = summary(table)
    write_csv(folder / "trials.csv", table)
    write_csv(folder / "summary.csv", rows)
    chart(table, folder / "trials.png")
    text = rows.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4f}")
    return f"{text}\nwritten: {folder}/summary.csv, {folder}/trials.csv, {folder}/trials.png"


def _group_seeds(table: pd.DataFrame) -> "DataFrameGroupBy[tuple[Hashable, ...], Literal[True]]":
    """Group trials that differ only in their seed."""
    settings = [column for column in table if column not in [SEED, *RESULTS]]
    return table.groupby([*settings, "ranked_by"], sort=False, dropna=False)


def _label_axes(axis: "Axes", rows: pd.DataFrame) -> None:
    """Name the settings of each row, and the accuracy that the rows are ranked by."""
    settings = rows.drop(columns=["ranked_by", "ranked"])
    if settings["variant"].nunique() == 1:
        settings = settings.drop(columns="variant")
    axis.set_yticks(range(len(rows)), [_label(row) for row in settings.to_dict("records")])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel(" or ".join(rows["ranked_by"].unique()))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, 1, trim=True)))


def _label(settings: Mapping[Hashable, Any]) -> str:
    words = [
        value if key == "variant" else f"{str(key).removeprefix('models.')}={value}" for key, value in settings.items()
    ]
    return ", ".join(words) or "all"
