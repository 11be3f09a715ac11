"""DVC runs the pipeline on the small data set."""

import contextlib
import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, recall_score
from support import WRITERS, call, edit, run
from zc.lockfile import LockFile

from digits.core import seeds_wrong
from digits.core.artifacts import read_arrays
from digits.core.errors import UserError
from digits.core.paths import VariantFiles
from digits.evaluation import comparison, selective, stress
from digits.inference import ensemble
from digits.replication import experiments
from digits.replication.experiments import Experiments
from digits.replication.published import Published
from digits.versioning.repository import open_repository

RUNNING = re.compile(r"^Running stage '(.+)':$", re.MULTILINE)

pytestmark = pytest.mark.timeout(240)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def metrics(folder: Path, name: str) -> Any:
    return json.loads((folder / "metrics" / f"{name}.json").read_text("utf-8"))


def test_repro_runs_every_stage_once_and_prints_a_line_for_each_epoch(reproduced: str) -> None:
    stages = RUNNING.findall(reproduced)
    of_variants = [f"{stage}@{variant}" for stage in ("train", "evaluate", "analyze") for variant in ("mlp64", "cnn")]
    assert sorted(stages) == sorted(
        ["params", "download", "preprocess", "neighbors", *of_variants, "stress", "compare", "cards"]
    )
    assert stages[0] == "params"
    assert re.search(
        r"^mlp64 epoch 2/2: loss \d\.\d{4} ± \d\.\d{4}, accuracy \d+\.\d\d% ± \d+\.\d\d%, "
        r"validation loss .+ ± .+, validation accuracy .+% ± .+%$",
        reproduced,
        re.MULTILINE,
    )
    assert "warning" not in reproduced


def test_a_second_repro_has_nothing_to_do_and_git_is_clean(clone: Path) -> None:
    assert "up to date" in run(clone, "dvc", "repro")
    assert run(clone, "git", "status", "--porcelain") == ""
    assert call(clone / "docs", "check-lock") == ""
    assert call(clone / "docs", "verify") == call(clone, "verify")


@pytest.mark.parametrize("variant", ["mlp64", "cnn"])
def test_metrics_and_plots_of_a_variant_agree_with_the_predictions_of_its_seeds(template: Path, variant: str) -> None:
    found, plots = metrics(template, f"variants/{variant}"), template / "plots" / "variants" / variant
    predictions = read_arrays(template / f"data/predictions/{variant}.npz")
    labels, probabilities = read_arrays(template / "data/processed/test.npz")["labels"], predictions["probabilities"]
    assert predictions["seeds"].tolist() == found["seeds"] == [0, 1]
    assert probabilities.shape == (2, 397, 10)
    np.testing.assert_allclose(probabilities.sum(axis=2), 1, rtol=1e-5)
    predicted = probabilities.argmax(axis=2)
    wrong = predicted != labels
    assert (wrong[0] != wrong[1]).any(), "the seeds should differ"

    test = found["test"]
    assert test["errors"]["values"] == wrong.sum(axis=1).tolist()
    assert test["errors"]["mean"] == wrong.sum() / 2
    assert test["accuracy"]["values"] == pytest.approx(1 - wrong.mean(axis=1), abs=1e-6)
    assert test["accuracy"]["mean"] == pytest.approx(1 - wrong.mean(), abs=1e-6)
    assert test["accuracy"]["std"] == pytest.approx(wrong.mean(axis=1).std(ddof=1), rel=1e-4)
    lower, upper = test["accuracy_interval"]
    assert lower < test["accuracy"]["mean"] < upper
    likelihoods = np.take_along_axis(probabilities, labels[np.newaxis, :, np.newaxis], axis=2)
    assert test["loss"]["values"] == pytest.approx(-np.log(likelihoods).mean(axis=(1, 2)), rel=1e-4)
    mean = probabilities.mean(axis=0, dtype=np.float64)
    assert test["ensemble"]["errors"] == (mean.argmax(axis=1) != labels).sum()
    assert test["ensemble"]["accuracy"] == pytest.approx((mean.argmax(axis=1) == labels).mean(), abs=1e-6)
    assert test["ensemble"]["loss"] == pytest.approx(log_loss(labels, mean), rel=1e-4)
    assert test["ensemble"]["loss"] < test["loss"]["mean"]  # the logarithm is concave
    assert sum(row["support"] for row in found["per_class"].values()) == 397
    recalls = [recall_score(labels, each, average=None) for each in predicted]
    assert [row["recall"] for row in found["per_class"].values()] == pytest.approx(np.mean(recalls, axis=0), abs=1e-5)
    assert sum(row["count"] for row in found["calibration"]["bins"]) == 2 * 397

    confusion, errors = table(plots / "confusion.csv"), table(plots / "errors.csv")
    assert len(confusion) == 100
    assert sum(float(row["count"]) for row in confusion) == 397
    assert sum(float(row["count"]) for row in confusion if row["actual"] != row["predicted"]) == wrong.sum() / 2
    assert [int(row["index"]) for row in errors] == np.flatnonzero(wrong.any(axis=0)).tolist()
    for row in errors:
        index = int(row["index"])
        assert int(row["seeds_wrong"]) == wrong[:, index].sum()
        assert int(row["label"]) == labels[index]
        assert int(row["answer"]) in predicted[wrong[:, index], index]
        # Probabilities are written with three decimal places.
        assert float(row["probability_answer"]) == pytest.approx(mean[index, int(row["answer"])], abs=0.00051)
        assert float(row["probability_label"]) == pytest.approx(mean[index, labels[index]], abs=0.00051)
    every, some = int(wrong.all(axis=0).sum()), int((wrong[0] != wrong[1]).sum())
    images = metrics(template, f"variants/{variant}-errors")["images"]
    assert images == {"all": every, "some": some, "none": 397 - every - some}


@pytest.mark.parametrize("variant", ["mlp64", "cnn"])
def test_thresholds_are_chosen_on_validation_images_and_tried_on_test_images(template: Path, variant: str) -> None:
    found, files = metrics(template, f"variants/{variant}"), VariantFiles(variant)
    validation, test = (read_arrays(template / f"data/processed/{split}.npz") for split in ("validation", "test"))
    model = ensemble.load(variant, template / files.model, template / files.weights)
    held_out, tested = model.probabilities(validation["images"]), model.probabilities(test["images"])
    right = held_out.argmax(axis=2) == validation["labels"]
    assert found["validation"]["accuracy"]["values"] == pytest.approx(right.mean(axis=1), abs=1e-6)
    mean = held_out.mean(axis=0).argmax(axis=1) == validation["labels"]
    assert found["validation"]["ensemble"]["accuracy"] == pytest.approx(mean.mean(), abs=1e-6)
    expected = selective.at_targets((held_out, validation["labels"]), (tested, test["labels"]))
    assert found["selective"]["chosen_on"] == "validation"
    for target, wanted in zip(found["selective"]["targets"], expected, strict=True):
        assert target["target_accuracy"] == wanted.target_accuracy
        sides = zip([target["ensemble"], *target["seeds"]], [wanted.ensemble, *wanted.seeds], strict=True)
        for answers, others in sides:
            # TensorFlow and NumPy differ in the last digits, by which an image can fall to the other side.
            assert answers["coverage"] == pytest.approx(others.coverage, abs=0.01)
            assert (answers["threshold"] is None) == (others.threshold is None)
    assert len(table(template / files.risk_coverage)) == 100


def test_the_evaluation_sets_are_the_test_images_scikit_learns_digits_and_corruptions(template: Path) -> None:
    found, variant = metrics(template, "stress"), metrics(template, "variants/cnn")
    assert list(found) == ["test", "scikit-learn", *stress.CORRUPTIONS]
    assert found["test"]["variants"]["cnn"]["accuracy"]["values"] == variant["test"]["accuracy"]["values"]
    expected = {each["variants"]["cnn"]["expected"] for each in found.values()}
    assert expected == {variant["validation"]["accuracy"]["mean"]}
    for each in found.values():
        row = each["variants"]["cnn"]
        assert row["difference"] == pytest.approx(row["accuracy"]["mean"] - row["expected"], abs=1e-5)
        assert row["interval"][0] < row["difference"] < row["interval"][1]
        assert row["outcome"] in list(comparison.Outcome)


@pytest.mark.parametrize("variant", ["mlp64", "cnn"])
def test_the_curves_have_a_row_for_each_epoch_of_each_seed(template: Path, variant: str) -> None:
    found, plots = metrics(template, f"variants/{variant}"), template / "plots" / "variants" / variant
    training, epochs = table(plots / "training.csv"), table(plots / "epochs.csv")
    places = [("1", "0"), ("1", "1"), ("2", "0"), ("2", "1")]
    assert [(row["epoch"], row["seed"]) for row in training] == places
    assert [(row["epoch"], row["seed"]) for row in epochs] == places
    assert [float(row["accuracy"]) for row in epochs[2:]] == found["test"]["accuracy"]["values"]
    assert [float(row["loss"]) for row in epochs[2:]] == found["test"]["loss"]["values"]

    validation = [float(row["val_accuracy"]) for row in training]
    best = found["best"]
    assert best["selected_on"] == "validation"
    assert best["epoch"] == (1 if sum(validation[:2]) >= sum(validation[2:]) else 2)
    chosen = [row for row in epochs if row["epoch"] == str(best["epoch"])]
    assert best["accuracy"]["values"] == [float(row["accuracy"]) for row in chosen]
    assert best["loss"]["mean"] == pytest.approx(sum(float(row["loss"]) for row in chosen) / 2, rel=1e-5)

    wrong = seeds_wrong.read((plots / "validation_errors.csv").read_text("utf-8"))
    assert set(wrong.values()) <= {1, 2}
    assert set(wrong) <= set(range(350))
    assert sum(wrong.values()) == pytest.approx(350 * (2 - sum(validation[2:])), abs=0.01)

    weights = read_arrays(template / f"models/{variant}/weights.npz")
    assert (weights.pop("seeds").tolist(), weights.pop("epochs").tolist()) == ([0, 1], [1, 2])
    assert {values.shape[:2] for values in weights.values()} == {(2, 2)}


def test_the_summary_and_the_comparison_have_the_means_of_all_variants(template: Path) -> None:
    dataset = metrics(template, "dataset")
    assert [dataset[split]["images"] for split in ("train", "validation", "test")] == [1050, 350, 397]
    assert metrics(template, "variants/mlp64")["parameters"] == 50_890
    summary = metrics(template, "summary")
    assert list(summary) == ["mlp64", "cnn"]
    test = metrics(template, "variants/cnn")["test"]
    assert summary["cnn"] == {
        "accuracy": test["accuracy"]["mean"],
        "accuracy_std": test["accuracy"]["std"],
        "loss": test["loss"]["mean"],
    }
    curves = table(template / "plots/curves.csv")
    assert len(curves) == 2 * 3 * 2  # variants, splits, epochs
    (last,) = [row for row in curves if (row["variant"], row["split"], row["epoch"]) == ("cnn", "test", "2")]
    assert float(last["accuracy"]) == pytest.approx(test["accuracy"]["mean"], rel=1e-5)
    assert float(last["accuracy_std"]) == pytest.approx(test["accuracy"]["std"], rel=1e-3)
    assert float(last["loss_std"]) == pytest.approx(test["loss"]["std"], rel=1e-3)
    numbers = metrics(template, "published")["numbers"]
    assert next(row for row in numbers if row["published"] == 50_890)["measured"]["reproduced"] is True
    curve = next(
        row for row in numbers if row["variant"] == "mlp64" and row["quantity"].startswith("training accuracy")
    )
    assert len(curve["measured"]["values"]) == 2
    assert next(row for row in numbers if row["variant"] == "mlp128")["measured"] is None


def test_numbers_of_the_reports_are_not_compared_with_those_of_another_data_set(clone: Path) -> None:
    edit(clone / "data/published.yaml", **{"data__t10k-labels-idx1-ubyte": "0" * 64})
    try:
        output = call(clone, "compare")
        comparison_with_reports = metrics(clone, "published")
    finally:
        run(clone, "git", "checkout", ".")
    reason = comparison_with_reports["not_applicable"]
    assert output == f"{reason}: metrics/published.json has none of this run\n"
    assert {row["measured"] for row in comparison_with_reports["numbers"]} == {None}
    assert {row["holds"] for row in comparison_with_reports["claims"]} == {None}
    assert "not_applicable" not in metrics(clone, "published")


@pytest.mark.slow(20)
def test_an_experiment_trains_a_variant_alone_with_one_seed_on_all_images(experiment: Path) -> None:
    log = experiment.with_suffix(".log").read_text("utf-8")
    stages = RUNNING.findall(log)
    assert stages == ["params", "train@mlp64", "evaluate@mlp64", "analyze@mlp64", "stress", "compare", "cards"]
    assert re.search(r"^mlp64 epoch 3/3: loss \d\.\d{4}, accuracy \d+\.\d\d%$", log, re.MULTILINE)
    found, plots = metrics(experiment, "variants/mlp64"), experiment / "plots/variants/mlp64"
    assert (found["epochs"], found["seeds"], found["best"]["selected_on"]) == (3, [4], "test")
    # One seed shows no spread.
    for spread in (*(found["test"][name] for name in ("accuracy", "loss", "errors")), found["best"]["accuracy"]):
        assert spread["std"] is None
        assert spread["values"] == [spread["mean"]]
    assert found["test"]["ensemble"]["errors"] == found["test"]["errors"]["mean"]
    assert metrics(experiment, "summary")["mlp64"]["accuracy_std"] is None
    assert {(row["accuracy_std"], row["loss_std"]) for row in table(experiment / "plots/curves.csv")} == {("", "")}
    assert {row["seeds_wrong"] for row in table(plots / "errors.csv")} == {"1"}
    mistakes = comparison.read_mistakes((plots / "errors.csv").read_text("utf-8"))
    result = comparison.result(found["test"]["errors"]["values"], dict.fromkeys(mistakes, 1), 397)
    expected = comparison.accuracy_interval(result, np.array(WRITERS))
    assert found["test"]["accuracy_interval"] == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(comparison.accuracy_interval(result), rel=1e-3)
    assert metrics(experiment, "variants/mlp64-errors")["images"]["some"] == 0
    curve = next(
        row
        for row in metrics(experiment, "published")["numbers"]
        if row["variant"] == "mlp64" and row["quantity"].startswith("training accuracy")
    )
    assert (curve["measured"]["interval"], curve["measured"]["reproduced"]) == (None, None)
    # The variant trains on all images.
    assert found["validation"] is None
    assert found["selective"]["chosen_on"] == "test"
    stressed = metrics(experiment, "stress")
    assert stressed["test"]["variants"]["mlp64"]["interval"] is None
    assert stressed["inverted"]["variants"]["mlp64"]["expected"] == found["test"]["accuracy"]["mean"]
    assert "| no image held out |" in (experiment / "cards/mlp64.md").read_text("utf-8")
    assert {row["val_loss"] for row in table(plots / "training.csv")} == {""}
    assert (plots / "validation_errors.csv").read_text("utf-8") == "index,seeds_wrong\n"
    drawn = sorted(path.stem for path in (experiment / "plots/compare").iterdir())
    assert drawn == ["mlp64", "risk_coverage", "test"]


def test_an_experiment_is_shown_and_compared_by_dvc(experiment: Path) -> None:
    shown = run(experiment, "dvc", "exp", "show", "--csv", "--no-pager")
    (row,) = (row for row in csv.DictReader(shown.splitlines()) if row["Experiment"] == "alone")
    accuracy = metrics(experiment, "summary")["mlp64"]["accuracy"]
    assert (row["train.epochs"], float(row["mlp64.accuracy"]), row["cnn.accuracy"]) == ("3", accuracy, "")
    with open_repository(experiment) as repo:
        diff = repo.metrics.diff("HEAD")["diff"]["metrics/summary.json"]
    before = json.loads(run(experiment, "git", "show", "HEAD:metrics/summary.json"))["mlp64"]["accuracy"]
    assert (diff["mlp64.accuracy"]["old"], diff["mlp64.accuracy"]["new"]) == (before, accuracy)

    plots = json.loads(run(experiment, "dvc", "plots", "diff", "HEAD", "--json"))
    assert "errors" not in plots
    variants = [("HEAD", "mlp64"), ("HEAD", "cnn"), ("workspace", "mlp64")]
    for name in ("accuracy", "loss"):
        points = plots["data"][name][0]["content"]["data"]["values"]
        splits = {(point["rev"], point["variant"], point["split"]) for point in points}
        expected = {(*each, split) for each in variants for split in ("train", "validation", "test")}
        assert splits == expected - {("workspace", "mlp64", "validation")}
        assert all(float(point[name]) >= 0 for point in points)
    for name in ("accuracy", "loss", "plots/variants/mlp64/confusion.csv", "plots/variants/mlp64/training.csv"):
        assert "<DVC_METRIC" not in json.dumps(plots["data"][name][0]["content"])
    assert len(plots["data"]["plots/variants/mlp64/errors.png"]) == 2


def test_published_numbers_are_compared_with_an_experiment(experiment: Path) -> None:
    number = {
        "report": "B",
        "section": "1",
        "quantity": "accuracy",
        "published": 0.5,
        "rounding": 0.005,
        "curve": {"variant": "mlp64", "split": "test", "column": "accuracy", "epoch": 3},
    }
    source = Published.model_validate({"data": {}, "reports": {}, "numbers": [number], "claims": []})
    wanted = Experiments.model_validate(
        {"experiments": {"alone": {"description": "three", "variant": "mlp64", "set": ["train.epochs=3"]}}}
    )
    head = run(experiment, "git", "rev-parse", "HEAD").strip()
    found = experiments.results(experiment, wanted, source, head)["alone"]
    assert found.seeds == [4]
    (row,) = found.numbers
    accuracy = metrics(experiment, "variants/mlp64")["test"]["accuracy"]
    assert row.measured.values == pytest.approx(accuracy["values"])
    absent = Experiments(experiments={"epochs-4": wanted.experiments["alone"]})
    with pytest.raises(UserError, match="experiment epochs-4 has not been run on"):
        experiments.results(experiment, absent, source, head)


def test_check_lock_is_one_line_while_another_process_works(clone: Path) -> None:
    with contextlib.closing(LockFile(str(clone / ".dvc/tmp/lock"))):
        output = call(clone, "check-lock", fails=True)
    assert output.startswith("digits: Unable to acquire lock.")
    assert output.count("\n") == 1


def test_a_fresh_clone_without_the_cache_is_up_to_date_and_names_each_source_that_lacks_the_data(
    clone: Path, tmp_path: Path
) -> None:
    run(tmp_path, "git", "clone", "-q", str(clone), "fresh")
    fresh = tmp_path / "fresh"
    assert call(fresh, "check-lock") == ""
    edit(fresh / "params.yaml", download__sources=["/nowhere", "http://127.0.0.1:9"], download__retries=0)
    output = call(fresh, "download", fails=True)
    assert "/nowhere: train-images-idx3-ubyte: the folder does not exist" in output
    assert "http://127.0.0.1:9: train-images-idx3-ubyte: " in output
    assert "dvc exp run -S 'download.sources=[/path/to/folder]'" in output
