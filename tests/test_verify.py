"""`digits verify` in a plain clone, whose results stand in Git, on the small data set."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import run

from digits.verify import TOLERANCES

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def plain(clone: Path, reproduced: str, tmp_path: Path) -> Path:
    run(tmp_path, "git", "clone", "-q", str(clone), "plain")
    return tmp_path / "plain"


def nudge_summary(folder: Path, tolerances: float) -> None:
    path = folder / "metrics/summary.json"
    summary = json.loads(path.read_text("utf-8"))
    summary["mlp64"]["loss"] += tolerances * TOLERANCES["mlp64"]["loss"]
    path.write_text(json.dumps(summary), "utf-8")


def nudge_curves(folder: Path, tolerances: float) -> None:
    path = folder / "plots/curves.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if (row["variant"], row["split"], row["epoch"]) == ("mlp64", "validation", "2"):
            row["accuracy"] = str(float(row["accuracy"]) - tolerances * TOLERANCES["mlp64"]["accuracy"])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


NUDGES = {
    "loss after the last epoch: here ": nudge_summary,
    "accuracy at epoch 2 on the validation images: here ": nudge_curves,
}


def test_what_is_unchanged_is_the_same_bytes(plain: Path) -> None:
    assert run(plain, "digits", "verify") == "mlp64: same bytes\ncnn: same bytes\n"


@pytest.mark.parametrize(("where", "nudge"), NUDGES.items())
def test_half_a_tolerance_is_within(plain: Path, where: str, nudge: Callable[[Path, float], None]) -> None:
    nudge(plain, 0.5)
    mlp64, cnn = run(plain, "digits", "verify", "main").splitlines()
    assert mlp64.startswith(f"mlp64: within tolerance: 1 number differs: {where}")
    assert cnn == "cnn: same bytes"


@pytest.mark.parametrize(("where", "nudge"), NUDGES.items())
def test_two_tolerances_are_outside_and_named(plain: Path, where: str, nudge: Callable[[Path, float], None]) -> None:
    nudge(plain, 2)
    mlp64, cnn = run(plain, "digits", "verify", fails=True).splitlines()
    assert mlp64.startswith(f"mlp64: outside tolerance: 1 number differs: {where}")
    assert cnn == "cnn: same bytes"


def test_another_number_of_epochs_is_outside(plain: Path) -> None:
    path = plain / "metrics/summary.json"
    summary = json.loads(path.read_text("utf-8"))
    summary["cnn"]["epochs"] = 3
    path.write_text(json.dumps(summary), "utf-8")
    assert "epochs after the last epoch: here 3, committed 2" in run(plain, "digits", "verify", fails=True)


def test_a_variant_that_was_not_run_is_outside(plain: Path) -> None:
    path = plain / "metrics/summary.json"
    summary = json.loads(path.read_text("utf-8"))
    del summary["cnn"]
    path.write_text(json.dumps(summary), "utf-8")
    assert "cnn: outside tolerance" in run(plain, "digits", "verify", fails=True)


def test_other_bytes_with_the_same_numbers_are_within(plain: Path) -> None:
    with (plain / "plots/variants/cnn/confusion.csv").open("a", encoding="utf-8") as file:
        file.write("\n")
    lock = plain / "dvc.lock"
    text = lock.read_text("utf-8")
    at = text.index("md5: ", text.index("path: models/mlp64")) + len("md5: ")
    lock.write_text(text[:at] + "0" * 32 + text[at + 32 :], "utf-8")
    assert run(plain, "digits", "verify") == (
        "mlp64: within tolerance: no number differs, but models/mlp64\n"
        "cnn: within tolerance: no number differs, but plots/variants/cnn/confusion.csv\n"
    )


def test_a_missing_output_is_one_line(plain: Path) -> None:
    (plain / "plots/variants/cnn/errors.png").unlink()
    output = run(plain, "digits", "verify", fails=True)
    assert output.startswith("digits: 'workspace' has no plots/variants/cnn/errors.png: ")
    assert output.count("\n") == 1


@pytest.mark.parametrize("name", ["metrics/summary.json", "plots/curves.csv", "dvc.lock"])
def test_a_file_that_is_missing_or_broken_is_one_line(plain: Path, name: str) -> None:
    (plain / name).write_text("variant\nmlp64\n", "utf-8")
    broken = run(plain, "digits", "verify", fails=True)
    (plain / name).unlink()
    missing = run(plain, "digits", "verify", fails=True)
    for output in (broken, missing):
        assert output.startswith("digits: 'workspace' has ")
        assert name in output
        assert output.count("\n") == 1


def test_a_revision_that_does_not_exist_is_one_line(plain: Path) -> None:
    output = run(plain, "digits", "verify", "nowhere", fails=True)
    assert output.startswith("digits: 'nowhere' is no branch")
    assert output.count("\n") == 1
