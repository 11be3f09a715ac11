"""What a worker of a sweep makes of trials that end badly, on a Dask worker; tests/test_sweep.py runs whole ones."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, environment, run
from distributed import Client, LocalCluster

from digits import trial as trials
from digits import warm, worker
from digits.trial import Source, Trial

TRIAL = Trial("square-3", ("x=3",))


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A repository of one stage, whose DVC cache trials share."""
    folder = tmp_path / "source"
    folder.mkdir()
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    (folder / "params.yaml").write_text("x: 2\n", "utf-8")
    (folder / "dvc.yaml").write_text(
        "stages:\n  square:\n    cmd: expr ${x} '*' ${x} > y\n    params: [x]\n    outs: [y]\n", "utf-8"
    )
    run(folder, "dvc", "repro", "-q")
    run(folder, "git", "add", ".")
    run(folder, "git", "commit", "-qm", "Square")
    return Source(str(folder), _head(folder), str(folder / ".dvc/cache"), ("Digits", "digits@example.org"), 1)


def _head(folder: Path) -> str:
    return run(folder, "git", "rev-parse", "HEAD").strip()


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """One thread of a Dask worker, whose warm Python has imported nothing slow."""
    script = tmp_path / "warm.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'src/digits')!r})\nimport warm\nwarm.serve(sys.argv[1], [])\n",
        "utf-8",
    )
    monkeypatch.setattr(warm, "__file__", str(script))
    monkeypatch.setattr(worker, "_slots", {})
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
        for slot in worker._slots.values():
            slot.close()


def _outcome(client: Client, source: Source, trial: Trial = TRIAL) -> worker.Outcome:
    outcome = client.submit(worker.run, trial, source, pure=False).result(60)
    assert isinstance(outcome, worker.Outcome)
    return outcome


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_trial_that_fails_shows_its_last_lines_and_the_next_one_runs(client: Client, source: Source) -> None:
    failed = _outcome(client, source, Trial("square-a", ("x=a",)))
    assert failed.ran
    assert failed.error is not None
    assert "non-integer argument" in failed.error
    assert len(failed.error.splitlines()) <= worker.LAST_LINES
    (slot,) = worker._slots.values()
    assert slot.server is None
    assert not slot.clone.exists()
    assert _outcome(client, source).error is None
    assert trials.git(Path(source.git), "rev-parse", "--verify", source.ref(TRIAL))


def test_a_source_of_its_own_has_a_clone_of_its_own(client: Client, source: Source) -> None:
    assert _outcome(client, source).error is None
    (first,) = worker._slots.values()
    outcome = _outcome(client, replace(source, git=f"{source.git}-that-is-not-there"))
    assert outcome.error is not None
    assert outcome.error.startswith("digits: `git clone")
    assert "\n" not in outcome.error
    assert first.server is None
    (second,) = worker._slots.values()
    assert second is not first


def test_a_warm_python_that_can_not_start_is_reported(client: Client, source: Source) -> None:
    Path(warm.__file__).write_text("raise SystemExit('libcudart.so.1: cannot open')", "utf-8")
    assert _outcome(client, source).error == "digits: libcudart.so.1: cannot open\n"


def test_a_trial_that_nobody_waits_for_is_ended(client: Client, source: Source, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    folder = Path(source.git)
    edited = (folder / "dvc.yaml").read_text("utf-8").replace("cmd: ", f"cmd: touch '{begun}'; sleep 100; ")
    (folder / "dvc.yaml").write_text(edited, "utf-8")
    run(folder, "git", "commit", "-qam", "Sleep")
    future = client.submit(worker.run, TRIAL, replace(source, commit=_head(folder)))
    _wait(begun.exists)
    (slot,) = worker._slots.values()
    server = slot.server
    assert server is not None
    future.cancel()
    _wait(lambda: not slot.clone.exists())
    assert server.poll() is not None


def _run_trial(folder: Path, source: Source) -> dict[str, object]:
    (folder / "order.json").write_text(trials.order(TRIAL, source), "utf-8")
    command = [sys.executable, "-m", "digits.trial", "../order.json", "../answer.json"]
    subprocess.run(command, cwd=folder / "clone", env=environment(), check=True)
    answer: dict[str, object] = json.loads((folder / "answer.json").read_text("utf-8"))
    return answer


def test_a_clone_serves_the_next_commit_and_runs_nothing_twice(source: Source, tmp_path: Path) -> None:
    for name in ("one", "two"):
        trials.clone(tmp_path / name / "clone", source, tmp_path / name / "cache")
    folder = Path(source.git)
    (folder / "params.yaml").write_text("x: 2\nz: 1\n", "utf-8")
    run(folder, "git", "commit", "-qam", "Add a parameter")
    later = replace(source, commit=_head(folder))
    assert _run_trial(tmp_path / "one", source) == {"ran": True, "scores": {}}
    assert _run_trial(tmp_path / "one", later) == {"ran": True, "scores": {}}
    made = trials.git(folder, "rev-parse", later.ref(TRIAL))
    assert _run_trial(tmp_path / "two", later) == {"ran": False, "scores": {}}
    assert trials.git(folder, "rev-parse", later.ref(TRIAL)) == made
    assert trials.git(tmp_path / "two/clone", "rev-parse", later.ref(TRIAL)) == made
