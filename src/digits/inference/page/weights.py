"""Arrays as text for a page: few bits a weight, compressed."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from digits.inference.ensemble import Convolution, Dense, Layer, forward

TOLERANCE = 1e-3  # the largest difference that rounding makes to a probability
FRACTION = 23  # bits of the fraction of a float32; half precision has 10


def round_networks(networks: Sequence[Sequence[Layer]], images: NDArray[np.uint8]) -> tuple[list[list[Layer]], float]:
    """Round the kernels of networks to as few bits as the probabilities of images allow.

    No probability changes by more than `TOLERANCE`, and no answer changes.

    Args:
        networks: the layers of each seed.
        images: (n, 28, 28), on which the probabilities are compared.

    Returns:
        The rounded networks, and the largest difference of a probability.
    """
    exact = [forward(network, images) for network in networks]
    for bits in range(1, FRACTION + 1):
        rounded, largest = [], 0.0
        for network, before in zip(networks, exact, strict=True):
            rounded.append([_rounded(layer, bits) for layer in network])
            after = forward(rounded[-1], images)
            largest = max(largest, float(np.abs(after - before).max()))
            if largest > TOLERANCE or (after.argmax(axis=1) != before.argmax(axis=1)).any():
                break
        else:
            break
    return rounded, largest


def _rounded(layer: Layer, bits: int) -> Layer:
    """Return a layer with a number of bits for the fraction of each weight."""
    if not isinstance(layer, Convolution | Dense):
        return layer
    step = 1 << FRACTION - bits
    raw = layer.kernel.view(np.uint32)
    return replace(layer, kernel=((raw + step // 2) // step * step).view(np.float32))


def pack_networks(networks: Sequence[Sequence[Layer]]) -> str:
    """Return the kernel and the bias of each layer of each network as text.

    The first bytes of all float32 come first, then the second ones, and so on, because alike bytes compress well.
    """
    layers = [layer for network in networks for layer in network if isinstance(layer, Convolution | Dense)]
    values = np.concatenate([array.ravel() for layer in layers for array in (layer.kernel, layer.bias)])
    return pack(values.astype("<f4").view(np.uint8).reshape(-1, 4).T)


def pack(values: NDArray[np.uint8]) -> str:
    """Return bytes compressed (zlib) and in base64."""
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode("ascii")
