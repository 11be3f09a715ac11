"""A sweep's results as a table and a chart: each setting's mean, deviation over the seeds, and best."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from digits.figures import COLORS, STYLE, percent, save
from digits.trial import Score, Trial

SEED = "train.seed"
ROWS = 40  # at most, of the chart
CHOSEN_BY = {"validation": "validation accuracy", "test": "test accuracy"}


def chosen_by(score: Score) -> tuple[float, str]:
    """Return the accuracy that a trial is ranked by, and the split it is on: test where no image was held out."""
    held_out = score["validation_accuracy"]
    return (score["accuracy"], "test") if held_out is None else (held_out, "validation")


def of_trials(trials: Sequence[Trial], scores: Mapping[str, Mapping[str, Score]]) -> pd.DataFrame:
    """Return a row for each trial that has scores and each of its variants: settings, variant, name, figures.

    Settings that all trials share are left out.
    """
    rows = []
    for trial in trials:
        settings = dict(setting.split("=", 1) for setting in trial.settings)
        for variant, score in scores.get(trial.name, {}).items():
            ranked, split = chosen_by(score)
            figures = {"ranked_by": CHOSEN_BY[split], "ranked": ranked, "test_accuracy": score["accuracy"]}
            rows.append({**settings, "variant": variant, "trial": trial.name, **figures, "test_loss": score["loss"]})
    table = pd.DataFrame(rows)
    shared = [
        key for key in _keys(trials) if len(trials) > 1 and key in table and table[key].nunique(dropna=False) == 1
    ]
    return table.drop(columns=shared)


def summary(trials: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each setting and variant over its seeds, the best mean first.

    Returns:
        The settings but for the seed, `variant`, `ranked_by`, `trials`, `mean`, `deviation` (of the sample; empty for
        one trial), `best`, `test_accuracy` (mean), `best_trial`.
    """
    figures = ["trial", "ranked_by", "ranked", "test_accuracy", "test_loss"]
    keys = [key for key in trials.columns if key not in [*figures, SEED]]
    groups = trials.groupby([*keys, "ranked_by"], sort=False, dropna=False)
    table = groups.agg(
        trials=("trial", "size"),
        mean=("ranked", "mean"),
        deviation=("ranked", "std"),
        best=("ranked", "max"),
        test_accuracy=("test_accuracy", "mean"),
    )
    table["best_trial"] = trials.loc[groups["ranked"].idxmax(), "trial"].to_numpy()
    return table.reset_index().sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def chart(trials: pd.DataFrame, path: Path) -> None:
    """Draw a dot for each trial and a stroke for each setting's mean, the best setting on top."""
    table = summary(trials).head(ROWS)
    keys = list(table.columns[: table.columns.get_loc("ranked_by")])
    swept = [key for key in keys if key != "variant" or table["variant"].nunique() > 1]
    labels = [_label(row, swept) for _, row in table[keys].iterrows()]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.7, 1.5 + 0.34 * len(table)), layout="constrained")
        axis = figure.subplots()
        for line, (_, row) in enumerate(table.iterrows()):
            matches = (trials[keys].astype(object).fillna("") == row[keys].astype(object).fillna("")).all(axis=1)
            values = trials.loc[matches, "ranked"]
            axis.plot(
                values,
                [line] * len(values),
                "o",
                color=COLORS[0],
                alpha=0.7,
                ls="none",
                label="a trial" if line == 0 else None,
            )
            axis.plot(
                [row["mean"]],
                [line],
                "|",
                color=COLORS[1],
                markersize=14,
                markeredgewidth=2.5,
                label="mean" if line == 0 else None,
            )
        axis.set_yticks(range(len(table)), labels)
        axis.set_ylim(len(table) - 0.4, -0.6)
        axis.set_xlabel(" or ".join(table["ranked_by"].unique()))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        handles, names = axis.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
        rest = len(summary(trials)) - len(table)
        figure.suptitle("Trials of the sweep" + (f" (the best {ROWS} settings of {rest + ROWS})" if rest else ""))
        save(figure, path)


def write(trials: Sequence[Trial], scores: Mapping[str, Mapping[str, Score]], folder: Path) -> str:
    """Write `trials.csv`, `summary.csv` and `trials.png` into a folder, and return the summary for a terminal."""
    rows = of_trials(trials, scores)
    table = summary(rows)
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "trials.csv", index=False)
    table.to_csv(folder / "summary.csv", index=False)
    chart(rows, folder / "trials.png")
    shown = table.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4f}")
    return f"{shown}\nwritten: {folder}/summary.csv, {folder}/trials.csv, {folder}/trials.png"


def _label(row: "pd.Series[str]", keys: Sequence[str]) -> str:
    words = [f"{key.removeprefix('models.')}={row[key]}" if key != "variant" else row[key] for key in keys]
    return ", ".join(words) or "all"


def _keys(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(setting.split("=", 1)[0] for trial in trials for setting in trial.settings))
