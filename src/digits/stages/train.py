"""Stage train: a run of a variant with each seed, with the weights of every checkpoint."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing

import numpy as np
from tqdm import tqdm

from digits.core import params, paths, seeds_wrong
from digits.core.artifacts import read_arrays, round_floats, write_arrays, write_text
from digits.core.chance import is_chance
from digits.core.errors import UserError
from digits.core.formatting import percent
from digits.core.images import CLASSES
from digits.core.params import ModelSettings
from digits.modeling import networks, training
from digits.modeling.backend import available_workers, pin_threads

COLUMNS = ("epoch", "seed", "loss", "accuracy", "val_loss", "val_accuracy")


def run(variant: str) -> None:
    """Train a variant with each seed, and write a model, the weights of all checkpoints and the training curves."""
    parameters = params.load(paths.PARAMS)
    settings, section, files = parameters.model(variant), parameters.train, paths.VariantFiles(variant)
    workers = available_workers(section.threads)
    pin_threads(section.threads, workers)

    train, validation = (read_arrays(path) for path in (paths.TRAIN, paths.VALIDATION))
    if not settings.validation:
        train = {key: np.concatenate((train[key], validation[key])) for key in train}
    held_out = (validation["images"], validation["labels"]) if settings.validation else None

    checkpoints = _Checkpoints(section.seeds, section.saved_epochs)
    finished: defaultdict[int, dict[int, training.EpochResult]] = defaultdict(dict)  # by epoch and seed
    files.plots.mkdir(parents=True, exist_ok=True)
    data = train["images"], train["labels"]
    # Written epoch by epoch, unlike all other files, so that an editor can draw it during training. If training is cut
    # short, DVC knows that the stage has not finished and runs it again.
    with (
        files.training.open("w", encoding="utf-8", newline="\n") as file,
        tqdm(total=section.epochs, desc=variant, unit="epoch", disable=None) as progress,
        closing(
            training.train(settings, data, held_out, epochs=section.epochs, seeds=section.seeds, workers=workers)
        ) as results,
    ):
        file.write(",".join(COLUMNS) + "\n")
        for result in results:
            if not result.is_finite:
                files.training.unlink()  # the start of a table without an end
                raise UserError(_divergence(variant, settings, result))
            checkpoints.add(result)
            finished[result.epoch][result.seed] = result
            if len(finished[result.epoch]) < len(section.seeds):
                continue
            epoch = finished.pop(result.epoch)
            last = [epoch[seed] for seed in section.seeds]
            for row in last:
                values = round_floats([getattr(row, column) for column in COLUMNS])
                file.write(",".join("" if value is None else str(value) for value in values) + "\n")
            file.flush()
            progress.update()
            message = _message(last)
            progress.set_postfix_str(message)
            if progress.disable:
                print(f"{variant} epoch {result.epoch}/{section.epochs}: {message}", flush=True)

    seeds_wrong.write(files.validation_errors, _validation_errors(last))
    model = training.restore(settings, last[0], len(train["labels"]))
    write_text(files.summary, networks.summary(model))
    networks.save(model, files.model)
    write_arrays(
        files.weights,
        seeds=np.array(section.seeds, np.int64),
        epochs=np.array(section.saved_epochs, np.int64),
        **checkpoints.weights,
    )
    if warning := _warning(variant, last, train["labels"]):
        print(warning, file=sys.stderr)


def _divergence(variant: str, settings: ModelSettings, result: training.EpochResult) -> str:
    return (
        f"{variant} diverges: in epoch {result.epoch} of seed {result.seed}, the loss or a weight is no longer finite; "
        f"models.{variant}.optimizer.learning_rate is {settings.optimizer.learning_rate:g}: set a lower one, or type "
        "`git checkout . && dvc checkout` to go back to the committed parameters and results"
    )


def _warning(variant: str, results: Sequence[training.EpochResult], labels: np.ndarray) -> str | None:
    """Return a line that names the seeds whose network has learned nothing; None if there are none."""
    counts = np.bincount(labels, minlength=CLASSES).tolist()
    seeds = [str(result.seed) for result in results if is_chance(result.accuracy, counts)]
    if not seeds:
        return None
    most = max(counts)
    return (
        f"warning: {variant} learned nothing with seed {', '.join(seeds)}: on the training images it is no better than "
        f"always answering {counts.index(most)}, which is right for {percent(most / len(labels))}; try "
        "another learning rate"
    )


class _Checkpoints:
    """The weights of every seed at every checkpoint."""

    def __init__(self, seeds: Sequence[int], epochs: Sequence[int]) -> None:
        self._seeds, self._epochs = ({key: index for index, key in enumerate(keys)} for keys in (seeds, epochs))
        self.weights: dict[str, np.ndarray] = {}  # by path, (seeds, checkpoints, ...)

    def add(self, result: training.EpochResult) -> None:
        """Keep the weights of an epoch that is a checkpoint."""
        if result.epoch not in self._epochs:
            return
        for path, values in result.weights.items():
            if path not in self.weights:
                self.weights[path] = np.empty((len(self._seeds), len(self._epochs), *values.shape), values.dtype)
            self.weights[path][self._seeds[result.seed], self._epochs[result.epoch]] = values


def _validation_errors(results: Sequence[training.EpochResult]) -> np.ndarray:
    """Return how many seeds misclassify each validation image, (n,), where n is 0 if no images were held out."""
    wrong = [result.val_wrong for result in results if result.val_wrong is not None]
    return np.asarray(np.sum(wrong, axis=0, dtype=np.int64)) if wrong else np.zeros(0, np.int64)


def _message(results: Sequence[training.EpochResult]) -> str:
    text = (
        f"loss {_mean([row.loss for row in results], '.4f')}, "
        f"accuracy {_mean([row.accuracy for row in results], '.2%')}"
    )
    losses = [row.val_loss for row in results if row.val_loss is not None]
    accuracies = [row.val_accuracy for row in results if row.val_accuracy is not None]
    if not losses:
        return text
    return f"{text}, validation loss {_mean(losses, '.4f')}, validation accuracy {_mean(accuracies, '.2%')}"


def _mean(values: Sequence[float], style: str) -> str:
    """Return a mean and, of several values, their standard deviation."""
    text = format(np.mean(values), style)
    return f"{text} ± {format(np.std(values, ddof=1), style)}" if len(values) > 1 else text
