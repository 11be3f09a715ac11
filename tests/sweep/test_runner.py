"""Grids, sweeps of trials that end at once, and one that trains; test_sweep.py has those whose workers die."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from distributed import KilledWorker, LocalCluster
from matplotlib.image import imread
from support import call, committed, edit, run

from digits.core import config
from digits.core.errors import UserError
from digits.sweep import runner, worker
from digits.sweep.runner import Sweep, SweepResult
from digits.sweep.trial import Source, Trial
from digits.sweep.worker import TrialOutcome
from digits.versioning.git import git


def test_a_grid_is_the_product_of_its_settings_in_the_syntax_of_dvc() -> None:
    trials = runner.grid(["train.seed=range(0,2)", "units=[32],[64,64]", "train.epochs=choice(2)"], "wide")
    assert [trial.settings for trial in trials] == [
        ("train.seed=0", "units=[32]", "train.epochs=2"),
        ("train.seed=0", "units=[64,64]", "train.epochs=2"),
        ("train.seed=1", "units=[32]", "train.epochs=2"),
        ("train.seed=1", "units=[64,64]", "train.epochs=2"),
    ]
    assert len({trial.name for trial in trials}) == 4
    assert all(re.fullmatch(r"wide-[a-z0-9-]+-[0-9a-f]{10}", trial.name) for trial in trials)
    assert runner.grid(["other.yaml:key=1"], "x")[0].settings == ("other.yaml:key=1",)
    # The name of a trial depends on its prefix and settings alone.
    (one,) = runner.grid(["preprocess.seed=1", "train.epochs=2"], "a")
    assert one.name in {trial.name for trial in runner.grid(["train.epochs=2,3", "preprocess.seed=0,1,1"], "a")}
    assert one.name != runner.grid(["preprocess.seed=1", "train.epochs=2"], "b")[0].name


def test_a_trial_has_the_threads_of_the_grid_or_of_the_parameters(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(committed("params.yaml"), "utf-8")
    edit(tmp_path / "params.yaml", train__threads=5)
    assert runner._threads(tmp_path, runner.grid(["train.threads=1,3"], "a")) == 3
    assert runner._threads(tmp_path, runner.grid(["train.epochs=1"], "a")) == 5


@pytest.fixture
def repository(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a Git remote, and trials that end at once."""
    folder = Path(source.url)
    run(tmp_path, "git", "clone", "-q", "--bare", str(folder), "hub.git")
    run(folder, "git", "remote", "add", "origin", str(tmp_path / "hub.git"))
    monkeypatch.setattr(worker, "run", run_trial)
    return folder


def run_trial(trial: Trial, source: Source) -> TrialOutcome:
    """Push an experiment without results; fail in three ways if the number of epochs says so."""
    epochs = trial.settings[0]
    if epochs == "train.epochs=0":
        return TrialOutcome(trial.name, "here", 1.0, error="the last line")
    if epochs == "train.epochs=-1":
        raise OSError("the disk is full")
    if epochs == "train.epochs=-2":
        raise KilledWorker(trial.name, SimpleNamespace(address="here"), 3)
    words = ("commit-tree", f"{source.commit}^{{tree}}", "-p", source.commit, "-m", trial.name)
    git(Path(source.url), "update-ref", source.ref(trial), git(Path(source.url), *words).strip())
    return TrialOutcome(trial.name, "here", 1.0)


def sweep(repository: Path, cluster: LocalCluster, epochs: str) -> SweepResult:
    trials = runner.grid([f"train.epochs={epochs}"], "wide")
    return runner.run(Sweep(repository, trials, cluster.scheduler_address, pull_cache=False))


def test_a_failed_trial_stops_no_other_and_a_larger_grid_runs_only_its_new_trials(
    repository: Path, cluster: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    result = sweep(repository, cluster, "0,-1,-2,1")
    messages = {"OSError: the disk is full", "the last line", "the workers died one after another"}
    assert set(result.failed.values()) == messages
    (succeeded,) = result.scores
    assert f"{succeeded} took 1.0 s on here; no trial has succeeded yet\n" in capsys.readouterr().out
    assert git(repository, "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps/??/*/wide-*").strip() == succeeded
    assert len(sweep(repository, cluster, "1,2").scores) == 2
    output = capsys.readouterr().out
    assert re.match(r"2 trials on commit \w+; 1 have already run\n", output)
    assert output.count(" took ") == 1


@pytest.mark.parametrize("message", ["interrupted", "lost the scheduler"])
def test_a_sweep_that_ends_early_says_how_to_run_the_rest(
    repository: Path, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    def end(*_: object) -> None:
        if message == "interrupted":
            raise KeyboardInterrupt
        cluster.close()

    monkeypatch.setattr(runner._Progress, "update", end)
    rest = "after 1 of 2 trials: type the same command again to run the rest"
    with pytest.raises(UserError, match=f"^{message} {rest}$"):
        sweep(repository, cluster, "1,2")


def test_a_mistake_ends_in_one_line_before_any_trial_runs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CONNECT_TIMEOUT", "1s")

    def message(*options: str) -> str:
        *_, last = call(repository, "sweep", "-S", *options, fails=True).splitlines()
        return last

    assert message("train.epochs").startswith("digits: -S train.epochs: ")
    assert message("train.epochs=[1").startswith("digits: -S train.epochs=[1: ")
    assert message("train.epochs=1", "--name", "a/b").startswith("digits: --name is 'a/b': it must ")
    nowhere = ("--address", "tcp://127.0.0.1:1")
    no_scheduler = "digits: --address tcp://127.0.0.1:1: no Dask scheduler answers there ("
    assert message("train.epochs=1,2", *nowhere).startswith(no_scheduler)
    assert message("train.seed=1,2").startswith("digits: params.yaml: train.seed=1: Could not override 'train.seed'")
    assert message("nowhere.yaml:a=1") == "digits: nowhere.yaml: No such file or directory"
    no_remote = "digits: `git ls-remote --heads --tags nowhere`: fatal: 'nowhere' does not appear"
    assert message("train.epochs=1", "--git-remote", "nowhere").startswith(no_remote)
    run(repository, "git", "commit", "-q", "--allow-empty", "-m", "Not pushed")
    not_pushed = r"digits: commit \w+ is on no branch of origin, which workers clone: `git push` it first"
    assert re.fullmatch(not_pushed, message("train.epochs=1", *nowhere))
    edit(repository / "params.yaml", train__epochs=3)
    changed = "params.yaml has uncommitted changes: a sweep runs a commit, so commit or stash them first"
    assert message("train.epochs=1") == f"digits: {changed}"


@pytest.mark.slow(30)
def test_a_trial_trains_the_models_of_dvc_repro(template: Path, tmp_path: Path) -> None:
    """It runs two stages again, because dvc.lock does not have them and there is no run cache."""
    folder = tmp_path / "repository"
    shutil.copytree(template, folder, symlinks=True)
    shutil.rmtree(folder / ".dvc/cache/runs")
    lock = config.parse_fast((folder / "dvc.lock").read_text("utf-8"))
    others = {name: stage for name, stage in lock["stages"].items() if name not in {"train@mlp64", "evaluate@mlp64"}}
    (folder / "dvc.lock").write_text(json.dumps(lock | {"stages": others}), "utf-8")
    run(folder, "git", "commit", "-qam", "Forget two stages")
    output = call(folder, "sweep", "--workers", "1", "-S", "train.epochs=2")
    ref = run(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps/??/*/sweep-*").strip()
    name = ref.rpartition("/")[2]
    assert config.parse_fast(run(folder, "git", "show", f"{ref}:dvc.lock")) == lock
    assert run(folder, "git", "diff", "HEAD", ref, "--", "cards", "metrics", "plots") == ""
    assert re.search(rf"best so far \d+\.\d\d ± \d+\.\d\d % on validation: mlp64 of {name}\n", output)
    table = pd.read_csv(folder / "sweeps/sweep/trials.csv")
    assert table[["variant", "trial", "seeds"]].values.tolist() == [["mlp64", name, 2], ["cnn", name, 2]]
    assert imread(folder / "sweeps/sweep/trials.png").std() > 0
    assert run(folder, "git", "status", "--porcelain") == ""
