"""The same commit gives the same bytes, wherever and however it is run on one kind of processor."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run

# Starts a program with a umask and on one core: `python -c START program …`. Only Linux lets a process choose its cores.
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
    settings = [
        f"LC_ALL={foreign_locale()}",
        "TZ=NPT-05:45",
        "PYTHONHASHSEED=4242",
    ]
    output = run(elsewhere, "env", *settings, sys.executable, "-c", START, "dvc", "repro", "--force")
    assert output.count("Running stage") == reproduced.count("Running stage")
    assert run(elsewhere, "git", "status", "--porcelain") == ""


def test_a_stage_run_again_gives_the_same_bytes(clone: Path, reproduced: str) -> None:
    run(clone, "dvc", "repro", "--force", "--single-item", "train@mlp64", "analyze@cnn")
    assert run(clone, "git", "status", "--porcelain") == ""
