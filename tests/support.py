"""Helpers of the tests: commands, and repositories with a small data set."""

import contextlib
import functools
import hashlib
import importlib
import io
import operator
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from dvc.utils.serialize import modify_yaml
from numpy.typing import NDArray

from digits.cli import main
from digits.core import config
from digits.core.params import Params

ROOT = Path(__file__).parent.parent
FULL = os.environ.get("DIGITS_FAULTS") == "full"  # `make faults`: more kinds, moments and examples of each fault
IMAGES = NDArray[np.uint8]
# Of the tests that load TensorFlow: one worker does.
WITH_TENSORFLOW = [pytest.mark.usefixtures("tensorflow"), pytest.mark.xdist_group("tensorflow"), pytest.mark.slow(60)]
WRITERS = [image % 20 for image in range(397)]  # of the test images of the small data set, in an experiment
# What `dvc repro` and `dvc exp` change. The tests read it at HEAD, never in the work tree.
RESULTS = ("cards", "dvc.lock", "metrics", "params.yaml", "plots")
EXPERIMENTS = "metrics/experiments.json"  # written by `digits experiments` alone; the stage compare reads it


class Lazy:
    """A module that is loaded once it is used, so that collecting its tests does not load TensorFlow."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith(("__", "_mock_")):  # pytest asks whether it is a test or a mock
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self.name), attribute)


@functools.cache
def committed(path: str) -> str:
    """Return the text of a file of this repository at HEAD."""
    return run(ROOT, "git", "show", f"HEAD:{path}")


def committed_params() -> Params:
    return Params.model_validate(config.parse_like_dvc(committed("params.yaml")))


def idx_bytes(array: IMAGES) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def environment(**variables: str) -> dict[str, str]:
    """Return the variables of a command: those of this process, this environment's programs first."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
        **variables,
    }


def run(folder: Path, *command: str, fails: bool = False, variables: Mapping[str, str] | None = None) -> str:
    """Run a command in a folder, and return its output, errors included."""
    given = environment(**(variables or {}))
    result = subprocess.run(
        command, cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert (result.returncode != 0) == fails, f"{' '.join(command)} exited with {result.returncode}:\n{result.stdout}"
    return str(result.stdout)


def call(folder: Path, *arguments: str, fails: bool = False) -> str:
    """Run `digits` in a folder, in this process, which is faster than `run`; return its output, errors included."""
    output, status = io.StringIO(), None
    with contextlib.chdir(folder), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            main(list(arguments))
        except SystemExit as stop:
            status = stop.code
            if isinstance(status, str):
                print(status)
    assert bool(status) == fails, f"digits {' '.join(arguments)} exited with {status}:\n{output.getvalue()}"
    return output.getvalue()


def generated(light: int, full: int) -> hypothesis.settings:
    """Return settings for `light` examples in `make test`, always the same, and `full` new ones in `make faults`."""
    return hypothesis.settings(
        max_examples=full if FULL else light,
        derandomize=not FULL,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def is_clear(message: str) -> bool:
    return message.isprintable() and len(message) < 1000


def wait_until(condition: Callable[[], object], what: str, seconds: float = 200, pause: float = 0.05) -> None:
    """Wait until a condition holds, and fail with a message if that takes too long; `pause` between two looks."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        time.sleep(pause)


def edit(params: Path, **changes: object) -> None:
    """Set keys of a params.yaml; `__` separates the parts of a dotted key."""
    with modify_yaml(str(params)) as content:
        for key, value in changes.items():
            *parents, last = key.split("__")
            functools.reduce(operator.getitem, parents, content)[last] = value


def copy_files(folder: Path) -> None:
    """Copy the files that Git tracks or would track: the results at HEAD, the others as they are in the work tree."""
    listed = run(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in listed.rstrip("\0").split("\0"):
        if (ROOT / name).is_file() and (name == EXPERIMENTS or Path(name).parts[0] not in RESULTS):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    archive = ["git", "archive", "HEAD", "--", *RESULTS, f":(exclude){EXPERIMENTS}"]
    content = subprocess.run(archive, cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=content, check=True)


def copy_repository(folder: Path, raw: Path, **changes: object) -> None:
    """Make a repository of these files, with the small data set and changed parameters as for `edit`, and commit it."""
    copy_files(folder)
    sums = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(raw.iterdir())
    }
    # Experiments with the whole data set are no measurements of the small one.
    (folder / EXPERIMENTS).write_text("{}\n", encoding="utf-8")
    edit(folder / "params.yaml", download__sources=[str(raw)], download__files=sums, **changes)
    edit(folder / "data/published.yaml", data={name: each["sha256"] for name, each in sums.items()})
    initialize(folder)


def initialize(folder: Path) -> None:
    """Make a folder a Git repository, and commit its files."""
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "add", ".")
    run(folder, "git", "commit", "-qm", "Start")


def outputs(folder: Path, *stages: str) -> list[Path]:
    """Return the files and folders that stages of the recorded pipeline write, or those of all stages."""
    lock = config.parse_fast((folder / "dvc.lock").read_text("utf-8"))["stages"]
    return [folder / out["path"] for stage in stages or lock for out in lock[stage]["outs"]]


def sums(folder: Path, *stages: str) -> dict[str, str]:
    """Return the SHA-256 of every complete file that stages of the recorded pipeline write, or all stages, by path."""
    files = [file for output in outputs(folder, *stages) for file in (output, *output.rglob("*")) if file.is_file()]
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if ".partial" not in file.name
    }


def remove(paths: list[Path]) -> None:
    """Delete files and folders, whether they exist or not."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
