"""The weights of a variant as text, with as few bits as the probabilities allow."""

import base64
import zlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from digits.inference.ensemble import Convolution, Dense, Ensemble, Floats, Layer

TOLERANCE = 1e-3  # the largest change of a probability
BITS = range(11, 25)  # of a significand: from half precision to float32 as it is


def round_weights(ensemble: Ensemble, images: NDArray[np.uint8], exact: Floats) -> tuple[Ensemble, float]:
    """Return an ensemble with rounded weights that gives the same answers, and the largest change of a probability.

    `exact` has the probabilities of the ensemble, (seeds, n, 10), for the images, (n, 28, 28).
    """
    for bits in BITS:
        rounded = replace(ensemble, networks=[[_round(layer, bits) for layer in each] for each in ensemble.networks])
        found = rounded.probabilities(images)
        change = float(np.abs(found - exact).max())
        if change <= TOLERANCE and (found.argmax(axis=2) == exact.argmax(axis=2)).all():
            break
    return rounded, change


def _round(layer: Layer, bits: int) -> Layer:
    if not isinstance(layer, Convolution | Dense):
        return layer
    significands, exponents = np.frexp(layer.kernel)
    return replace(layer, kernel=np.ldexp(np.rint(np.ldexp(significands, bits)), exponents - bits))


def pack(ensemble: Ensemble) -> bytes:
    """Return the kernel and the bias of each layer of each seed as float32, first the lowest byte of every number.

    The lowest bits of a rounded number are zero, so this order takes fewer bytes once it is compressed.
    """
    layers = (layer for network in ensemble.networks for layer in network if isinstance(layer, Convolution | Dense))
    weights = np.concatenate([part.ravel() for layer in layers for part in (layer.kernel, layer.bias)])
    return weights.astype("<f4").view(np.uint8).reshape(-1, 4).T.tobytes()


def to_text(content: bytes) -> str:
    """Return bytes, compressed, in base64."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")
