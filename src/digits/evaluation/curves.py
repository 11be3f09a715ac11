"""The learning curves of a variant, as the stages train and evaluate write them, and their means over the seeds."""

import io

import pandas as pd

SPLITS = ("train", "validation", "test")


def learning_curves(training: str, epochs: str, *, held_out: bool) -> dict[str, pd.DataFrame]:
    """Return the curves of a variant.

    Args:
        training: the text of `training.csv`.
        epochs: the text of `epochs.csv`.
        held_out: whether the variant was trained without the validation images.

    Returns:
        Tables by split, with a row for each epoch of each seed. `train` has the columns epoch, seed, loss and accuracy,
        `test` those of `epochs.csv`. If images were held out, there is `validation`, with the columns of `train`, and
        `gap`, whose loss and accuracy are those of validation minus those of training.
    """
    trained = read_table(training)
    columns = ["epoch", "seed", "loss", "accuracy"]
    train = trained[columns]
    curves = {"train": train, "test": read_table(epochs)}
    if held_out:
        validation = trained[["epoch", "seed", "val_loss", "val_accuracy"]].set_axis(columns, axis="columns")
        gap = validation.assign(**{column: validation[column] - train[column] for column in ("loss", "accuracy")})
        curves |= {"validation": validation, "gap": gap}
    return curves


def read_table(text: str) -> pd.DataFrame:
    """Return a CSV text as a table."""
    return pd.read_csv(io.StringIO(text), float_precision="round_trip")


def over_seeds(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the mean and the standard deviation of a curve over its seeds.

    Args:
        curve: as `learning_curves` returns it.

    Returns:
        A table with the epoch as index. It has the columns of `curve` but epoch and seed, the means, and for each of
        them a column `<name>_std`, the sample standard deviation, which is missing if there is one seed.
    """
    groups = curve.drop(columns="seed").groupby("epoch")
    return groups.mean().join(groups.std().add_suffix("_std"))
