"""Fixtures: a small data set in the format of MNIST, and repositories that use it."""

import hashlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from filelock import FileLock
from sklearn.datasets import load_digits
from support import IMAGES, WRITERS, Lazy, copy_repository, idx_bytes, run

# A shell that starts a program in the background makes it and its children ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests commit, and a bare machine has no author for it.
os.environ |= {f"GIT_{role}_{key}": "Test" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}

# A busy machine is not a failure. pytest's timeout ends a test that hangs.
hypothesis.settings.register_profile("digits", deadline=None)
hypothesis.settings.load_profile("digits")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start slow tests first: one that builds the template, then those that do not need it, then the longest."""
    after = {item: "template" in getattr(item, "fixturenames", ()) for item in items}
    items.sort(key=lambda item: (seconds(item) == 0, after[item], -seconds(item)))
    builder = next(filter(after.get, items), None)
    items.sort(key=lambda item: item is not builder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line for each reason how many tests were skipped; a reason says what to do."""
    for reason, count in Counter(report.longrepr[2] for report in terminalreporter.getreports("skipped")).items():
        terminalreporter.line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


def seconds(item: pytest.Item) -> float:
    """Return about how long a test takes, as its mark `slow` says. A group counts as slow: it is not divided."""
    slow = item.get_closest_marker("slow")
    return float(slow.args[0]) if slow else 30 * (item.get_closest_marker("xdist_group") is not None)


@pytest.fixture(scope="session")
def digits() -> tuple[IMAGES, IMAGES]:
    """The 1,797 digits of 8x8 pixels in scikit-learn, enlarged to 28x28: images and labels."""
    bunch = load_digits()
    small = np.clip(bunch.images * 16, 0, 255).astype(np.uint8)
    large = np.kron(small, np.ones((1, 3, 3), np.uint8))
    return np.pad(large, ((0, 0), (2, 2), (2, 2))), bunch.target.astype(np.uint8)


@pytest.fixture(scope="session")
def tensorflow() -> None:
    """TensorFlow with the threads of the stages, which have to be set before it computes anything."""
    Lazy("digits.modeling.backend").pin_threads(threads=1, workers=2)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def build_once(folder: Path, build: Callable[[Path], str]) -> Path:
    """Return a folder that the first worker builds; `<folder>.log` has the output of the build."""
    log = folder.with_suffix(".log")
    with FileLock(folder.with_suffix(".lock")):
        if not log.exists():
            shutil.rmtree(folder, ignore_errors=True)
            log.write_text(build(folder), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def raw(digits: tuple[IMAGES, IMAGES], shared: Path) -> Path:
    """A folder with the four IDX files of the small data set: 1,400 training and 397 test images."""

    def build(folder: Path) -> str:
        folder.mkdir()
        images, labels = digits
        for name, part in {"train": slice(0, 1400), "t10k": slice(1400, None)}.items():
            (folder / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(images[part]))
            (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes(labels[part]))
        return ""

    return build_once(shared / "raw", build)


@pytest.fixture(scope="session")
def template(raw: Path, shared: Path) -> Path:
    """A repository with the committed results of two variants after two epochs of two seeds: do not change it.

    The first of its two commits is as it was before `dvc repro`.
    """

    def build(folder: Path) -> str:
        copy_repository(folder, raw, variants=["mlp64", "cnn"], train__epochs=2, train__seeds=[0, 1])
        output = run(folder, "dvc", "repro")
        run(folder, "git", "add", "--all")
        run(folder, "git", "commit", "-qm", "Run the pipeline")
        return output

    return build_once(shared / "template", build)


@pytest.fixture(scope="session")
def reproduced(template: Path) -> str:
    """The output of the `dvc repro` that wrote the results of the template."""
    return template.with_suffix(".log").read_text("utf-8")


@pytest.fixture(scope="module")
def clone(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the template with its DVC cache, shared by the tests of a module: each leaves it as it was."""
    folder = tmp_path_factory.mktemp("clone") / "digits"
    shutil.copytree(template, folder, symlinks=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def experiment(template: Path, shared: Path) -> Path:
    """A copy of the template, after the experiment `alone`: one variant, one seed, three epochs. Do not change it."""

    def build(folder: Path) -> str:
        shutil.copytree(template, folder, symlinks=True)
        writers = shared / "writers.tsv"
        writers.write_text("".join(f"0\t4\t{writer}\n" for writer in WRITERS), "utf-8")
        settings = [
            "variants=[mlp64]",
            "models.mlp64.validation=false",
            "train.epochs=3",
            "train.seeds=[4]",
            f"evaluate.writers={{source: '{writers}', sha256: '{hashlib.sha256(writers.read_bytes()).hexdigest()}'}}",
        ]
        words = [word for setting in settings for word in ("-S", setting)]
        return run(folder, "dvc", "exp", "run", "-n", "alone", *words)

    return build_once(shared / "experiment", build)
