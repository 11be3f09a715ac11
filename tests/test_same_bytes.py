"""The same commit gives the same bytes, wherever and however it is run on one kind of processor."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, run
from ruamel.yaml import YAML

FULL = "DIGITS_FULL"
# What makes each library compute as on an x86 processor without AVX-512; where there is none, nothing changes.
WITHOUT_AVX512 = [
    "ONEDNN_MAX_CPU_ISA=AVX2",
    "XLA_FLAGS=--xla_cpu_max_isa=AVX2",
    "OPENBLAS_CORETYPE=Haswell",
    "NPY_DISABLE_CPU_FEATURES=X86_V4 AVX512_ICL",
]

# As `python -c START program …`: a umask, and one core; only Linux lets a process choose its cores.
START = """
import os, sys
os.umask(0o077)
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.execvp(sys.argv[1], sys.argv[1:])
"""


def foreign_locale() -> str:
    """Return a locale of this machine, with a decimal comma or letters of its own if there is one."""
    installed = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout.split()
    return next((name for name in installed if re.match(r"(de|fr|tr|ru|fa)_", name)), "C")


@pytest.mark.timeout(240)
def test_another_place_and_environment_give_the_same_bytes(clone: Path, reproduced: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "the same, elsewhere: Zürich 東京"
    run(tmp_path, "git", "clone", "-q", str(clone), str(elsewhere))
    settings = [f"LC_ALL={foreign_locale()}", "TZ=NPT-05:45", "PYTHONHASHSEED=4242"]
    output = run(elsewhere, "env", *settings, sys.executable, "-c", START, "dvc", "repro", "--force")
    assert output.count("Running stage") == reproduced.count("Running stage")
    assert run(elsewhere, "git", "status", "--porcelain") == ""


def test_a_stage_run_again_gives_the_same_bytes(clone: Path, reproduced: str) -> None:
    run(clone, "dvc", "repro", "--force", "--single-item", "train@mlp64", "analyze@cnn")
    assert run(clone, "git", "status", "--porcelain") == ""


def outputs(folder: Path) -> list[Path]:
    """Return every output of the pipeline, files and folders, as dvc.lock lists them."""
    lock = YAML(typ="safe", pure=True).load((folder / "dvc.lock").read_text("utf-8"))
    return [folder / out["path"] for stage in lock["stages"].values() for out in stage["outs"]]


def sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 sum of every file that the pipeline wrote, by path."""
    files = [file for output in outputs(folder) for file in (output, *output.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="these settings are of x86")
def test_with_onednn_at_avx2_the_bytes_are_the_same_without_avx512(clone: Path, reproduced: str) -> None:
    stages = [f"{stage}@{variant}" for variant in ("mlp64", "cnn") for stage in ("train", "evaluate")]
    found = []
    for settings in (WITHOUT_AVX512[:1], WITHOUT_AVX512):
        run(clone, "env", *settings, "dvc", "repro", "--force", "--single-item", *stages)
        found.append(sums(clone))
    run(clone, "git", "checkout", "--quiet", ".")
    run(clone, "dvc", "checkout", "--quiet")
    assert found[0] == found[1]


@pytest.mark.skipif(FULL not in os.environ, reason="`make twice` runs it: a quarter of an hour")
@pytest.mark.timeout(3600)
def test_two_fresh_clones_give_the_committed_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        clone = tmp_path / name
        run(tmp_path, "git", "clone", "-q", str(ROOT), name)
        run(clone, "digits", "drift")  # a dvc.lock of other parameters would be found out only at the end
        # DVC takes for made what Git has brought: all of it goes, so that every stage runs.
        for output in outputs(clone):
            shutil.rmtree(output, ignore_errors=True)
            output.unlink(missing_ok=True)
        started = time.monotonic()
        printed = run(clone, "make", "repro")
        seconds = time.monotonic() - started
        assert run(clone, "git", "status", "--porcelain") == ""
        found.append(sums(clone))
        print(f"{name}: {printed.count('Running stage')} stages, {len(found[-1])} files, {seconds:.0f} s")
        shutil.rmtree(clone)
    assert found[0] == found[1]
    print(f"the same bytes, those of {run(ROOT, 'git', 'rev-parse', '--short', 'HEAD').strip()}")
