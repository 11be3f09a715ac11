"""A small data set of the shape of MNIST, and a clone of this repository that uses it."""

import contextlib
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import hypothesis
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from ruamel.yaml import YAML
from sklearn.datasets import load_digits

ROOT = Path(__file__).parent.parent
# A program that a shell started in the background is deaf to Ctrl-C, and so are the programs that it starts in turn.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FULL = os.environ.get("DIGITS_FAULTS") == "full"  # `make faults`: more kinds, moments and examples of each fault
IMAGES = NDArray[np.uint8]

# A busy machine is no failure; pytest's timeout ends what hangs.
hypothesis.settings.register_profile("digits", deadline=None)
hypothesis.settings.load_profile("digits")


def idx_bytes(array: IMAGES) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="session")
def digits() -> tuple[IMAGES, IMAGES]:
    """scikit-learn's 1,797 digits of 8x8 pixels, enlarged to 28x28: images and labels."""
    bunch = load_digits()
    small = np.clip(bunch.images * 16, 0, 255).astype(np.uint8)
    large = np.kron(small, np.ones((1, 3, 3), np.uint8))
    return np.pad(large, ((0, 0), (2, 2), (2, 2))), bunch.target.astype(np.uint8)


@pytest.fixture(scope="session")
def raw(digits: tuple[IMAGES, IMAGES], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four IDX files of the small data set: 1,400 training and 397 test images."""
    folder = tmp_path_factory.mktemp("raw")
    images, labels = digits
    parts = {"train": slice(0, 1400), "t10k": slice(1400, None)}
    for name, part in parts.items():
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(images[part]))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes(labels[part]))
    return folder


def environment(**variables: str) -> dict[str, str]:
    """The environment of a command: this one, with this environment's programs and an author for Git."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
        "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "Test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
        **variables,
    }


def run(folder: Path, *command: str, fails: bool = False, variables: Mapping[str, str] | None = None) -> str:
    """Run a command in a folder with this environment's programs, and return what it printed, errors included."""
    given = environment(**(variables or {}))
    result = subprocess.run(
        command, cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert (result.returncode != 0) == fails, f"{' '.join(command)} exited with {result.returncode}:\n{result.stdout}"
    return str(result.stdout)


@contextlib.contextmanager
def queue_workers(folder: Path, jobs: int) -> Iterator[None]:
    """Start workers of DVC's queue, and end those that are left.

    A worker ends itself once the queue is empty, by a message that can get lost where there are two: then it stays, and
    would hold a pipe open. See https://github.com/treeverse/dvc/issues/10427.
    """
    with (folder / ".dvc/tmp/queue.log").open("wb") as log:
        command = ["dvc", "queue", "start", "--jobs", str(jobs)]
        subprocess.run(command, cwd=folder, env=environment(), stdout=log, stderr=log, check=True)
    try:
        yield
    finally:
        for file in (folder / ".dvc/tmp/exps/celery").glob("*.pid"):
            with contextlib.suppress(psutil.NoSuchProcess, ValueError):
                worker = psutil.Process(int(file.read_text("utf-8")))
                if "dvc-exp" in " ".join(worker.cmdline()):
                    worker.terminate()
                    worker.wait(30)


def edit(params: Path, **changes: object) -> None:
    """Set dotted keys of a params.yaml; `__` stands for the dot."""
    yaml = YAML()
    content = yaml.load(params.read_text("utf-8"))
    for key, value in changes.items():
        *parents, last = key.split("__")
        section = content
        for parent in parents:
            section = section[parent]
        section[last] = value
    with params.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def copy_repository(folder: Path, raw: Path, **changes: object) -> None:
    """Make a repository of the files that Git would commit here, with the small data set and the changes of `edit`."""
    listed = run(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in listed.rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    sums = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(raw.iterdir())
    }
    edit(folder / "params.yaml", download__sources=[str(raw)], download__files=sums, **changes)
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "add", ".")
    run(folder, "git", "commit", "-qm", "Start")


def reproduce(folder: Path) -> str:
    """Run the pipeline, commit its results, and return what `dvc repro` printed."""
    output = run(folder, "dvc", "repro")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "-qm", "Run the pipeline")
    return output


@pytest.fixture(scope="session")
def clone(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository of its own with two variants, of two epochs."""
    folder = tmp_path_factory.mktemp("clone")
    copy_repository(folder, raw, variants=["mlp64", "cnn"], train__epochs=2)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def reproduced(clone: Path) -> str:
    """What `dvc repro` printed in the clone; its results are committed."""
    return reproduce(clone)
