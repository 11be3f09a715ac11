"""DVC runs the pipeline on the small data set."""

import contextlib
import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, log_loss, recall_score
from support import WRITERS, call, edit, run
from zc.lockfile import LockFile

from digits.core import seeds_wrong
from digits.core.artifacts import read_arrays
from digits.core.paths import VariantFiles
from digits.evaluation import comparison, selective, stress
from digits.inference import ensemble
from digits.replication import experiments
from digits.replication.experiments import Experiment, Experiments
from digits.replication.published import Number, Point, Published
from digits.stages import analyze
from digits.versioning.results import read_results
from digits.versioning.revisions import workspace

RUNNING = re.compile(r"^Running stage '(.+)':$", re.MULTILINE)

pytestmark = pytest.mark.timeout(240)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def metrics(folder: Path, name: str) -> Any:
    return json.loads((folder / "metrics" / f"{name}.json").read_text("utf-8"))


def training_accuracy(folder: Path) -> Any:
    """Return the measurement of a published number on the training curve of mlp64."""
    numbers = metrics(folder, "published")["numbers"]
    numbers = [row for row in numbers if row["variant"] == "mlp64" and row["quantity"].startswith("training accuracy")]
    return numbers[0]["measured"]


def test_repro_runs_every_stage_once_and_prints_a_line_for_each_epoch(reproduced: str) -> None:
    stages = RUNNING.findall(reproduced)
    of_variants = [f"{stage}@{variant}" for stage in ("train", "evaluate", "analyze") for variant in ("mlp64", "cnn")]
    once = ["params", "download", "preprocess", "neighbors", "stress", "compare", "cards"]
    assert sorted(stages) == sorted(once + of_variants)
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
    assert call(clone / "docs", "verify").replace(" (in ..)", "") == call(clone, "verify")


def test_metrics_and_plots_of_a_variant_agree_with_the_predictions_of_its_seeds(template: Path) -> None:
    found, plots = metrics(template, "variants/cnn"), template / "plots/variants/cnn"
    predictions = read_arrays(template / "data/predictions/cnn.npz")
    labels, probabilities = read_arrays(template / "data/processed/test.npz")["labels"], predictions["probabilities"]
    assert predictions["seeds"].tolist() == found["seeds"] == [0, 1]
    assert probabilities.shape == (2, 397, 10)
    predicted = probabilities.argmax(axis=2)
    wrong = predicted != labels
    assert (wrong[0] != wrong[1]).any(), "the seeds should differ"

    test = found["test"]
    assert test["errors"]["values"] == wrong.sum(axis=1).tolist()
    assert test["accuracy"]["values"] == pytest.approx(1 - wrong.mean(axis=1), abs=1e-6)
    lower, upper = test["accuracy_interval"]
    assert lower < test["accuracy"]["mean"] < upper
    assert test["loss"]["values"] == pytest.approx([log_loss(labels, each) for each in probabilities], rel=1e-4)
    mean = probabilities.mean(axis=0, dtype=np.float64)
    assert test["ensemble"]["errors"] == (mean.argmax(axis=1) != labels).sum()
    assert test["ensemble"]["loss"] == pytest.approx(log_loss(labels, mean), rel=1e-4)
    recalls = [recall_score(labels, each, average=None) for each in predicted]
    assert [row["recall"] for row in found["per_class"].values()] == pytest.approx(np.mean(recalls, axis=0), abs=1e-5)
    assert sum(row["count"] for row in found["calibration"]["bins"]) == 2 * 397

    confusion = pd.read_csv(plots / "confusion.csv").pivot(index="actual", columns="predicted", values="count")
    assert confusion.to_numpy().tolist() == (sum(confusion_matrix(labels, each) for each in predicted) / 2).tolist()
    errors = pd.read_csv(plots / "errors.csv")
    index, answers = np.flatnonzero(wrong.any(axis=0)), errors["answer"].to_numpy()
    assert errors["index"].tolist() == index.tolist()
    assert errors["seeds_wrong"].tolist() == wrong[:, index].sum(axis=0).tolist()
    assert errors["label"].tolist() == labels[index].tolist()
    assert ((predicted[:, index] == answers) & wrong[:, index]).any(axis=0).all()
    # Probabilities are written with three decimal places.
    assert errors["probability_answer"].to_numpy() == pytest.approx(mean[index, answers], abs=0.00051)
    assert errors["probability_label"].to_numpy() == pytest.approx(mean[index, labels[index]], abs=0.00051)
    every, some = int(wrong.all(axis=0).sum()), int((wrong[0] != wrong[1]).sum())
    images = metrics(template, "variants/cnn-errors")["images"]
    assert images == {"all": every, "some": some, "none": 397 - every - some}


def test_thresholds_are_chosen_on_validation_images_and_tried_on_test_images(template: Path) -> None:
    found, files = metrics(template, "variants/cnn"), VariantFiles("cnn")
    validation, test = (read_arrays(template / f"data/processed/{split}.npz") for split in ("validation", "test"))
    model = ensemble.load("cnn", template / files.model, template / files.weights)
    held_out, tested = model.probabilities(validation["images"]), model.probabilities(test["images"])
    right = held_out.argmax(axis=2) == validation["labels"]
    assert found["validation"]["accuracy"]["values"] == pytest.approx(right.mean(axis=1), abs=1e-6)
    mean = held_out.mean(axis=0).argmax(axis=1) == validation["labels"]
    assert found["validation"]["ensemble"]["accuracy"] == pytest.approx(mean.mean(), abs=1e-6)
    expected = selective.at_targets((held_out, validation["labels"]), (tested, test["labels"]))
    assert found["selective"]["chosen_on"] == "validation"
    for target, wanted in zip(found["selective"]["targets"], expected, strict=True):
        assert target["target_accuracy"] == wanted.target_accuracy
        assert (target["ensemble"]["threshold"] is None) == (wanted.ensemble.threshold is None)
        # TensorFlow and NumPy differ in the last digits, by which an image can fall to the other side.
        coverages = [each["coverage"] for each in (target["ensemble"], *target["seeds"])]
        assert coverages == pytest.approx([each.coverage for each in (wanted.ensemble, *wanted.seeds)], abs=0.01)
    assert len(table(template / files.risk_coverage)) == 100


def test_the_answer_is_the_most_frequent_mistake_of_the_seeds_the_smallest_digit_of_equals() -> None:
    labels = np.array([4, 9, 0, 0])
    # Most seeds read the first image as it is labelled; the others disagree.
    predicted = np.array([[4, 4, 5, 0], [4, 4, 3, 0], [4, 7, 3, 0], [9, 7, 3, 6], [9, 7, 5, 8], [7, 9, 0, 8]])
    assert analyze.most_frequent_mistakes(predicted, labels).tolist() == [9, 7, 3, 8]
    predicted = np.array([[9, 8, 7, 0], [7, 4, 2, 9]])
    assert analyze.most_frequent_mistakes(predicted, labels).tolist() == [7, 4, 2, 9]
    assert (analyze.most_frequent_mistakes(np.array([labels] * 3), labels) != labels).all()


def test_of_many_mistakes_git_holds_the_worst(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = VariantFiles("mlp64")
    before = read_results(workspace(clone), "mlp64", 397)
    assert before is not None
    assert len(before.mistakes) > 5
    monkeypatch.chdir(clone)
    monkeypatch.setattr(analyze, "LISTED", 5)
    analyze.run("mlp64")
    every = pd.read_csv(files.all_errors)
    assert every["index"].tolist() == list(before.mistakes)
    worst = every.sort_values(["seeds_wrong", "probability_answer"], ascending=False, kind="stable").head(5)
    assert pd.read_csv(files.errors).equals(worst.sort_index().reset_index(drop=True))
    assert capsys.readouterr().out == (
        f"mlp64: {files.errors} has the 5 worst of {len(every)} misclassified images; data/errors/mlp64.csv, which is "
        "in the DVC cache, has all\n"
    )
    after = read_results(workspace(clone), "mlp64", 397)
    assert after is not None
    assert after.result.wrong.tolist() == before.result.wrong.tolist()
    assert sorted(after.mistakes) == sorted(worst["index"])
    run(clone, "git", "checkout", ".")


def test_the_evaluation_sets_are_the_test_images_scikit_learns_digits_and_corruptions(template: Path) -> None:
    found, variant = metrics(template, "stress"), metrics(template, "variants/cnn")
    assert list(found) == ["test", "scikit-learn", *stress.CORRUPTIONS]
    assert found["test"]["variants"]["cnn"]["accuracy"]["values"] == variant["test"]["accuracy"]["values"]
    expected = {each["variants"]["cnn"]["expected"] for each in found.values()}
    assert expected == {variant["validation"]["accuracy"]["mean"]}
    row = found["scikit-learn"]["variants"]["cnn"]
    assert row["difference"] == pytest.approx(row["accuracy"]["mean"] - row["expected"], abs=1e-5)
    assert row["interval"][0] < row["difference"] < row["interval"][1]
    assert row["outcome"] in list(comparison.Outcome)


def test_the_curves_have_a_row_for_each_epoch_of_each_seed(template: Path) -> None:
    found, plots = metrics(template, "variants/cnn"), template / "plots/variants/cnn"
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


def test_the_summary_and_the_comparison_have_the_means_of_all_variants(template: Path) -> None:
    dataset = metrics(template, "dataset")
    assert [dataset[split]["images"] for split in ("train", "validation", "test")] == [1050, 350, 397]
    summary = metrics(template, "summary")
    assert list(summary) == ["mlp64", "cnn"]
    test = metrics(template, "variants/cnn")["test"]
    accuracy, loss = test["accuracy"], test["loss"]
    assert summary["cnn"] == {"accuracy": accuracy["mean"], "accuracy_std": accuracy["std"], "loss": loss["mean"]}
    curves = table(template / "plots/curves.csv")
    assert len(curves) == 2 * 3 * 2  # variants, splits, epochs
    (last,) = [row for row in curves if (row["variant"], row["split"], row["epoch"]) == ("cnn", "test", "2")]
    assert float(last["accuracy"]) == pytest.approx(accuracy["mean"], rel=1e-5)
    assert float(last["loss_std"]) == pytest.approx(loss["std"], rel=1e-3)
    numbers = metrics(template, "published")["numbers"]
    assert next(row for row in numbers if row["published"] == 50_890)["measured"]["reproduced"] is True
    assert len(training_accuracy(template)["values"]) == 2
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
    assert (found["test"]["accuracy"]["std"], metrics(experiment, "summary")["mlp64"]["accuracy_std"]) == (None, None)
    assert {(row["accuracy_std"], row["loss_std"]) for row in table(experiment / "plots/curves.csv")} == {("", "")}
    mistakes = comparison.read_mistakes((plots / "errors.csv").read_text("utf-8"))
    result = comparison.result(found["test"]["errors"]["values"], dict.fromkeys(mistakes, 1), 397)
    expected = comparison.accuracy_interval(result, np.array(WRITERS))
    assert found["test"]["accuracy_interval"] == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(comparison.accuracy_interval(result), rel=1e-3)
    measured = training_accuracy(experiment)
    assert (measured["interval"], measured["reproduced"]) == (None, None)
    # The variant trains on all images.
    assert found["validation"] is None
    assert found["selective"]["chosen_on"] == "test"
    stressed = metrics(experiment, "stress")
    assert stressed["test"]["variants"]["mlp64"]["interval"] is None
    assert stressed["inverted"]["variants"]["mlp64"]["expected"] == found["test"]["accuracy"]["mean"]
    assert "| no image held out |" in (experiment / "cards/mlp64.md").read_text("utf-8")
    assert {row["val_loss"] for row in table(plots / "training.csv")} == {""}
    assert (plots / "validation_errors.csv").read_text("utf-8") == "index,seeds_wrong\n"
    assert {path.stem for path in (experiment / "plots/compare").iterdir()} == {"mlp64", "risk_coverage", "test"}


def test_an_experiment_is_shown_and_compared_by_dvc(experiment: Path) -> None:
    shown = run(experiment, "dvc", "exp", "show", "--csv", "--no-pager")
    (row,) = (row for row in csv.DictReader(shown.splitlines()) if row["Experiment"] == "alone")
    accuracy = metrics(experiment, "summary")["mlp64"]["accuracy"]
    assert (row["train.epochs"], float(row["mlp64.accuracy"]), row["cnn.accuracy"]) == ("3", accuracy, "")
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
    point = Point(variant="mlp64", split="test", column="accuracy", epoch=3)
    number = Number(report="B", section="1", quantity="accuracy", published=0.5, rounding=0.005, curve=point)
    source = Published(data={}, reports={}, numbers=[number], claims=[])
    wanted = Experiments(
        experiments={"alone": Experiment(description="three", variant="mlp64", set=["train.epochs=3"])}
    )
    head = run(experiment, "git", "rev-parse", "HEAD").strip()
    found = experiments.results(experiment, wanted, source, head)["alone"]
    assert found.seeds == [4]
    (row,) = found.numbers
    assert row.measured.values == pytest.approx(metrics(experiment, "variants/mlp64")["test"]["accuracy"]["values"])


def test_check_lock_is_one_line_while_another_process_works(clone: Path) -> None:
    with contextlib.closing(LockFile(str(clone / ".dvc/tmp/lock"))):
        output = call(clone, "check-lock", fails=True)
    assert output.startswith("digits: Unable to acquire lock.")
    assert output.count("\n") == 1


def test_a_fresh_clone_is_up_to_date_and_names_each_source_that_fails(clone: Path, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "-q", str(clone), "fresh")
    fresh = tmp_path / "fresh"
    assert call(fresh, "check-lock") == ""
    edit(fresh / "params.yaml", download__sources=["/nowhere", "http://127.0.0.1:9"], download__retries=0)
    output = call(fresh, "download", fails=True)
    assert "/nowhere: train-images-idx3-ubyte: the folder does not exist" in output
    assert "http://127.0.0.1:9: train-images-idx3-ubyte: " in output
    assert "dvc exp run -S 'download.sources=[/path/to/folder]'" in output
