from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError
from support import committed, committed_params, edit

from digits.core import config, params
from digits.core.errors import UserError

TEXT = committed("params.yaml")
CONTENT = config.parse_like_dvc(TEXT)


def test_the_committed_parameters_are_valid() -> None:
    loaded = committed_params()
    assert loaded.variants == ["softmax", "mlp64", "mlp128", "cnn"]
    assert loaded.train.saved_epochs == list(range(1, 31))
    assert loaded.train.seeds == [0, 1, 2, 3, 4]
    assert loaded.download.files.by_name()["t10k-labels-idx1-ubyte"].bytes == 10_008
    assert loaded.model("mlp128").normalize is False


SMALLER = "train.checkpoints must be null, or ascend and end with epochs, 30; it is"
NAME = "the name of a variant must be 1 to 64 of a-z, 0-9 and inner hyphens, and must not end with -errors"
SPLIT = "of the 60000 published training images would be for validation, and"
CNN = "models__cnn__convolutions"
LAYER = "models.cnn.convolutions"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train__epochs", True, "train.epochs is True: it must be a whole number"),
        ("train__checkpoints", [1, 2], f"{SMALLER} [1, 2]"),
        ("train__checkpoints", [2, 1, 30], f"{SMALLER} [2, 1, 30]"),
        ("train__seeds", [0, -1], "train.seeds[1] is -1: it must be greater than or equal to 0"),
        ("train__seeds", [5, 3, 7, 3], "train.seeds[3] is 3, which the list already contains: name each once"),
        ("models__mlp64__zzz", 6, "models.mlp64.zzz is an unknown key; the known keys are normalize, validation, "),
        (CNN, [{"filters": 8, "strides": 2}], f"{LAYER}[0].strides is an unknown key; did you mean stride?"),
        (
            "models__cnn-large__distortion__turn",
            1,
            "models.cnn-large.distortion.turn is an unknown key; the known keys ",
        ),
        ("models__mlp64__normalize", "yes", "models.mlp64.normalize is 'yes': it must be a boolean"),
        ("models__mlp64__loss", "mse", "models.mlp64.loss is 'mse': it must be 'categorical_crossentropy' or "),
        (
            CNN,
            [{"filters": 8, "kernel": 25}, {"filters": 8, "kernel": 5}],
            f"{LAYER}[1] has kernel 5, stride 1 and pool 1, but its input has only 4x4 pixels: ",
        ),
        (
            CNN,
            [{"filters": 8, "kernel": 27, "pool": 3}],
            f"{LAYER}[0] has kernel 27, stride 1 and pool 3, but its input has only 28x28 pixels: kernel + stride * ",
        ),
        (
            CNN,
            [{"filters": 8, "kernel": 3}, {"filters": 8, "kernel": 1, "stride": 2}],
            f"{LAYER}[1] has kernel 1 and stride 2, which TensorFlow may crash on: set stride 1, or a kernel of at ",
        ),
        (
            "evaluate__writers",
            {"source": "x", "sha256": "abc"},
            "evaluate.writers.sha256 is 'abc': it must be 64 hexadecimal digits in lower case",
        ),
        ("variants", [], "variants is []: it must name at least one"),
        (
            "variants",
            ["mlp46"],
            "variants[0] is 'mlp46', which has no entry under models; the entries are softmax, mlp64, ",
        ),
        ("variants", ["cnn", "cnn"], "variants[1] is 'cnn', which the list already contains: name each once"),
        ("variants", ["../../etc"], f"variants[0] is '../../etc': {NAME}"),
        ("models__a-errors", 1, f"models.a-errors is 'a-errors': {NAME}"),
        ("preprocess__validation_fraction", 1, "preprocess.validation_fraction is 1: it must be less than 1"),
        (
            "preprocess__validation_fraction",
            0.0001,
            f"preprocess.validation_fraction is 0.0001: 6 {SPLIT} 59994 for training; each part needs at least 10",
        ),
        ("preprocess__validation_fraction", 0.99984, f"preprocess.validation_fraction is 0.99984: 59991 {SPLIT} 9 "),
        (
            "download__files__train-labels-idx1-ubyte__bytes",
            1,
            "preprocess.validation_fraction is 0.25: 0 of the 0 published training images would be for validation",
        ),
        (
            "download__sources",
            ["ftp://x"],
            "download.sources[0] is 'ftp://x': it must be http(s)://…, file:…, a folder",
        ),
    ],
)
def test_a_mistake_names_the_key_the_value_and_what_is_allowed(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT, encoding="utf-8")
    edit(path, **{key: value})
    with pytest.raises(UserError) as caught:
        params.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


SHA256 = "0" * 64
SGD = {"name": "sgd", "learning_rate": 0.1}
CONVOLUTION = {"filters": 1, "kernel": 1}
TRAIN = {"epochs": 10_000, "checkpoints": None, "seeds": [0], "threads": 1}
DISTORTION = {"rotate": 0, "zoom": 0, "shear": 0}
MODEL = CONTENT["models"]["mlp64"]
DOWNLOAD = CONTENT["download"]
# Every number of params.yaml: the least and the greatest allowed value, and their neighbours that are refused.
LIMITS: list[tuple[type[config.Section], dict[str, Any], str, list[float], list[float]]] = [
    (params.FileSpec, {"sha256": SHA256}, "bytes", [1, 2**31], [0, 2**31 + 1]),
    (params.DownloadSettings, DOWNLOAD, "timeout", [0.001, 3600], [0, 3600.1]),
    (params.DownloadSettings, DOWNLOAD, "retries", [0, 10], [-1, 11]),
    (params.PreprocessSettings, {"seed": 0}, "validation_fraction", [0.001, 0.999], [0, 1]),
    (params.PreprocessSettings, {"validation_fraction": 0.5}, "seed", [0, 2**31 - 1], [-1, 2**31]),
    (params.TrainSettings, TRAIN, "epochs", [1, 10_000], [0, 10_001]),
    (params.TrainSettings, TRAIN, "threads", [1, 256], [0, 257]),
    (params.EvaluateSettings, {}, "calibration_bins", [2, 1000], [1, 1001]),
    (params.AnalyzeSettings, {}, "images", [1, 100], [0, 101]),
    (params.ReviewSettings, {}, "margin", [0, 100], [-0.1, 100.1]),
    (params.OptimizerSettings, SGD, "learning_rate", [1e-9, 100], [0, 100.1]),
    (params.OptimizerSettings, SGD, "decay", [1e-9, 1], [0, 1.001]),
    (params.OptimizerSettings, SGD, "ema_momentum", [1e-9, 0.999], [0, 1]),
    (params.ConvolutionSettings, CONVOLUTION, "filters", [1, 1024], [0, 1025]),
    (params.ConvolutionSettings, CONVOLUTION, "kernel", [1, 28], [0, 29]),
    (params.ConvolutionSettings, CONVOLUTION, "stride", [1, 28], [0, 29]),
    (params.ConvolutionSettings, CONVOLUTION, "pool", [1, 28], [0, 29]),
    (params.DistortionSettings, DISTORTION, "rotate", [0, 180], [-0.1, 180.1]),
    (params.DistortionSettings, DISTORTION, "zoom", [0, 0.5], [-0.1, 0.51]),
    (params.DistortionSettings, DISTORTION, "shear", [0, 1], [-0.1, 1.01]),
    (params.ModelSettings, MODEL, "dropout", [0, 0.999], [-0.1, 1]),
    (params.ModelSettings, MODEL, "batch_size", [1, 60_000], [0, 60_001]),
    (params.ModelSettings, MODEL, "shift", [0, 8], [-1, 9]),
]


@pytest.mark.parametrize(
    ("section", "rest", "key", "allowed", "refused"), LIMITS, ids=[f"{row[0].__name__}.{row[2]}" for row in LIMITS]
)
def test_a_number_is_allowed_up_to_its_limits(
    section: type[config.Section], rest: dict[str, Any], key: str, allowed: list[float], refused: list[float]
) -> None:
    for value in allowed:
        assert getattr(section.model_validate(rest | {key: value}), key) == value
    for value in refused:
        with pytest.raises(ValidationError) as caught:
            section.model_validate(rest | {key: value})
        assert [error["loc"] for error in caught.value.errors()] == [(key,)]


def test_the_limits_of_every_number_are_tested() -> None:
    definitions = {**params.json_schema()["$defs"], "Params": params.json_schema()}
    numbers = {
        (name, key)
        for name, definition in definitions.items()
        for key, value in definition["properties"].items()
        if {"integer", "number"} & {each.get("type") for each in value.get("anyOf", [value])}
    }
    assert numbers == {(section.__name__, key) for section, _, key, _, _ in LIMITS}


def test_optional_settings_are_off_by_default() -> None:
    model = params.ModelSettings.model_validate(MODEL)
    assert (model.convolutions, model.dropout, model.shift, model.distortion) == ([], 0, 0, None)
    assert (model.optimizer.decay, model.optimizer.ema_momentum) == (1, None)
    assert params.EvaluateSettings(calibration_bins=2).writers is None
    assert params.Params.model_validate({key: CONTENT[key] for key in CONTENT if key != "review"}).review.margin == 0.1
    layer = params.ConvolutionSettings.model_validate(CONVOLUTION)
    assert (layer.stride, layer.pool) == (1, 1)


@pytest.mark.parametrize("seeds", [[], list(range(101)), [1, -1], [1, 2**31]])
def test_there_may_be_1_to_100_seeds_of_31_bits(seeds: list[int]) -> None:
    for allowed in ([2**31 - 1, 0], list(range(100))):
        assert params.TrainSettings.model_validate(TRAIN | {"seeds": allowed}).seeds == allowed
    with pytest.raises(ValidationError) as caught:
        params.TrainSettings.model_validate(TRAIN | {"seeds": seeds})
    assert [error["loc"][0] for error in caught.value.errors()] == ["seeds"]


def test_the_checkpoints_are_the_saved_epochs() -> None:
    assert params.TrainSettings.model_validate(TRAIN | {"epochs": 9, "checkpoints": [3, 9]}).saved_epochs == [3, 9]
    assert params.TrainSettings.model_validate(TRAIN | {"epochs": 3}).saved_epochs == [1, 2, 3]


TO_ONE_PIXEL = [[{"kernel": 28}], [{"kernel": 27, "pool": 2}], [{"kernel": 2, "stride": 26, "pool": 2}]]


@pytest.mark.parametrize("layers", [*TO_ONE_PIXEL, [{"kernel": 4, "stride": 2, "pool": 2}, {"kernel": 6}]])
def test_convolutions_may_reduce_an_image_to_one_pixel(layers: list[dict[str, int]]) -> None:
    model = params.ModelSettings.model_validate(MODEL | {"convolutions": [{"filters": 1} | layer for layer in layers]})
    assert len(model.convolutions) == len(layers)


def test_each_part_of_the_split_may_have_10_images() -> None:
    for fraction in (0.00016, 0.99983):
        content = CONTENT | {"preprocess": CONTENT["preprocess"] | {"validation_fraction": fraction}}
        assert params.Params.model_validate(content).preprocess.validation_fraction == fraction


SOURCES = ["http://x/", "http://x", "https://x:1/", "file:///data", "file:data", "/data", "data"]
OTHER_SOURCES = ["", "-x", "ftp://x", "npm:a", "npm:a@latest", "npm:../a@1", "npm:a@1 b", "npm:--help", "xnpm:a@1"]
OTHER_URLS = ["http://", "http:///x", "https://x:0/", "https://x:65536/", "http://[x/", "http://x/\u200b", "file:"]


@pytest.mark.parametrize("source", [*SOURCES, "npm:a@1.0.0", "npm:@a/b.c@1.0.0-rc.1"])
def test_a_source_of_each_kind_is_allowed(source: str) -> None:
    assert params.DownloadSettings.model_validate(DOWNLOAD | {"sources": [source]}).sources == [source]


@pytest.mark.parametrize("source", [*OTHER_SOURCES, *OTHER_URLS, "file:///\x01"])
def test_other_sources_are_refused(source: str) -> None:
    with pytest.raises(ValidationError, match=r"it must be http\(s\)"):
        params.DownloadSettings.model_validate(DOWNLOAD | {"sources": [source]})


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a" * 65, "ä", "a\n", "a-errors"])
def test_other_names_are_refused(name: str) -> None:
    for allowed in ("a", "0", "a-b", "a" * 64):
        assert params.Params.model_validate(CONTENT | {"variants": [allowed], "models": {allowed: MODEL}})
    with pytest.raises(ValidationError, match="the name of a variant must be"):
        params.Params.model_validate(CONTENT | {"models": CONTENT["models"] | {name: MODEL}})


def test_numbers_are_parsed_as_dvc_parses_them(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("learning_rate: 0.001", "learning_rate: 1e-3"), encoding="utf-8")
    assert params.load(path).model("mlp128").optimizer.learning_rate == 0.001


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(UserError, match="'mlp46' has no entry under models; the entries are softmax, mlp64, mlp128, "):
        committed_params().model("mlp46")


def test_the_committed_parameters_satisfy_the_json_schema() -> None:
    assert params.json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    validator = jsonschema.Draft202012Validator(params.json_schema())
    validator.validate(CONTENT)
    wrong = CONTENT | {"train": CONTENT["train"] | {"epochs": 0}}
    assert [list(error.path) for error in validator.iter_errors(wrong)] == [["train", "epochs"]]
