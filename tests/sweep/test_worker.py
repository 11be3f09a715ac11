"""Trials that end badly, on a Dask worker; test_sweep.py runs complete sweeps."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from support import ROOT, run, wait_until

from digits.modeling import backend
from digits.sweep import fork_server, worker
from digits.sweep.trial import Source, Trial
from digits.versioning.git import git

TRIAL = Trial("square-3", ("x=3",))


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A Dask worker of one thread, whose fork server imports no slow module."""
    script = tmp_path / "fork_server.py"
    folder = str(ROOT / "src/digits/sweep")
    script.write_text(
        f"import sys\nsys.path.insert(0, {folder!r})\nimport fork_server\nfork_server.serve(sys.argv[2], [])\n", "utf-8"
    )
    monkeypatch.setattr(fork_server, "__file__", str(script))
    monkeypatch.setattr(worker, "_runners", {})
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address=":0",
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
        for runner in worker._runners.values():
            runner.close()


def outcome_of(client: Client, source: Source, trial: Trial = TRIAL) -> worker.Outcome:
    outcome = client.submit(worker.run, trial, source, pure=False).result(60)
    assert isinstance(outcome, worker.Outcome)
    return outcome


def test_a_failed_trial_returns_its_last_lines_and_the_next_trial_runs(client: Client, source: Source) -> None:
    failed = outcome_of(client, source, Trial("square-a", ("x=a",)))
    assert failed.error is not None
    assert "non-integer argument" in failed.error
    assert len(failed.error.splitlines()) <= worker.LAST_LINES
    (runner,) = worker._runners.values()
    assert runner.server is None
    assert not runner.clone.exists()
    outcome = outcome_of(client, source)
    assert (outcome.error, outcome.scores) == (None, {})
    assert git(Path(source.url), "rev-parse", "--verify", source.ref(TRIAL))


def test_a_stage_of_a_trial_may_use_as_many_cores_as_the_trial_has_threads(client: Client, source: Source) -> None:
    folder = Path(source.url)
    edited = (folder / "dvc.yaml").read_text("utf-8").replace("expr ", "test $DIGITS_CORES = 3 && expr ")
    (folder / "dvc.yaml").write_text(edited, "utf-8")
    run(folder, "git", "commit", "-qam", "Test the cores")
    commit = git(folder, "rev-parse", "HEAD").strip()
    assert outcome_of(client, replace(source, commit=commit, threads=3)).error is None


@pytest.mark.parametrize(("limit", "workers"), [("3", 3), ("1", 1), ("", 8), ("0", 8), ("all", 8)])
def test_a_stage_heeds_that_number_of_cores(monkeypatch: pytest.MonkeyPatch, limit: str, workers: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("DIGITS_CORES", limit)
    assert backend.available_workers(1) == workers


def test_another_source_gets_another_clone(client: Client, source: Source) -> None:
    assert outcome_of(client, source).error is None
    (first,) = worker._runners.values()
    outcome = outcome_of(client, replace(source, url=f"{source.url}-missing"))
    assert outcome.error is not None
    assert outcome.error.startswith("digits: `git clone")
    assert "\n" not in outcome.error
    assert first.server is None
    (second,) = worker._runners.values()
    assert second is not first


def test_a_fork_server_that_cannot_start_is_reported(client: Client, source: Source) -> None:
    Path(fork_server.__file__).write_text("raise SystemExit('libcudart.so.1: cannot open')", "utf-8")
    assert outcome_of(client, source).error == "digits: libcudart.so.1: cannot open"


def test_a_cancelled_trial_is_killed(client: Client, source: Source, tmp_path: Path) -> None:
    started = tmp_path / "started"
    folder = Path(source.url)
    edited = (folder / "dvc.yaml").read_text("utf-8").replace("cmd: ", f"cmd: touch '{started}'; sleep 100; ")
    (folder / "dvc.yaml").write_text(edited, "utf-8")
    run(folder, "git", "commit", "-qam", "Sleep")
    commit = git(folder, "rev-parse", "HEAD").strip()
    future = client.submit(worker.run, TRIAL, replace(source, commit=commit))
    wait_until(started.exists, "the stage has started")
    (runner,) = worker._runners.values()
    server = runner.server
    assert server is not None
    future.cancel()
    wait_until(lambda: not runner.clone.exists(), "the clone is deleted")
    assert server.poll() is not None
