"""The models of a variant's seeds in NumPy, which starts in a tenth of the time that TensorFlow takes."""

import json
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from digits.core.artifacts import read_arrays
from digits.core.errors import UserError
from digits.core.images import SIDE

BATCH = 500  # images at a time, which limits the memory for the windows of a convolution

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """Multiplies by a factor."""

    factor: float

    def __call__(self, x: Floats) -> Floats:
        return x * np.float32(self.factor)


@dataclass(frozen=True)
class Convolution:
    """A convolution without padding, then ReLU.

    Attributes:
        kernel: (height, width, channels, filters).
        bias: (filters,).
        stride: In pixels.
    """

    kernel: Floats
    bias: Floats
    stride: int

    def __call__(self, x: Floats) -> Floats:
        """Map (n, height, width, channels) to (n, rows, columns, filters)."""
        height, width, channels, filters = self.kernel.shape
        windows = sliding_window_view(x, (height, width), axis=(1, 2))[:, :: self.stride, :: self.stride]
        flat = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, height * width * channels)
        sums = flat @ self.kernel.reshape(-1, filters) + self.bias
        result: Floats = np.maximum(sums, 0).reshape(*windows.shape[:3], filters)
        return result


@dataclass(frozen=True)
class Pool:
    """The maximum of each square of `size` pixels a side; a rest at the right and below is left out."""

    size: int

    def __call__(self, x: Floats) -> Floats:
        """Map (n, height, width, channels) to (n, rows, columns, channels)."""
        rows, columns = x.shape[1] // self.size, x.shape[2] // self.size
        kept = x[:, : rows * self.size, : columns * self.size]
        squares = kept.reshape(len(x), rows, self.size, columns, self.size, -1)
        largest: Floats = squares.max(axis=(2, 4))
        return largest


@dataclass(frozen=True)
class Dense:
    """A dense layer, then ReLU unless it is the last one.

    Attributes:
        kernel: (inputs, units).
        bias: (units,).
        relu: Whether ReLU follows.
    """

    kernel: Floats
    bias: Floats
    relu: bool

    def __call__(self, x: Floats) -> Floats:
        """Map (n, …), flattened, to (n, units)."""
        sums = x.reshape(len(x), len(self.kernel)) @ self.kernel + self.bias
        return np.maximum(sums, 0) if self.relu else sums


Layer = Scale | Convolution | Pool | Dense


@dataclass(frozen=True)
class Ensemble:
    """The models of a variant, one for each seed, as they are after the last epoch."""

    variant: str
    seeds: list[int]
    networks: list[list[Layer]]  # of each seed

    def probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """Return the probabilities of each seed, (seeds, n, 10), for images (n, 28, 28).

        Those of the ensemble are the means over the seeds.
        """
        # With one thread for each seed, a sum does not depend on the number of cores.
        with threadpool_limits(1), ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(partial(forward, images=images), self.networks)))


def forward(layers: Sequence[Layer], images: NDArray[np.uint8]) -> Floats:
    """Return the probabilities of one network, (n, 10), for images (n, 28, 28)."""
    parts = [_forward(layers, images[start : start + BATCH]) for start in range(0, max(1, len(images)), BATCH)]
    return np.concatenate(parts)


def _forward(layers: Sequence[Layer], images: NDArray[np.uint8]) -> Floats:
    x = images.reshape(-1, SIDE, SIDE, 1).astype(np.float32)
    for layer in layers:
        x = layer(x)
    probabilities: Floats = softmax(x.astype(np.float64), axis=1).astype(np.float32)
    return probabilities


def load(variant: str, model: Path, weights: Path) -> Ensemble:
    """Return the models of a variant.

    Args:
        variant: its name.
        model: the `.keras` file of one seed, of which only the configuration is read.
        weights: the `.npz` file with the weights of all seeds and epochs.

    Raises:
        UserError: a file is missing or damaged, or the network has a layer that is not known here.
    """
    arrays = read_arrays(weights)
    try:
        with zipfile.ZipFile(model) as archive:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
        seeds = arrays["seeds"].tolist()
        networks = [
            _network(layers, {path: array[seed, -1] for path, array in arrays.items() if "/" in path})
            for seed in range(len(seeds))
        ]
    except UserError:
        raise
    except Exception as error:  # zipfile documents no complete set
        raise UserError(
            f"{model} cannot be read ({str(error)[:200]}): type `digits repair`, then `dvc repro`"
        ) from None
    return Ensemble(variant, seeds, networks)


def _network(layers: Sequence[dict[str, Any]], weights: dict[str, Floats]) -> list[Layer]:
    network: list[Layer] = []
    for layer in layers:
        config, kind = layer["config"], layer["class_name"]
        kernel, bias = (weights.get(f"{config['name']}/{part}") for part in ("kernel", "bias"))
        match kind:
            case "Rescaling":
                network.append(Scale(config["scale"]))
            case "Conv2D" if kernel is not None and bias is not None:
                network.append(Convolution(kernel, bias, config["strides"][0]))
            case "MaxPooling2D":
                network.append(Pool(config["pool_size"][0]))
            case "Dense" if kernel is not None and bias is not None:
                network.append(Dense(kernel, bias, relu=config["activation"] == "relu"))
            case "InputLayer" | "Reshape" | "Flatten" | "Dropout" | "Softmax":
                pass  # the array has the right shape, or the layer acts while training only
            case _:
                raise UserError(f"the layer {config['name']} ({kind}) is not known")
    return network
