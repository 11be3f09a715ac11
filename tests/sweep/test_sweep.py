"""Sweeps whose workers die: on this machine, and on workers that share only a Git and a DVC remote."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from support import edit, environment, run, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
Start = Callable[..., psutil.Popen]


def experiments(folder: Path) -> dict[str, str]:
    """Return the commits of all experiments by name."""
    listed = run(folder, "git", "for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", "refs/exps/??/*/*")
    return dict(line.split() for line in listed.splitlines())


def start_sweep(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start a sweep of two trials in a session of its own, as a terminal would."""
    pipe, command = subprocess.PIPE, ["digits", "sweep", "-S", "models.mlp64.units=[8],[16]", *options]
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def survivors(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that have not ended after 20 s."""
    _, running = psutil.wait_procs(processes, 20)
    return [process for process in running if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    """A repository with data, but without results of its parameters; its DVC cache is also its DVC remote."""
    folder = tmp_path / "repository"
    shutil.copytree(template, folder, symlinks=True)
    edit(folder / "params.yaml", variants=["mlp64"], train__epochs=1)
    run(folder, "dvc", "remote", "add", "-d", "storage", str(folder / ".dvc/cache"))
    run(folder, "git", "commit", "-qam", "Train for one epoch")
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a scheduler or a worker of Dask with a home of its own, until the end of the test."""
    started: list[psutil.Popen] = []

    def start_dask(name: str, *words: str) -> psutil.Popen:
        (tmp_path / name).mkdir()
        variables = environment(HOME=str(tmp_path / name), XDG_CACHE_HOME=str(tmp_path / name / "cache"))
        command = ["dask", *words, "--host", "127.0.0.1", "--no-dashboard"]
        started.append(psutil.Popen(command, cwd=tmp_path / name, env=variables, stderr=subprocess.DEVNULL))
        return started[-1]

    yield start_dask
    for process in started:
        process.kill()
        process.wait()


def test_a_cluster_runs_each_trial_once_though_a_worker_dies(repository: Path, start: Start, tmp_path: Path) -> None:
    def start_worker(name: str) -> psutil.Popen:
        scratch = ("--local-directory", str(tmp_path / "scratch" / name))
        return start(name, "worker", address, "--nthreads", "1", "--no-nanny", *scratch)

    def first_trains() -> bool:
        logs = tmp_path.glob("scratch/first/dask-scratch-space/*/trials-*/log")
        return any("Running stage 'train@mlp64'" in log.read_text("utf-8", "replace") for log in logs)

    start("scheduler", "scheduler", "--port", "0", "--scheduler-file", str(tmp_path / "address"))
    wait_until((tmp_path / "address").exists, "the scheduler runs")
    address = json.loads((tmp_path / "address").read_text("utf-8"))["address"]
    first, _ = start_worker("first"), start_worker("second")
    run(tmp_path, "git", "clone", "-q", str(repository), "submitting")
    submitting = tmp_path / "submitting"
    with start_sweep(submitting, "--address", address) as sweep:
        wait_until(first_trains, "the first worker trains")
        started = first.children(recursive=True)
        first.kill()
        assert survivors(started) == []
        output, errors = sweep.communicate()
    assert sweep.returncode == 0, output + errors
    assert experiments(submitting) == experiments(repository)
    assert len(experiments(repository)) == 2
    run(submitting, "dvc", "exp", "apply", next(iter(experiments(submitting))))
    assert (submitting / "models/mlp64/model.keras").is_file()  # the DVC cache has been pulled, too


def test_an_interrupted_sweep_continues_with_the_same_command(repository: Path) -> None:
    with start_sweep(repository, "--workers", "1") as sweep:
        wait_until(lambda: experiments(repository), "the first trial has ended")
        started = psutil.Process(sweep.pid).children(recursive=True)
        os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
        _, errors = sweep.communicate(timeout=200)
    message = r"digits: interrupted after [01] of 2 trials: type the same command again to run the rest\n"
    assert re.fullmatch(message, errors)
    assert survivors(started) == []
    first = experiments(repository)
    assert len(first) == 1
    with start_sweep(repository, "--workers", "1") as sweep:
        output, errors = sweep.communicate()
    assert re.search(r"2 trials on commit \w+; 1 have already run", output), errors
    assert first.items() < experiments(repository).items()
    assert len(experiments(repository)) == 2
