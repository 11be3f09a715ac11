"""`digits export`, and the examples in docs/use.md, which run on what it writes."""

import contextlib
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import IMAGES, ROOT, WITH_TENSORFLOW, call, lazily, run

from digits.core.artifacts import read_arrays
from digits.core.errors import UserError

export = lazily("digits.inference.export")
pytestmark = [pytest.mark.timeout(240), *WITH_TENSORFLOW]

Floats = NDArray[np.float32]
LINE = re.compile(
    r"exports/cnn/(?P<name>\S+): (?P<size>[\d,]+) kB, \d+\.\d{3} ms an image; all 397 answers are those of Keras, "
    r"and probabilities differ by \d\.\de-\d\d at most"
)


@pytest.fixture(scope="module")
def printed(clone: Path) -> str:
    """What `digits export cnn --seed 1` prints, errors included; its files are in the clone."""
    return run(clone, "digits", "export", "cnn", "--seed", "1")


@pytest.fixture(scope="module")
def seeds(clone: Path) -> Floats:
    """The probabilities that the stage `evaluate` computed with Keras for the test images, (2 seeds, 397, 10)."""
    return read_arrays(clone / "data/predictions/cnn.npz")["probabilities"]


def examples() -> list[tuple[str, str]]:
    """Return the heading and the code of each example in docs/use.md."""
    sections = re.split(r"^#+ (.*)\n", (ROOT / "docs/use.md").read_text("utf-8"), flags=re.MULTILINE)
    pairs = zip(sections[1::2], sections[2::2], strict=True)
    return [(title, code) for title, text in pairs for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


def test_each_file_has_a_line_and_nothing_else_is_printed(printed: str, clone: Path) -> None:
    found = [LINE.fullmatch(line) for line in printed.splitlines()]
    sizes = {line["name"]: line["size"] for line in found if line}
    assert list(sizes) == ["ensemble.onnx", "ensemble.tflite", "seed-1.onnx", "seed-1.tflite"], printed
    assert len(found) == len(sizes), printed
    files = {path.name: f"{path.stat().st_size / 1000:,.0f}" for path in (clone / "exports/cnn").iterdir()}
    assert files == sizes


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_a_file_gives_the_probabilities_of_keras_for_any_number_of_images(
    printed: str, clone: Path, seeds: Floats, kind: str
) -> None:
    images = read_arrays(clone / "data/processed/test.npz")["images"]
    suffix, load = export.FORMATS[kind]
    for name, expected in {"ensemble": seeds.mean(axis=0), "seed-1": seeds[1]}.items():
        answer = load(clone / f"exports/cnn/{name}{suffix}")
        for number in (1, 397, 3):
            found = answer(images[:number])
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected[:number], rtol=0, atol=1e-5)


def test_the_examples_in_the_documentation_give_the_probabilities_of_keras(
    printed: str, clone: Path, seeds: Floats
) -> None:
    names: dict[str, Any] = {}
    done = set()
    with contextlib.chdir(clone), warnings.catch_warnings(action="ignore"):
        for title, code in examples():
            names.pop("probabilities", None)
            exec(code, names)
            if "probabilities" in names:
                expected = seeds[0] if title == "Keras" else seeds.mean(axis=0)
                np.testing.assert_allclose(names["probabilities"], expected, rtol=0, atol=1e-5, err_msg=title)
                done.add(title)
    assert {"ONNX Runtime", "LiteRT", "Keras", "NumPy"} <= done


def test_a_file_that_answers_otherwise_is_not_written(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_wrong(path: Path) -> Callable[[IMAGES], Floats]:
        answer = load(path)
        return lambda images: answer(images)[:, ::-1] if "seed" in path.name else answer(images)

    suffix, load = export.FORMATS["litert"]
    monkeypatch.setitem(export.FORMATS, "litert", (suffix, load_wrong))
    message = call(clone, "export", "mlp64", fails=True).splitlines()[-1]
    assert message.startswith("digits: exports/mlp64/seed-0.tflite is not written: ")
    assert message.endswith("`make environment` installs the versions that agree")
    written = sorted(path.name for path in (clone / "exports/mlp64").iterdir())
    assert written == ["ensemble.onnx", "ensemble.tflite", "seed-0.onnx"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ([0.0, 2e-4], "0 of its 1 answers are not those of Keras, and probabilities differ by up to 0.0002: "),
        ([-0.2, 0.2], "1 of its 1 answers are not those of Keras, and probabilities differ by up to 0.2: "),
        ([0.0, np.nan], "probabilities differ by up to nan: "),
    ],
)
def test_a_larger_difference_another_answer_and_nan_are_refused(change: list[float], reason: str) -> None:
    expected = np.array([[0.6, 0.4]], np.float32)
    with pytest.raises(UserError, match=re.escape(reason)):
        export._difference(Path("model.onnx"), expected, expected + np.array(change, np.float32))
    found = export._difference(Path("model.onnx"), expected, expected + np.float32(2e-5))  # another order of additions
    assert found == pytest.approx(2e-5, rel=0.01)


def test_without_a_package_the_message_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    (tmp_path / ".dvc").mkdir()
    message = call(tmp_path, "export", "cnn", fails=True)  # no params.yaml: the packages come first
    assert message == "digits: export needs ai_edge_litert: type `make environment`\n"


def test_a_seed_that_was_not_trained_is_named(clone: Path) -> None:
    message = call(clone, "export", "cnn", "--seed", "7", fails=True)
    assert message == "digits: 'cnn' has no model of seed 7: choose one of 0, 1\n"
