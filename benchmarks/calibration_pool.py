"""Train the pools of section calibration: the test errors of many seeds of each variant.

    python benchmarks/calibration_pool.py NAME

trains one pool in this process, which the runner starts with the environment variables of the pool.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digits.core import params, paths
from digits.core.artifacts import atomic_write, read_arrays

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks/calibration"
# Stands for a processor without AVX-512. It changes no byte of softmax and mlp64, whose loops XLA compiles.
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}


@dataclass(frozen=True)
class Pool:
    """Runs of one variant that differ in nothing but the seed."""

    name: str
    variant: str
    seeds: range
    units: int | None = None  # of the hidden layer; None: as in params.yaml
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file with the errors of each seed."""
        return FOLDER / f"{self.name}.npz"


DENSE, CNN = range(40), range(20)
SIZES = {"softmax": DENSE, "mlp64": DENSE, "mlp128": DENSE, "cnn": CNN}
UNITS = (68, 72, 80, 96)
POOLS = {
    pool.name: pool
    for pool in [
        *(Pool(variant, variant, seeds) for variant, seeds in SIZES.items()),
        *(Pool(f"mlp64-{units}", "mlp64", DENSE, units) for units in UNITS),
        *(Pool(f"{variant}-avx2", variant, seeds, environment=AVX2) for variant, seeds in SIZES.items()),
    ]
}


def read(pool: Pool) -> NDArray[np.bool_]:
    """Return whether each seed misclassifies each test image, bool (seeds, images)."""
    arrays = read_arrays(pool.path)
    wrong: NDArray[np.bool_] = np.unpackbits(arrays["wrong"], axis=1, count=int(arrays["images"])).astype(bool)
    return wrong


def train(pool: Pool) -> None:
    """Train a pool, and write its file."""
    # TensorFlow, which the runner does not need
    from digits.modeling import networks, training  # noqa: PLC0415
    from digits.modeling.backend import available_workers, pin_threads  # noqa: PLC0415

    parameters = params.load(ROOT / paths.PARAMS)
    settings = parameters.models[pool.variant]
    if pool.units is not None:
        settings = settings.model_copy(update={"units": [pool.units]})
    workers = available_workers(parameters.train.threads)
    pin_threads(parameters.train.threads, workers)
    data, validation, test = (read_arrays(ROOT / path) for path in (paths.TRAIN, paths.VALIDATION, paths.TEST))
    if not settings.validation:
        data = {key: np.concatenate((data[key], validation[key])) for key in data}
    model = networks.build(settings, 0)
    predict = networks.compile_logits(model)
    wrong = np.zeros((len(pool.seeds), len(test["labels"])), bool)
    epochs = parameters.train.epochs
    for result in training.train(
        settings, (data["images"], data["labels"]), None, epochs=epochs, seeds=pool.seeds, workers=workers
    ):
        if result.epoch == epochs:
            networks.set_weights(model, result.weights)
            wrong[pool.seeds.index(result.seed)] = predict(test["images"]).argmax(axis=1) != test["labels"]
    with atomic_write(pool.path) as temporary:
        np.savez_compressed(temporary, wrong=np.packbits(wrong, axis=1), images=np.int64(wrong.shape[1]))


if __name__ == "__main__":
    train(POOLS[sys.argv[1]])
