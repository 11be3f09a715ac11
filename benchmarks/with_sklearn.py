"""scikit-learn: `MLPClassifier.partial_fit`, one epoch per call."""

import numpy as np
from common import PARAMS, load, serve, timed
from sklearn.neural_network import MLPClassifier

SETTINGS = PARAMS.model("mlp128")


class Epochs:
    """A model; each call trains it for one more epoch."""

    def __init__(self) -> None:
        self._images, self._labels = _load_flat("train", "validation")
        self._model = MLPClassifier(
            (128,),
            solver="adam",
            batch_size=SETTINGS.batch_size,
            learning_rate_init=0.001,
            alpha=0,  # no weight penalty, like the other implementations
            random_state=0,
        )

    def epoch(self) -> dict[str, float]:
        # `partial_fit` trains one epoch and keeps Adam's moments; `fit` with `warm_start` would reset them.
        seconds, _ = timed(lambda: self._model.partial_fit(self._images, self._labels, classes=np.unique(self._labels)))
        return {"seconds": seconds, "accuracy": float(self._model.score(self._images, self._labels))}

    def test(self) -> float:
        return float(self._model.score(*_load_flat("test")))


def _load_flat(*splits: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images, float32 (n, 784), and labels, (n,)."""
    images, labels = load(*splits)
    return images.reshape(len(images), -1).astype(np.float32), labels


if __name__ == "__main__":
    epochs = Epochs()
    serve({"epoch": epochs.epoch, "test": epochs.test})
