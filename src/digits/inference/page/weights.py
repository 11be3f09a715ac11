"""The weights of a variant in few bytes: rounded as far as the probabilities allow, compressed, and written as text."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from digits.core.images import SIDE
from digits.inference.ensemble import Convolution, Dense, Floats, Layer, forward

TOLERANCE = 5e-5  # the largest difference that rounding makes to a probability
FINER = 2**0.25  # factor between the steps that are tried
TRIAL = 2.0**-12  # of the standard deviation of a kernel: the step at which its influence is measured
DOUBTFUL = 1000  # images with the lowest confidence, on which rounding makes the largest differences: tried first
SAMPLE = 2000  # images from which the correlations of a layer's inputs are measured
DAMPING = 0.01  # of the mean square of an input: keeps corrections away from inputs that are hardly ever on
UNWRITABLE = (0, 13, 60)  # NUL and CR, which a browser replaces, and <, which can end a script

Images = NDArray[np.uint8]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Rounded:
    """A network with rounded kernels.

    Attributes:
        network: The layers, whose kernels are multiples of a step.
        integers: Each kernel in steps, (inputs, units).
        steps: The step of each kernel.
        difference: The largest difference of a probability from that of the original network.
    """

    network: list[Layer]
    integers: list[Integers]
    steps: list[float]
    difference: float


def round_network(network: Sequence[Layer], images: Images) -> Rounded:
    """Round the kernels of a network as coarsely as the probabilities of images allow.

    No probability changes by more than `TOLERANCE`, and no answer changes. The error that a kernel adds is proportional
    to its number of weights, which takes the fewest bits for a given error in total.

    Args:
        network: the layers of one seed.
        images: (n, 28, 28), on which the probabilities are compared.
    """
    exact = forward(network, images)
    doubtful = np.argsort(exact.max(axis=1), kind="stable")[:DOUBTFUL]
    kernels = list(_kernels(network, images[:SAMPLE]))

    def differences(rounded: Sequence[Layer]) -> Floats:
        return forward(rounded, images[doubtful]) - exact[doubtful]

    relative = []
    for kernel in kernels:
        step = TRIAL * float(kernel.values.std()) or 1.0
        rounded, _ = _round(network, [kernel], [step])
        error = float(np.sqrt(np.mean(np.square(differences(rounded), dtype=np.float64))))
        relative.append(step * kernel.values.size**0.5 / max(error, 1e-12))

    scale = TOLERANCE / sum(kernel.values.size for kernel in kernels) ** 0.5  # the root mean square error is TOLERANCE
    while True:
        scale /= FINER
        steps = [scale * each for each in relative]
        rounded, integers = _round(network, kernels, steps)
        if np.abs(differences(rounded)).max() > TOLERANCE:
            continue
        probabilities = forward(rounded, images)
        largest = float(np.abs(probabilities - exact).max())
        if largest <= TOLERANCE and (probabilities.argmax(axis=1) == exact.argmax(axis=1)).all():
            return Rounded(rounded, integers, steps, largest)


def pack(rounded: Sequence[Rounded]) -> bytes:
    """Return the rounded kernels and the biases of networks, compressed (zlib).

    For each network and layer, these are the kernel, then the bias as little-endian float32. The integers n of a kernel
    become 2n, or -2n - 1 if negative; their bits, shifted so that the largest integer begins with the highest bit of a
    byte, are written in planes of one byte each, the highest first.
    """
    compressor = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
    parts = []
    for each in rounded:
        biases = [layer.bias for layer in each.network if isinstance(layer, Convolution | Dense)]
        for integers, bias in zip(each.integers, biases, strict=True):
            for content in (*_planes(integers), bias.astype("<f4").tobytes()):
                # A plane has a distribution of its own, so it starts a block with a code of its own.
                parts += [compressor.compress(content), compressor.flush(zlib.Z_FULL_FLUSH)]
    return b"".join([*parts, compressor.flush()])


def bits(integers: Integers) -> int:
    """Return the number of bits of the largest integer of a kernel, as `pack` writes it."""
    return int(_unsigned(integers).max()).bit_length()


def to_text(content: bytes) -> str:
    """Return bytes as text for a script element of a page in UTF-8, which takes a seventh more bytes.

    Each character from 0 to 127 stands for seven bits. A value that cannot be written, `UNWRITABLE[i]`, and the value v
    after it become one character, 128 (i + 1) + v, which takes two bytes.
    """
    stream = np.unpackbits(np.frombuffer(content, np.uint8))
    padded = np.pad(stream, (0, -len(stream) % 7)).reshape(-1, 7)
    values = iter((padded @ (1 << np.arange(6, -1, -1))).tolist())
    return "".join(
        chr(128 * (UNWRITABLE.index(value) + 1) + next(values, 0)) if value in UNWRITABLE else chr(value)
        for value in values
    )


@dataclass(frozen=True)
class _Kernel:
    """A kernel and how to round it.

    Attributes:
        layer: Its layer.
        position: Of the layer in the network.
        values: (inputs, units).
        order: The inputs in the order in which they are rounded.
        shares: (inputs, inputs), in this order: the share of the rounding error of one input's weights that is taken
            from the weights of a later input, which is often on at the same time.
    """

    layer: Convolution | Dense
    position: int
    values: NDArray[np.float64]
    order: NDArray[np.intp]
    shares: NDArray[np.float64]

    def round(self, step: float) -> Integers:
        """Return the kernel in steps, rounded so that the errors of correlated inputs cancel.

        This is the method of E. Frantar and others, GPTQ, 2023.
        """
        rest = self.values[self.order] / step
        ordered = np.empty(rest.shape, np.int64)
        for row in range(len(rest)):
            ordered[row] = np.rint(rest[row])
            rest[row + 1 :] -= np.outer(self.shares[row, row + 1 :], rest[row] - ordered[row])
        result = np.empty_like(ordered)
        result[self.order] = ordered
        return result


def _kernels(network: Sequence[Layer], images: Images) -> Iterator[_Kernel]:
    x = images.reshape(-1, SIDE, SIDE, 1).astype(np.float32)
    for position, layer in enumerate(network):
        if isinstance(layer, Convolution | Dense):
            values = layer.kernel.reshape(-1, layer.kernel.shape[-1]).astype(np.float64)
            if isinstance(layer, Dense):
                inputs = x.reshape(len(x), -1).astype(np.float64)
                squares = inputs.T @ inputs / len(inputs)
            else:  # has too few weights for correlations to matter
                squares = np.eye(len(values))
            yield _Kernel(layer, position, values, *_shares(squares))
        x = layer(x)


def _shares(squares: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the order and the shares of a `_Kernel` from the mean products of its inputs, (inputs, inputs)."""
    strength = np.diag(squares)
    order = np.argsort(-strength, kind="stable")
    damped = squares[np.ix_(order, order)] + (DAMPING * strength.mean() or 1.0) * np.eye(len(order))
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    return order, factor / np.diag(factor)[:, np.newaxis]


def _round(
    network: Sequence[Layer], kernels: Sequence[_Kernel], steps: Sequence[float]
) -> tuple[list[Layer], list[Integers]]:
    """Return a network with rounded kernels, and these kernels in steps."""
    layers, integers = list(network), []
    for kernel, step in zip(kernels, steps, strict=True):
        integers.append(kernel.round(step))
        values = (integers[-1] * step).astype(np.float32).reshape(kernel.layer.kernel.shape)
        layers[kernel.position] = replace(kernel.layer, kernel=values)
    return layers, integers


def _unsigned(integers: Integers) -> Integers:
    return np.where(integers < 0, -2 * integers - 1, 2 * integers)


def _planes(integers: Integers) -> Iterator[bytes]:
    width = bits(integers)
    count = -(-width // 8)
    shifted = _unsigned(integers) << (8 * count - width)
    for plane in range(count - 1, -1, -1):
        yield (shifted >> (8 * plane)).astype(np.uint8).tobytes()
