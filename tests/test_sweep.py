"""Sweeps: the grid, the table, and the real thing on workers that share nothing but a Git and a DVC remote."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import ROOT, edit, environment, run
from matplotlib.image import imread

from digits import params, standings, sweep, warm
from digits.errors import UserError
from digits.trial import Trial

pytestmark = pytest.mark.timeout(600)


def wait(condition: Callable[[], object], what: str, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_the_grid_is_the_product_in_dvcs_own_syntax() -> None:
    trials = sweep.grid(["train.seed=range(0,3)", "models.mlp64.units=[32],[64,64]", "train.epochs=choice(2)"], "wide")
    assert [trial.settings for trial in trials] == [
        (f"train.seed={seed}", f"models.mlp64.units={units}", "train.epochs=2")
        for seed in range(3)
        for units in ("[32]", "[64,64]")
    ]
    assert len({trial.name for trial in trials}) == 6
    assert all(re.fullmatch(r"wide-[a-z0-9-]+-[0-9a-f]{10}", trial.name) for trial in trials)
    assert sweep.grid(["other.yaml:key=1"], "x")[0].settings == ("other.yaml:key=1",)


def test_a_name_depends_on_the_trial_alone() -> None:
    (one,) = sweep.grid(["train.seed=1", "train.epochs=2"], "a")
    assert one.name in {trial.name for trial in sweep.grid(["train.epochs=2,3", "train.seed=0,1,1"], "a")}
    assert one.name != sweep.grid(["train.seed=1", "train.epochs=2"], "b")[0].name


@pytest.mark.parametrize(
    ("overrides", "prefix", "message"),
    [
        (["train.seed"], "a", "-S train.seed: "),
        (["train.seed=[1"], "a", r"-S train.seed=\[1: "),
        (["train.seed=1"], "a/b", "--name is 'a/b': it must be "),
    ],
)
def test_a_mistake_in_the_grid_is_one_line(overrides: list[str], prefix: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        sweep.grid(overrides, prefix)
    assert "\n" not in str(caught.value)


def table_of(accuracies: dict[tuple[str, int], float | None]) -> pd.DataFrame:
    """Rows of trials of a grid of units and seeds with these validation accuracies; None: on test, 0.5."""
    trials = [Trial(f"{units}-{seed}", (f"units={units}", f"train.seed={seed}", "x=1")) for units, seed in accuracies]
    scores = {
        f"{units}-{seed}": {"mlp64": {"validation_accuracy": value, "accuracy": 0.5, "loss": 1.0}}
        for (units, seed), value in accuracies.items()
    }
    return standings.of_trials(trials, scores)


def test_seeds_become_mean_deviation_and_best() -> None:
    rows = table_of({("[8]", 0): 0.7, ("[8]", 1): 0.9, ("[16]", 0): 0.85, ("[16]", 1): 0.85})
    assert "x" not in rows.columns
    best, other = standings.summary(rows).to_dict("records")
    assert (best["units"], best["mean"], best["deviation"]) == ("[16]", pytest.approx(0.85), pytest.approx(0))
    assert other["units"] == "[8]"
    assert other["mean"] == pytest.approx(0.8)
    assert other["deviation"] == pytest.approx(0.2 / 2**0.5)
    assert (other["best"], other["best_trial"], other["trials"]) == (0.9, "[8]-1", 2)
    assert other["ranked_by"] == "validation accuracy"


def test_without_validation_images_the_table_says_test() -> None:
    (row,) = standings.summary(table_of({("[8]", 0): None})).to_dict("records")
    assert (row["ranked_by"], row["mean"]) == ("test accuracy", 0.5)
    assert pd.isna(row["deviation"])


def test_table_and_chart_are_written(tmp_path: Path) -> None:
    trials = [Trial(str(seed), (f"train.seed={seed}",)) for seed in range(2)]
    scores = {t.name: {"cnn": {"validation_accuracy": 0.9, "accuracy": 0.8, "loss": 1.0}} for t in trials}
    printed = standings.write(trials, scores, tmp_path / "s")
    assert "0.9000" in printed
    assert len((tmp_path / "s/trials.csv").read_text("utf-8").splitlines()) == 3
    assert len((tmp_path / "s/summary.csv").read_text("utf-8").splitlines()) == 2
    assert imread(tmp_path / "s/trials.png").std() > 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A warm Python that has imported nothing slow, and its socket."""
    (tmp_path / "socket").mkdir()
    path = os.path.relpath(tmp_path / "socket/python")  # a socket's path has at most 107 bytes
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src/digits')!r}); import warm; warm.serve({path!r}, [])"
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, start_new_session=True)
    wait(Path(path).exists, "the server does not listen")
    yield process, path
    process.kill()
    process.communicate()


def test_a_warm_python_is_python(server: tuple[subprocess.Popen[bytes], str], tmp_path: Path) -> None:
    warm.stand_in(tmp_path / "bin", server[1], sys.executable)
    (tmp_path / "script.py").write_text(
        "import os, sys\nprint(sys.argv[1:], os.environ['WORD'], input(), os.getppid())\nsys.exit(int(sys.argv[1]))\n",
        "utf-8",
    )
    own = os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "WORD": "word"}
    script = os.path.relpath(tmp_path / "script.py")
    result = subprocess.run(
        ["python", script, "3"], env=own, input="line\n", capture_output=True, text=True, check=False
    )
    assert result.stdout == f"['3'] word line {server[0].pid}\n"  # in a fork of the server
    assert result.returncode == 3
    result = subprocess.run(["python", "-c", "print(6 * 7)"], env=own, capture_output=True, text=True, check=False)
    assert result.stdout == "42\n"  # which is no script
    (tmp_path / "script.py").write_text("import sys; sys.exit('a message')", "utf-8")
    result = subprocess.run(["python", script], env=own, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "a message\n")
    (tmp_path / "script.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "utf-8")
    assert subprocess.run(["python", script], env=own, check=False).returncode == 1


def test_a_warm_python_ends_with_what_wanted_it(server: tuple[subprocess.Popen[bytes], str], tmp_path: Path) -> None:
    process, path = server
    script = tmp_path / "sleep.py"
    script.write_text("import time; time.sleep(100)", "utf-8")
    connection = warm.ask(path, [str(script)], (0, 1, 2), tmp_path, os.environ)
    wait(lambda: psutil.Process(process.pid).children(), "it does not run")
    (child,) = psutil.Process(process.pid).children()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == -signal.SIGKILL
    wait(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the fork lives on")
    assert warm.status(connection) == 1
    assert not Path(path).parent.exists()


GRID = ("-S", "models.mlp64.units=[8],[16]", "-S", "train.seed=0,1")


@pytest.fixture(scope="module")
def baseline(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose data are made and whose models are not, one epoch of mlp64 on one thread."""
    folder = tmp_path_factory.mktemp("sweep") / "repository"
    run(clone, "git", "clone", "-q", str(clone), str(folder))
    run(folder, "git", "remote", "remove", "origin")
    edit(folder / "params.yaml", variants=["mlp64"], train__epochs=1, train__threads=1)
    run(folder, "dvc", "repro", "neighbors")
    run(folder, "git", "commit", "-qam", "Make the data")
    return folder


@pytest.fixture(scope="module")
def alone(baseline: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What Git holds of the trial with 16 units and seed 1, run by `dvc exp run` in a copy."""
    folder = tmp_path_factory.mktemp("alone") / "repository"
    shutil.copytree(baseline, folder)
    run(folder, "dvc", "exp", "run", "-n", "alone", "-S", "models.mlp64.units=[16]", "-S", "train.seed=1")
    return results(folder, references(folder)["alone"])


def results(folder: Path, commit: str) -> str:
    """The hashes of all that an experiment's commit may change; dvc.lock has those of models and predictions."""
    return run(
        folder, "git", "rev-parse", *(f"{commit}:{name}" for name in ("dvc.lock", "params.yaml", "metrics", "plots"))
    )


def references(folder: Path) -> dict[str, str]:
    """The commits of experiments of a repository's only baseline, by name."""
    listed = run(folder, "git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    found = (re.fullmatch(r"refs/exps/../.{38}/(\S+) (\w+)", line) for line in listed.splitlines())
    return {match[1]: match[2] for match in found if match}


class Cluster:
    """A Dask scheduler, and workers that have a home each and no folder in common."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.start(
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(folder / "scheduler.json"),
        )
        wait((folder / "scheduler.json").exists, "the scheduler does not start")
        self.address = re.findall(r'"address": "(tcp://[^"]+)"', (folder / "scheduler.json").read_text("utf-8"))[0]

    def start(self, kind: str, *options: str, name: str = "scheduler") -> None:
        home = self.folder / name
        home.mkdir()
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
        with (home / "log").open("wb") as log:
            own = environment() | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
            self.processes[name] = subprocess.Popen(command, cwd=home, env=own, stdout=log, stderr=log)

    def add_worker(self, name: str) -> None:
        options = (
            "--host",
            "127.0.0.1",
            "--no-nanny",
            "--no-dashboard",
            "--nthreads",
            "1",
            "--local-directory",
            str(self.folder / name),
        )
        self.start("worker", self.address, "--name", name, *options, name=name)

    def trains(self, name: str, since: float = 0) -> bool:
        """Tell whether a worker has come to the stage that trains, since a time."""
        logs = list((self.folder / name).glob("dask-scratch-space/*/trials-*/log"))
        return any(
            "Running stage 'train@mlp64'" in log.read_text("utf-8", "replace")
            for log in logs
            if log.stat().st_mtime > since
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
    """A clone of a bare Git remote whose DVC remote is a folder; its own cache is empty."""
    source = tmp_path / "source"
    shutil.copytree(baseline, source)
    run(source, "dvc", "remote", "add", "-d", "storage", str(tmp_path / "storage"))
    run(source, "git", "commit", "-qam", "Name a remote")
    run(source, "dvc", "push", "-q", "neighbors", "preprocess", "download")
    run(source, "git", "clone", "-q", "--bare", str(source), str(tmp_path / "remote.git"))
    run(tmp_path, "git", "clone", "-q", str(tmp_path / "remote.git"), "submitting")
    shutil.rmtree(source)
    return tmp_path / "submitting"


def test_a_cluster_runs_each_trial_once_though_a_worker_dies(submitting: Path, cluster: Cluster, alone: str) -> None:
    for name in ("a", "b"):
        cluster.add_worker(name)
    with subprocess.Popen(
        ["digits", "sweep", "--address", cluster.address, *GRID, "--name", "wide"],
        cwd=submitting,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as sweeping:
        wait(lambda: cluster.trains("a"), "worker a gets no trial")
        started = psutil.Process(cluster.processes["a"].pid).children(recursive=True)
        cluster.kill("a")
        _, living = psutil.wait_procs(started, 20)
        assert [process for process in living if process.status() != psutil.STATUS_ZOMBIE] == []
        output = sweeping.communicate()[0]
    assert sweeping.returncode == 0, output
    assert "4 trials on" in output
    remote = references(submitting.parent / "remote.git")
    assert len(remote) == 4
    assert remote == references(submitting)
    shown = csv.DictReader(run(submitting, "dvc", "exp", "show", "--csv", "--no-pager").splitlines())
    rows = {row["Experiment"]: row for row in shown}
    assert set(remote) < set(rows)
    assert all(0 < float(rows[name]["mlp64.accuracy"]) <= 1 for name in remote)
    (name,) = (trial.name for trial in sweep.grid(["models.mlp64.units=[16]", "train.seed=1"], "wide"))
    assert results(submitting, remote[name]) == alone
    run(submitting, "dvc", "exp", "apply", name)
    assert (submitting / "models/mlp64/model.keras").is_file()  # the cache has come along
    run(submitting, "git", "checkout", "-q", ".")

    # Once more with a trial that fails: what has been run is not run again, and the failure stops nothing.
    wider = ("-S", "models.mlp64.units=[8],[16],[0]", "-S", "train.seed=0,1")
    output = run(submitting, "digits", "sweep", "--address", cluster.address, *wider, "--name", "wide", fails=True)
    assert "6 trials on" in output
    assert "of which 4 have been run" in output
    assert output.count("params.yaml: models.mlp64.units[0] is 0: it must be ") == 2
    assert output.splitlines()[-1].startswith("digits: 2 of 6 trials failed")
    assert references(submitting) == remote
    assert len((submitting / "sweeps/wide/trials.csv").read_text("utf-8").splitlines()) == 5
    run(submitting, "git", "commit", "-q", "--allow-empty", "-m", "Here alone")
    output = run(submitting, "digits", "sweep", "--address", cluster.address, *GRID, fails=True)
    assert re.fullmatch(r"digits: commit \w+ is on no branch of origin, .*: `git push` it first\n", output)

    # The scheduler goes away, which a line says.
    run(submitting, "git", "checkout", "-q", "HEAD~")
    start = time.time()
    with subprocess.Popen(
        ["digits", "sweep", "--address", cluster.address, *GRID, "--name", "other"],
        cwd=submitting,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as sweeping:
        wait(lambda: cluster.trains("b", since=start), "worker b gets no trial")
        cluster.kill("scheduler")
        errors = sweeping.communicate(timeout=200)[1]
    assert sweeping.returncode == 1
    assert errors == "digits: the scheduler has gone, after 0 of 4 trials: the same command runs the rest\n"


def test_on_one_machine_an_interrupted_sweep_goes_on_where_it_was(baseline: Path, alone: str) -> None:
    command = ["digits", "sweep", "--workers", "1", *GRID[:3], "train.seed=1"]
    with subprocess.Popen(
        command,
        cwd=baseline,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as sweeping:
        wait(lambda: references(baseline), "no trial ends")
        started = psutil.Process(sweeping.pid).children(recursive=True)
        os.killpg(sweeping.pid, signal.SIGINT)  # as a terminal does
        _, errors = sweeping.communicate(timeout=200)
    assert sweeping.returncode == 1
    assert re.search(
        r"^digits: interrupted after [01] of 2 trials: the same command runs the rest\n\Z", errors, re.MULTILINE
    )
    assert "Traceback" not in errors
    _, living = psutil.wait_procs(started, 20)
    assert [process for process in living if process.status() != psutil.STATUS_ZOMBIE] == []
    first = references(baseline)
    assert len(first) == 1

    output = run(baseline, *command)
    assert "2 trials on" in output
    assert "of which 1 have been run" in output
    assert re.search(r"best so far \d+\.\d\d % on validation: mlp64 of sweep-", output)
    both = references(baseline)
    assert len(both) == 2
    assert first.items() < both.items()
    (name,) = (name for name in both if name not in first)
    assert results(baseline, both[name]) == alone
    assert run(baseline, "git", "status", "--porcelain") == ""


def test_a_trial_has_the_threads_of_the_grid_or_of_the_parameters() -> None:
    def threads(*overrides: str) -> int:
        return sweep._threads(sweep.Sweep(ROOT, sweep.grid(overrides, "a")))

    assert threads("train.threads=1,3") == 3
    assert threads("train.seed=0") == params.load(ROOT / "params.yaml").train.threads


def test_mistakes_that_stop_a_sweep_are_one_line(baseline: Path, tmp_path: Path) -> None:
    for options, message in [
        (["-S", "train.sed=1,2"], "params.yaml: train.sed=1: Could not override 'train.sed'"),
        (["-S", "nowhere.yaml:a=1"], "nowhere.yaml: No such file or directory"),
        (
            [*GRID, "--git-remote", "nowhere"],
            "`git ls-remote --heads --tags nowhere`: fatal: 'nowhere' does not appear",
        ),
    ]:
        output = run(baseline, "digits", "sweep", *options, fails=True)
        assert output.startswith(f"digits: {message}")
        assert output.count("\n") == 1
    run(tmp_path, "git", "clone", "-q", "--bare", str(baseline), "hub")
    run(baseline, "git", "remote", "add", "hub", str(tmp_path / "hub"))
    nobody = ("--git-remote", "hub", "--address", "tcp://127.0.0.1:1")
    *_, last = run(baseline, "digits", "sweep", *GRID, *nobody, fails=True).splitlines()
    assert last.startswith("digits: --address tcp://127.0.0.1:1: no Dask scheduler answers there (")
    run(baseline, "git", "remote", "remove", "hub")
    edit(baseline / "params.yaml", train__seed=3)
    output = run(baseline, "digits", "sweep", *GRID, fails=True)
    assert output == "digits: params.yaml is not as committed: a sweep runs a commit, so commit or stash it first\n"
    run(baseline, "git", "checkout", "-q", ".")
