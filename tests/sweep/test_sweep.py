"""Grids, and complete sweeps: on this machine, and on workers that share only a Git and a DVC remote."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from support import ROOT, call, edit, environment, run, wait_until

from digits.core.errors import UserError
from digits.sweep import runner

GRID = ("-S", "models.mlp64.units=[8],[16]")


def test_a_grid_is_the_product_of_its_settings_in_the_syntax_of_dvc() -> None:
    trials = runner.grid(
        ["preprocess.seed=range(0,3)", "models.mlp64.units=[32],[64,64]", "train.epochs=choice(2)"], "wide"
    )
    assert [trial.settings for trial in trials] == [
        (f"preprocess.seed={seed}", f"models.mlp64.units={units}", "train.epochs=2")
        for seed in range(3)
        for units in ("[32]", "[64,64]")
    ]
    assert len({trial.name for trial in trials}) == 6
    assert all(re.fullmatch(r"wide-[a-z0-9-]+-[0-9a-f]{10}", trial.name) for trial in trials)
    assert runner.grid(["other.yaml:key=1"], "x")[0].settings == ("other.yaml:key=1",)
    assert [trial.settings for trial in runner.grid(["train.seeds=[0,1],[2]"], "x")] == [
        ("train.seeds=[0,1]",),
        ("train.seeds=[2]",),
    ]


def test_the_name_of_a_trial_depends_on_its_prefix_and_settings_alone() -> None:
    (one,) = runner.grid(["preprocess.seed=1", "train.epochs=2"], "a")
    assert one.name in {trial.name for trial in runner.grid(["train.epochs=2,3", "preprocess.seed=0,1,1"], "a")}
    assert one.name != runner.grid(["preprocess.seed=1", "train.epochs=2"], "b")[0].name


@pytest.mark.parametrize(
    ("overrides", "prefix", "message"),
    [
        (["train.epochs"], "a", "-S train.epochs: "),
        (["train.epochs=[1"], "a", r"-S train.epochs=\[1: "),
        (["train.epochs=1"], "a/b", "--name is 'a/b': it must "),
    ],
)
def test_a_mistake_in_a_grid_is_one_line(overrides: list[str], prefix: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        runner.grid(overrides, prefix)
    assert "\n" not in str(caught.value)


def test_a_trial_has_the_threads_of_the_grid_or_of_the_parameters(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    edit(tmp_path / "params.yaml", train__threads=5)

    def threads(*overrides: str) -> int:
        return runner._threads(tmp_path, runner.grid(overrides, "a"))

    assert threads("train.threads=1,3") == 3
    assert threads("train.epochs=1") == 5


@pytest.fixture(scope="module")
def baseline(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with data, but without the results of its parameters: one epoch of mlp64 with two seeds."""
    folder = tmp_path_factory.mktemp("sweep") / "baseline"
    shutil.copytree(template, folder, symlinks=True)
    edit(folder / "params.yaml", variants=["mlp64"], train__epochs=1, train__seeds=[0, 1])
    run(folder, "git", "commit", "-qam", "Train for one epoch")
    return folder


@pytest.fixture(scope="module")
def alone(baseline: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The committed results of the trial with 16 units, run by `dvc exp run` in a copy."""
    folder = tmp_path_factory.mktemp("alone") / "repository"
    shutil.copytree(baseline, folder, symlinks=True)
    run(folder, "dvc", "exp", "run", "-n", "alone", "-S", "models.mlp64.units=[16]")
    return results(folder, experiments(folder)["alone"])


def results(folder: Path, commit: str) -> str:
    """Return the hashes of all that an experiment may change; dvc.lock has those of models and predictions."""
    changed = ("cards", "dvc.lock", "params.yaml", "metrics", "plots")
    return run(folder, "git", "rev-parse", *(f"{commit}:{name}" for name in changed))


def experiments(folder: Path) -> dict[str, str]:
    """Return the commits of all experiments by name."""
    listed = run(folder, "git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    found = (re.fullmatch(r"refs/exps/../.{38}/(\S+) (\w+)", line) for line in listed.splitlines())
    return {match[1]: match[2] for match in found if match}


def start_sweep(folder: Path, *options: str, errors: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start `digits sweep` in a session of its own, as a terminal would."""
    return subprocess.Popen(
        ["digits", "sweep", *options],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
    )


def survivors(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that have not ended after 20 s."""
    _, running = psutil.wait_procs(processes, 20)
    return [process for process in running if process.status() != psutil.STATUS_ZOMBIE]


class Cluster:
    """A Dask scheduler and workers, each with a home of its own and no common folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        file = folder / "scheduler.json"
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        self._start("scheduler", "scheduler", *options)
        wait_until(file.exists, "the scheduler runs")
        self.address = re.findall(r'"address": "(tcp://[^"]+)"', file.read_text("utf-8"))[0]

    def add_worker(self, name: str) -> None:
        options = ("--host", "127.0.0.1", "--no-nanny", "--no-dashboard", "--nthreads", "1")
        scratch = str(self.folder / name)
        self._start(name, "worker", self.address, "--name", name, *options, "--local-directory", scratch)

    def _start(self, name: str, kind: str, *options: str) -> None:
        home = self.folder / name
        home.mkdir()
        variables = environment(HOME=str(home), XDG_CACHE_HOME=str(home / "cache"))
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
        with (home / "log").open("wb") as log:
            self.processes[name] = subprocess.Popen(command, cwd=home, env=variables, stdout=log, stderr=log)

    def trains(self, name: str, since: float = 0) -> bool:
        """Return whether a worker has started to train a model since a time."""
        logs = (self.folder / name).glob("dask-scratch-space/*/trials-*/log")
        return any(
            log.stat().st_mtime > since and "Running stage 'train@mlp64'" in log.read_text("utf-8", "replace")
            for log in logs
        )

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def close(self) -> None:
        for name in self.processes:
            self.kill(name)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()


@pytest.fixture
def submitting(baseline: Path, tmp_path: Path) -> Path:
    """A clone, with an empty DVC cache, of a bare Git repository whose DVC remote is a folder."""
    source = tmp_path / "source"
    shutil.copytree(baseline, source, symlinks=True)
    run(source, "dvc", "remote", "add", "-d", "storage", str(tmp_path / "storage"))
    run(source, "git", "commit", "-qam", "Add a remote")
    run(source, "dvc", "push", "-q", "neighbors", "preprocess", "download")
    run(source, "git", "clone", "-q", "--bare", str(source), str(tmp_path / "remote.git"))
    run(tmp_path, "git", "clone", "-q", str(tmp_path / "remote.git"), "submitting")
    shutil.rmtree(source)
    return tmp_path / "submitting"


@pytest.mark.slow(70)
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("sweep")
def test_a_cluster_runs_each_trial_once_though_a_worker_dies(submitting: Path, cluster: Cluster, alone: str) -> None:
    for name in ("a", "b"):
        cluster.add_worker(name)
    on_cluster = ("--address", cluster.address)
    with start_sweep(submitting, *on_cluster, *GRID, "--name", "wide", errors=subprocess.STDOUT) as sweep:
        wait_until(lambda: cluster.trains("a"), "worker a trains")
        started = psutil.Process(cluster.processes["a"].pid).children(recursive=True)
        cluster.kill("a")
        assert survivors(started) == []
        output = sweep.communicate()[0]
    assert sweep.returncode == 0, output
    assert "2 trials on commit" in output
    remote = experiments(submitting.parent / "remote.git")
    assert len(remote) == 2
    assert remote == experiments(submitting)
    shown = csv.DictReader(run(submitting, "dvc", "exp", "show", "--csv", "--no-pager").splitlines())
    rows = {row["Experiment"]: row for row in shown}
    assert set(remote) < set(rows)
    assert all(0 < float(rows[name]["mlp64.accuracy"]) <= 1 for name in remote)
    (trial,) = runner.grid(["models.mlp64.units=[16]"], "wide")
    assert results(submitting, remote[trial.name]) == alone
    run(submitting, "dvc", "exp", "apply", trial.name)
    assert (submitting / "models/mlp64/model.keras").is_file()  # the DVC cache has been pulled, too
    run(submitting, "git", "checkout", "-q", ".")

    # A larger grid: what has run does not run again, and a trial that fails stops no other.
    larger = ("-S", "models.mlp64.units=[8],[16],[0],[4]")
    output = run(submitting, "digits", "sweep", *on_cluster, *larger, "--name", "wide", fails=True)
    assert re.search(r"4 trials on commit \w+; 2 have already run", output)
    assert output.count("params.yaml: models.mlp64.units[0] is 0: it must be ") == 1
    assert output.splitlines()[-1].startswith("digits: 1 of 4 trials failed")
    both = experiments(submitting)
    assert len(both) == 3
    assert remote.items() < both.items()
    with (submitting / "sweeps/wide/trials.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert {row["trial"] for row in table} == set(both)
    assert {(row["ranked_by"], row["seeds"]) for row in table} == {("validation", "2")}
    assert [row["verdict"] for row in table].index("leader") == 0
    run(submitting, "git", "commit", "-q", "--allow-empty", "-m", "Not pushed")
    output = call(submitting, "sweep", *on_cluster, *GRID, fails=True)
    assert re.fullmatch(r"digits: commit \w+ is on no branch of origin, .*: `git push` it first\n", output)
    run(submitting, "git", "checkout", "-q", "HEAD~")

    # The scheduler is lost.
    start = time.time()
    with start_sweep(submitting, *on_cluster, *GRID, "--name", "other") as sweep:
        wait_until(lambda: cluster.trains("b", since=start), "worker b trains")
        cluster.kill("scheduler")
        errors = sweep.communicate(timeout=200)[1]
    assert sweep.returncode == 1
    assert errors == "digits: lost the scheduler after 0 of 2 trials: type the same command again to run the rest\n"


@pytest.mark.slow(70)
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("sweep")
def test_an_interrupted_sweep_continues_with_the_same_command(baseline: Path, alone: str) -> None:
    options = ("--workers", "1", *GRID)
    with start_sweep(baseline, *options) as sweep:
        wait_until(lambda: experiments(baseline), "the first trial has ended")
        started = psutil.Process(sweep.pid).children(recursive=True)
        os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
        _, errors = sweep.communicate(timeout=200)
    assert sweep.returncode == 1
    message = r"digits: interrupted after [01] of 2 trials: type the same command again to run the rest\n"
    assert re.fullmatch(message, errors)
    assert survivors(started) == []
    first = experiments(baseline)
    assert len(first) == 1

    output = run(baseline, "digits", "sweep", *options)
    assert re.search(r"2 trials on commit \w+; 1 have already run", output)
    assert re.search(r"best so far \d+\.\d\d ± \d+\.\d\d % on validation: mlp64 of sweep-", output)
    assert re.search(r"^Best on validation: sweep-units-\S+ \(", output, re.MULTILINE)
    both = experiments(baseline)
    assert len(both) == 2
    assert first.items() < both.items()
    (second,) = (name for name in both if name not in first)
    assert results(baseline, both[second]) == alone
    assert run(baseline, "git", "status", "--porcelain") == ""


def test_a_mistake_ends_in_one_line_before_any_trial_runs(
    baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "CONNECT_TIMEOUT", "1s")
    for options, message in [
        (["-S", "train.seed=1,2"], "params.yaml: train.seed=1: Could not override 'train.seed'"),
        (["-S", "nowhere.yaml:a=1"], "nowhere.yaml: No such file or directory"),
        (
            [*GRID, "--git-remote", "nowhere"],
            "`git ls-remote --heads --tags nowhere`: fatal: 'nowhere' does not appear",
        ),
    ]:
        output = call(baseline, "sweep", *options, fails=True)
        assert output.startswith(f"digits: {message}")
        assert output.count("\n") == 1
    run(tmp_path, "git", "clone", "-q", "--bare", str(baseline), "hub")
    run(baseline, "git", "remote", "add", "hub", str(tmp_path / "hub"))
    nobody = ("--name", "nobody", "--git-remote", "hub", "--address", "tcp://127.0.0.1:1")
    *_, last = call(baseline, "sweep", *GRID, *nobody, fails=True).splitlines()
    assert last.startswith("digits: --address tcp://127.0.0.1:1: no Dask scheduler answers there (")
    run(baseline, "git", "remote", "remove", "hub")
    edit(baseline / "params.yaml", train__epochs=3)
    output = call(baseline, "sweep", *GRID, fails=True)
    assert output == (
        "digits: params.yaml has uncommitted changes: a sweep runs a commit, so commit or stash them first\n"
    )
    run(baseline, "git", "checkout", "-q", ".")
