"""The networks of the variants, from raw pixels to probabilities, and their files."""

import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits.core.artifacts import atomic_write
from digits.core.errors import UserError
from digits.core.images import CLASSES, MAX_PIXEL, SIDE
from digits.core.params import ModelSettings
from digits.modeling.backend import keras, tf

BATCH = 1000  # images at a time, which limits the memory for the activations of a convolution
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can store


def build(settings: ModelSettings, seed: int) -> keras.Model:
    """Return the network of a variant with its initial weights.

    It maps uint8 pixels, (n, 28, 28), 0 to 255, to float32 probabilities, (n, 10). Scaling is its first layer, so that
    nobody who loads the model can forget it. The layer before the last is named `logits`.
    """
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input((SIDE, SIDE), dtype="uint8", name="pixels")
    x = layers.Rescaling(1 / MAX_PIXEL if settings.normalize else 1.0, name="scale")(inputs)
    if settings.convolutions:
        x = layers.Reshape((SIDE, SIDE, 1), name="channel")(x)
    for number, layer in enumerate(settings.convolutions, 1):
        x = layers.Conv2D(
            layer.filters, layer.kernel, strides=layer.stride, activation="relu", name=f"convolution{number}"
        )(x)
        if layer.pool > 1:
            x = layers.MaxPooling2D(layer.pool, name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    if settings.dropout:
        x = layers.Dropout(settings.dropout, seed=seed, name="dropout")(x)
    for number, units in enumerate(settings.units, 1):
        x = layers.Dense(units, activation="relu", name=f"hidden{number}")(x)
    x = layers.Dense(CLASSES, name="logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="digits")


def to_logits(model: keras.Model) -> keras.Model:
    """Return the part of a model that ends at the logits; it shares the weights of the model.

    A loss computed from probabilities has to clip them, which hides how wrong a confident mistake is.
    """
    return keras.Model(model.inputs, model.get_layer("logits").output)


def compile_logits(model: keras.Model) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a function from images, uint8 (n, 28, 28), to the logits of a model, float32 (n, 10)."""
    network = to_logits(model)
    forward = tf.function(network, autograph=False)

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        starts = range(0, len(images), BATCH)
        parts = [forward(tf.constant(images[start : start + BATCH])).numpy() for start in starts]
        return np.concatenate(parts)

    return logits


def weights(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """Return a copy of each weight by its path, e.g. `hidden1/kernel`."""
    return {variable.path: variable.numpy().copy() for variable in model.weights}


def set_weights(model: keras.Model, values: dict[str, NDArray[np.float32]]) -> None:
    """Set the weights of a model to those that `weights` returned for the same network."""
    for variable in model.weights:
        variable.assign(values[variable.path])


def summary(model: keras.Model) -> str:
    """Return the summary that Keras prints of a model."""
    lines: list[str] = []
    model.summary(line_length=80, print_fn=lambda line, **_: lines.append(line))
    return "\n".join(lines).rstrip() + "\n"


def save(model: keras.Model, path: Path) -> None:
    """Write a `.keras` file whose bytes depend on the model alone.

    Keras writes the time into it, twice, and the addresses of objects in memory; here these become constants.
    """
    with tempfile.TemporaryDirectory(prefix="digits-") as folder, atomic_write(path) as temporary:
        raw = Path(folder) / "model.keras"
        model.save(raw)
        with zipfile.ZipFile(raw) as source, zipfile.ZipFile(temporary, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "metadata.json":
                    content = json.dumps(json.loads(content) | {"date_saved": ""}).encode()
                if name == "config.json":
                    content = json.dumps(_renumbered(json.loads(content), {})).encode()
                target.writestr(zipfile.ZipInfo(name, ZIP_TIME), content)


def _renumbered(value: Any, numbers: dict[int, int]) -> Any:
    """Return a Keras configuration with its shared objects numbered in order of appearance."""
    if isinstance(value, list):
        return [_renumbered(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: numbers.setdefault(item, len(numbers)) if key == "shared_object_id" else _renumbered(item, numbers)
        for key, item in value.items()
    }


def load(path: Path) -> keras.Model:
    """Return a saved model; raise UserError if it is missing, damaged, or contains code to run."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: type `dvc repro`")
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except Exception:  # Keras documents no complete set, and advises to run the code
        raise UserError(
            f"{path} cannot be loaded: it is damaged, or contains code; type `digits repair`, then `dvc repro`"
        ) from None
