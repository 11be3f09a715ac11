"""The tests pass whatever `dvc repro` and `dvc exp` have written to the work tree."""

import json
import re
import sys
from pathlib import Path

import pytest
from support import ROOT, committed, copy_files, edit, initialize, run

# Quick tests that read committed files. Slow ones use the template, which `copy_files` makes.
QUICK = ["tests/benchmarks", "tests/core", "tests/replication", "tests/repository/test_layout.py", "tests/tools"]
TOPS = ("cards", "metrics", "plots")


def change_results(folder: Path) -> None:
    """Change the results in a work tree as other parameters or another processor would."""
    edit(
        folder / "params.yaml",
        variants=["cnn-large", "mlp64"],
        train__epochs=6,
        train__checkpoints=[2, 6],
        train__seeds=[7],
        models__mlp64__units=[8],
    )
    for top in TOPS:
        for path in (folder / top).rglob("*"):
            if path.suffix in (".csv", ".json", ".md", ".txt"):
                path.write_text(re.sub(r"\b(\d+\.)\d+", r"\g<1>123", path.read_text("utf-8")), "utf-8")
            elif path.suffix == ".png":
                path.unlink()
    (folder / "metrics/summary.json").write_text(json.dumps({"cnn-large": {"accuracy": 0.5}}), "utf-8")
    lock = folder / "dvc.lock"
    lock.write_text(re.sub(r"md5: [0-9a-f]{31}", f"md5: {'0' * 31}", lock.read_text("utf-8")), "utf-8")


@pytest.mark.faults
def test_the_tests_pass_whatever_the_results_in_the_work_tree_are(tmp_path: Path) -> None:
    copy_files(tmp_path)
    initialize(tmp_path)
    change_results(tmp_path)
    command = ["pytest", "-n0", "-q", "-m", "not faults", *QUICK]
    run(tmp_path, sys.executable, "-m", *command, variables={"PYTHONPATH": str(tmp_path / "src")})


def test_a_copy_of_this_repository_has_the_results_at_head(tmp_path: Path) -> None:
    copy_files(tmp_path)
    for name in ("dvc.lock", "params.yaml", "metrics/summary.json", "plots/curves.csv"):
        assert (tmp_path / name).read_text("utf-8") == committed(name)
    listed = run(ROOT, "git", "ls-tree", "-r", "--name-only", "HEAD", *TOPS).split()
    found = [str(path.relative_to(tmp_path)) for top in TOPS for path in (tmp_path / top).rglob("*.*")]
    assert sorted(found) == sorted(listed)


def test_no_test_reads_results_in_the_work_tree() -> None:
    pattern = re.compile(r"ROOT\s*/\s*[\"'](cards|dvc\.lock|metrics|plots)\b")
    files = [path for path in (ROOT / "tests").rglob("*.py") if pattern.search(path.read_text("utf-8"))]
    assert [str(path.relative_to(ROOT)) for path in files] == [], "read them with support.committed"
