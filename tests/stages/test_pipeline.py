"""DVC runs the pipeline on the small data set."""

import contextlib
import csv
import hashlib
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from support import call, edit, queue_workers, run
from zc.lockfile import LockFile

from digits.core.errors import UserError
from digits.replication import experiments
from digits.replication.experiments import Experiments
from digits.replication.published import Published

RUNNING = re.compile(r"^Running stage '(.+)':$", re.MULTILINE)

pytestmark = pytest.mark.timeout(240)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def metrics(folder: Path, name: str) -> Any:
    return json.loads((folder / "metrics" / f"{name}.json").read_text("utf-8"))


def show_experiments(folder: Path) -> dict[str, dict[str, str]]:
    """Return the rows of `dvc exp show` by the name of the experiment."""
    shown = run(folder, "dvc", "exp", "show", "--csv", "--no-pager")
    return {row["Experiment"]: row for row in csv.DictReader(shown.splitlines())}


def test_repro_runs_every_stage_once_and_prints_a_line_for_each_epoch(reproduced: str) -> None:
    stages = RUNNING.findall(reproduced)
    of_variants = [f"{stage}@{variant}" for stage in ("train", "evaluate", "analyze") for variant in ("mlp64", "cnn")]
    assert sorted(stages) == sorted(["params", "download", "preprocess", "neighbors", *of_variants, "compare"])
    assert stages[0] == "params"
    assert re.search(
        r"^mlp64 epoch 2/2: loss \d\.\d{4}, accuracy \d+\.\d\d%, validation loss .+, validation accuracy .+%$",
        reproduced,
        re.MULTILINE,
    )


def test_a_second_repro_has_nothing_to_do_and_git_is_clean(clone: Path) -> None:
    assert "up to date" in run(clone, "dvc", "repro")
    assert run(clone, "git", "status", "--porcelain") == ""
    assert call(clone, "check-lock") == ""


def test_metrics_and_plots_agree_with_each_other(template: Path) -> None:
    dataset = metrics(template, "dataset")
    assert [dataset[split]["images"] for split in ("train", "validation", "test")] == [1050, 350, 397]
    for variant in ("mlp64", "cnn"):
        found, plots = metrics(template, f"variants/{variant}"), template / "plots" / "variants" / variant
        training, epochs = table(plots / "training.csv"), table(plots / "epochs.csv")
        assert [row["epoch"] for row in training] == [row["epoch"] for row in epochs] == ["1", "2"]
        confusion, errors = table(plots / "confusion.csv"), table(plots / "errors.csv")
        assert len(confusion) == 100
        wrong = sum(int(row["count"]) for row in confusion if row["actual"] != row["predicted"])
        assert wrong == len(errors)
        assert wrong == found["test"]["errors"] == metrics(template, f"variants/{variant}-errors")["errors"]
        assert found["test"]["accuracy"] == pytest.approx(1 - wrong / 397, abs=1e-6)
        lower, upper = found["test"]["accuracy_interval"]
        assert lower < found["test"]["accuracy"] < upper
        assert found["best"]["selected_on"] == "validation"
        assert found["best"]["epoch"] == max((1, 2), key=lambda e: float(training[e - 1]["val_accuracy"]))
        assert found["test"]["accuracy"] == pytest.approx(float(epochs[-1]["accuracy"]))
        assert sum(row["support"] for row in found["per_class"].values()) == 397
        assert sum(row["count"] for row in found["calibration"]["bins"]) == 397
        for row in errors:
            assert row["label"] != row["predicted"]
            assert float(row["probability_predicted"]) >= float(row["probability_label"])
    assert metrics(template, "variants/mlp64")["parameters"] == 50_890
    summary = metrics(template, "summary")
    assert list(summary) == ["mlp64", "cnn"]
    assert summary["cnn"]["accuracy"] == metrics(template, "variants/cnn")["test"]["accuracy"]
    assert len(table(template / "plots/curves.csv")) == 2 * 3 * 2  # variants, splits, epochs
    numbers = metrics(template, "published")["numbers"]
    assert next(row for row in numbers if row["published"] == 50_890)["reproduced"] is True
    assert next(row for row in numbers if row["variant"] == "mlp128")["reproduced"] is None


@pytest.mark.slow(20)
def test_an_experiment_with_more_epochs_retrains_but_does_not_download(experiment: Path) -> None:
    stages = set(RUNNING.findall(experiment.with_suffix(".log").read_text("utf-8")))
    assert {"train@mlp64", "train@cnn", "evaluate@mlp64", "analyze@cnn", "compare"} <= stages
    assert not {"download", "preprocess", "neighbors"} & stages
    longer = (experiment / "plots/variants/mlp64/epochs.csv").read_text("utf-8").splitlines()
    shorter = run(experiment, "git", "show", "HEAD:plots/variants/mlp64/epochs.csv").splitlines()
    assert (len(longer), len(shorter)) == (4, 3)
    assert longer[:3] == shorter


def test_an_experiment_appears_in_exp_show_and_metrics_diff(experiment: Path) -> None:
    row = show_experiments(experiment)["epochs-3"]
    assert row["train.epochs"] == "3"
    assert float(row["mlp64.accuracy"]) == metrics(experiment, "summary")["mlp64"]["accuracy"]
    diff = json.loads(run(experiment, "dvc", "metrics", "diff", "--json", "HEAD"))["metrics/summary.json"]
    assert (diff["mlp64.epochs"]["old"], diff["mlp64.epochs"]["new"]) == (2, 3)


def test_published_numbers_are_compared_with_an_experiment(experiment: Path) -> None:
    point = {"variant": "mlp64", "split": "test", "column": "accuracy", "epoch": 3}
    number = {
        "report": "B",
        "section": "1",
        "quantity": "accuracy",
        "published": 0.5,
        "tolerance": 0.01,
        "curve": point,
    }
    source = Published.model_validate({"reports": {}, "numbers": [number], "claims": []})
    wanted = Experiments.model_validate(
        {
            "seeds": [3],
            "experiments": {"epochs": {"description": "three", "variant": "mlp64", "set": ["train.epochs=3"]}},
        }
    )
    head = run(experiment, "git", "rev-parse", "HEAD").strip()
    (row,) = experiments.results(experiment, wanted, source, head)["epochs"].numbers
    assert row.mean == metrics(experiment, "summary")["mlp64"]["accuracy"]
    assert row.reproduced is (abs(row.mean - 0.5) <= 0.01)
    absent = wanted.model_copy(update={"seeds": [4]})
    with pytest.raises(UserError, match="experiment epochs-4 has not been run on"):
        experiments.results(experiment, absent, source, head)


def test_plots_diff_draws_all_variants_of_both_sides(experiment: Path) -> None:
    plots = json.loads(run(experiment, "dvc", "plots", "diff", "HEAD", "--json"))
    assert "errors" not in plots
    for name, column in (("accuracy", "accuracy"), ("loss", "loss")):
        chart = plots["data"][name][0]["content"]
        points = chart["data"]["values"]
        assert {(point["rev"], point["variant"], point["split"]) for point in points} == {
            (rev, variant, split)
            for rev in ("HEAD", "workspace")
            for variant in ("mlp64", "cnn")
            for split in ("train", "validation", "test")
        }
        assert all(float(point[column]) >= 0 for point in points)
        assert "<DVC_METRIC" not in json.dumps(chart)
    for name in ("plots/variants/mlp64/confusion.csv", "plots/variants/cnn/training.csv"):
        assert "<DVC_METRIC" not in json.dumps(plots["data"][name][0]["content"])
    assert len(plots["data"]["plots/variants/cnn/errors.png"]) == 2


@pytest.mark.slow(20)
def test_a_queued_experiment_trains_another_variant_alone(template: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(template, tmp_path / "clone", symlinks=True))
    settings = ("-S", "variants=[mlp128]", "-S", "models.mlp128.normalize=true")
    run(folder, "dvc", "exp", "run", "--queue", "-n", "scaled", *settings)
    with queue_workers(folder, 1):
        # `queue logs --follow` would fail until the worker has taken the task.
        deadline = time.monotonic() + 120
        while not re.search(r"Success|Failed", status := run(folder, "dvc", "queue", "status")):
            assert time.monotonic() < deadline, status
            time.sleep(1)
    log = run(folder, "dvc", "queue", "logs", "scaled")
    stages = {stage for stage in RUNNING.findall(log) if "@" in stage}
    assert stages == {"train@mlp128", "evaluate@mlp128", "analyze@mlp128"}

    row = show_experiments(folder)["scaled"]
    assert int(float(row["mlp128.parameters"])) == 101_770
    assert row["cnn.accuracy"] == ""
    revision = run(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps/**/scaled").strip()
    found = json.loads(run(folder, "git", "show", f"{revision}:metrics/variants/mlp128.json"))
    assert found["best"]["selected_on"] == "test"
    training = run(folder, "git", "show", f"{revision}:plots/variants/mlp128/training.csv").splitlines()
    assert {row["val_loss"] for row in csv.DictReader(training)} == {""}
    drawn = run(folder, "git", "ls-tree", "--name-only", revision, "plots/compare/").split()
    assert drawn == ["plots/compare/mlp128.png", "plots/compare/test.png"]
    assert run(folder, "git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train__epochs": 0}, "digits: params.yaml: train.epochs is 0: it must be greater than or equal to 1"),
        ({"models__mlp64__units": [0]}, "digits: params.yaml: models.mlp64.units[0] is 0: it must be "),
        (
            {"variants": ["mlp64", "mlp46"]},
            "digits: params.yaml: variants[1] is 'mlp46', which has no entry under models",
        ),
        ({"nonsense": 1}, "digits: params.yaml: nonsense is an unknown key"),
    ],
)
def test_a_mistake_in_the_parameters_ends_repro_before_it_deletes_anything(
    clone: Path, change: dict[str, Any], message: str
) -> None:
    def hashes() -> dict[str, str]:
        files = [path for top in ("data", "models", "metrics", "plots") for path in (clone / top).rglob("*")]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}

    before = hashes()
    edit(clone / "params.yaml", **change)
    output = run(clone, "dvc", "repro", fails=True)
    run(clone, "git", "checkout", "-q", ".")
    assert message in output
    assert "Traceback" not in output
    assert hashes() == before


def test_check_lock_names_what_has_changed(clone: Path) -> None:
    edit(clone / "params.yaml", train__seed=1)
    with (clone / "src/digits/stages/analyze.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    pipeline = clone / "dvc.yaml"
    text = pipeline.read_text("utf-8").replace("cmd: python src neighbors", "cmd: python -B src neighbors")
    pipeline.write_text(text, encoding="utf-8")
    summary = clone / "metrics/summary.json"
    summary.write_text(summary.read_text("utf-8").replace("0.", "1."), encoding="utf-8")
    output = call(clone, "check-lock", fails=True)
    run(clone, "git", "checkout", "-q", ".")
    assert "train@cnn: changed deps: params.yaml: train modified" in output
    assert "analyze@mlp64: changed deps: src/digits/stages/analyze.py: modified" in output
    assert "neighbors: changed command" in output
    assert "compare: changed outs: metrics/summary.json: modified" in output


def test_check_lock_is_one_line_while_another_process_works(clone: Path) -> None:
    with contextlib.closing(LockFile(str(clone / ".dvc/tmp/lock"))):
        output = call(clone, "check-lock", fails=True)
    assert output.startswith("digits: Unable to acquire lock.")
    assert output.count("\n") == 1


def test_check_lock_passes_in_a_fresh_clone_without_the_cache(clone: Path, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "-q", str(clone), "fresh")
    assert call(tmp_path / "fresh", "check-lock") == ""


def test_if_no_source_has_the_data_the_message_lists_each_reason(clone: Path, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "-q", str(clone), "fresh")
    fresh = tmp_path / "fresh"
    edit(fresh / "params.yaml", download__sources=["/nowhere", "http://127.0.0.1:9"], download__retries=0)
    output = run(fresh, "dvc", "repro", "download", fails=True)
    assert "/nowhere: train-images-idx3-ubyte: the folder does not exist" in output
    assert "http://127.0.0.1:9: train-images-idx3-ubyte: " in output
    assert "dvc exp run -S 'download.sources=[/path/to/folder]'" in output
    assert "Traceback" not in output
