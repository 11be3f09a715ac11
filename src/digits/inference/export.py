"""The models of a variant as files for other programs, each compared with Keras before it is kept."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digits.core import params, paths
from digits.core.artifacts import atomic_write, read_arrays
from digits.core.errors import UserError
from digits.core.images import SIDE
from digits.inference import trained
from digits.modeling import networks
from digits.modeling.backend import hold_back_stderr, keras

with hold_back_stderr():
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

# Of a probability. The logits of a network on raw pixels exceed 1,000, of which float32 keeps seven digits: the
# probabilities of Keras itself are up to 1.3e-5 from the exact ones.
TOLERANCE = 1e-4
TIMED = 300  # images, one at a time

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]
Run = Callable[[Images], Floats]


@dataclass(frozen=True)
class Export:
    """A file that answers as Keras does.

    Attributes:
        path: Relative to the root of the repository.
        images: The number of test images, on all of which the answers are the same.
        difference: The largest difference of a probability.
        size: In bytes.
        seconds: For one image on one thread, the median of a few hundred.
    """

    path: Path
    images: int
    difference: float
    size: int
    seconds: float


def export(root: Path, variant: str, seed: int | None = None) -> Iterator[Export]:
    """Write the ensemble of a variant and the model of one seed as ONNX and LiteRT files.

    All files map pixels, uint8 (n, 28, 28), to probabilities, float32 (n, 10), for any n. Those of the ensemble are the
    means over the seeds.

    Args:
        root: of the repository.
        variant: an entry under `models` in params.yaml.
        seed: one of the seeds that the variant was trained with; by default the first.

    Yields:
        The description of each file, once it is written.

    Raises:
        UserError: there is no such variant or seed, the variant has not been trained, or a file would not answer as
            Keras does. That file is not written.
    """
    files = trained.files_of(root, params.load(root / paths.PARAMS), variant)
    weights = read_arrays(root / files.weights)
    images = read_arrays(root / paths.TEST)["images"]
    seeds = weights.pop("seeds").tolist()
    del weights["epochs"]
    chosen = seeds[0] if seed is None else seed
    if chosen not in seeds:
        raise UserError(f"'{variant}' has no model of seed {chosen}: choose one of {', '.join(map(str, seeds))}")

    with _quiet():
        models = []
        for place, number in enumerate(seeds):
            model = networks.load(root / files.model)
            networks.set_weights(model, {path: values[place, -1] for path, values in weights.items()})
            model.name = f"seed-{number}"
            models.append(model)
        wanted = {"ensemble": _ensemble(models), f"seed-{chosen}": models[seeds.index(chosen)]}
    for name, model in wanted.items():
        with _quiet():
            expected = model.predict(images, batch_size=networks.BATCH, verbose=0)
        for file_format, (suffix, load) in FORMATS.items():
            path = files.exports / f"{name}{suffix}"
            with atomic_write(root / path) as temporary:
                with _quiet():
                    model.export(temporary, format=file_format, verbose=False)
                    run = load(temporary)
                    found = _probabilities(run, images)
                    seconds = _seconds(run, images)
                difference = _difference(path, expected, found)
                size = temporary.stat().st_size
            yield Export(path, len(images), difference, size, seconds)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the messages and warnings of the libraries, unless the block fails."""
    with hold_back_stderr(), warnings.catch_warnings(action="ignore"):
        yield


def _ensemble(models: list[keras.Model]) -> keras.Model:
    """Return a model whose probabilities are the means of those of other models."""
    pixels = keras.Input((SIDE, SIDE), dtype="uint8", name="pixels")
    mean = keras.layers.Average(name="probabilities")([model(pixels) for model in models])
    return keras.Model(pixels, mean, name="ensemble")


def _load_onnx(path: Path) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"pixels": images})[0]


def _load_litert(path: Path) -> Run:
    run = Interpreter(str(path), num_threads=1).get_signature_runner()
    return lambda images: run(pixels=images)["output_0"]


# The suffix of each format of Keras, and what loads a file.
FORMATS: dict[str, tuple[str, Callable[[Path], Run]]] = {
    "onnx": (".onnx", _load_onnx),
    "litert": (".tflite", _load_litert),
}


def _probabilities(run: Run, images: Images) -> Floats:
    starts = range(0, len(images), networks.BATCH)
    return np.concatenate([run(images[start : start + networks.BATCH]) for start in starts])


def _seconds(run: Run, images: Images) -> float:
    """Return the median time for one image."""
    times = []
    for place in range(TIMED):
        image = images[[place % len(images)]]
        start = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _difference(path: Path, expected: Floats, found: Floats) -> float:
    """Return the largest difference of a probability; raise UserError if it is too large or changes an answer."""
    difference = float(np.abs(found - expected).max())
    answers = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if answers or not difference <= TOLERANCE:  # NaN, too, is a difference
        raise UserError(
            f"{path} is not written: {answers} of its {len(expected):,} answers are not those of Keras, and "
            f"probabilities differ by up to {difference:.2g}: `make environment` installs the versions that agree"
        )
    return difference
