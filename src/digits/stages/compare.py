"""Stage compare: the listed variants beside each other and beside what the reports published."""

from pathlib import Path
from typing import Any

from digits import curves, figures, params, paths, published
from digits.files import read_json, write_csv, write_json


def run() -> None:
    settings = params.load(paths.PARAMS)
    variants = [paths.Variant(name) for name in settings.variants]
    by_split = {key: curve for variant in variants for key, curve in _curves(variant).items()}
    metrics = {variant.name: read_json(variant.metrics) for variant in variants}

    write_json(paths.SUMMARY, {name: _summary(values) for name, values in metrics.items()})
    write_csv(
        paths.CURVES,
        ("variant", "split", "epoch", "accuracy", "loss"),
        [
            (variant.name, split, epoch, curve["accuracy"][epoch], curve["loss"][epoch])
            for variant in variants
            for split in curves.SPLITS
            for curve in [by_split.get((variant.name, split), {})]
            for epoch in curve.get("epoch", ())
        ],
    )
    write_json(paths.PUBLISHED_METRICS, _published(settings, by_split))

    tests = {name: by_split[name, "test"] for name in settings.variants}
    figures.accuracy_and_loss(
        _series(tests, "accuracy"),
        _series(tests, "loss"),
        "Test accuracy and loss against epochs of training",
        paths.COMPARE_PLOTS / "test.png",
        split="test",
    )
    for variant in variants:
        splits = {split: by_split[variant.name, split] for split in curves.SPLITS if (variant.name, split) in by_split}
        figures.accuracy_and_loss(
            _series(splits, "accuracy"),
            _series(splits, "loss"),
            f"{variant.name}: accuracy and loss against epochs of training",
            paths.COMPARE_PLOTS / f"{variant.name}.png",
        )


def _curves(variant: paths.Variant) -> dict[tuple[str, str], curves.Curve]:
    texts = [path.read_text(encoding="utf-8") for path in (variant.training, variant.epochs)]
    return {(variant.name, split): curve for split, curve in curves.of_variant(*texts).items()}


def _series(named: dict[str, curves.Curve], column: str) -> figures.Series:
    return {name: (list(curve[column]), list(curve[column].values())) for name, curve in named.items()}


def _summary(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        "accuracy": metrics["test"]["accuracy"],
        "loss": metrics["test"]["loss"],
        "errors": metrics["test"]["errors"],
        "best_epoch": metrics["best"]["epoch"],
        "best_accuracy": metrics["best"]["accuracy"],
        "best_loss": metrics["best"]["loss"],
        "calibration_error": metrics["calibration"]["expected_error"],
        "epochs": metrics["epochs"],
        "parameters": metrics["parameters"],
    }


def _published(settings: params.Params, by_split: published.Curves) -> dict[str, Any]:
    source = params.read(paths.PUBLISHED, published.Published)
    experiments = read_json(paths.EXPERIMENT_METRICS)

    def read(file: str) -> Any | None:
        # The files of variants that are no longer listed may still be there, of another run.
        path = Path(file)
        listed = path == paths.DATASET_METRICS or path in [paths.Variant(name).metrics for name in settings.variants]
        return read_json(path) if listed else None

    return {
        "protocols": {
            "published": {name: report.protocol for name, report in source.reports.items()},
            "measured": {name: _protocol(settings, name) for name in settings.variants},
        },
        "numbers": [published.compare_number(number, by_split, read, experiments) for number in source.numbers],
        "claims": [published.compare_claim(claim, by_split) for claim in source.claims],
    }


def _protocol(settings: params.Params, variant: str) -> str:
    """Return in words how a variant was trained here."""
    spec, train = settings.models[variant], settings.train
    held_out = f"{settings.preprocess.validation_fraction:.0%} of the training images held out"
    rate = f"{spec.optimizer.learning_rate:g}"
    if spec.optimizer.decay != 1:
        rate += f" times {spec.optimizer.decay:g} each epoch"
    momentum = spec.optimizer.ema_momentum
    average = "" if momentum is None else f", weights averaged with momentum {momentum:g}"
    layers = [
        f"convolution {c.kernel}x{c.kernel} stride {c.stride} to {c.filters}"
        + (f", pool {c.pool}" if c.pool > 1 else "")
        for c in spec.convolutions
    ]
    if spec.dropout:
        layers.append(f"dropout {spec.dropout:g}")
    layers += [f"dense {units} ReLU" for units in spec.units]
    return "; ".join(
        [
            ", ".join([*layers, "softmax"]),
            f"pixels from 0 to {1 if spec.normalize else 255}",
            f"{spec.optimizer.name} {rate}, batch {spec.batch_size}" + average,
            held_out if spec.validation else "all training images trained on",
            *([f"each training image shifted by at most {spec.shift} pixels"] if spec.shift else []),
            *([_distortion(spec.distortion)] if spec.distortion else []),
            f"one run of {train.epochs} epochs from scratch, seed {train.seed}, measured after each epoch",
        ]
    )


def _distortion(distortion: params.Distortion) -> str:
    rotate, zoom, shear = distortion.rotate, distortion.zoom, distortion.shear
    return f"rotated by at most {rotate:g} degrees, zoomed by {zoom:.0%}, sheared by {shear:g}"
