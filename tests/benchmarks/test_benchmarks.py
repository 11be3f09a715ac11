"""The benchmarks: the page made from the results, and the timing of stages and workers. Nothing is measured here."""

import contextlib
import copy
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import common
import figure
import pytest
import report
import run as benchmark
import sections
import stage_timer
from peers import PEERS
from report import Check, Line, Spread
from stage_timer import CallTimer, Moment
from support import ROOT, committed_params, run

from digits.core.errors import UserError

FOLDER = ROOT / "benchmarks"
EXPERIMENT = "dvc exp run -S train.epochs=6 -S 'train.seeds=[0]'"
PROVENANCE: dict[str, Any] = {
    "commit": "0123456789",
    "date": "2025-01-02",
    "short": False,
    "machine": {"processor": "A processor", "cores": 2, "threads": 2, "memory": 8 * 2**30, "system": "Linux x86_64"},
    "versions": {"Python": "3.11.7", "NumPy": "2.4.6"},
}


def epoch_round(**seconds: float) -> dict[str, Any]:
    return {name: {"seconds": value, "accuracy": 0.9} for name, value in seconds.items()}


FAST = epoch_round(digits=0.25, keras=4.0, pytorch=1.0, sklearn=2.0, jax=0.3, numpy=0.2)
RESULTS: dict[str, Any] = {
    "epoch": {
        "warm_up": epoch_round(digits=2.25, keras=6.0, pytorch=1.0, sklearn=2.0, jax=1.3, numpy=0.2),
        "rounds": [FAST, FAST, FAST],
        "test": dict.fromkeys(FAST, 0.95) | {"numpy": None},
        "provenance": PROVENANCE,
    },
    "checkpoints": {
        "epochs": 30,
        "rounds": [{"digits": 10.0, "keras": [{"epochs": k, "seconds": 1.0 + 4.0 * k} for k in (1, 2, 3)]}],
        "provenance": PROVENANCE,
    },
    "time_to_accuracy": {
        "accuracy": 0.99,
        "max_epochs": 3,
        "runs": [
            {
                "seed": 0,
                "digits": {"seconds": [4.0, 6.0], "accuracies": [0.98, 0.991]},
                "keras": {"seconds": [30.0, 60.0, 90.0], "accuracies": [0.97, 0.98, 0.985]},
            },
            {"seed": 1, "digits": {"seconds": [4.0, 5.0], "accuracies": [0.98, 0.991]}},
        ],
        "provenance": PROVENANCE,
    },
    "accuracy": {
        "runs": [
            {
                "variant": variant,
                "seed": seed,
                "seconds": [5.0, seconds],
                "accuracies": [0.9, last],
                "parameters": 80_202,
            }
            for variant, seconds in (("cnn", 40.0), ("cnn-large", 601.0))
            for seed, last in enumerate((0.9929, 0.9932, 0.9935))
        ],
        "provenance": PROVENANCE,
    },
    "seeds": {
        "seeds": 5,
        "epochs": 30,
        "workers": 2,
        "threads": 1,
        "variants": {
            "softmax": {"side_by_side": 20.0, "one_by_one": [6.0, 6.0, 6.0, 6.0, 6.0]},
            "cnn": {"side_by_side": 100.0, "one_by_one": [42.0, 42.0, 42.0, 42.0, 42.0]},
        },
        "provenance": PROVENANCE,
    },
    "roofline": {
        "steps": {"mlp64": {"seconds": [9.0, 0.002, 0.004], "batch": 32, "operations": 3e8, "bytes": 2e6}},
        "limits": {"operations": 2e11, "bytes": 1e10},
        "provenance": PROVENANCE,
    },
    "pipeline": {
        "full": {
            "command": "dvc repro",
            "seconds": 120.0,
            "stages": [
                {
                    "stage": "download",
                    "startup": 1.0,
                    "compiling": 0.0,
                    "training": 0.0,
                    "cpu": None,
                    "seconds": 5.0,
                    "peak": 2**28,
                },
                {
                    "stage": "train@mlp64",
                    "startup": 3.0,
                    "compiling": 2.0,
                    "training": 20.0,
                    "cpu": 0.6,
                    "seconds": 25.0,
                    "peak": 2**30,
                },
                {
                    "stage": "train@cnn",
                    "startup": 3.0,
                    "compiling": 2.0,
                    "training": 60.0,
                    "cpu": 0.8,
                    "seconds": 70.0,
                    "peak": 2**31,
                },
            ],
        },
        "idle": [{"seconds": 2.0}, {"seconds": 3.0}, {"seconds": 2.5}],
        "experiment": {"command": EXPERIMENT, "seconds": 61.0, "stages": []},
        "provenance": PROVENANCE,
    },
    "scaling": {
        "epochs": {"seconds": [3.0, 1.0, 1.0]},
        "images": [{"images": n, "seconds": [9.0, n / 1000], "peak": 2**30 + 2048 * n} for n in (1000, 2000, 3000)],
        "units": [{"units": n, "seconds": [9.0, n / 10]} for n in (32, 64)],
        "provenance": PROVENANCE,
    },
}


def cells(page: str, first: str) -> list[str]:
    """Return the cells of the only table row of a page whose first cell is `first`."""
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_committed_page_is_rendered_from_the_committed_results() -> None:
    results = json.loads((FOLDER / "results.json").read_text("utf-8"))
    assert report.render(results, FOLDER) == (FOLDER / "results.md").read_text("utf-8")
    assert list(results) == [name for name in sections.SECTIONS if name in results]


def test_the_page_compares_each_target_with_the_measurement() -> None:
    page = report.render(RESULTS, FOLDER)
    assert cells(page, "Keras `fit`: epoch time relative to this repository")[1:] == ["at least 12×", "16.0×", "yes"]
    assert cells(page, "this repository: epoch time relative to NumPy matrix products")[2:] == ["1.25×", "yes"]
    # 30 runs with 1 s of overhead each, and 465 epochs of 4 s, against 10 s
    assert cells(page, "30 runs of `fit`: time relative to one run of this repository")[2:] == ["189×", "yes"]
    assert cells(page, "`cnn`: mean test accuracy over 3 seeds")[1:] == ["at least 99.3 %", "99.32 %", "yes"]
    assert cells(page, "`cnn-large`: mean test accuracy over 3 seeds")[1:] == ["at least 99.6 %", "99.32 %", "**no**"]
    assert cells(page, "`cnn-large`: training time")[2:] == ["601 s", "**no**"]
    assert cells(page, "`dvc repro` in a fresh clone: time")[1:] == ["at most 240 s", "120 s", "yes"]
    assert cells(page, "`dvc repro` in a fresh clone: beyond training")[1:] == ["at most 35 s", "40.0 s", "**no**"]
    assert cells(page, f"`{EXPERIMENT}`: time")[2:] == ["61.0 s", "**no**"]
    assert cells(page, f"`{EXPERIMENT}`: beyond training")[1:] == ["at most 25 s", "61.0 s", "**no**"]
    assert cells(page, "`dvc repro` with nothing to do: time")[2:] == ["2.50 s (2.00 to 3.00)", "**no**"]
    assert cells(page, "any stage: peak memory")[2:] == ["2.00 GiB", "yes"]


def test_the_page_has_the_measurements_of_each_section() -> None:
    page = report.render(RESULTS, FOLDER)
    assert cells(page, "`cnn-large`")[1:] == ["80,202", "2", "99.32 %", "0.03 %", "99.29 %, 99.32 %, 99.35 %", "601"]
    # 3e8 of 2e11 operations per second take 1.5 ms, 2e6 of 1e10 bytes 0.2 ms; the first epoch compiles
    assert cells(page, "`mlp64`")[1:] == ["32", "300", "1.50", "2.00", "0.200", "3.00 (2.00 to 4.00)", "50.00 %"]
    assert cells(page, "`download`")[1:] == ["1.00", "–", "4.00", "5.00", "–", "–", "0.250"]
    assert cells(page, "`train@cnn`")[5:] == ["60.0", "80.00 %", "2.00"]
    # 60 % of the cores for 20 s, and 80 % for 60 s
    assert cells(page, "all stages")[1:] == ["7.00", "4.00", "89.0", "100", "80.0", "75.00 %", "2.00"]
    assert cells(page, "DVC, outside the stages")[4] == "20.0"
    assert "A short run" not in page


def test_seeds_side_by_side_are_compared_with_one_after_another() -> None:
    page = report.render({"seeds": RESULTS["seeds"]}, FOLDER)
    assert "with 5 seeds for 30 epochs" in page
    assert "2 at a time with 1 thread each" in page
    assert cells(page, "`softmax`")[1:] == ["20.0", "30.0", "1.50×"]
    assert cells(page, "`cnn`")[1:] == ["100", "210", "2.10×"]
    assert cells(page, "all variants")[1:] == ["120", "240", "2.00×"]


def test_seeds_side_by_side_are_measured_in_a_process_of_their_own_between_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, dict[str, Any]]] = []

    class FakeWorker:
        def ask(self, call: str, **arguments: Any) -> dict[str, Any]:
            asked.append((id(self), {"call": call, **arguments}))
            return {"seconds": float(len(arguments["seeds"])), "workers": 2}

    monkeypatch.setattr(sections, "start_workers", lambda name: contextlib.nullcontext({name: FakeWorker()}))
    monkeypatch.setattr(sections, "PARAMS", committed_params().model_copy(update={"variants": ["cnn"]}))
    section = sections.seeds(sections.SHORT, lambda _: None)
    assert section["variants"] == {"cnn": {"side_by_side": 5.0, "one_by_one": [1.0] * 5}}
    assert [arguments["seeds"] for _, arguments in asked] == [[0], [1], [0, 1, 2, 3, 4], [2], [3], [4]]
    assert [arguments["threads"] for _, arguments in asked] == [2, 2, 1, 2, 2, 2]
    assert {arguments["epochs"] for _, arguments in asked} == {1}
    together = asked.pop(2)[0]
    assert len({worker for worker, _ in asked} - {together}) == 1


def test_a_pipeline_measured_before_the_busy_cores_were_has_a_dash_for_them() -> None:
    pipeline = copy.deepcopy(RESULTS["pipeline"])
    for stage in pipeline["full"]["stages"]:
        del stage["cpu"]
    page = report.render({"pipeline": pipeline}, FOLDER)
    assert cells(page, "`train@cnn`")[5:] == ["60.0", "–", "2.00"]
    assert cells(page, "all stages")[5:] == ["80.0", "–", "2.00"]


def test_every_row_of_a_table_has_as_many_cells_as_its_header() -> None:
    count = 0
    for line in report.render(RESULTS, FOLDER).splitlines():
        if line.startswith("|"):
            assert count in (0, line.count("|")), line
        count = line.count("|") if line.startswith("|") else 0


def test_a_target_that_keras_misses_makes_the_ratio_a_lower_bound() -> None:
    quantity = "Keras's example: training time to 99 % test accuracy, relative to `cnn`"
    found = cells(report.render(RESULTS, FOLDER), quantity)
    assert found[2].startswith("15.0×, a lower bound")
    assert found[3] == "yes"


def test_an_accuracy_that_cnn_misses_is_not_met_however_short_the_time() -> None:
    results = copy.deepcopy(RESULTS)
    results["time_to_accuracy"]["runs"][0]["digits"]["accuracies"] = [0.98, 0.98]
    page = report.render(results, FOLDER)
    assert cells(page, "`cnn`: training time to 99 % test accuracy")[3] == "**no**"
    assert cells(page, "Keras's example: training time to 99 % test accuracy, relative to `cnn`")[3] == "**no**"


def test_a_page_can_have_a_single_section_of_a_short_run() -> None:
    section = RESULTS["checkpoints"] | {"provenance": PROVENANCE | {"short": True}}
    page = report.render({"checkpoints": section}, FOLDER)
    assert "A short run" in page
    assert "## One epoch" not in page


def test_each_section_names_the_commit_it_was_measured_at() -> None:
    section = RESULTS["checkpoints"] | {"provenance": PROVENANCE | {"commit": "fedcba9876"}}
    page = report.render(RESULTS | {"checkpoints": section}, FOLDER)
    commits = re.findall(r"Measured at commit `(\w+)`", page)
    assert commits == ["0123456789", "fedcba9876", *["0123456789"] * 6]


def test_each_machine_has_a_row_with_its_sections() -> None:
    other = PROVENANCE | {"machine": PROVENANCE["machine"] | {"processor": "Another one"}}
    page = report.render(RESULTS | {"checkpoints": RESULTS["checkpoints"] | {"provenance": other}}, FOLDER)
    rest = "`epoch`, `time_to_accuracy`, `accuracy`, `seeds`, `roofline`, `pipeline`, `scaling`"
    assert cells(page, rest)[1] == "A processor"
    assert cells(page, "`checkpoints`")[1] == "Another one"


def test_ratios_are_computed_per_round() -> None:
    """The ratio of the medians would be 1.5."""
    assert report.ratios([2.0, 30.0, 3.0], [1.0, 10.0, 2.0]) == Spread(2.0, 1.5, 3.0)
    assert report.ratios([4.0, 8.0], [1.0, 4.0]) == Spread(3.0, 2.0, 4.0)
    with pytest.raises(ValueError, match="longer"):
        report.ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("sense", "median", "met"),
    [("at least", 12.0, True), ("at least", 11.999, False), ("at most", 12.0, True), ("at most", 12.001, False)],
)
def test_the_unrounded_median_decides_whether_a_target_is_met(sense: Any, median: float, met: bool) -> None:
    assert Check("", sense, 12.0, Spread(median, 0.0, 99.0), "s").met is met


def test_a_line_minimizes_the_squared_residuals() -> None:
    line = Line.fit("", "", "", [1, 2, 3], [2.0, 3.0, 7.0])
    assert (line.slope, line.intercept) == pytest.approx((2.5, -1.0))
    assert line.max_residual == pytest.approx(1 / 7)


def test_a_long_line_shows_only_some_of_its_sizes() -> None:
    short, long = (Line.fit("", "", "", list(range(1, last + 1)), [1.0] * last) for last in (10, 30))
    assert [size for size, _, _ in short.rows] == short.sizes
    assert [size for size, _, _ in long.rows] == [1, 2, 5, 10, 15, 20, 25, 30]


def test_the_images_that_fit_in_memory_are_extrapolated_from_the_peaks() -> None:
    summary = report.scaling(RESULTS["scaling"])
    assert (summary.bytes_per_image, summary.fixed) == pytest.approx((2048, 1))
    assert summary.max_images == pytest.approx(7 * 2**30 / 2048)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (0.1234, "0.123"), (12.34, "12.3"), (99.96, "100"), (100.4, "100"), (12345, "12,345")],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert report.number(value) == text


def test_compilation_is_the_excess_of_the_first_call_over_the_median_of_the_others() -> None:
    assert stage_timer.compilation_time([5.0, 1.0, 2.0, 9.0]) == 3.0
    assert stage_timer.compilation_time([1.0, 2.0]) == 0.0
    assert stage_timer.compilation_time([1.0]) == 0.0


@pytest.mark.parametrize(("module", "function"), [stage_timer.EPOCH_FACTORY, stage_timer.LOGITS_FACTORY])
def test_the_factories_that_the_timer_wraps_exist(module: str, function: str) -> None:
    """The source is read, because an import would start TensorFlow."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert f"\ndef {function}(" in Path(spec.origin).read_text("utf-8")


def test_functions_from_a_wrapped_factory_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "factory", lambda offset: lambda value: value + offset, raising=False)
    timer = CallTimer()
    timer.wrap_factory("common", "factory")
    timer.wrap_factory("not_imported", "factory")
    before = Moment.now()
    add_one, add_two = (common.factory(offset) for offset in (1, 2))  # type: ignore[attr-defined]
    assert (add_one(1), add_two(1), add_one(2)) == (2, 3, 3)
    assert [len(calls) for calls in timer.calls] == [2, 1]
    (first, last), (only,) = timer.calls
    moments = [before, *first, *only, *last, Moment.now()]
    assert moments == sorted(moments)


def timer_of(*functions: list[tuple[float, float]]) -> CallTimer:
    """Return a timer with calls from one wall time to another, while half as much processor time passes."""
    timer = CallTimer()
    timer.calls = [[(Moment(start, start / 2), Moment(end, end / 2)) for start, end in calls] for calls in functions]
    return timer


def test_training_lasts_from_the_first_epoch_to_the_last_result_however_many_train_at_once() -> None:
    epochs = timer_of([(10, 14), (15, 18)], [(11, 16), (16, 20)])
    logits = timer_of([(14, 15), (18, 19)], [(20, 22)])
    assert stage_timer.training_time(epochs, logits, cores=1) == (12, 0.5)
    assert stage_timer.training_time(epochs, timer_of(), cores=2) == (10, 0.25)
    assert stage_timer.training_time(timer_of(), logits, cores=1) == (0, None)


def test_functions_that_compile_at_the_same_time_count_once() -> None:
    assert timer_of([(0, 5), (5, 6), (6, 7)], [(0, 9), (9, 11)], []).compilation == 7
    assert timer_of().compilation == 0


def test_a_timed_stage_runs_and_appends_a_line(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "src").symlink_to(ROOT / "src")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    run(tmp_path, sys.executable, str(FOLDER / "stage_timer.py"), "log", "src", "params")
    (line,) = (tmp_path / "log").read_text("utf-8").splitlines()
    timed = json.loads(line)
    assert (timed["stage"], timed["compiling"], timed["training"], timed["cpu"]) == ("params", 0, 0, None)
    assert 0 < timed["startup"] < timed["seconds"]
    assert timed["peak"] > 2**20
    assert (tmp_path / "params.schema.json").exists()


def test_the_figure_is_a_png_file(tmp_path: Path) -> None:
    figure.draw_scaling(RESULTS["scaling"], tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_an_enlarged_data_set_repeats_the_images_shifted(monkeypatch: pytest.MonkeyPatch, digits: Any) -> None:
    images, labels = digits[0][:10], digits[1][:10]
    monkeypatch.setattr(common, "load", lambda *_: (images, labels))
    enlarged, enlarged_labels = common.load_enlarged(25)
    assert (enlarged.shape, enlarged_labels.shape) == ((25, 28, 28), (25,))
    assert (enlarged[:10] == images).all()
    assert (enlarged[10:20, :, 1:] == images[:, :, :-1]).all()
    assert (enlarged_labels[20:] == labels[:5]).all()


def test_every_peer_has_a_worker() -> None:
    assert {f"with_{name}.py" for name in PEERS} == {path.name for path in FOLDER.glob("with_*.py")}


def test_a_worker_that_exits_is_reported_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^worker 'nothing' exited during 'ready'"), common.start_workers("nothing"):
        pass


def test_an_unknown_section_is_reported_in_one_line() -> None:
    known = "epoch, checkpoints, time_to_accuracy, accuracy, seeds, roofline, pipeline, scaling"
    with pytest.raises(SystemExit, match=f"^benchmarks: 'speed' is not a section; the sections are {known}$"):
        benchmark.main(["speed"])
