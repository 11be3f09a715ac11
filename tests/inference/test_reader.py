"""Reading digits, and the command `digits read`.

The model is a linear classifier of the digits of Pillow's own font, which is the same on every machine.
"""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from support import ROOT, call

from digits.cli import main
from digits.core.artifacts import write_arrays, write_json
from digits.core.paths import VariantFiles
from digits.data.form import to_mnist_form
from digits.inference import reader, trained
from digits.inference.pictures import open_picture
from digits.inference.segmentation import Box

VARIANT = VariantFiles("softmax")
THRESHOLD = 0.9


def written(
    *lines: str, size: int = 60, stroke: int = 1, ink: str = "black", paper: str = "white", mode: str = "RGB"
) -> Image.Image:
    """Return a picture of lines of digits."""
    image = Image.new(mode, (100 + size * max(map(len, lines), default=1), 100 + 2 * size * len(lines)), paper)
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for row, line in enumerate(lines):
        for column, sign in enumerate(line):
            place = 50 + size * column, 50 + 2 * size * row
            canvas.text(place, sign, ink, font, stroke_width=stroke)
    return image


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained variant of two seeds, the second of which is less certain."""
    root = tmp_path_factory.mktemp("repository")
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    labels, forms = [], []
    for digit in range(10):
        for stroke in range(4):
            sheet = written(str(digit), stroke=stroke, ink="white", paper="black", mode="L")
            for angle in range(-15, 16, 3):
                turned = np.asarray(sheet.rotate(angle, Image.Resampling.BICUBIC), np.float64) / 255
                forms.append(to_mnist_form(turned).ravel() / 255)
                labels.append(digit)
    inputs = np.stack(forms)
    targets = 20.0 * np.eye(10)[labels]
    weights = inputs.T @ np.linalg.solve(inputs @ inputs.T + np.eye(len(inputs)), targets)
    kernel = np.stack([weights, weights / 2]).astype(np.float32)
    write_arrays(
        root / VARIANT.weights,
        seeds=np.array([3, 4]),
        epochs=np.array([1]),
        **{"logits/kernel": kernel[:, np.newaxis], "logits/bias": np.zeros((2, 1, 10), np.float32)},
    )
    layers = [
        {"class_name": "Rescaling", "config": {"name": "scale", "scale": 1 / 255}},
        {"class_name": "Dense", "config": {"name": "logits", "activation": "linear"}},
    ]
    with zipfile.ZipFile(root / VARIANT.model, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
    target = {"target_accuracy": 0.999, "ensemble": {"threshold": THRESHOLD}}
    metrics = {"validation": {"ensemble": {"accuracy": 0.99}}, "selective": {"targets": [target]}}
    write_json(root / VARIANT.metrics, metrics)
    return root


@pytest.fixture(scope="module")
def model(repository: Path) -> trained.Trained:
    return trained.load(repository)


def answers(lines: Sequence[Sequence[reader.Digit]]) -> list[str]:
    return ["".join(str(digit.answer) for digit in line) for line in lines]


@pytest.mark.parametrize(("size", "angle"), [(30, 0), (60, -8), (150, 8)])
def test_digits_are_read(model: trained.Trained, size: int, angle: int) -> None:
    sheet = written("3141592", "068", size=size, stroke=size // 40)
    tilted = sheet.rotate(angle, Image.Resampling.BICUBIC, fillcolor="white")
    assert answers(reader.read(tilted, model)) == ["3141592", "068"]


def test_an_unsure_digit_is_a_question_mark() -> None:
    probabilities = np.array([0, 0.62, 0.38, *[0] * 7])
    box = Box(0, 0, 5, 9)
    unsure, sure = (
        reader.Digit(box, 1, is_sure, probabilities, probabilities[np.newaxis]) for is_sure in (False, True)
    )
    assert (unsure.text, str(unsure)) == ("?", "? (1 at 62.0 %)")
    assert (sure.text, str(sure)) == ("1", "1 at 62.0 %")


def test_the_boxes_are_drawn(model: trained.Trained) -> None:
    sheet = written("31")
    lines = reader.read(sheet, model)
    before, after = (np.asarray(image) for image in (sheet, reader.draw(sheet, lines)))
    changed = (before != after).any(axis=2)
    for digit in lines[0]:
        box = digit.box
        assert changed[box.top - 1, box.left : box.right].all()
        assert changed[box.bottom, box.left : box.right].all()
        assert changed[box.top : box.bottom, [box.left - 1, box.right]].all()
        assert not changed[box.top : box.bottom, box.left : box.right].any()
        assert changed[box.top - 12 : box.top - 3, box.left : box.right].any()  # the answer


def test_the_command_prints_answers_and_probabilities(repository: Path, model: trained.Trained, tmp_path: Path) -> None:
    written("314", "59").save(tmp_path / "photo.jpg", quality=60)
    name = f"{tmp_path}/../{tmp_path.name}/photo.jpg"
    digits = reader.read(open_picture(str(tmp_path / "photo.jpg")), model)
    text = "".join(f"{name}: {''.join(d.text for d in line)}\n  {', '.join(map(str, line))}\n" for line in digits)
    assert answers(digits) == ["314", "59"]
    assert call(repository, "read", name) == text
    assert call(repository, "read", name, "--variant", "softmax") == text


def test_json_has_all_probabilities(repository: Path, tmp_path: Path) -> None:
    written("31").save(tmp_path / "a.png")
    found = json.loads(call(repository, "read", str(tmp_path / "a.png"), "--json"))
    assert (found["variant"], found["threshold"]) == ("softmax", THRESHOLD)
    (picture,) = found["pictures"]
    assert picture["file"] == str(tmp_path / "a.png")
    ((three, one),) = picture["lines"]
    assert (three["answer"], one["answer"]) == (3, 1)
    assert set(three) == {"box", "answer", "sure", "probabilities", "seed_probabilities"}
    assert three["box"]["left"] < three["box"]["right"] < one["box"]["left"]
    assert np.shape(three["seed_probabilities"]) == (2, 10)
    assert np.allclose(np.mean(three["seed_probabilities"], axis=0), three["probabilities"])


def test_a_bad_file_does_not_stop_the_others(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    files = [str(tmp_path / name) for name in ("a.png", "text.png", "empty.png", "b.png")]
    for file, text in zip(files, ("31", "", "", "42"), strict=True):
        written(text).save(file)
    Path(files[1]).write_text("no picture", encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["read", *files])
    assert stop.value.code == 1
    output, errors = capsys.readouterr()
    assert [line.split(":")[0] for line in output.splitlines()[::2]] == [files[0], files[3]]
    messages = errors.splitlines()
    assert messages[0] == f"digits: {files[1]}: not a PNG, JPEG, WebP or TIFF picture: convert it to one of these"
    assert messages[1].startswith(f"digits: {files[2]}: no digit found: ")
    assert len(messages) == 2
    with pytest.raises(SystemExit):
        main(["read", "--json", *files])
    output, errors = capsys.readouterr()
    assert errors.splitlines() == messages
    assert messages == [f"digits: {each['file']}: {each['error']}" for each in json.loads(output)["pictures"][1:3]]


def test_the_picture_with_answers_is_written(repository: Path, tmp_path: Path) -> None:
    sheet = written("31")
    sheet.save(tmp_path / "a.png")
    call(repository, "read", str(tmp_path / "a.png"), "--show", str(tmp_path / "shown.png"))
    with Image.open(tmp_path / "shown.png") as shown:
        assert shown.size == sheet.size
    assert (tmp_path / "shown.png").read_bytes() != (tmp_path / "a.png").read_bytes()
    message = call(repository, "read", "a.png", "b.png", "--show", "shown.png", fails=True)
    assert message == "digits: --show takes one picture, but 2 files are given: give one\n"
    message = call(repository, "read", str(tmp_path / "a.png"), "--show", "shown.txt", fails=True)
    assert "shown.txt: a picture's name must end in .png" in message


def test_files_are_relative_to_the_folder_in_which_the_command_is_typed(repository: Path) -> None:
    folder = repository / "some/folder"
    folder.mkdir(parents=True)
    written("31").save(folder.parent / "a.png")
    assert call(folder, "read", "../a.png", "--show", "shown.png").startswith("../a.png: 31\n")
    assert (folder / "shown.png").is_file()
    message = call(folder, "read", "../a.png", "--show", "../shown.txt", fails=True)
    assert "shown.txt: a picture's name must end in .png" in message
    assert "b.png: cannot be read (No such file or directory)" in call(folder, "read", "b.png", fails=True)


def test_reading_imports_no_library_that_is_slow_to_load() -> None:
    script = (
        "import sys; from digits.inference import pictures, reader, trained; "
        "print(*{'tensorflow', 'pandas', 'sklearn', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not result.stdout.strip()
