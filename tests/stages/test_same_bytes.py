"""The same commit gives the same bytes on one kind of processor, wherever and however it is run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, edit, outputs, remove, run, sums

from digits.core.artifacts import read_arrays

ELSEWHERE = "the same, elsewhere: Zürich 東京"
# Starts a program with a umask and, which only Linux allows, on one core.
ONE_CORE = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))] if sys.platform == "linux" else []
START = ["sh", "-c", 'umask 077 && exec "$@"', "sh", *ONE_CORE]


def variables() -> dict[str, str]:
    """Return another time zone, hash seed and, if this machine has one, a locale with letters or a comma of its own."""
    installed = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout.split()
    locale = next((name for name in installed if re.match(r"(de|fr|tr|ru|fa)_", name)), "C")
    return {"LC_ALL": locale, "TZ": "NPT-05:45", "PYTHONHASHSEED": "4242"}


@pytest.mark.slow(12)
def test_a_seed_alone_and_elsewhere_gives_the_same_bytes(template: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(template, tmp_path / ELSEWHERE, symlinks=True))
    edit(folder / "params.yaml", train__seeds=[1])
    remove(outputs(folder, "train@mlp64", "analyze@mlp64"))
    for words in (["analyze", "mlp64"], ["train", "mlp64"]):
        run(folder, *START, "python", "src", *words, variables=variables())
    assert sums(folder, "analyze@mlp64") == sums(template, "analyze@mlp64")
    alone, among = (read_arrays(clone / "models/mlp64/weights.npz") for clone in (folder, template))
    assert (alone.pop("seeds").tolist(), among.pop("seeds").tolist()) == ([1], [0, 1])
    assert alone.pop("epochs").tolist() == among.pop("epochs").tolist() == [1, 2]
    assert alone.keys() == among.keys()
    for path, values in alone.items():
        assert values.tobytes() == among[path][1:].tobytes(), path
    header, *rows = (template / "plots/variants/mlp64/training.csv").read_text("utf-8").splitlines()
    found = (folder / "plots/variants/mlp64/training.csv").read_text("utf-8").splitlines()
    assert found == [header, *(row for row in rows if row.split(",")[1] == "1")]


@pytest.mark.faults
def test_another_folder_and_environment_give_the_same_bytes(template: Path, reproduced: str, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "-q", str(template), ELSEWHERE)
    output = run(tmp_path / ELSEWHERE, *START, "dvc", "repro", "--force", variables=variables())
    assert output.count("Running stage") == reproduced.count("Running stage")
    assert run(tmp_path / ELSEWHERE, "git", "status", "--porcelain") == ""


@pytest.mark.faults
@pytest.mark.skipif("DIGITS_FULL" not in os.environ, reason="`make test-bytes` runs it: a quarter of an hour")
@pytest.mark.timeout(3600)
def test_two_fresh_clones_give_the_committed_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        clone = tmp_path / name
        run(tmp_path, "git", "clone", "-q", str(ROOT), name)
        run(clone, "digits", "check-lock")  # without it, a dvc.lock of other parameters would be noticed at the end
        # DVC would take the outputs that Git has brought for made: without them, every stage runs.
        remove(outputs(clone))
        printed = run(clone, "make", "repro")
        assert run(clone, "git", "status", "--porcelain") == ""
        found.append(sums(clone))
        print(f"{name}: {printed.count('Running stage')} stages, {len(found[-1])} files")
        shutil.rmtree(clone)
    assert found[0] == found[1]
    print(f"the same bytes as in {run(ROOT, 'git', 'rev-parse', '--short', 'HEAD').strip()}")
