"""Stage train: one run of a variant, with the weights of every checkpoint."""

from dataclasses import astuple, fields

import numpy as np
from tqdm import tqdm

from digits.core import params, paths
from digits.core.artifacts import read_arrays, round_floats, write_arrays, write_text
from digits.modeling import networks, training
from digits.modeling.backend import pin_threads


def run(variant: str) -> None:
    """Train a variant, and write its model, the weights of its checkpoints and its training curve."""
    parameters = params.load(paths.PARAMS)
    settings, section, files = parameters.model(variant), parameters.train, paths.VariantFiles(variant)
    pin_threads(section.threads)

    train, validation = (read_arrays(path) for path in (paths.TRAIN, paths.VALIDATION))
    if not settings.validation:
        train = {key: np.concatenate((train[key], validation[key])) for key in train}
    held_out = (validation["images"], validation["labels"]) if settings.validation else None

    model = networks.build(settings, section.seed)
    checkpoints: dict[int, dict[str, np.ndarray]] = {}
    files.plots.mkdir(parents=True, exist_ok=True)
    # Written line by line, unlike all other files, so that an editor can draw it during training. If training is cut
    # short, DVC knows that the stage has not finished and runs it again.
    with (
        files.training.open("w", encoding="utf-8", newline="\n") as file,
        tqdm(total=section.epochs, desc=variant, unit="epoch", disable=None) as progress,
    ):
        file.write(",".join(field.name for field in fields(training.EpochResult)) + "\n")
        results = training.train(
            model, settings, (train["images"], train["labels"]), held_out, epochs=section.epochs, seed=section.seed
        )
        for result in results:
            cells = ["" if value is None else str(value) for value in round_floats(astuple(result))]
            file.write(",".join(cells) + "\n")
            file.flush()
            if result.epoch in section.saved_epochs:
                checkpoints[result.epoch] = networks.weights(model)
            progress.update()
            message = _message(result)
            progress.set_postfix_str(message)
            if progress.disable:
                print(f"{variant} epoch {result.epoch}/{section.epochs}: {message}", flush=True)

    write_text(files.summary, networks.summary(model))
    networks.save(model, files.model)
    first = next(iter(checkpoints.values()))
    stacked = {path: np.stack([weights[path] for weights in checkpoints.values()]) for path in first}
    write_arrays(files.weights, epochs=np.array(list(checkpoints), np.int64), **stacked)


def _message(result: training.EpochResult) -> str:
    text = f"loss {result.loss:.4f}, accuracy {result.accuracy:.2%}"
    if result.val_accuracy is None:
        return text
    return f"{text}, validation loss {result.val_loss:.4f}, validation accuracy {result.val_accuracy:.2%}"
