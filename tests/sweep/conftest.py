"""A repository of one quick stage, and a Dask worker in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster
from support import committed, initialize, run

from digits.sweep.trial import Source


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A repository whose stage squares the number of epochs on three cores, and whose DVC cache trials share."""
    folder = tmp_path / "source"
    (folder / ".dvc").mkdir(parents=True)
    for name in (".dvc/.gitignore", ".dvc/config", "params.yaml"):
        (folder / name).write_text(committed(name), "utf-8")
    command = "test $DIGITS_CORES = 3 && expr ${train.epochs} '*' ${train.epochs} > y"
    stage = f"stages:\n  square:\n    cmd: {command}\n    params: [train.epochs]\n    outs: [y]\n"
    (folder / "dvc.yaml").write_text(stage, "utf-8")
    initialize(folder)
    commit = run(folder, "git", "rev-parse", "HEAD").strip()
    return Source(str(folder), commit, str(folder / ".dvc/cache"), ("Digits", "digits@example.org"), 3)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """A Dask scheduler, and a worker of one thread that runs in this process."""
    scratch = str(tmp_path / "dask")
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", local_directory=scratch
    ) as cluster:
        yield cluster
