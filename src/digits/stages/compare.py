"""Stage compare: the listed variants beside each other and beside the numbers that the reports published."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from digits import plots
from digits.core import config, params, paths
from digits.core.artifacts import read_json, write_csv, write_json
from digits.core.formatting import percent
from digits.evaluation import selective
from digits.evaluation.curves import SPLITS, learning_curves, over_seeds
from digits.evaluation.stress import SHIFTED
from digits.evaluation.validation import held_out
from digits.replication import published
from digits.replication.protocols import describe


def run() -> None:
    """Compare the variants, and write their summary, their curves and the comparison with the reports.

    The comparison has no measured numbers if the data set is not that of the reports.
    """
    parameters = params.load(paths.PARAMS)
    variants = [paths.VariantFiles(name) for name in parameters.variants]
    metrics = {variant.name: read_json(variant.metrics) for variant in variants}
    curves = {variant.name: _read_curves(variant, metrics[variant.name]) for variant in variants}
    write_json(paths.SUMMARY, {name: _summary(each) for name, each in metrics.items()})
    write_json(paths.PUBLISHED_METRICS, _compare_with_reports(parameters, curves))

    means = {name: {split: over_seeds(curve) for split, curve in splits.items()} for name, splits in curves.items()}
    write_csv(paths.CURVES, _long_table(means))
    spread = "" if len(parameters.train.seeds) == 1 else f", {len(parameters.train.seeds)} seeds"
    plots.accuracy_and_loss(
        {name: splits["test"] for name, splits in means.items()},
        f"Test accuracy and loss against epochs of training{spread}",
        paths.COMPARE_PLOTS / "test.png",
        split="test",
    )
    for name, splits in means.items():
        plots.accuracy_and_loss(
            {split: splits[split] for split in SPLITS if split in splits},
            f"{name}: accuracy and loss against epochs of training{spread}",
            paths.COMPARE_PLOTS / f"{name}.png",
        )
    tables = {variant.name: pd.read_csv(variant.risk_coverage) for variant in variants}
    plots.risk_coverage(
        {name: (table["coverage"].to_numpy(), table["risk"].to_numpy()) for name, table in tables.items()},
        {name: mark for name, each in metrics.items() if (mark := _mark(each))},
        "Fewer answers, fewer mistakes: the ensembles on the test images;\n"
        f"dots: at the threshold for {percent(selective.STRICTEST_TARGET, 1)} right answers",
        paths.COMPARE_PLOTS / "risk_coverage.png",
    )


def _mark(metrics: dict[str, Any]) -> tuple[float, float] | None:
    """Return coverage and risk of the ensemble at its threshold; None if it never answers."""
    answers = selective.strictest(metrics["selective"])
    return None if answers["accuracy"] is None else (answers["coverage"], 1 - answers["accuracy"])


def _read_curves(variant: paths.VariantFiles, metrics: dict[str, Any]) -> dict[str, pd.DataFrame]:
    training, epochs = (path.read_text(encoding="utf-8") for path in (variant.training, variant.epochs))
    return learning_curves(training, epochs, held_out=held_out(metrics))


def _summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what a person compares; metrics/variants/ has the rest."""
    test = metrics["test"]
    return {"accuracy": test["accuracy"]["mean"], "accuracy_std": test["accuracy"]["std"], "loss": test["loss"]["mean"]}


def _long_table(curves: dict[str, dict[str, pd.DataFrame]]) -> pd.DataFrame:
    """Return the means of all curves in one table with a row for each variant, split and epoch."""
    columns = ["variant", "split", "epoch", "accuracy", "accuracy_std", "loss", "loss_std"]
    return pd.concat(
        [
            splits[split].reset_index().assign(variant=name, split=split)[columns]
            for name, splits in curves.items()
            for split in SPLITS
            if split in splits
        ]
    )


def _last_epoch(test: pd.DataFrame, accuracies: dict[str, Any]) -> pd.DataFrame:
    """Return a curve of the last epoch alone, with the accuracy of each seed on scikit-learn's digits."""
    last = test[test["epoch"] == test["epoch"].max()]
    columns = {"epoch": last["epoch"], "seed": last["seed"], "accuracy": accuracies["accuracy"]["values"]}
    return pd.DataFrame(columns)


def _compare_with_reports(parameters: params.Params, curves: dict[str, dict[str, pd.DataFrame]]) -> dict[str, Any]:
    stress = read_json(paths.STRESS_METRICS)[SHIFTED]["variants"]
    source = config.read(paths.PUBLISHED, published.Published)
    experiments = published.read_experiments(paths.EXPERIMENT_METRICS)
    applies = source.applies_to(parameters.download.files.by_name())
    by_split: dict[tuple[str, str], pd.DataFrame] = {}
    if applies:
        by_split = {(name, split): curve for name, splits in curves.items() for split, curve in splits.items()}
        by_split |= {(name, SHIFTED): _last_epoch(curves[name]["test"], row) for name, row in stress.items()}
    else:
        experiments = {}
        print(f"{published.NOT_APPLICABLE}: {paths.PUBLISHED_METRICS} has none of this run", file=sys.stderr)

    def read(file: str) -> Any | None:
        # Files of variants that are no longer listed may still exist, from another run.
        path = Path(file)
        listed = [paths.DATASET_METRICS, *(paths.VariantFiles(name).metrics for name in parameters.variants)]
        return read_json(path) if applies and path in listed else None

    return ({} if applies else {"not_applicable": published.NOT_APPLICABLE}) | {
        "protocols": {
            "published": {name: report.protocol for name, report in source.reports.items()},
            "measured": {name: describe(parameters, name) for name in parameters.variants},
        },
        "numbers": [asdict(published.compare_number(number, by_split, read, experiments)) for number in source.numbers],
        "claims": [_claim(published.check_claim(claim, by_split)) for claim in source.claims],
    }


def _claim(result: published.ClaimComparison) -> dict[str, Any]:
    claim = result.claim
    return {
        "report": claim.report,
        "section": claim.section,
        "claim": claim.claim,
        "from": result.start,
        "to": result.end,
        "interval": result.interval,
        "change": claim.change,
        "within": claim.within,
        "holds": result.holds,
        "variant": claim.start.variant,
    }
