"""A variant's learning curves, as the training and evaluation stages write them."""

import csv
from collections.abc import Mapping

Column = Mapping[int, float]  # epoch: value
Curve = Mapping[str, Column]  # column name: column
SPLITS = ("train", "validation", "test")


def of_variant(training: str, epochs: str) -> dict[str, Curve]:
    """Return curves by split: `train`, `test`, and where images were held out, `validation` and `gap`.

    Args:
        training: the text of `training.csv`.
        epochs: the text of `epochs.csv`.

    Returns:
        For train and validation `epoch`, `loss` and `accuracy`; for test those of `epochs.csv`; for gap `loss`
        and `accuracy`, validation minus training.
    """
    trained = columns(training)
    curves: dict[str, Curve] = {
        "train": {name: trained[name] for name in ("epoch", "loss", "accuracy")},
        "test": columns(epochs),
    }
    if trained["val_loss"]:
        train = curves["train"]
        held_out = {"epoch": train["epoch"], "loss": trained["val_loss"], "accuracy": trained["val_accuracy"]}
        curves["validation"] = held_out
        curves["gap"] = {
            name: {epoch: held_out[name][epoch] - train[name][epoch] for epoch in train["epoch"]}
            for name in ("loss", "accuracy")
        }
    return curves


def columns(text: str) -> dict[str, Column]:
    """Return a CSV text's columns, each as epoch: value, without the empty cells."""
    reader = csv.DictReader(text.splitlines())
    rows = list(reader)
    return {
        name: {int(row["epoch"]): float(row[name]) for row in rows if row[name]} for name in reader.fieldnames or ()
    }
