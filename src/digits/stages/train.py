"""Stage train: one run of a variant gives the weights of every epoch of the grid."""

import csv
from dataclasses import astuple, fields

import numpy as np
from tqdm import tqdm

from digits import models, params, paths, training
from digits.backend import pin_threads
from digits.files import csv_line, read_arrays, replacing, write_arrays


def run(variant: str) -> None:
    settings = params.load(paths.PARAMS)
    spec, section, out = settings.model(variant), settings.train, paths.Variant(variant)
    pin_threads(section.threads)

    train, validation = (read_arrays(path) for path in (paths.TRAIN, paths.VALIDATION))
    if not spec.validation:
        train = {key: np.concatenate((train[key], validation[key])) for key in train}
    held_out = (validation["images"], validation["labels"]) if spec.validation else None

    model = models.build(spec, section.seed)
    grid = section.epoch_grid
    kept: list[dict[str, np.ndarray]] = []
    out.plots.mkdir(parents=True, exist_ok=True)
    # Written as it grows, unlike all other files, so that an editor can draw it while training runs; should it be cut
    # short, DVC knows that the stage has not ended and runs it again.
    with (
        out.training.open("w", encoding="utf-8", newline="") as file,
        tqdm(total=section.epochs, desc=variant, unit="epoch", disable=None) as progress,
    ):
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(field.name for field in fields(training.Result))
        results = training.train(
            model, spec, (train["images"], train["labels"]), held_out, epochs=section.epochs, seed=section.seed
        )
        for result in results:
            rows.writerow(csv_line(astuple(result)))
            file.flush()
            if result.epoch in grid:
                kept.append(models.weights(model))
            progress.update()
            figures = _figures(result)
            progress.set_postfix_str(figures)
            if progress.disable:
                print(f"{variant} epoch {result.epoch}/{section.epochs}: {figures}", flush=True)

    with replacing(out.summary) as temporary:
        temporary.write_text(models.summary(model), encoding="utf-8")
    models.save(model, out.model)
    stacked = {path: np.stack([weights[path] for weights in kept]) for path in kept[0]}
    write_arrays(out.weights, epochs=np.array(grid, np.int64), **stacked)


def _figures(result: training.Result) -> str:
    text = f"loss {result.loss:.4f}, accuracy {result.accuracy:.2%}"
    if result.val_accuracy is None:
        return text
    return f"{text}, validation loss {result.val_loss:.4f}, validation accuracy {result.val_accuracy:.2%}"
