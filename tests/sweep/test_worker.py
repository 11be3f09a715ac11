"""Single trials on a Dask worker, most of which end badly; test_runner.py and test_sweep.py run sweeps."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from support import run, wait_until

from digits.sweep import fork_server, worker
from digits.sweep.trial import Source, Trial
from digits.versioning.git import git

TRIAL = Trial("square-3", ("train.epochs=3",))


@pytest.fixture
def client(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of a worker whose fork server imports no slow module."""
    monkeypatch.setattr(fork_server, "SLOW_MODULES", ())
    monkeypatch.setattr(worker, "_runners", {})
    with Client(cluster) as client:
        yield client
    for runner in worker._runners.values():
        runner.close()


def outcome_of(client: Client, source: Source, trial: Trial = TRIAL) -> worker.TrialOutcome:
    outcome = client.submit(worker.run, trial, source, pure=False).result(60)
    assert isinstance(outcome, worker.TrialOutcome)
    return outcome


def test_a_failed_trial_returns_its_last_lines_and_the_next_trial_runs(client: Client, source: Source) -> None:
    failed = outcome_of(client, source, Trial("square-a", ("train.epochs=a",)))
    assert failed.error is not None
    assert "non-integer argument" in failed.error
    assert len(failed.error.splitlines()) <= worker.LAST_LINES
    (runner,) = worker._runners.values()
    assert runner.server is None
    assert not runner.clone.exists()
    outcome = outcome_of(client, source)
    assert (outcome.error, outcome.scores) == (None, {})
    commit = git(Path(source.url), "rev-parse", "--verify", source.ref(TRIAL))
    assert outcome_of(client, source).error is None  # it does not run again
    assert git(Path(source.url), "rev-parse", source.ref(TRIAL)) == commit


def test_another_source_gets_another_clone(client: Client, source: Source) -> None:
    assert outcome_of(client, source).error is None
    (first,) = worker._runners.values()
    outcome = outcome_of(client, replace(source, url=f"{source.url}-missing"))
    assert re.fullmatch("digits: `git clone .*", outcome.error or "")
    assert first.server is None
    (second,) = worker._runners.values()
    assert second is not first


def test_a_fork_server_that_cannot_start_is_reported(
    client: Client, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "__file__", str(tmp_path / "server.py"))
    (tmp_path / "server.py").write_text("raise SystemExit('libcudart.so.1: cannot open')", "utf-8")
    assert outcome_of(client, source).error == "digits: libcudart.so.1: cannot open"


def test_a_cancelled_trial_is_killed(client: Client, source: Source, tmp_path: Path) -> None:
    started, folder = tmp_path / "started", Path(source.url)
    run(folder, "git", "checkout", "-q", "--detach")  # a commit on no branch runs, too
    pipeline = (folder / "dvc.yaml").read_text("utf-8")
    (folder / "dvc.yaml").write_text(pipeline.replace("expr ", f"touch '{started}'; sleep 100; expr "), "utf-8")
    run(folder, "git", "commit", "-qam", "Wait")
    commit = git(folder, "rev-parse", "HEAD").strip()
    future = client.submit(worker.run, TRIAL, replace(source, commit=commit))
    wait_until(started.exists, "the stage has started")
    (runner,) = worker._runners.values()
    server = runner.server
    assert server is not None
    future.cancel()
    wait_until(lambda: not runner.clone.exists(), "the clone is deleted")
    assert server.poll() is not None
