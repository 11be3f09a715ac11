"""NumPy: nothing but the matrix products of an epoch of mlp128, and of large matrices, as a floor for any library.

Five products a batch, two forward and three backward, into arrays that are there already. No order is drawn, nothing is
gathered or converted, and there is no activation, no loss and no optimizer: it does not learn.
"""

import numpy as np
from common import SETTINGS, load, serve, timed

from digits.idx import CLASSES

SIZE, (HIDDEN,) = SETTINGS.model("mlp128").batch_size, SETTINGS.model("mlp128").units
WIDE, LONG, TRIES = 2048, 2**26, 7  # of the machine's limits: side of a matrix, floats of an array, measurements


class Epochs:
    """The arrays of one network; each call is the products of one epoch."""

    def __init__(self) -> None:
        images, _ = load("train", "validation")
        self._images = images.reshape(len(images), -1).astype(np.float32)
        rng = np.random.default_rng(0)
        inputs = self._images.shape[1]
        self._kernel1, self._kernel2, self._error = (
            rng.normal(size=shape).astype(np.float32)
            for shape in ((inputs, HIDDEN), (HIDDEN, CLASSES), (SIZE, CLASSES))
        )
        self._hidden, self._logits, self._hidden_error, self._gradient1, self._gradient2 = (
            np.empty(shape, np.float32)
            for shape in ((SIZE, HIDDEN), (SIZE, CLASSES), (SIZE, HIDDEN), (inputs, HIDDEN), (HIDDEN, CLASSES))
        )

    def epoch(self) -> dict[str, float | None]:
        return {"seconds": timed(self._products)[0], "accuracy": None}

    def _products(self) -> None:
        for start in range(0, len(self._images) - SIZE + 1, SIZE):
            batch = self._images[start : start + SIZE]
            np.matmul(batch, self._kernel1, out=self._hidden)
            np.matmul(self._hidden, self._kernel2, out=self._logits)
            np.matmul(self._hidden.T, self._error, out=self._gradient2)
            np.matmul(self._error, self._kernel2.T, out=self._hidden_error)
            np.matmul(batch.T, self._hidden_error, out=self._gradient1)


def limits() -> dict[str, float]:
    """Return the most that this machine does in a second: float32 operations in a product, and bytes in a copy."""
    left, right, product = np.ones((3, WIDE, WIDE), np.float32)
    source, target = np.ones((2, LONG), np.float32)
    return {
        "operations": 2 * WIDE**3 / min(timed(lambda: np.matmul(left, right, out=product))[0] for _ in range(TRIES)),
        "bytes": 2 * source.nbytes / min(timed(lambda: np.copyto(target, source))[0] for _ in range(TRIES)),
    }


if __name__ == "__main__":
    epochs = Epochs()
    serve({"epoch": epochs.epoch, "test": lambda: None, "limits": limits})
