from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import ROOT, edit
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
        ({"train__grid": [2, 1, 30]}, "train.grid must be null, or ascend and end with epochs, 30; it is [2, 1, 30]"),
        ({"train__threads": 0}, "train.threads is 0: it must be greater than or equal to 1"),
        ({"train__epoch": 6}, "train.epoch is an unknown key; did you mean epochs?"),
        ({"trian": 6}, "trian is an unknown key; did you mean train?"),
        ({"models__mlp64__zzz": 6}, "models.mlp64.zzz is an unknown key; known there: normalize, validation, "),
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
            "kernel + stride * (pool - 1) must be at most 28",
        ),
        ({"variants": []}, "variants is []: it must name at least one"),
        ({"variants": "mlp64"}, "variants is 'mlp64': it must be a list"),
        ({"variants": ["mlp46"]}, "variants[0] is 'mlp46', for which there is no entry under models: softmax, mlp64, "),
        ({"variants": ["cnn", "cnn"]}, "variants[1] is 'cnn', which is there already: name each once"),
        ({"models__Big": 1}, "models.Big is 'Big': a variant's name must be 1 to 64 of a-z, 0-9 and inner hyphens"),
        ({"models__a-errors": 1}, "models.a-errors is 'a-errors': a variant's name must be "),
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
    assert message in refused(tmp_path, path.read_text("utf-8"))


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path, TEXT.replace("  epochs: 30\n", "")) == "train.epochs is missing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "line 1, column 9: "),
        ("a: 1\na: 2\n", "found duplicate key"),
        ("", "must be a mapping with the keys variants, download, "),
        ("- 1\n", "must be a mapping with the keys variants, download, "),
        ("a: \x00", "not valid YAML"),
        ("[" * 5000, "nested too deeply"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
)
def test_what_is_no_yaml_mapping_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, text)


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
    validator = jsonschema.Draft202012Validator(params.schema())
    validator.validate(CONTENT)
    wrong = CONTENT | {"train": CONTENT["train"] | {"epochs": 0}}
    assert [list(error.path) for error in validator.iter_errors(wrong)] == [["train", "epochs"]]
