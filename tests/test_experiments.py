import os
from pathlib import Path

import pytest
from conftest import ROOT

from digits import experiments, params
from digits.curves import Curve
from digits.errors import UserError
from digits.experiments import Reference, _number
from digits.files import read_json
from digits.published import Number, Published
from digits.revisions import Revision

WANTED = experiments.load(ROOT / "experiments.yaml")
PUBLISHED = params.read(ROOT / "data/published.yaml", Published)


def test_the_committed_experiments_ask_for_epochs_that_are_in_their_grids() -> None:
    for experiment in WANTED.experiments.values():
        settings = dict(setting.split("=", 1) for setting in experiment.set)
        grid = settings.get("train.grid")
        epochs = int(settings.get("train.epochs", 30))
        kept = [int(word) for word in grid.strip("[]").split(",")] if grid else list(range(1, epochs + 1))
        train = params.load(ROOT / "params.yaml").train.model_dump() | {"epochs": epochs, "grid": kept}
        assert params.Train.model_validate(train).epoch_grid == kept
        for reference in experiment.numbers:
            number = experiments.referred(reference, PUBLISHED)
            assert number.curve is not None
            if isinstance(number.curve.epoch, int) and number.curve.split == "test":
                assert number.curve.epoch in kept


def test_the_committed_numbers_are_of_this_code() -> None:
    """The experiment that changes no setting of mlp128 gives, with the pipeline's seed, what the pipeline gives."""
    found = read_json(ROOT / "metrics/experiments.json")["report-a-fresh"]
    seed = found["seeds"].index(params.load(ROOT / "params.yaml").train.seed)
    measured = {row["quantity"]: row["measured"] for row in read_json(ROOT / "metrics/published.json")["numbers"]}
    assert len(found["numbers"]) == 5
    for row in found["numbers"]:
        assert row["values"][seed] == measured[row["quantity"]], "type `make experiments`"


def test_the_committed_numbers_are_of_the_committed_experiments() -> None:
    found = read_json(ROOT / "metrics/experiments.json")
    assert {name: (row["says"], row["set"], row["seeds"]) for name, row in found.items()} == {
        name: (experiment.says, experiment.set, WANTED.seeds) for name, experiment in WANTED.experiments.items()
    }
    for name, experiment in WANTED.experiments.items():
        asked = [(reference.quantity, reference.epoch) for reference in experiment.numbers]
        assert [(row["quantity"], row["epoch"]) for row in found[name]["numbers"]] == asked


def test_one_model_refitted_again_and_again_has_seen_the_sum_of_its_epochs() -> None:
    settings = dict(setting.split("=", 1) for setting in WANTED.experiments["report-a-refit"].set)
    grid = [int(word) for word in settings["train.grid"].strip("[]").split(",")]
    assert grid == [sum(range(1, count + 1)) for count in range(1, 31)]


NUMBER = Number.model_validate(
    {
        "report": "A",
        "section": "7",
        "quantity": "accuracy",
        "published": 0.95,
        "tolerance": 0.01,
        "curve": {"variant": "mlp128", "split": "test", "column": "accuracy", "epoch": "last"},
    }
)


def run_with(accuracy: float) -> dict[tuple[str, str], Curve]:
    return {("mlp128", "test"): {"epoch": {1: 1}, "accuracy": {1: accuracy}, "loss": {1: 0.1}}}


def test_seeds_become_mean_and_standard_deviation() -> None:
    row = _number(NUMBER, None, [run_with(0.92), run_with(0.96)])
    assert row["mean"] == pytest.approx(0.94)
    assert row["standard_deviation"] == pytest.approx(0.04 / 2**0.5)
    assert row["reproduced"] is True
    assert _number(NUMBER, None, [run_with(0.93)])["standard_deviation"] is None
    assert _number(NUMBER, None, [run_with(0.93)])["reproduced"] is False


def test_a_mistake_in_the_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text((ROOT / "experiments.yaml").read_text("utf-8").replace("report: A", "report: C", 1), "utf-8")
    with pytest.raises(UserError, match=r"numbers\[0\].report is 'C': it must be 'A' or 'B'"):
        experiments.load(path)


def test_a_reference_takes_value_and_tolerance_from_the_published_number() -> None:
    plain, moved = (
        experiments.referred(Reference(report="A", quantity="accuracy at 6 epochs", epoch=epoch), PUBLISHED)
        for epoch in (None, 21)
    )
    assert plain in PUBLISHED.numbers
    assert (moved.published, moved.tolerance) == (plain.published, plain.tolerance)
    assert moved.curve is not None
    assert moved.curve.epoch == 21


@pytest.mark.parametrize("quantity", ["accuracy at 7 epochs", "images"])
def test_a_reference_to_no_number_of_a_curve_is_one_line(quantity: str) -> None:
    with pytest.raises(UserError, match=f"report B has no '{quantity}' of a curve"):
        experiments.referred(Reference(report="B", quantity=quantity), PUBLISHED)


def test_a_point_that_a_run_does_not_have_is_one_line() -> None:
    with pytest.raises(UserError, match="'accuracy' is at no epoch of the grid"):
        _number(NUMBER, None, [{}])


@pytest.fixture
def dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `dvc` ahead on the PATH that logs what it is asked; returns the path of that log."""
    program = tmp_path / "dvc"
    program.write_text('#!/bin/sh\necho "$@" >> "$0.log"\ncase "$*" in "$FAILS") exit 3;; esac\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAILS", "")
    monkeypatch.setattr(experiments, "resolve", lambda root, name: Revision(root, name, "c0ffee"))
    monkeypatch.setattr(experiments, "_known", lambda root, commit: {"wide-1": commit})
    return tmp_path / "dvc.log"


WIDE = experiments.Experiments.model_validate(
    {"seeds": [0, 1], "experiments": {"wide": {"says": "wide", "set": ["models.mlp64.units=[256]"], "numbers": []}}}
)


def test_only_what_was_not_run_on_this_commit_is_queued_and_then_run(dvc: Path, tmp_path: Path) -> None:
    assert experiments.run(tmp_path, WIDE) == "c0ffee"
    assert dvc.read_text("utf-8").splitlines() == [
        "exp run --queue --name wide-0 -S models.mlp64.units=[256] -S train.seed=0",
        "exp run --run-all",
    ]


def test_a_failing_run_is_one_line(dvc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "exp run --run-all")
    with pytest.raises(UserError, match=r"^`dvc exp run --run-all` exited with 3; its own message stands above$"):
        experiments.run(tmp_path, WIDE)


def test_an_interrupted_run_stops_the_workers(dvc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = experiments._dvc

    def interrupted(root: Path, *words: str) -> None:
        asked(root, *words)
        if "--run-all" in words:
            raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "_dvc", interrupted)
    with pytest.raises(KeyboardInterrupt):
        experiments.run(tmp_path, WIDE)
    assert dvc.read_text("utf-8").splitlines()[-1] == "queue stop --kill"
