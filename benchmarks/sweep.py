"""Demonstrate a sweep on hosts that share nothing, and measure what a sweep costs: docs/sweeps.md has the results.

    python benchmarks/sweep.py hosts       # 24 trials on three hosts, one of which dies; then each trial alone
    python benchmarks/sweep.py speed       # the cost of a trial besides its training, and the gain of a second worker

Both need the data in the DVC cache of this repository (`make repro`), and write their results to sweep.json beside this
file. As root and with iproute2, a host is a network and mount namespace with its own address, and without access to the
files of the other hosts. Otherwise it is a process with its own home and an address in 127.0.0.0/8.
"""

import argparse
import csv
import itertools
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from common import BENCHMARKS, ROOT

from digits.core.artifacts import read_json, write_json
from digits.core.errors import UserError
from digits.sweep.runner import grid
from digits.sweep.trial import Trial

RESULTS = BENCHMARKS / "sweep.json"
PROGRAMS = Path(sys.executable).parent
SETTINGS = (
    "variants=[mlp64]",
    "train.epochs=2",
    "train.threads=1",
    "models.mlp64.units=[32],[64],[128],[64,32]",
    "models.mlp64.optimizer.learning_rate=0.01,0.02,0.05",
    "models.mlp64.batch_size=32,64",
)
RATES = [f"{0.010 + 0.001 * step:.3f}" for step in range(8)]  # learning rates: trials that take equally long
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
WORKERS = ("one", "two", "three")  # the hosts that run trials
KILL_AFTER = 5  # trials
COMPARED = ("dvc.lock", "params.yaml", "metrics", "plots")  # all that the commit of an experiment may change
CREATE_BUCKET = "import boto3; boto3.client('s3', endpoint_url='http://{}:5000').create_bucket(Bucket='digits')"


def variables(**changes: str) -> dict[str, str]:
    """Return the environment variables of a command: this environment's programs come first on the PATH."""
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    return os.environ | CREDENTIALS | {"PATH": path, "COLUMNS": "200"} | changes


def run(folder: Path, *command: str) -> str:
    """Run a command in a folder, and return its output, errors included.

    Raises:
        UserError: it failed.
    """
    result = subprocess.run(
        command, cwd=folder, env=variables(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode:
        raise UserError(f"{' '.join(command)} exited with {result.returncode}:\n{result.stdout}")
    return result.stdout


def clone_with_data(folder: Path, cache: Path) -> Path:
    """Clone this repository at HEAD, copy the data from a DVC cache into the clone's own, and return the folder."""
    run(folder.parent, "git", "clone", "--quiet", str(ROOT), str(folder))
    run(folder, "git", "config", "user.name", "Digits")
    run(folder, "git", "config", "user.email", "digits@example.org")
    run(folder, "dvc", "remote", "add", "--local", "data", str(cache))
    run(folder, "dvc", "fetch", "--quiet", "--remote", "data", "download", "preprocess", "neighbors")
    run(folder, "dvc", "remote", "remove", "--local", "data")
    return folder


def experiments(folder: Path) -> dict[str, str]:
    """Return the commits of a repository's experiments by name."""
    listed = run(folder, "git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    found = (re.fullmatch(r"refs/exps/../.{38}/(\S+) (\w+)", line) for line in listed.splitlines())
    return {match[1]: match[2] for match in found if match}


def options(settings: Sequence[str]) -> list[str]:
    """Return settings as arguments of `dvc exp run` or `digits sweep`."""
    return [word for setting in settings for word in ("-S", setting)]


class Hosts:
    """Simulated hosts with an address each."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self.namespaces = os.geteuid() == 0 and shutil.which("ip") is not None and _can_add_namespaces()
        self.addresses = {
            name: f"10.77.0.{number}" if self.namespaces else f"127.0.0.{number}"
            for number, name in enumerate(names, start=10)
        }
        self.processes: dict[str, list[subprocess.Popen[bytes]]] = {name: [] for name in names}
        for name in names:
            (folder / name).mkdir(parents=True)

    def __enter__(self) -> Self:
        if self.namespaces:
            self._ip("netns", "add", "digits-net")
            self._ip("-n", "digits-net", "link", "add", "bridge", "type", "bridge")
            self._ip("-n", "digits-net", "link", "set", "bridge", "up")
            for name, address in self.addresses.items():
                self._add_namespace(name, address)
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.processes:
            self.kill(name)
        if self.namespaces:
            for namespace in ["digits-net", *(f"digits-{name}" for name in self.addresses)]:
                self._ip("netns", "delete", namespace)

    def start(self, name: str, *command: str, folder: str = ".") -> subprocess.Popen[bytes]:
        """Start a command on a host, in a folder of its home; the output goes to `log` in the home."""
        home = self.folder / name
        command = ("sh", "-c", 'cd "$0" && exec "$@"', folder, *command)
        if self.namespaces:
            others = [str(self.folder / other) for other in self.addresses if other != name]
            hide = "".join(f"mount -t tmpfs none '{other}' && " for other in others)
            script = f'mount --make-rprivate / && {hide}exec "$@"'
            command = ("ip", "netns", "exec", f"digits-{name}", "unshare", "--mount", "sh", "-c", script, "-", *command)
        with (home / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=home,
                env=variables(HOME=str(home), XDG_CACHE_HOME=str(home / "cache")),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name].append(process)
        return process

    def log(self, name: str) -> str:
        """Return the output of all commands of a host."""
        return (self.folder / name / "log").read_text("utf-8", "replace")

    def kill(self, name: str) -> None:
        """Kill all processes of a host with SIGKILL."""
        if self.namespaces:
            listed = self._ip("netns", "pids", f"digits-{name}")
            for pid in listed.split():
                os.kill(int(pid), signal.SIGKILL)
        for process in self.processes[name]:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _add_namespace(self, name: str, address: str) -> None:
        namespace = f"digits-{name}"
        self._ip("netns", "add", namespace)
        self._ip("link", "add", "eth0", "netns", namespace, "type", "veth", "peer", name, "netns", "digits-net")
        self._ip("-n", "digits-net", "link", "set", name, "master", "bridge", "up")
        self._ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        self._ip("-n", namespace, "link", "set", "eth0", "up")
        self._ip("-n", namespace, "link", "set", "lo", "up")

    def _ip(self, *words: str) -> str:
        return run(self.folder, "ip", *words)


def _can_add_namespaces() -> bool:
    command = ("ip", "netns", "add", "digits-try")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    subprocess.run(["ip", "netns", "delete", "digits-try"], check=True)  # noqa: S607
    return True


def poll(seconds: float, what: str) -> Iterator[float]:
    """Yield the seconds passed, twice a second.

    Raises:
        UserError: this has gone on for too long.
    """
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        yield passed
        time.sleep(0.5)
    raise UserError(f"{what} took longer than {seconds:.0f} s")


def hosts(folder: Path, cache: Path) -> dict[str, Any]:
    """Run a sweep on three hosts, one of which dies, and then each trial alone."""
    trials = grid(SETTINGS, "hosts")
    with Hosts(folder, ("hub", "desk", *WORKERS)) as network:
        desk, remote = folder / "desk/repository", folder / "hub/digits.git"
        _publish(desk, remote, cache, network.addresses["hub"])
        _start_services(network)
        start = time.monotonic()
        killed = _sweep(network, remote)
        seconds = time.monotonic() - start
        log = network.log("desk")
        print(log)
    found = experiments(desk)
    shown = run(desk, "dvc", "exp", "show", "--csv", "--no-pager")
    listed = {row["Experiment"] for row in csv.DictReader(shown.splitlines())}
    addresses = re.findall(r"^hosts-\S+ took .* s on tcp://([\d.]+):", log, re.MULTILINE)
    names = {address: name for name, address in network.addresses.items()}
    return {
        "namespaces": network.namespaces,
        "trials": len(trials),
        "experiments_at_the_git_remote": len(experiments(remote)),
        "experiments_shown": len({trial.name for trial in trials} & listed),
        "equal_to_the_trial_alone": _count_equal(trials, found, desk, clone_with_data(folder / "alone", cache)),
        "host_killed_after_seconds": round(killed),
        "seconds": round(seconds),
        "trials_by_host": {names[address]: addresses.count(address) for address in sorted(set(addresses))},
    }


def _publish(desk: Path, remote: Path, cache: Path, hub: str) -> None:
    """Make the clone that submits the sweep, and its bare Git remote, which names the DVC remote."""
    clone_with_data(desk, cache)
    run(desk, "dvc", "remote", "add", "--default", "storage", "s3://digits")
    run(desk, "dvc", "remote", "modify", "storage", "endpointurl", f"http://{hub}:5000")
    run(desk, "git", "commit", "--quiet", "--all", "--message", "Add the S3 remote")
    run(desk, "git", "clone", "--quiet", "--bare", ".", str(remote))
    run(desk, "git", "remote", "set-url", "origin", f"git://{hub}/digits.git")


def _start_services(network: Hosts) -> None:
    """Start Git, S3 and the scheduler on the hub, push the data, and start the workers."""
    hub = network.addresses["hub"]
    serve = ("--base-path=.", "--export-all", "--enable=receive-pack", "--reuseaddr", f"--listen={hub}")
    network.start("hub", "git", "daemon", *serve)
    network.start("hub", "moto_server", "--host", hub, "--port", "5000")
    network.start("hub", "dask", "scheduler", "--host", hub, "--port", "8786", "--no-dashboard")
    time.sleep(5)
    if network.start("desk", sys.executable, "-c", CREATE_BUCKET.format(hub)).wait():
        raise UserError(network.log("desk"))
    # It pushes the data, and then fails, because the models that dvc.lock names are in no cache.
    network.start("desk", "dvc", "push", "--quiet", folder="repository").wait()
    for name in WORKERS:
        scratch = str(network.folder / name / "scratch")
        words = ("--host", network.addresses[name], "--nthreads", "1", "--no-dashboard", "--local-directory", scratch)
        network.start(name, "dask", "worker", f"{hub}:8786", "--name", name, *words)


def _sweep(network: Hosts, remote: Path) -> float:
    """Run the sweep, kill a host once some trials have been pushed, and return when, in seconds from the start."""
    address = f"tcp://{network.addresses['hub']}:8786"
    command = ("digits", "sweep", "--address", address, "--name", "hosts", *options(SETTINGS))
    sweep = network.start("desk", *command, folder="repository")
    killed = 0.0
    for passed in poll(3600, "the sweep"):
        pushed = len(experiments(remote))
        if pushed >= KILL_AFTER and not killed:
            network.kill(WORKERS[0])
            killed = passed
            print(f"host {WORKERS[0]} killed after {passed:.0f} s, when {pushed} trials had been pushed", flush=True)
        if sweep.poll() is not None:
            break
    if sweep.returncode:
        raise UserError(f"the sweep exited with {sweep.returncode}:\n{network.log('desk')}")
    return killed


def _count_equal(trials: Sequence[Trial], found: dict[str, str], desk: Path, alone: Path) -> int:
    """Run each trial alone, with `dvc exp run`, and return how many have the same results as in the sweep."""
    run(alone, "git", "fetch", "--quiet", str(desk), "HEAD")
    run(alone, "git", "checkout", "--quiet", "FETCH_HEAD")
    equal = 0
    for trial in trials:
        run(alone, "git", "checkout", "--quiet", "--force", "HEAD")
        run(alone, "dvc", "exp", "run", "--name", trial.name, "--allow-missing", *options(trial.settings))
        results = {
            run(folder, "git", "rev-parse", *(f"{commits[trial.name]}:{name}" for name in COMPARED))
            for folder, commits in ((desk, found), (alone, experiments(alone)))
        }
        equal += len(results) == 1
        print(f"{trial.name}: {'equal' if len(results) == 1 else 'DIFFERENT'} alone", flush=True)
    return equal


def speed(folder: Path, cache: Path) -> dict[str, Any]:
    """Measure the cost of a trial besides its training, and eight trials with one worker and with two."""

    def sweep(name: str, workers: int, *settings: str) -> tuple[float, list[float]]:
        """Return the seconds of a sweep and of each of its trials."""
        clone = clone_with_data(folder / name, cache)
        words = options(("variants=[mlp64]", "train.threads=1", *settings))
        start = time.monotonic()
        printed = run(clone, "digits", "sweep", "--workers", str(workers), "--name", name, *words)
        return time.monotonic() - start, [float(found) for found in re.findall(r" took ([\d.]+) s on ", printed)]

    # The difference of two lengths is the time of the epochs between; both evaluate the last epoch only. The first
    # trial of a sweep also starts the fork server, and is left out.
    short, long, six, eight = 2, 14, *(f"models.mlp64.optimizer.learning_rate={','.join(RATES[:n])}" for n in (6, 8))
    medians = {
        epochs: statistics.median(
            sweep(f"of-{epochs}", 1, f"train.epochs={epochs}", f"train.checkpoints=[{epochs}]", six)[1][1:]
        )
        for epochs in (short, long)
    }
    epoch = (medians[long] - medians[short]) / (long - short)
    # One worker and two take turns, so that other programs slow both alike.
    totals: dict[int, list[float]] = {1: [], 2: []}
    for turn, workers in itertools.product(range(3), totals):
        totals[workers].append(sweep(f"w{workers}-{turn}", workers, "train.epochs=6", eight)[0])
    ratios = [two / one for one, two in zip(totals[1], totals[2], strict=True)]
    return {
        "trial_seconds": {str(epochs): round(value, 2) for epochs, value in medians.items()},
        "seconds_an_epoch": round(epoch, 3),
        "seconds_beyond_training": round(medians[short] - short * epoch, 2),
        "eight_trials_seconds": {
            str(workers): [round(value, 1) for value in values] for workers, values in totals.items()
        },
        "two_workers_to_one": round(statistics.median(ratios), 3),
        "load_average_at_the_end": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=["hosts", "speed"])
    parser.add_argument("--cache", type=Path, default=ROOT / ".dvc/cache", help="a DVC cache that has the data")
    arguments = parser.parse_args()
    results = read_json(RESULTS) if RESULTS.exists() else {}
    for section in arguments.sections:
        measure = {"hosts": hosts, "speed": speed}[section]
        commit = run(ROOT, "git", "rev-parse", "--short=10", "HEAD").strip()
        with tempfile.TemporaryDirectory(prefix="digits-sweep-", ignore_cleanup_errors=True) as folder:
            figures = measure(Path(folder).resolve(), arguments.cache.resolve())
        results[section] = {"commit": commit, **figures}
        write_json(RESULTS, results)
        print(json.dumps(results[section], indent=2))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"sweep: {error}")
