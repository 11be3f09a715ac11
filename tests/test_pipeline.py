"""The real thing: DVC runs the pipeline in a clone, on the small data set. The tests follow one another."""

import contextlib
import csv
import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import edit, queue_workers, run
from zc.lockfile import LockFile

from digits import experiments
from digits.errors import UserError
from digits.published import Published

STAGES_RUN = re.compile(r"^Running stage '(.+)':$", re.MULTILINE)

pytestmark = pytest.mark.timeout(240)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def metrics(clone: Path, name: str) -> Any:
    return json.loads((clone / "metrics" / f"{name}.json").read_text("utf-8"))


def test_repro_runs_every_stage_once_and_prints_a_line_an_epoch(clone: Path, reproduced: str) -> None:
    ran = STAGES_RUN.findall(reproduced)
    of_variants = [f"{stage}@{variant}" for stage in ("train", "evaluate", "analyze") for variant in ("mlp64", "cnn")]
    assert sorted(ran) == sorted(["params", "download", "preprocess", "neighbors", *of_variants, "compare"])
    assert ran[0] == "params"
    assert re.search(
        r"^mlp64 epoch 2/2: loss \d\.\d{4}, accuracy \d+\.\d\d%, validation loss .+, validation accuracy .+%$",
        reproduced,
        re.MULTILINE,
    )


def test_nothing_is_left_to_do_and_git_is_clean(clone: Path, reproduced: str) -> None:
    assert "up to date" in run(clone, "dvc", "repro")
    assert run(clone, "git", "status", "--porcelain") == ""
    assert run(clone, "digits", "drift") == ""


def test_what_was_written_is_consistent(clone: Path, reproduced: str) -> None:
    dataset = metrics(clone, "dataset")
    assert [dataset[split]["images"] for split in ("train", "validation", "test")] == [1050, 350, 397]
    for variant in ("mlp64", "cnn"):
        figures, plots = metrics(clone, f"variants/{variant}"), clone / "plots" / "variants" / variant
        training, epochs = table(plots / "training.csv"), table(plots / "epochs.csv")
        assert [row["epoch"] for row in training] == [row["epoch"] for row in epochs] == ["1", "2"]
        confusion, errors = table(plots / "confusion.csv"), table(plots / "errors.csv")
        assert len(confusion) == 100
        wrong = sum(int(row["count"]) for row in confusion if row["actual"] != row["predicted"])
        assert (
            wrong == len(errors) == figures["test"]["errors"] == metrics(clone, f"variants/{variant}-errors")["errors"]
        )
        assert figures["test"]["accuracy"] == pytest.approx(1 - wrong / 397, abs=1e-6)
        lower, upper = figures["test"]["accuracy_interval"]
        assert lower < figures["test"]["accuracy"] < upper
        assert figures["best"]["selected_on"] == "validation"
        assert figures["best"]["epoch"] == max((1, 2), key=lambda e: float(training[e - 1]["val_accuracy"]))
        assert figures["test"]["accuracy"] == pytest.approx(float(epochs[-1]["accuracy"]))
        assert sum(row["support"] for row in figures["per_class"].values()) == 397
        assert sum(row["count"] for row in figures["calibration"]["bins"]) == 397
        for row in errors:
            assert row["label"] != row["predicted"]
            assert float(row["probability_predicted"]) >= float(row["probability_label"])
    assert metrics(clone, "variants/mlp64")["parameters"] == 50_890
    summary = metrics(clone, "summary")
    assert list(summary) == ["mlp64", "cnn"]
    assert summary["cnn"]["accuracy"] == metrics(clone, "variants/cnn")["test"]["accuracy"]
    curves = table(clone / "plots/curves.csv")
    assert len(curves) == 2 * 3 * 2
    results = metrics(clone, "published")
    assert next(row for row in results["numbers"] if row["published"] == 50_890)["reproduced"] is True
    assert next(row for row in results["numbers"] if row["variant"] == "mlp128")["reproduced"] is None


def test_another_number_of_epochs_retrains_and_downloads_nothing(clone: Path, reproduced: str) -> None:
    output = run(clone, "dvc", "exp", "run", "-S", "train.epochs=3", "-n", "epochs-3")
    ran = STAGES_RUN.findall(output)
    assert {"train@mlp64", "train@cnn", "evaluate@mlp64", "analyze@cnn", "compare"} <= set(ran)
    assert not {"download", "preprocess", "neighbors"} & set(ran)
    longer = table(clone / "plots/variants/mlp64/epochs.csv")
    shorter = run(clone, "git", "show", "HEAD:plots/variants/mlp64/epochs.csv").splitlines()
    assert [",".join(row.values()) for row in longer[:2]] == shorter[1:]


def test_the_experiment_is_shown_and_compared(clone: Path, reproduced: str) -> None:
    shown = run(clone, "dvc", "exp", "show", "--csv", "--no-pager")
    rows = {row["Experiment"]: row for row in csv.DictReader(shown.splitlines())}
    assert rows["epochs-3"]["train.epochs"] == "3"
    assert float(rows["epochs-3"]["mlp64.accuracy"]) == metrics(clone, "summary")["mlp64"]["accuracy"]
    diff = json.loads(run(clone, "dvc", "metrics", "diff", "--json", "HEAD"))["metrics/summary.json"]
    assert (diff["mlp64.epochs"]["old"], diff["mlp64.epochs"]["new"]) == (2, 3)


def test_published_numbers_are_set_beside_an_experiment(clone: Path, reproduced: str) -> None:
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
    reference = {"report": "B", "quantity": "accuracy"}
    wanted = experiments.Experiments.model_validate(
        {"seeds": [3], "experiments": {"epochs": {"says": "three", "set": ["train.epochs=3"], "numbers": [reference]}}}
    )
    head = run(clone, "git", "rev-parse", "HEAD").strip()
    (row,) = experiments.results(clone, wanted, source, head)["epochs"]["numbers"]
    assert row["mean"] == metrics(clone, "summary")["mlp64"]["accuracy"]
    assert row["reproduced"] is (abs(row["mean"] - 0.5) <= 0.01)
    absent = wanted.model_copy(update={"seeds": [4]})
    with pytest.raises(UserError, match="experiment epochs-4 has not been run on"):
        experiments.results(clone, absent, source, head)


def test_plots_diff_draws_all_variants_of_both_sides(clone: Path, reproduced: str) -> None:
    plots = json.loads(run(clone, "dvc", "plots", "diff", "HEAD", "--json"))
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


def test_a_queue_trains_one_variant_normalized_alone(clone: Path, reproduced: str) -> None:
    run(clone, "git", "checkout", "-q", ".")
    run(clone, "dvc", "checkout", "-q")
    settings = ("-S", "variants=[mlp128]", "-S", "models.mlp128.normalize=true")
    run(clone, "dvc", "exp", "run", "--queue", "-n", "scaled", *settings)
    with queue_workers(clone, 1):
        # Not `queue logs --follow`, which fails until the worker has taken the task.
        deadline = time.monotonic() + 120
        while not re.search(r"Success|Failed", status := run(clone, "dvc", "queue", "status")):
            assert time.monotonic() < deadline, status
            time.sleep(1)
    log = run(clone, "dvc", "queue", "logs", "scaled")
    ran = {stage for stage in STAGES_RUN.findall(log) if "@" in stage}
    assert ran == {"train@mlp128", "evaluate@mlp128", "analyze@mlp128"}

    shown = run(clone, "dvc", "exp", "show", "--csv", "--no-pager")
    row = next(row for row in csv.DictReader(shown.splitlines()) if row["Experiment"] == "scaled")
    assert int(float(row["mlp128.parameters"])) == 101_770
    assert row["cnn.accuracy"] == ""
    revision = run(clone, "git", "for-each-ref", "--format=%(refname)", "refs/exps/**/scaled").strip()
    figures = json.loads(run(clone, "git", "show", f"{revision}:metrics/variants/mlp128.json"))
    assert figures["best"]["selected_on"] == "test"
    training = run(clone, "git", "show", f"{revision}:plots/variants/mlp128/training.csv").splitlines()
    assert {row["val_loss"] for row in csv.DictReader(training)} == {""}
    drawn = run(clone, "git", "ls-tree", "--name-only", revision, "plots/compare/").split()
    assert drawn == ["plots/compare/mlp128.png", "plots/compare/test.png"]
    assert run(clone, "git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train__epochs": 0}, "digits: params.yaml: train.epochs is 0: it must be greater than or equal to 1"),
        ({"models__mlp64__units": [0]}, "digits: params.yaml: models.mlp64.units[0] is 0: it must be "),
        ({"variants": ["mlp64", "mlp46"]}, "digits: params.yaml: variants[1] is 'mlp46', for which there is no entry"),
        ({"nonsense": 1}, "digits: params.yaml: nonsense is an unknown key"),
    ],
)
def test_a_mistake_ends_the_run_before_anything_is_deleted(
    clone: Path, reproduced: str, change: dict[str, Any], message: str
) -> None:
    def hashes() -> dict[str, str]:
        files = [path for top in ("data", "models", "metrics", "plots") for path in (clone / top).rglob("*")]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}

    before = hashes()
    edit(clone / "params.yaml", **change)
    output = run(clone, "dvc", "repro", fails=True)
    assert message in output
    assert "Traceback" not in output
    assert hashes() == before
    run(clone, "git", "checkout", "-q", ".")


def test_drift_names_what_is_of_another_commit(clone: Path, reproduced: str) -> None:
    edit(clone / "params.yaml", train__seed=1)
    with (clone / "src/digits/analysis.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    summary = clone / "metrics/summary.json"
    summary.write_text(summary.read_text("utf-8").replace("0.", "1."), encoding="utf-8")
    output = run(clone, "digits", "drift", fails=True)
    assert "train@cnn: changed deps: params.yaml: train modified" in output
    assert "analyze@mlp64: changed deps: src/digits/analysis.py: modified" in output
    assert "compare: changed outs: metrics/summary.json: modified" in output
    run(clone, "git", "checkout", "-q", ".")


def test_while_another_process_works_drift_is_one_line(clone: Path, reproduced: str) -> None:
    with contextlib.closing(LockFile(str(clone / ".dvc/tmp/lock"))):
        output = run(clone, "digits", "drift", fails=True)
    assert output.startswith("digits: Unable to acquire lock.")
    assert output.count("\n") == 1


def test_a_fresh_clone_without_the_cache_has_no_drift(clone: Path, reproduced: str, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "-q", str(clone), "fresh")
    assert run(tmp_path / "fresh", "digits", "drift") == ""


def test_without_any_source_the_message_lists_each(clone: Path, reproduced: str, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "-q", str(clone), "fresh")
    fresh = tmp_path / "fresh"
    edit(fresh / "params.yaml", download__sources=["/nowhere", "http://127.0.0.1:9"], download__retries=0)
    output = run(fresh, "dvc", "repro", "download", fails=True)
    assert "/nowhere: train-images-idx3-ubyte: there is no such folder" in output
    assert "dvc exp run -S 'download.sources=[/path/to/folder]'" in output
    assert "Traceback" not in output
