"""A repository of one quick stage, for tests of single trials."""

import shutil
from pathlib import Path

import pytest
from support import run

from digits.sweep.trial import Source


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose stage squares a parameter: do not change it."""
    folder = tmp_path_factory.mktemp("square")
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    (folder / "params.yaml").write_text("x: 2\n", "utf-8")
    (folder / "dvc.yaml").write_text(
        "stages:\n  square:\n    cmd: expr ${x} '*' ${x} > y\n    params: [x]\n    outs: [y]\n", "utf-8"
    )
    run(folder, "dvc", "repro", "-q")
    run(folder, "git", "add", ".")
    run(folder, "git", "commit", "-qm", "Square")
    return folder


@pytest.fixture
def source(square: Path, tmp_path: Path) -> Source:
    """A copy of that repository, whose DVC cache trials share."""
    folder = tmp_path / "source"
    shutil.copytree(square, folder)
    commit = run(folder, "git", "rev-parse", "HEAD").strip()
    return Source(str(folder), commit, str(folder / ".dvc/cache"), ("Digits", "digits@example.org"), 1)
