"""The results of a sweep, ranked: a table and a chart that say which trials can't be told apart from the best."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from digits.core.artifacts import write_csv
from digits.core.formatting import percent, percent_spread, points
from digits.evaluation import comparison
from digits.evaluation.comparison import Outcome, Verdict
from digits.plots import COLORS, STYLE, save
from digits.sweep.scores import Score
from digits.sweep.trial import Trial
from digits.versioning.settings import ComparisonSettings

LEADER, CLOSE, WORSE = "leader", "can't be told apart", "worse"
SHOWN = 40  # rows of the printed table and of the chart, at most
NAMED = 3  # trials that can't be told apart from the leader, at most
FIRST, OTHER, NEUTRAL = COLORS[0], COLORS[4], "#555555"  # colours of the chart
DOT: dict[str, Any] = {"marker": "o", "markersize": 5, "alpha": 0.7}
STROKE: dict[str, Any] = {"marker": "|", "markersize": 15, "markeredgewidth": 2.5}


@dataclass(frozen=True)
class Row:
    """A variant of a trial, and how it compares with the leader.

    Attributes:
        comparison: With the leader as the base; None for the leader itself.
    """

    trial: Trial
    variant: str
    score: Score
    comparison: Verdict | None = None

    @property
    def name(self) -> str:
        """The variant and the trial."""
        return f"{self.variant} of {self.trial.name}"

    @property
    def images(self) -> tuple[str, str]:
        """What rows must share to be comparable."""
        return self.score.ranked_by, self.score.images_md5

    @property
    def verdict(self) -> str:
        """LEADER, CLOSE or WORSE."""
        if self.comparison is None:
            return LEADER
        return WORSE if self.comparison.outcome is Outcome.WORSE else CLOSE


def rank(
    trials: Sequence[Trial], scores: Mapping[str, Mapping[str, Score]], settings: ComparisonSettings, root: Path
) -> list[list[Row]]:
    """Return the variants of all trials that have scores, the best mean first, and compare each with the best.

    Accuracies on different images are not comparable. Each list that is returned has the rows of the same images and
    its own leader; those of validation images come first.

    Args:
        trials: the trials.
        scores: by trial and variant.
        settings: how results are compared.
        root: the folder of dvc.yaml.
    """
    groups: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for trial in trials:
        for variant, score in scores.get(trial.name, {}).items():
            row = Row(trial, variant, score)
            groups[row.images].append(row)
    ranked = [_compare(rows, settings, root) for rows in groups.values()]
    return sorted(ranked, key=lambda rows: (rows[0].score.ranked_by == "test", -rows[0].score.accuracy.mean))


def _compare(rows: Sequence[Row], settings: ComparisonSettings, root: Path) -> list[Row]:
    leader, *others = sorted(rows, key=lambda row: -row.score.accuracy.mean)  # stable: the first of equals leads
    best = leader.score.result
    # The table of writers is that of the test images.
    writers = settings.writers(root, len(best.wrong)) if leader.score.ranked_by == "test" else None
    sides = {row.name: (best, row.score.result) for row in others}
    verdicts = comparison.compare(sides, margin=settings.margin, writers=writers)
    return [leader, *(Row(row.trial, row.variant, row.score, verdicts[row.name]) for row in others)]


def table(groups: Sequence[Sequence[Row]]) -> pd.DataFrame:
    """Return a row for each variant of each trial, in the order of `rank`.

    The columns are the settings in which the trials differ, variant, trial, ranked_by, seeds (their number), mean and
    std (of the accuracy on the images that rank the trial), test_accuracy and test_loss (means), difference,
    interval_low and interval_high (to the leader, in points, and its 95 % interval), and verdict.
    """
    rows = [row for group in groups for row in group]
    settings = _settings(rows, short=False)
    return pd.DataFrame(
        {
            **settings[index],
            "variant": row.variant,
            "trial": row.trial.name,
            "ranked_by": row.score.ranked_by,
            "seeds": len(row.score.accuracy.values),
            "mean": row.score.accuracy.mean,
            "std": row.score.accuracy.std,
            "test_accuracy": row.score.test_accuracy,
            "test_loss": row.score.test_loss,
            "difference": 100 * row.comparison.difference if row.comparison else None,
            "interval_low": 100 * row.comparison.interval[0] if row.comparison else None,
            "interval_high": 100 * row.comparison.interval[1] if row.comparison else None,
            "verdict": row.verdict,
        }
        for index, row in enumerate(rows)
    )


def text(groups: Sequence[Sequence[Row]]) -> str:
    """Return the best rows as a table for people, and a line for each group on its leader."""
    rows = [row for group in groups for row in group]
    settings = _settings(rows)
    shown = pd.DataFrame(
        {
            **settings[index],
            "variant": row.variant,
            "ranked by": row.score.ranked_by,
            "seeds": len(row.score.accuracy.values),
            "accuracy": _accuracy(row),
            "difference": points(row.comparison.difference) if row.comparison else "",
            "95 % interval": " to ".join(points(end) for end in row.comparison.interval) if row.comparison else "",
            "verdict": row.verdict,
            "test": percent(row.score.test_accuracy),
            "trial": row.trial.name,
        }
        for index, row in enumerate(rows[:SHOWN])
    )
    lines = [shown.to_string(index=False)]
    if len(rows) > SHOWN:
        lines.append(f"… and {len(rows) - SHOWN} more")
    several = len({row.variant for row in rows}) > 1
    lines += [_conclusion(group, several_variants=several) for group in groups]
    if len(groups) > 1:
        lines.append("Trials that are ranked on different images are not compared with each other.")
    if any(row.comparison is not None and row.comparison.images_only for row in rows):
        lines.append("Trials with one seed are compared by the images alone: other seeds may turn the verdict.")
    return "\n".join(lines)


def chart(groups: Sequence[Sequence[Row]], path: Path) -> None:
    """Draw each seed as a dot and the mean of each trial as a stroke, the best on top.

    Args:
        groups: as `rank` returns them.
        path: the PNG file.
    """
    rows = [row for group in groups for row in group]
    labels = dict(zip((row.name for row in rows), _labels(rows), strict=True))
    panels = [list(panel) for _, panel in groupby(rows[:SHOWN], key=lambda row: row.images)]
    shown = min(len(rows), SHOWN)
    with mpl.rc_context(STYLE):
        width = max(8.7, 4.7 + 0.08 * max(map(len, labels.values())))
        figure = Figure(figsize=(width, 1.2 + 0.34 * shown + 0.35 * len(panels)), layout="constrained")
        grid = figure.subplots(
            len(panels), sharex=True, squeeze=False, height_ratios=[len(panel) + 0.2 for panel in panels]
        )
        axes: list[Axes] = list(grid[:, 0])
        for axis, panel in zip(axes, panels, strict=True):
            _draw(axis, panel, [labels[row.name] for row in panel])
            if len(panels) > 1:
                axis.set_title(f"ranked by {panel[0].score.ranked_by}", loc="left")
        axes[-1].set_xlabel("accuracy" if len(panels) > 1 else f"{rows[0].score.ranked_by} accuracy")
        # Few ticks, so that long labels have room.
        axes[-1].xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes[-1].xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        _add_legend(figure, {row.verdict for panel in panels for row in panel})
        rest = f" (the best {shown} of {len(rows):,})" if len(rows) > shown else ""
        figure.suptitle(f"Trials of the sweep{rest}")
        save(figure, path)


def write(
    trials: Sequence[Trial],
    scores: Mapping[str, Mapping[str, Score]],
    settings: ComparisonSettings,
    root: Path,
    folder: Path,
) -> str:
    """Write `trials.csv` and `trials.png` into a folder, and return the ranking as text; `rank` has the arguments."""
    groups = rank(trials, scores, settings, root)
    write_csv(folder / "trials.csv", table(groups))
    chart(groups, folder / "trials.png")
    return text(groups)


def _settings(rows: Sequence[Row], *, short: bool = True) -> list[dict[str, str]]:
    """Return the settings of each row in which the trials differ; all settings of a single trial.

    Args:
        rows: the rows.
        short: whether to leave out `models.` and, if it is the only one, the variant at the beginning of the keys.
    """
    settings = [dict(setting.split("=", 1) for setting in row.trial.settings) for row in rows]
    variants = {row.variant for row in rows}
    keys = list(settings[0])
    if len({row.trial.name for row in rows}) > 1:
        keys = [key for key in keys if len({each[key] for each in settings}) > 1]
    names = {key: key for key in keys}
    if short:
        only = f"{variants.pop()}." if len(variants) == 1 else ""
        names = {key: key.removeprefix(f"models.{only}").removeprefix("models.") for key in keys}
    return [{names[key]: each[key] for key in keys} for each in settings]


def _accuracy(row: Row) -> str:
    return percent_spread(row.score.accuracy.mean, row.score.accuracy.std)


def _conclusion(group: Sequence[Row], *, several_variants: bool) -> str:
    """Return a line that names the leader and the trials that can't be told apart from it."""

    def name(row: Row) -> str:
        return row.name if several_variants else row.trial.name

    leader, *others = group
    line = f"Best on {leader.score.ranked_by}: {name(leader)} ({_accuracy(leader)})."
    close = [name(row) for row in others if row.verdict == CLOSE]
    if close:
        more = f" and {len(close) - NAMED} more" if len(close) > NAMED else ""
        return f"{line} Can't be told apart from it: {', '.join(close[:NAMED])}{more}."
    return f"{line} All others are worse." if others else line


def _draw(axis: Axes, rows: Sequence[Row], labels: Sequence[str]) -> None:
    """Draw rows from the top of an axis."""
    for place, row in enumerate(rows):
        accuracy, color = row.score.accuracy, OTHER if row.verdict == WORSE else FIRST
        axis.plot(accuracy.values, [place] * len(accuracy.values), linestyle="", color=color, **DOT)
        axis.plot(accuracy.mean, place, color=color, **STROKE)
    axis.set_yticks(range(len(rows)), labels)
    axis.set_ylim(len(rows) - 0.4, -0.6)


def _labels(rows: Sequence[Row]) -> list[str]:
    """Return what distinguishes each row from the others."""
    several = len({row.variant for row in rows}) > 1
    labels = []
    for row, settings in zip(rows, _settings(rows), strict=True):
        words = [f"{key}={value}" for key, value in settings.items()]
        labels.append(", ".join([row.variant, *words] if several or not words else words))
    return labels


def _add_legend(figure: Figure, verdicts: set[str]) -> None:
    """Explain the dots, the strokes, and the colours that occur."""
    marks = {"a seed": DOT | {"color": NEUTRAL}, "the mean": STROKE | {"color": NEUTRAL}}
    if verdicts - {WORSE}:
        marks["the best, or can't be told apart from it"] = DOT | {"color": FIRST}
    if WORSE in verdicts:
        marks["worse"] = DOT | {"color": OTHER}
    handles = [Line2D([], [], linestyle="", label=label, **style) for label, style in marks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
