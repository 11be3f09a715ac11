import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from support import IMAGES, WITH_TENSORFLOW, committed_params, lazily

from digits.core import params
from digits.core.errors import UserError

PARAMS = committed_params()
pytestmark = WITH_TENSORFLOW
backend, networks, training = (lazily(f"digits.modeling.{name}") for name in ("backend", "networks", "training"))
PARAMETERS = {"softmax": 7_850, "mlp64": 50_890, "mlp128": 101_770, "cnn": 80_202, "cnn-large": 321_226}


@pytest.mark.parametrize("variant", PARAMETERS)
def test_the_number_of_parameters_is_the_published_one(variant: str) -> None:
    model = networks.build(PARAMS.model(variant), seed=0)
    assert model.count_params() == PARAMETERS[variant]
    assert f"Total params: {PARAMETERS[variant]:,}" in networks.summary(model)


def test_a_pool_shrinks_the_output_of_its_convolution() -> None:
    layer = params.ConvolutionSettings(filters=3, kernel=5, pool=2)
    model = networks.build(PARAMS.models["cnn"].model_copy(update={"convolutions": [layer], "units": []}), seed=0)
    assert model.get_layer("pool1").output.shape == (None, 12, 12, 3)


def test_a_saved_model_maps_raw_pixels_to_probabilities(data: tuple[IMAGES, IMAGES], tmp_path: Path) -> None:
    settings = PARAMS.model("softmax")
    (result,) = training.train(settings, data, None, epochs=1, seeds=[0], workers=1)
    model, other = (training.restore(settings, result, len(data[1])) for _ in range(2))
    first, second = tmp_path / "a.keras", tmp_path / "b.keras"
    networks.save(model, first)
    loaded = networks.load(first)
    probabilities = loaded.predict(data[0][:20], verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    expected = softmax(networks.compile_logits(model)(data[0][:20]), axis=1)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)

    # The time and the addresses of objects in memory are others in a second run; the bytes are the same.
    networks.save(other, second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_a_missing_and_a_damaged_model_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with pytest.raises(UserError, match=r"model.keras does not exist: type `dvc repro`$"):
        networks.load(path)
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"model.keras cannot be loaded: it is damaged, or .*; type `digits repair`"):
        networks.load(path)


def test_a_model_that_contains_code_is_refused_and_runs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, mark = tmp_path / "model.keras", tmp_path / "mark"
    monkeypatch.setenv("MARK", str(mark))
    # Keras saves the lambda as byte-code, which cannot refer to the names of this module.
    layers = backend.keras.layers
    layer = layers.Lambda(lambda pixels: (__import__("os").mkdir(__import__("os").environ["MARK"]), pixels)[1])
    backend.keras.Sequential([layers.Input((1,)), layer]).save(path)
    mark.rmdir()
    with pytest.raises(UserError, match=r"model.keras cannot be loaded") as caught:
        networks.load(path)
    assert "safe_mode" not in str(caught.value)  # Keras advises to switch it off
    assert not mark.exists()
    backend.keras.saving.load_model(path, safe_mode=False)
    assert mark.exists(), "the code in the file does nothing, so its refusal proves nothing"


def test_a_model_that_refers_to_a_function_of_python_is_refused(tmp_path: Path) -> None:
    good, bad, mark = tmp_path / "good.keras", tmp_path / "bad.keras", tmp_path / "mark"
    backend.keras.Sequential([backend.keras.layers.Input((2,)), backend.keras.layers.Dense(1)]).save(good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                call = {"module": "os", "class_name": "system", "config": {"command": f"touch {mark}"}}
                content = json.dumps(json.loads(content) | call).encode()
            target.writestr(name, content)
    with pytest.raises(UserError, match=r"bad.keras cannot be loaded") as caught:
        networks.load(bad)
    assert str(caught.value).isprintable()
    assert not mark.exists()
