"""Seconds an epoch of mlp128: the compiled epoch against Keras's `fit`, in one process and in turn.

    python benchmarks/epoch.py [ROUNDS]

Needs `data/processed` (`make repro`). Same images, batch size, optimizer, loss and threads; prints each round, then
medians and their ratio. The accuracy on the training images stands beside the time, so that nothing wins by learning
less.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np

from digits import models, params, training
from digits.backend import keras, pin_threads
from digits.files import read_arrays

ROOT = Path(__file__).parent.parent


def main(rounds: int) -> None:
    """Print the seconds of each round of both, the medians and their ratio."""
    settings = params.load(ROOT / "params.yaml")
    spec = settings.model("mlp128")
    pin_threads(settings.train.threads)
    parts = [read_arrays(ROOT / "data/processed" / f"{name}.npz") for name in ("train", "validation")]
    images, labels = (np.concatenate([part[key] for part in parts]) for key in ("images", "labels"))
    steps = -(-len(labels) // spec.batch_size)

    network = models.to_logits(models.build(spec, seed=0))
    epoch = training.compile_epoch(network, training.make_optimizer(spec, steps), spec, images, labels)

    # As the reports call it: floats in, Keras's defaults.
    fitted = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    fitted.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    floats = images.astype(np.float32)

    seconds: dict[str, list[float]] = {"compiled epoch": [], "fit": []}
    for number in range(rounds + 1):
        start = time.perf_counter()
        _, accuracy = epoch(*training.epoch_inputs(spec, 0, number, len(labels)))
        mine = float(accuracy)
        middle = time.perf_counter()
        theirs = fitted.fit(floats, labels, batch_size=spec.batch_size, epochs=1, verbose=0).history["accuracy"][0]
        end = time.perf_counter()
        kind = "compiling, not counted" if number == 0 else f"round {number}"
        print(
            f"{kind}: compiled epoch {middle - start:.3f} s (accuracy {mine:.2%}), "
            f"fit {end - middle:.3f} s (accuracy {theirs:.2%})"
        )
        if number:
            seconds["compiled epoch"].append(middle - start)
            seconds["fit"].append(end - middle)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"medians: {medians}; fit takes {medians['fit'] / medians['compiled epoch']:.1f} times as long")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
