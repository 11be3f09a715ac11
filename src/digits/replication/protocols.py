"""Descriptions of this run's protocols, to be read beside those of the reports."""

from digits.core.params import DistortionSettings, ModelSettings, Params


def describe(parameters: Params, variant: str) -> str:
    """Return a description of how a variant was trained and measured."""
    settings, train = parameters.models[variant], parameters.train
    held_out = f"{parameters.preprocess.validation_fraction:.0%} of the training images held out"
    parts = [
        _network(settings),
        f"pixels from 0 to {1 if settings.normalize else 255}",
        _optimizer(settings),
        held_out if settings.validation else "all training images trained on",
        *([f"each training image shifted by at most {settings.shift} pixels"] if settings.shift else []),
        *([_distortion(settings.distortion)] if settings.distortion else []),
        f"runs of {train.epochs} epochs from scratch, {_seeds(train.seeds)}, measured after each epoch",
    ]
    return "; ".join(parts)


def _seeds(seeds: list[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def _network(settings: ModelSettings) -> str:
    layers = [
        f"convolution {layer.kernel}x{layer.kernel} stride {layer.stride} to {layer.filters}"
        + (f", pool {layer.pool}" if layer.pool > 1 else "")
        for layer in settings.convolutions
    ]
    if settings.dropout:
        layers.append(f"dropout {settings.dropout:g}")
    layers += [f"dense {units} ReLU" for units in settings.units]
    return ", ".join([*layers, "softmax"])


def _optimizer(settings: ModelSettings) -> str:
    optimizer = settings.optimizer
    rate = f"{optimizer.learning_rate:g}"
    if optimizer.decay != 1:
        rate += f" times {optimizer.decay:g} each epoch"
    momentum = optimizer.ema_momentum
    average = "" if momentum is None else f", weights averaged with momentum {momentum:g}"
    return f"{optimizer.name} {rate}, batch {settings.batch_size}{average}"


def _distortion(distortion: DistortionSettings) -> str:
    rotate, zoom, shear = distortion.rotate, distortion.zoom, distortion.shear
    return f"rotated by at most {rotate:g} degrees, zoomed by {zoom:.0%}, sheared by {shear:g}"
