import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support import WITH_TENSORFLOW, lazily

from digits.core.artifacts import write_arrays
from digits.core.errors import UserError
from digits.core.params import ModelSettings
from digits.inference import ensemble
from digits.inference.ensemble import Convolution, Dense, Pool, Scale

networks = lazily("digits.modeling.networks")
pytestmark = WITH_TENSORFLOW
NETWORKS = {
    "dense": {"units": [16, 12], "normalize": False, "dropout": 0.3},
    "convolutions": {
        "units": [8],
        "normalize": True,
        "convolutions": [{"filters": 3, "kernel": 4, "pool": 3}, {"filters": 5, "kernel": 3, "stride": 2}],
    },
}
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_probabilities_are_those_of_keras(name: str, tmp_path: Path) -> None:
    settings = ModelSettings.model_validate(
        {
            "validation": True,
            "loss": "sparse_categorical_crossentropy",
            "optimizer": {"name": "adam", "learning_rate": 0.001},
            "batch_size": 32,
            **NETWORKS[name],
        }
    )
    models = [networks.build(settings, seed) for seed in (3, 4)]
    # A checkpoint before the last one must not count.
    weights = {path: np.stack([np.zeros_like(value), value]) for path, value in networks.weights(models[0]).items()}
    second = {path: np.stack([value + 1, value]) for path, value in networks.weights(models[1]).items()}
    networks.save(models[0], tmp_path / "model.keras")
    both = {path: np.stack([weights[path], second[path]]) for path in weights}
    write_arrays(tmp_path / "weights.npz", seeds=np.array([3, 4]), epochs=np.array([1, 2]), **both)

    loaded = ensemble.load(name, tmp_path / "model.keras", tmp_path / "weights.npz")
    assert (loaded.variant, loaded.seeds) == (name, [3, 4])
    probabilities = loaded.probabilities(IMAGES)
    assert probabilities.shape == (2, 7, 10)
    assert probabilities.dtype == np.float32
    for model, found in zip(models, probabilities, strict=True):
        assert np.abs(found - model.predict(IMAGES, verbose=0)).max() < 1e-5


def test_no_image_gives_no_probability() -> None:
    model = ensemble.Ensemble(
        "a", [0], [[Scale(1.0), Dense(np.ones((784, 10), np.float32), np.ones(10, np.float32), relu=False)]]
    )
    assert model.probabilities(IMAGES[:0]).shape == (1, 0, 10)


def test_many_images_are_computed_in_parts() -> None:
    images = np.random.default_rng(1).integers(0, 256, (ensemble.BATCH + 1, 28, 28), np.uint8)
    kernel = np.random.default_rng(2).normal(0, 0.01, (784, 10)).astype(np.float32)
    layers: list[ensemble.Layer] = [Scale(1 / 255), Dense(kernel, np.zeros(10, np.float32), relu=False)]
    found = ensemble.forward(layers, images)
    assert len(found) == len(images)
    assert np.allclose(found[-1:], ensemble.forward(layers, images[-1:]))


def test_pooling_leaves_out_an_incomplete_square() -> None:
    pixels = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)
    assert Pool(2)(pixels).tolist() == [[[[6.0], [8.0]], [[16.0], [18.0]]]]


def test_a_convolution_adds_the_bias_before_relu() -> None:
    layer = Convolution(np.ones((2, 2, 1, 1), np.float32), np.array([-10], np.float32), 1)
    assert layer(np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)).ravel().tolist() == [0, 2, 10, 14]


def save(folder: Path, kind: str) -> None:
    layers = [{"class_name": kind, "config": {"name": "strange"}}]
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
    write_arrays(folder / "weights.npz", seeds=np.array([0]), epochs=np.array([1]))


def test_an_unknown_layer_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "LSTM")
    with pytest.raises(UserError, match=r"^the layer strange \(LSTM\) is not known$"):
        ensemble.load("a", tmp_path / "model.keras", tmp_path / "weights.npz")


def test_a_damaged_model_is_one_line(tmp_path: Path) -> None:
    save(tmp_path, "Flatten")
    (tmp_path / "model.keras").write_bytes(b"no zip file")
    with pytest.raises(UserError, match=r"model\.keras cannot be read \(.*\): type `digits repair`, then `dvc repro`$"):
        ensemble.load("a", tmp_path / "model.keras", tmp_path / "weights.npz")
