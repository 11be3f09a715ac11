import copy
import json
import sys
from pathlib import Path
from typing import Any

import common
import pytest
import report
import sections
import staged
from conftest import ROOT, run
from report import Check, Line, Spread

from digits.errors import UserError

FOLDER = ROOT / "benchmarks"
MADE = {
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
        "first": epoch_round(digits=2.25, keras=6.0, pytorch=1.0, sklearn=2.0, jax=1.3, numpy=0.2),
        "rounds": [FAST, FAST, FAST],
        "test": dict.fromkeys(FAST, 0.95) | {"numpy": None},
        "made": MADE,
    },
    "grid": {
        "epochs": 30,
        "rounds": [{"digits": 10.0, "keras": [{"epochs": k, "seconds": 1.0 + 4.0 * k} for k in (1, 2, 3)]}],
        "made": MADE,
    },
    "target": {
        "accuracy": 0.99,
        "cap": 3,
        "runs": [
            {
                "seed": 0,
                "digits": {"seconds": [4.0, 6.0], "accuracies": [0.98, 0.991]},
                "keras": {"seconds": [30.0, 60.0, 90.0], "accuracies": [0.97, 0.98, 0.985]},
            },
            {"seed": 1, "digits": {"seconds": [4.0, 5.0], "accuracies": [0.98, 0.991]}},
        ],
        "made": MADE,
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
        "made": MADE,
    },
    "bounds": {
        "steps": {"mlp64": {"seconds": [9.0, 0.002, 0.004], "batch": 32, "operations": 3e8, "bytes": 2e6}},
        "limits": {"operations": 2e11, "bytes": 1e10},
        "made": MADE,
    },
    "pipeline": {
        "full": {
            "command": "dvc repro",
            "seconds": 100.0,
            "stages": [
                {"stage": "download", "startup": 1.0, "compiling": 0.0, "training": 0.0, "seconds": 5.0, "peak": 2**28},
                {
                    "stage": "train@cnn",
                    "startup": 3.0,
                    "compiling": 2.0,
                    "training": 60,
                    "seconds": 70.0,
                    "peak": 2**31,
                },
            ],
        },
        "idle": [{"seconds": 2.0}, {"seconds": 3.0}, {"seconds": 2.5}],
        "experiment": {"command": "dvc exp run -S train.epochs=6", "seconds": 61.0, "stages": []},
        "made": MADE,
    },
    "growth": {
        "epochs": {"seconds": [3.0, 1.0, 1.0]},
        "images": [{"images": n, "seconds": [9.0, n / 1000], "peak": 2**30 + 2048 * n} for n in (1000, 2000, 3000)],
        "units": [{"units": n, "seconds": [9.0, n / 10]} for n in (32, 64)],
        "made": MADE,
    },
}


def row(page: str, quantity: str) -> list[str]:
    """Return the cells of the one row of results.md that begins with a quantity."""
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {quantity} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_committed_page_is_that_of_the_committed_numbers() -> None:
    results = json.loads((FOLDER / "results.json").read_text("utf-8"))
    assert report.render(results, FOLDER) == (FOLDER / "results.md").read_text("utf-8")
    assert list(results) == list(sections.SECTIONS)


def test_a_page_says_what_was_wanted_and_what_was_measured() -> None:
    page = report.render(RESULTS, FOLDER)
    assert row(page, "Keras: `fit`, time over that of digits")[1:] == ["at least 12×", "16.0×", "reached"]
    assert row(page, "digits, time over that of NumPy: the matrix products alone")[2:] == ["1.25×", "reached"]
    # 30 runs of 1 s and 465 epochs of 4 s, over 10 s
    assert row(page, "time of the runs of `fit` over that of the one run")[2:] == ["189×", "reached"]
    assert row(page, "`cnn`, mean test accuracy of 3 seeds")[1:] == ["at least 99.3 %", "99.32 %", "reached"]
    assert row(page, "`cnn-large`, mean test accuracy of 3 seeds")[1:] == [
        "at least 99.6 %",
        "99.32 %",
        "**not reached**",
    ]
    assert row(page, "`cnn-large`, training time")[2:] == ["601 s", "**not reached**"]
    assert row(page, "`cnn-large`")[1:] == ["80,202", "2", "99.32 %", "0.03 %", "99.29 %, 99.32 %, 99.35 %", "601"]
    # 3e8 of 2e11 operations are 1.5 ms, 2e6 of 1e10 bytes 0.2 ms; the first epoch compiles
    assert row(page, "`mlp64`")[1:] == ["32", "300", "1.50", "2.00", "0.200", "3.00 (2.00 to 4.00)", "50.00 %"]
    assert row(page, "of it, all but training")[2:] == ["40.0 s", "reached"]
    assert row(page, "`dvc exp run -S train.epochs=6`")[2:] == ["61.0 s", "**not reached**"]
    assert row(page, "most memory of any stage")[2:] == ["2.00 GiB", "**not reached**"]
    assert row(page, "DVC: all but the stages' processes")[4] == "25.0"
    assert "with nothing to do: 2.50 s (2.00 to 3.00)" in page
    assert "A short run" not in page


def test_every_table_is_whole() -> None:
    """A row with another number of cells than its header would end the table where it is shown."""
    cells = 0
    for line in report.render(RESULTS, FOLDER).splitlines():
        if line.startswith("|"):
            assert cells in (0, line.count("|")), line
        cells = line.count("|") if line.startswith("|") else 0


def test_a_target_not_reached_by_keras_is_a_lower_bound() -> None:
    cells = row(report.render(RESULTS, FOLDER), "Keras's example, time over that of digits")
    assert cells[2].startswith("15.0×, a lower bound")
    assert cells[3] == "reached"


def test_a_target_not_reached_by_digits_is_not_reached_however_fast() -> None:
    results = copy.deepcopy(RESULTS)
    results["target"]["runs"][0]["digits"]["accuracies"] = [0.98, 0.98]
    page = report.render(results, FOLDER)
    assert row(page, "digits, training time to the target")[3] == "**not reached**"
    assert row(page, "Keras's example, time over that of digits")[3] == "**not reached**"


def test_one_section_alone_and_a_short_run() -> None:
    page = report.render({"grid": RESULTS["grid"] | {"made": MADE | {"short": True}}}, FOLDER)
    assert "A short run" in page
    assert "## One epoch" not in page


def test_sections_of_two_machines_are_told_apart() -> None:
    other = MADE | {"machine": MADE["machine"] | {"processor": "Another one"}}  # type: ignore[operator]
    page = report.render(RESULTS | {"grid": RESULTS["grid"] | {"made": other}}, FOLDER)
    assert [line for line in page.splitlines() if line.startswith("| measured on")] == [
        "| measured on | epoch, target, accuracy, bounds, pipeline, growth |",
        "| measured on | grid |",
    ]


def test_ratios_are_taken_by_round() -> None:
    """The ratio of the medians would be 1.5."""
    assert report.ratios([2.0, 30.0, 3.0], [1.0, 10.0, 2.0]) == Spread(2.0, 1.5, 3.0)
    assert report.ratios([4.0, 8.0], [1.0, 4.0]) == Spread(3.0, 2.0, 4.0)
    with pytest.raises(ValueError, match="longer"):
        report.ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("sense", "median", "reached"),
    [("at least", 12.0, True), ("at least", 11.999, False), ("at most", 12.0, True), ("at most", 12.001, False)],
)
def test_the_median_is_held_against_the_bound(sense: Any, median: float, reached: bool) -> None:
    assert Check("", sense, 12.0, Spread(median, 0.0, 99.0), "s").reached is reached


def test_a_line_fits_by_least_squares() -> None:
    line = Line.through("", "", "", [1, 2, 3], [2.0, 3.0, 7.0])
    assert (line.slope, line.intercept) == pytest.approx((2.5, -1.0))
    assert line.farthest == pytest.approx(1 / 7)


def test_memory_ends_where_the_line_meets_it() -> None:
    summary = report.growth(RESULTS["growth"])
    assert (summary["each"], summary["fixed"]) == pytest.approx((2048, 1))
    assert summary["limit"] == pytest.approx(7 * 2**30 / 2048)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (0.1234, "0.123"), (12.34, "12.3"), (99.96, "100"), (100.4, "100"), (12345, "12,345")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert report.number(value) == text


def test_compiling_is_the_first_call_less_the_median_of_the_others() -> None:
    assert staged.compiling([5.0, 1.0, 2.0, 9.0]) == 3.0
    assert staged.compiling([1.0, 2.0]) == 0.0
    assert staged.compiling([1.0]) == 0.0


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    sections.growth_figure(RESULTS["growth"], tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_more_images_than_there_are_come_moved(monkeypatch: pytest.MonkeyPatch, digits: Any) -> None:
    images, labels = digits[0][:10], digits[1][:10]
    monkeypatch.setattr(common, "load", lambda *_: (images, labels))
    many, many_labels = common.load_many(25)
    assert (many.shape, many_labels.shape) == ((25, 28, 28), (25,))
    assert (many[:10] == images).all()
    assert (many[10:20, :, 1:] == images[:, :, :-1]).all()
    assert (many_labels[20:] == labels[:5]).all()


def test_a_worker_that_ends_is_one_line() -> None:
    with pytest.raises(UserError, match="the worker 'nothing' ended in 'ready'"), common.started("nothing"):
        pass


def test_an_unknown_section_is_one_line() -> None:
    output = run(ROOT, sys.executable, "benchmarks/run.py", "speed", fails=True)
    assert output == "benchmarks: 'speed' is no section: epoch, grid, target, accuracy, bounds, pipeline, growth are\n"
