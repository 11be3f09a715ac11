"""The benchmarks: what they make of measurements. Only tiny networks are trained here."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import common
import numpy as np
import peers
import pytest
import reading
import run as benchmark
from support import run

from digits.core.errors import UserError
from digits.inference.segmentation import find_digits

Digits = tuple[np.ndarray, np.ndarray]


def fake_answers(monkeypatch: pytest.MonkeyPatch, **answers: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Let implementations give these answers, one after another, and return the list of what they are asked."""
    asked, remaining = [], {name: iter(each) for name, each in answers.items()}

    def ask(name: str, _call: str, **arguments: Any) -> dict[str, Any]:
        asked.append((name, arguments))
        return next(remaining[name])

    monkeypatch.setattr(benchmark, "ask", ask)
    return asked


def test_a_library_is_timed_and_its_network_tested(monkeypatch: pytest.MonkeyPatch, digits: Digits) -> None:
    monkeypatch.setattr(peers, "load", lambda *_: digits)
    learned, products = peers.epoch("sklearn"), peers.epoch("numpy")
    assert learned["seconds"] > 0
    assert learned["accuracy"] > 0.5
    assert products["seconds"] > 0
    assert products["accuracy"] is None


def test_ratios_are_computed_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio of the medians would be 1.5."""
    times = dict.fromkeys(peers.IMPLEMENTATIONS, (1.0, 1.0, 1.0)) | {"digits": (1, 10, 2), "keras": (2, 30, 3)}
    answers = {name: [{"seconds": each, "accuracy": 0.9} for each in values] for name, values in times.items()}
    monkeypatch.setattr(benchmark, "ROUNDS", 3)
    asked = fake_answers(monkeypatch, **answers)
    section = benchmark.epoch(short=False)
    assert section["peers"]["keras"]["ratio"] == {"median": 2, "min": 1.5, "max": 3}
    assert section["peers"]["digits"]["seconds"] == {"median": 2, "min": 1, "max": 10}
    assert [name for name, _ in asked] == [*peers.IMPLEMENTATIONS] * 3


def test_a_run_that_misses_the_target_counts_with_all_its_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = [{"seconds": 6.0, "epochs": 3, "accuracy": 0.991}] * 5
    theirs = [{"seconds": seconds, "epochs": 9, "accuracy": 0.99} for seconds in (60.0, 66.0)]
    missed = {"seconds": 90.0, "epochs": 15, "accuracy": 0.98}
    asked = fake_answers(monkeypatch, digits=ours, keras=[*theirs, missed])
    found = benchmark.time_to_99(short=False)["peers"]
    assert [(each["seeds"], each["reached"]) for each in found.values()] == [(5, 5), (3, 2)]
    assert (found["keras"]["seconds"]["max"], found["keras"]["epochs"]["max"]) == (90, 15)
    assert found["keras"]["ratio"] == 11
    assert [name for name, _ in asked] == [*["digits", "keras"] * 3, "digits", "digits"]
    assert [each["seed"] for _, each in asked] == [0, 0, 1, 1, 2, 2, 3, 4]


@pytest.fixture
def fake_dvc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put a program in the place of DVC: a shell script that the test writes."""
    program = tmp_path / "dvc"
    program.touch(0o755)
    monkeypatch.setattr(benchmark, "PIPELINE_BIN", tmp_path)
    return program


def test_a_stage_lasts_until_the_next_one_starts(
    fake_dvc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = ("A word", "Running stage 'one':", "Output", "Running stage 'train@two':", "Output")
    fake_dvc.write_text("#!/bin/sh\n" + "\n".join(f'echo "{line}"' for line in lines), "utf-8")
    monkeypatch.setattr(benchmark, "time", SimpleNamespace(perf_counter=iter([100.0, 102.0, 105.0, 112.0]).__next__))
    found = benchmark.dvc(tmp_path, "repro", "-f")
    assert found == {"command": "dvc repro -f", "seconds": 12, "stages": {"one": 3, "train@two": 7}}


def test_what_fails_is_reported_in_one_line(fake_dvc: Path, tmp_path: Path) -> None:
    fake_dvc.write_text("#!/bin/sh\necho first\necho no network >&2\nexit 3\n", "utf-8")
    with pytest.raises(UserError, match=r"^`dvc repro` exited with 3: no network$"):
        benchmark.dvc(tmp_path, "repro")
    with pytest.raises(UserError, match=r"^'nothing' failed in 'epoch'"):
        benchmark.ask("nothing", "epoch")


def test_a_section_replaces_its_results_and_a_short_run_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results = tmp_path / "results.json"
    results.write_text('{"epoch": {"rounds": 9}, "pipeline": {"commands": {}}}', "utf-8")
    monkeypatch.setattr(benchmark, "RESULTS", results)
    monkeypatch.setitem(benchmark.SECTIONS, "epoch", lambda *, short: {"rounds": 1 if short else 10})
    benchmark.main(["--short", "epoch"])
    assert json.loads(results.read_text("utf-8"))["epoch"] == {"rounds": 9}
    benchmark.main(["epoch"])
    found = json.loads(results.read_text("utf-8"))
    assert found["epoch"]["rounds"] == 10
    assert found["epoch"]["provenance"]["versions"]["NumPy"] == np.__version__
    assert found["pipeline"] == {"commands": {}}


def test_a_measurement_names_its_commit_and_says_if_files_differ_from_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(common, "ROOT", tmp_path)
    run(tmp_path, "git", "init", "--quiet")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/results.json").write_text("{}\n", "utf-8")
    (tmp_path / "code").write_text("1\n", "utf-8")
    run(tmp_path, "git", "add", ".")
    run(tmp_path, "git", "commit", "--quiet", "--message", "Start")
    commit = run(tmp_path, "git", "rev-parse", "--short=10", "HEAD").strip()
    (tmp_path / "benchmarks/results.json").write_text("[]\n", "utf-8")
    assert common.provenance()["commit"] == commit
    (tmp_path / "code").write_text("2\n", "utf-8")
    assert common.provenance()["commit"] == f"{commit} with uncommitted changes"


def test_every_digit_of_a_number_that_is_drawn_is_found(digits: Digits) -> None:
    random = np.random.default_rng(0)
    ink = reading.enlarged(reading.number_line(digits[0][:6], random), 4)
    sheet = reading.picture(ink, (ink.shape[0] + 100, ink.shape[1] + 100), random)
    assert [len(line) for line in find_digits(np.asarray(sheet.convert("L")))] == [6]
