from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import ROOT, edit
from pydantic import ValidationError
from ruamel.yaml import YAML

from digits import params
from digits.errors import UserError

TEXT = (ROOT / "params.yaml").read_text("utf-8")
CONTENT = YAML(typ="safe", pure=True).load(TEXT)


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        params.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_the_committed_parameters_are_allowed_and_typed() -> None:
    loaded = params.load(ROOT / "params.yaml")
    assert loaded.variants == ["softmax", "mlp64", "mlp128", "cnn"]
    assert loaded.train.epoch_grid == list(range(1, 31))
    assert loaded.download.files.by_name()["t10k-labels-idx1-ubyte"].bytes == 10_008
    assert loaded.model("mlp128").normalize is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train__epochs": 0}, "train.epochs is 0: it must be greater than or equal to 1"),
        ({"train__epochs": "six"}, "train.epochs is 'six': it must be a whole number"),
        ({"train__epochs": 1.5}, "train.epochs is 1.5: it must be a whole number"),
        ({"train__epochs": True}, "train.epochs is True: it must be a whole number"),
        ({"train__grid": [1, 2]}, "train.grid must be null, or ascend and end with epochs, 30; it is [1, 2]"),
        ({"train__grid": []}, "train.grid must be null, or ascend and end with epochs, 30; it is []"),
        ({"train__grid": [2, 1, 30]}, "train.grid must be null, or ascend and end with epochs, 30; it is [2, 1, 30]"),
        ({"train__threads": 0}, "train.threads is 0: it must be greater than or equal to 1"),
        ({"train__epoch": 6}, "train.epoch is an unknown key; did you mean epochs?"),
        ({"trian": 6}, "trian is an unknown key; did you mean train?"),
        ({"models__mlp64__zzz": 6}, "models.mlp64.zzz is an unknown key; known there: normalize, validation, "),
        (
            {"models__cnn__convolutions": [{"filters": 8, "kernel": 5, "strides": 2}]},
            "models.cnn.convolutions[0].strides is an unknown key; did you mean stride?",
        ),
        (
            {"models__cnn-large__distortion__turn": 1},
            "models.cnn-large.distortion.turn is an unknown key; known there: rotate, zoom, shear",
        ),
        ({"models__mlp64__units": [0]}, "models.mlp64.units[0] is 0: it must be greater than or equal to 1"),
        ({"models__mlp64__units": 64}, "models.mlp64.units is 64: it must be a list"),
        ({"models__mlp64__normalize": "yes"}, "models.mlp64.normalize is 'yes': it must be a boolean"),
        ({"models__mlp64__loss": "mse"}, "models.mlp64.loss is 'mse': it must be 'categorical_crossentropy' or "),
        ({"models__mlp64__optimizer": "sgd"}, "models.mlp64.optimizer is 'sgd': it must be a dictionary"),
        (
            {"models__cnn__convolutions": [{"filters": 8, "kernel": 25}, {"filters": 8, "kernel": 5}]},
            "models.cnn.convolutions[1] has kernel 5, stride 1 and pool 1, which leave nothing of the 4x4 pixels",
        ),
        (
            {"models__cnn__convolutions": [{"filters": 8, "kernel": 27, "pool": 3}]},
            (
                "models.cnn.convolutions[0] has kernel 27, stride 1 and pool 3, which leave nothing of the 28x28 "
                "pixels that reach it: kernel + stride * (pool - 1) must be at most 28"
            ),
        ),
        ({"variants": []}, "variants is []: it must name at least one"),
        ({"variants": "mlp64"}, "variants is 'mlp64': it must be a list"),
        ({"variants": ["mlp46"]}, "variants[0] is 'mlp46', for which there is no entry under models: softmax, mlp64, "),
        ({"variants": ["cnn", "cnn"]}, "variants[1] is 'cnn', which is there already: name each once"),
        ({"models__Big": 1}, "models.Big is 'Big': a variant's name must be 1 to 64 of a-z, 0-9 and inner hyphens"),
        (
            {"models__a-errors": 1},
            (
                "models.a-errors is 'a-errors': a variant's name must be 1 to 64 of a-z, 0-9 and inner hyphens, "
                "and not end with -errors"
            ),
        ),
        ({"variants": ["../../etc"]}, "variants[0] is '../../etc': a variant's name must be "),
        ({"variants": ["a; rm -rf ."]}, "variants[0] is 'a; rm -rf .': a variant's name must be "),
        ({"preprocess__validation_fraction": 1}, "preprocess.validation_fraction is 1: it must be less than 1"),
        (
            {"download__sources": ["ftp://x"]},
            "download.sources[0] is 'ftp://x': it must be http(s)://…, file:…, a folder",
        ),
        ({"download__sources": ["npm:--help"]}, "download.sources[0] is 'npm:--help': it must be "),
        ({"download__sources": ["-x"]}, "download.sources[0] is '-x': it must be "),
        (
            {"download__files__t10k-labels-idx1-ubyte__sha256": "abc"},
            "download.files.t10k-labels-idx1-ubyte.sha256 is 'abc': it must be 64 hexadecimal digits in lower case",
        ),
    ],
)
def test_a_mistake_names_key_value_and_what_is_allowed(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT, encoding="utf-8")
    edit(path, **change)
    assert refused(tmp_path, path.read_text("utf-8")).startswith(message)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path, TEXT.replace("  epochs: 30\n", "")) == "train.epochs is missing"


def test_of_two_mistakes_the_unknown_key_is_named(tmp_path: Path) -> None:
    text = TEXT.replace("  epochs: 30\n", "  epoch: 30\n")
    assert refused(tmp_path, text) == "train.epoch is an unknown key; did you mean epochs? (and 1 more)"


# Each number of params.yaml, with the least and the greatest that are allowed, and their neighbours that are not
SHA256 = "0" * 64
SGD = {"name": "sgd", "learning_rate": 0.1}
CONVOLUTION = {"filters": 1, "kernel": 1}
TRAIN = {"epochs": 10_000, "grid": None, "seed": 0, "threads": 1}
DISTORTION = {"rotate": 0, "zoom": 0, "shear": 0}
MODEL = CONTENT["models"]["mlp64"]
DOWNLOAD = CONTENT["download"]
LIMITS: list[tuple[type[params.Section], dict[str, Any], str, list[float], list[float]]] = [
    (params.FileSpec, {"sha256": SHA256}, "bytes", [1, 2**31], [0, 2**31 + 1]),
    (params.Download, DOWNLOAD, "timeout", [0.001, 3600], [0, 3600.1]),
    (params.Download, DOWNLOAD, "retries", [0, 10], [-1, 11]),
    (params.Preprocess, {"seed": 0}, "validation_fraction", [0.001, 0.999], [0, 1]),
    (params.Preprocess, {"validation_fraction": 0.5}, "seed", [0, 2**31 - 1], [-1, 2**31]),
    (params.Train, TRAIN, "epochs", [1, 10_000], [0, 10_001]),
    (params.Train, TRAIN, "seed", [0, 2**31 - 1], [-1, 2**31]),
    (params.Train, TRAIN, "threads", [1, 256], [0, 257]),
    (params.Evaluate, {}, "calibration_bins", [2, 1000], [1, 1001]),
    (params.Analyze, {}, "images", [1, 100], [0, 101]),
    (params.Optimizer, SGD, "learning_rate", [1e-9, 100], [0, 100.1]),
    (params.Optimizer, SGD, "decay", [1e-9, 1], [0, 1.001]),
    (params.Optimizer, SGD, "ema_momentum", [1e-9, 0.999], [0, 1]),
    (params.Convolution, CONVOLUTION, "filters", [1, 1024], [0, 1025]),
    (params.Convolution, CONVOLUTION, "kernel", [1, 28], [0, 29]),
    (params.Convolution, CONVOLUTION, "stride", [1, 28], [0, 29]),
    (params.Convolution, CONVOLUTION, "pool", [1, 28], [0, 29]),
    (params.Distortion, DISTORTION, "rotate", [0, 180], [-0.1, 180.1]),
    (params.Distortion, DISTORTION, "zoom", [0, 0.5], [-0.1, 0.51]),
    (params.Distortion, DISTORTION, "shear", [0, 1], [-0.1, 1.01]),
    (params.Model, MODEL, "dropout", [0, 0.999], [-0.1, 1]),
    (params.Model, MODEL, "batch_size", [1, 60_000], [0, 60_001]),
    (params.Model, MODEL, "shift", [0, 8], [-1, 9]),
]


@pytest.mark.parametrize(
    ("section", "rest", "key", "allowed", "refused"), LIMITS, ids=[f"{row[0].__name__}.{row[2]}" for row in LIMITS]
)
def test_a_number_is_allowed_up_to_its_limits_and_no_further(
    section: type[params.Section], rest: dict[str, Any], key: str, allowed: list[float], refused: list[float]
) -> None:
    for value in allowed:
        assert getattr(section.model_validate(rest | {key: value}), key) == value
    for value in refused:
        with pytest.raises(ValidationError) as caught:
            section.model_validate(rest | {key: value})
        assert [error["loc"] for error in caught.value.errors()] == [(key,)]


def test_every_number_has_its_limits_tested() -> None:
    definitions = {**params.schema()["$defs"], "Params": params.schema()}
    numbers = {
        (name, key)
        for name, definition in definitions.items()
        for key, value in definition["properties"].items()
        if {"integer", "number"} & {each.get("type") for each in value.get("anyOf", [value])}
    }
    assert numbers == {(section.__name__, key) for section, _, key, _, _ in LIMITS}


def test_what_may_be_left_out_is_off() -> None:
    model = params.Model.model_validate(MODEL)
    assert (model.convolutions, model.dropout, model.shift, model.distortion) == ([], 0, 0, None)
    assert (model.optimizer.decay, model.optimizer.ema_momentum) == (1, None)
    layer = params.Convolution.model_validate(CONVOLUTION)
    assert (layer.stride, layer.pool) == (1, 1)


def test_the_grid_that_is_given_is_the_grid() -> None:
    assert params.Train.model_validate(TRAIN | {"epochs": 9, "grid": [3, 9]}).epoch_grid == [3, 9]


@pytest.mark.parametrize(
    "layers",
    [
        [{"kernel": 28}],
        [{"kernel": 27, "pool": 2}],
        [{"kernel": 1, "stride": 27, "pool": 2}],
        [{"kernel": 4, "stride": 2, "pool": 2}, {"kernel": 6}],
    ],
)
def test_layers_that_leave_one_pixel_are_allowed(layers: list[dict[str, int]]) -> None:
    model = params.Model.model_validate(MODEL | {"convolutions": [{"filters": 1} | layer for layer in layers]})
    assert len(model.convolutions) == len(layers)


@pytest.mark.parametrize(
    "source",
    [
        "http://x/",
        "http://x",
        "https://x:1/",
        "file:///data",
        "file:data",
        "/data",
        "data",
        "npm:a@1.0.0",
        "npm:@a/b.c@1.0.0-rc.1",
    ],
)
def test_sources_of_each_kind_are_allowed(source: str) -> None:
    assert params.Download.model_validate(DOWNLOAD | {"sources": [source]}).sources == [source]


@pytest.mark.parametrize(
    "source",
    [
        *["", "-x", "ftp://x", "npm:a", "npm:a@latest", "npm:../a@1", "npm:a@1 b", "xnpm:a@1"],
        *[
            "http://",
            "http:///x",
            "https://x:0/",
            "https://x:65536/",
            "http://[x/",
            "http://x/\u200b",
            "file:",
            "file:///\x01",
        ],
    ],
)
def test_other_sources_are_refused(source: str) -> None:
    with pytest.raises(ValidationError, match=r"it must be http\(s\)"):
        params.Download.model_validate(DOWNLOAD | {"sources": [source]})


@pytest.mark.parametrize("name", ["a", "0", "a-b", "a" * 64])
def test_names_that_are_allowed(name: str) -> None:
    content = CONTENT | {"variants": [name], "models": {name: MODEL}}
    assert params.Params.model_validate(content).model(name).units == [64]


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a" * 65, "ä", "a\n", "a-errors"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="a variant's name must be"):
        params.Params.model_validate(CONTENT | {"models": CONTENT["models"] | {name: MODEL}})


def test_parameters_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        params.load(ROOT / "params.yaml").train.epochs = 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "line 1, column 9: expected the node content, but found '<stream end>'"),
        ("a: 1\na: 2\n", "line 2, column 1: found duplicate key"),
        ("a: &x 1\nb: &x 2\n", "found duplicate anchor 'x'"),
        ("%YAML 1.1\n---\na: no\n", "must not have a %YAML directive, which DVC passes over: take it out"),
        ("", "must be a mapping with the keys variants, download, "),
        ("- 1\n", "must be a mapping with the keys variants, download, "),
        ("a: \x00", "is not valid YAML: unacceptable character #x0000: special characters are not allowed in "),
        ("[" * 5000, "is nested too deeply"),
        ("!!python/object/apply:os.system [id]", "line 1, column 1: could not determine a constructor"),
    ],
)
def test_what_is_no_yaml_mapping_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert refused(tmp_path, text).startswith(message)


def test_a_file_is_read_up_to_its_limits_and_no_further(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(TEXT + "#" * (params.LONGEST - len(TEXT.encode())), "utf-8")
    assert params.load(tmp_path / "params.yaml").train.epochs == 30
    assert refused(tmp_path, TEXT + "#" * (params.LONGEST + 1 - len(TEXT.encode()))) == (
        "is longer than the 131,072 bytes allowed"
    )
    keys = ", ".join(f"k{number}: 1" for number in range(params.MOST_KEYS))
    assert refused(tmp_path, f"a: &a {{{keys}}}\nb: {{<<: *a}}\n").startswith("a is an unknown key; ")
    assert refused(tmp_path, f"a: &a {{{keys}}}\nb: {{<<: *a, c: 1}}\n") == (
        "line 2, column 4: a mapping has more than 500 keys, with all that are merged into it"
    )


def test_a_message_is_printable_whatever_the_file_has(tmp_path: Path) -> None:
    assert refused(tmp_path, TEXT + '"tri\\a\\nan": 6\n').startswith("tri an is an unknown key; ")
    number = f"0x{'f' * 5000}"
    assert refused(tmp_path, TEXT.replace("epochs: 30", f"epochs: {number}")).startswith(
        "train.epochs is a number too long to be shown: "
    )


def test_another_encoding_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"a: \xe4")
    with pytest.raises(UserError) as caught:
        params.load(path)
    assert str(caught.value) == f"{path}: is not UTF-8 at byte 3"


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("learning_rate: 0.001", "learning_rate: 1e-3"), encoding="utf-8")
    assert params.load(path).model("mlp128").optimizer.learning_rate == 0.001


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run digits in the folder that holds it"):
        params.load(tmp_path / "params.yaml")


def test_an_unknown_variant_is_one_line() -> None:
    with pytest.raises(
        UserError, match="'mlp46' has no entry under models: softmax, mlp64, mlp128, cnn, cnn-large are there"
    ):
        params.load(ROOT / "params.yaml").model("mlp46")


def test_the_schema_is_that_of_the_committed_parameters() -> None:
    assert params.schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    validator = jsonschema.Draft202012Validator(params.schema())
    validator.validate(CONTENT)
    wrong = CONTENT | {"train": CONTENT["train"] | {"epochs": 0}}
    assert [list(error.path) for error in validator.iter_errors(wrong)] == [["train", "epochs"]]
