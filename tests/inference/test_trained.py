import json
import shutil
from pathlib import Path

import pytest

from digits.core.errors import UserError
from digits.core.paths import VariantFiles
from digits.inference import trained

FILES = ("params.yaml", "metrics", "models/mlp64", "models/cnn")


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    for name in FILES:
        copy = shutil.copytree if (template / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy(template / name, tmp_path / name)
    return tmp_path


def change(folder: Path, variant: str, **metrics: object) -> None:
    path = folder / VariantFiles(variant).metrics
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | metrics), "utf-8")


@pytest.mark.parametrize("best", ["mlp64", "cnn"])
def test_the_best_variant_on_validation_images_is_the_default(folder: Path, best: str) -> None:
    for variant in ("mlp64", "cnn"):
        change(folder, variant, validation={"ensemble": {"accuracy": 0.9 if variant == best else 0.8}})
    assert trained.load(folder).ensemble.variant == best
    change(folder, best, validation=None)
    (other,) = {"mlp64", "cnn"} - {best}
    assert trained.load(folder).ensemble.variant == other
    assert trained.load(folder, best).ensemble.seeds == [0, 1]


@pytest.mark.parametrize(("threshold", "sure"), [(0.5, True), (0.8, True), (0.9, False), (None, False)])
def test_the_strictest_threshold_decides(folder: Path, threshold: float | None, sure: bool) -> None:
    targets = [
        {"target_accuracy": 0.99, "ensemble": {"threshold": 0.1}},
        {"target_accuracy": 0.999, "ensemble": {"threshold": threshold}},
    ]
    change(folder, "cnn", selective={"targets": targets})
    assert trained.load(folder, "cnn").is_sure(0.8) is sure


def test_without_a_model_the_message_says_what_to_type(folder: Path) -> None:
    shutil.rmtree(folder / "models/cnn")
    with pytest.raises(UserError, match=r"^'cnn' has no trained model in models/cnn: type `make repro`$"):
        trained.load(folder, "cnn")
    assert trained.load(folder).ensemble.variant == "mlp64"
    shutil.rmtree(folder / "models")
    with pytest.raises(UserError, match=r"^there is no trained model yet: type `make repro`$"):
        trained.load(folder)
    with pytest.raises(UserError, match=r"^'nosuch' has no entry under models; the entries are "):
        trained.load(folder, "nosuch")
