"""scikit-learn: `MLPClassifier`, an epoch a call."""

import numpy as np
from common import SETTINGS, load, serve, timed
from sklearn.neural_network import MLPClassifier

SPEC = SETTINGS.model("mlp128")


class Epochs:
    """One model; each call trains it for one more epoch."""

    def __init__(self) -> None:
        self._images, self._labels = _flat("train", "validation")
        # alpha is a penalty on the weights, which the others have not. `partial_fit` is one epoch, and keeps Adam's
        # moments, which `fit` with `warm_start` begins anew.
        self._model = MLPClassifier(
            (128,), solver="adam", batch_size=SPEC.batch_size, learning_rate_init=0.001, alpha=0, random_state=0
        )

    def epoch(self) -> dict[str, float]:
        seconds, _ = timed(lambda: self._model.partial_fit(self._images, self._labels, classes=np.unique(self._labels)))
        return {"seconds": seconds, "accuracy": float(self._model.score(self._images, self._labels))}

    def test(self) -> float:
        return float(self._model.score(*_flat("test")))


def _flat(*names: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images, float32 (n, 784), and labels, (n,)."""
    images, labels = load(*names)
    return images.reshape(len(images), -1).astype(np.float32), labels


if __name__ == "__main__":
    epochs = Epochs()
    serve({"epoch": epochs.epoch, "test": epochs.test})
