"""The learning curves of a variant, as the stages train and evaluate write them."""

import io

import pandas as pd

SPLITS = ("train", "validation", "test")


def learning_curves(training: str, epochs: str) -> dict[str, pd.DataFrame]:
    """Return the curves of a variant.

    Args:
        training: the text of `training.csv`.
        epochs: the text of `epochs.csv`.

    Returns:
        Tables by split, with the epoch as index. `train` has the columns epoch, loss and accuracy, `test` those of
        `epochs.csv`. If images were held out, there is `validation`, with the columns of `train`, and `gap`, which is
        the loss and the accuracy of validation minus those of training.
    """
    trained = read_table(training)
    columns = ["epoch", "loss", "accuracy"]
    train = trained[columns]
    curves = {"train": train, "test": read_table(epochs)}
    if trained["val_loss"].notna().any():
        validation = trained[["epoch", "val_loss", "val_accuracy"]].set_axis(columns, axis="columns")
        curves |= {"validation": validation, "gap": (validation - train)[["loss", "accuracy"]]}
    return curves


def read_table(text: str) -> pd.DataFrame:
    """Return a CSV text as a table with its column `epoch` as index, too."""
    return pd.read_csv(io.StringIO(text), float_precision="round_trip").set_index("epoch", drop=False)
