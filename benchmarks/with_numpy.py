"""NumPy: only the matrix products of an epoch of mlp128, as a lower bound for any implementation.

A batch takes five products, two forward and three backward, into preallocated arrays. There is no shuffling, gathering,
conversion, activation, loss or optimizer, so the network does not learn.
"""

import numpy as np
from common import PARAMS, load, serve, timed

from digits.core.images import CLASSES

SETTINGS = PARAMS.model("mlp128")
BATCH_SIZE, (HIDDEN,) = SETTINGS.batch_size, SETTINGS.units

# For the machine's limits: the side of the square matrices, the floats of the copied array, and the repetitions.
SIDE, COPIED, REPEATS = 2048, 2**26, 7


class Epochs:
    """The arrays of one network; each call computes the products of one epoch."""

    def __init__(self) -> None:
        images, _ = load("train", "validation")
        self._images = images.reshape(len(images), -1).astype(np.float32)
        rng = np.random.default_rng(0)
        inputs = self._images.shape[1]
        self._kernel1, self._kernel2, self._error = (
            rng.normal(size=shape).astype(np.float32)
            for shape in ((inputs, HIDDEN), (HIDDEN, CLASSES), (BATCH_SIZE, CLASSES))
        )
        self._hidden, self._logits, self._hidden_error, self._gradient1, self._gradient2 = (
            np.empty(shape, np.float32)
            for shape in (
                (BATCH_SIZE, HIDDEN),
                (BATCH_SIZE, CLASSES),
                (BATCH_SIZE, HIDDEN),
                (inputs, HIDDEN),
                (HIDDEN, CLASSES),
            )
        )

    def epoch(self) -> dict[str, float | None]:
        return {"seconds": timed(self._products)[0], "accuracy": None}

    def _products(self) -> None:
        for start in range(0, len(self._images) - BATCH_SIZE + 1, BATCH_SIZE):
            batch = self._images[start : start + BATCH_SIZE]
            np.matmul(batch, self._kernel1, out=self._hidden)
            np.matmul(self._hidden, self._kernel2, out=self._logits)
            np.matmul(self._hidden.T, self._error, out=self._gradient2)
            np.matmul(self._error, self._kernel2.T, out=self._hidden_error)
            np.matmul(batch.T, self._hidden_error, out=self._gradient1)


def limits() -> dict[str, float]:
    """Return the machine's float32 operations per second in a matrix product, and bytes per second in a copy."""
    left, right, product = np.ones((3, SIDE, SIDE), np.float32)
    source, target = np.ones((2, COPIED), np.float32)
    return {
        "operations": 2 * SIDE**3 / min(timed(lambda: np.matmul(left, right, out=product))[0] for _ in range(REPEATS)),
        "bytes": 2 * source.nbytes / min(timed(lambda: np.copyto(target, source))[0] for _ in range(REPEATS)),
    }


if __name__ == "__main__":
    epochs = Epochs()
    serve({"epoch": epochs.epoch, "test": lambda: None, "limits": limits})
