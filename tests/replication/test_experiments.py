import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import ROOT, committed, edit

from digits.core import config, params
from digits.core.errors import UserError
from digits.replication import experiments, published
from digits.replication.experiments import Experiment, Experiments, Target, summarize, targets
from digits.replication.published import Curves, Number, Point, Published

COMMITTED = experiments.load(ROOT / "experiments.yaml")
PUBLISHED = config.read(ROOT / "data/published.yaml", Published)


def settings(experiment: Experiment) -> dict[str, str]:
    return dict(setting.split("=", 1) for setting in experiment.settings)


def checkpoints(experiment: Experiment) -> list[int] | None:
    given = settings(experiment).get("train.checkpoints")
    return [int(word) for word in given.strip("[]").split(",")] if given else None


def test_the_committed_experiments_save_the_epochs_that_they_compare() -> None:
    train = params.load(ROOT / "params.yaml").train.model_dump()
    for name, experiment in COMMITTED.experiments.items():
        epochs = int(settings(experiment).get("train.epochs", 30))
        changed = train | {"epochs": epochs, "checkpoints": checkpoints(experiment)}
        saved = params.TrainSettings.model_validate(changed).saved_epochs
        compared = targets(name, experiment, PUBLISHED)
        assert compared
        for target in compared:
            if isinstance(target.point.epoch, int) and target.point.split == "test":
                assert target.point.epoch in saved


def test_one_model_refitted_again_and_again_has_seen_the_sum_of_its_epochs() -> None:
    expected = [sum(range(1, count + 1)) for count in range(1, 31)]
    assert checkpoints(COMMITTED.experiments["report-a-refit"]) == expected


POINT = Point(variant="mlp128", split="test", column="accuracy", epoch="last")
NUMBER = Number(report="A", section="7", quantity="accuracy", published=0.95, rounding=0.0005, curve=POINT)
TARGET = Target(NUMBER, POINT, None)


def runs_with(*accuracies: float) -> Curves:
    rows = {"epoch": 1, "seed": range(len(accuracies)), "accuracy": accuracies, "loss": 0.1}
    return {("mlp128", "test"): pd.DataFrame(rows)}


def test_results_with_a_value_for_each_seed_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [summarize("fresh", TARGET, runs_with(*accuracies)) for accuracies in ([0.92, 0.96], [0.5])]
    result = published.ExperimentResult("from scratch", ["variants=[mlp128]"], [0, 1], rows)
    experiments.write(tmp_path / "experiments.json", {"fresh": result})
    read = published.read_experiments(tmp_path / "experiments.json")["fresh"]
    assert (read.description, read.set, read.seeds) == ("from scratch", ["variants=[mlp128]"], [0, 1])
    two, single = (number.measured for number in read.numbers)
    assert (read.numbers[0].quantity, two.values, two.reproduced) == ("accuracy", [0.92, 0.96], True)
    assert (two.mean, two.std) == pytest.approx((0.94, 0.04 / 2**0.5), rel=1e-5)
    assert two.interval
    assert (single.values, single.interval, single.reproduced) == ([0.5], None, None)


def test_a_mistake_in_the_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text((ROOT / "experiments.yaml").read_text("utf-8").replace("first: 31", "frist: 31", 1), "utf-8")
    with pytest.raises(UserError, match=r"experiments\.report-b-continued\.epochs\.frist.* is 'frist': it must be"):
        experiments.load(path)
    path.write_text("seeds: [0]\n" + (ROOT / "experiments.yaml").read_text("utf-8"), "utf-8")  # they are in params.yaml
    with pytest.raises(UserError, match=r"^\S+/experiments\.yaml: seeds [^\n]*$"):
        experiments.load(path)


def experiment(**fields: Any) -> Experiment:
    return Experiment(description="another protocol", variant="mlp128", **fields)


def test_an_experiment_is_compared_with_all_numbers_on_the_curves_of_its_variant() -> None:
    compared = targets("fresh", experiment(), PUBLISHED)
    expected = [number for number in PUBLISHED.numbers if number.curve and number.curve.variant == "mlp128"]
    assert [target.number for target in compared] == expected
    assert [target.point for target in compared] == [number.curve for number in expected]
    assert {target.epoch for target in compared} == {None}


def test_an_experiment_may_name_the_quantities_and_move_an_epoch() -> None:
    quantities = ["accuracy of the plateau", "accuracy at 6 epochs"]
    moved, plain = targets("refit", experiment(quantities=quantities, epochs={6: 21}), PUBLISHED)
    assert (moved.number.quantity, moved.number.published, moved.number.rounding) == (quantities[1], 0.9538, 0.00005)
    assert (moved.epoch, moved.point.epoch) == (21, 21)
    assert (plain.number.quantity, plain.epoch, plain.point.epoch) == (quantities[0], None, "last")


def test_a_quantity_or_an_epoch_of_no_number_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match=r"wide: .* has no number 'images' on a curve of mlp128$"):
        targets("wide", experiment(quantities=["images"]), PUBLISHED)
    with pytest.raises(UserError, match=r"wide: no number that it is compared with is at epoch '7'$"):
        targets("wide", experiment(epochs={7: 21}), PUBLISHED)


def test_a_number_that_a_run_does_not_have_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"wide does not measure 'accuracy': add its epoch to train\.checkpoints"):
        summarize("wide", TARGET, experiments._curves(tmp_path, "HEAD", "mlp128"))


@pytest.fixture
def dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `dvc`, first on the PATH, that logs its arguments; returns the path of the log."""
    program = tmp_path / "dvc"
    program.write_text('#!/bin/sh\necho "$@" >> "$0.log"\ncase "$*" in "$FAILS") exit 3;; esac\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAILS", "")
    (tmp_path / "params.yaml").write_text(committed("params.yaml"), "utf-8")
    monkeypatch.setattr(experiments, "git", lambda root, *words: "c0ffee\n")
    monkeypatch.setattr(experiments, "_finished", lambda root, commit: {"narrow": commit})
    return tmp_path / "dvc.log"


def of_mlp64(name: str, units: int) -> Experiment:
    return Experiment(description=name, variant="mlp64", set=[f"models.mlp64.units=[{units}]"])


WIDE = Experiments(experiments={"wide": of_mlp64("wide", 256), "narrow": of_mlp64("narrow", 16)})


def test_only_what_was_not_run_on_this_commit_is_queued_and_run(dvc: Path, tmp_path: Path) -> None:
    assert experiments.run(tmp_path, WIDE, PUBLISHED) == "c0ffee"
    assert dvc.read_text("utf-8").splitlines() == [
        "exp run --queue --name wide -S variants=[mlp64] -S models.mlp64.units=[256]",
        "exp run --run-all",
    ]


def test_other_data_than_the_reports_used_is_refused_before_a_run(dvc: Path, tmp_path: Path) -> None:
    edit(tmp_path / "params.yaml", **{"download__files__t10k-labels-idx1-ubyte__sha256": "0" * 64})
    with pytest.raises(UserError, match=r"^the reports' numbers do not apply to the files in download\.files"):
        experiments.run(tmp_path, WIDE, PUBLISHED)
    assert not dvc.exists()


def test_an_experiment_that_was_not_run_is_an_error_that_says_what_to_type(dvc: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^experiment wide has not been run on c0ffee: type `make experiments`$"):
        experiments.results(tmp_path, WIDE, PUBLISHED, "c0ffee")


def test_the_results_have_each_number_of_the_variant_with_each_seed_of_the_experiment(
    dvc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"epoch": epoch, "seed": seed, "accuracy": 0.9, "loss": 0.1} for seed in (3, 5, 7) for epoch in (1, 2)]
    curves = {("mlp64", split): pd.DataFrame(rows) for split in ("train", "validation")}
    monkeypatch.setattr(experiments, "_curves", lambda root, revision, variant: curves)
    narrow = Experiments(experiments={"narrow": WIDE.experiments["narrow"]})
    (result,) = experiments.results(tmp_path, narrow, PUBLISHED, "c0ffee").values()
    assert (result.description, result.seeds) == ("narrow", [3, 5, 7])
    assert result.set == ["variants=[mlp64]", "models.mlp64.units=[16]"]
    expected = [number.quantity for number in PUBLISHED.numbers if number.curve and number.curve.variant == "mlp64"]
    assert [number.quantity for number in result.numbers] == expected
    assert {len(number.measured.values) for number in result.numbers} == {3}


def test_a_failing_run_is_an_error_of_one_line(dvc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "exp run --run-all")
    with pytest.raises(UserError, match=r"^`dvc exp run --run-all` exited with status 3: see its message above$"):
        experiments.run(tmp_path, WIDE, PUBLISHED)


def test_an_interrupted_run_stops_the_workers(dvc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dvc = experiments._dvc

    def interrupted(root: Path, *words: str) -> None:
        run_dvc(root, *words)
        if "--run-all" in words:
            raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "_dvc", interrupted)
    with pytest.raises(KeyboardInterrupt):
        experiments.run(tmp_path, WIDE, PUBLISHED)
    assert dvc.read_text("utf-8").splitlines()[-1] == "queue stop --kill"
