"""Show a sweep on hosts that share nothing, and measure what a sweep costs: docs/sweeps.md has the results.

    python benchmarks/sweep.py hosts       # 24 trials on three hosts, one of which dies; then each trial alone
    python benchmarks/sweep.py speed       # what a trial costs beyond its training, and what a second worker saves

Both need the data in this repository's DVC cache (`make repro`), and write to sweep.json beside this file. For `hosts`
as root, with iproute2, a host is a network and mount namespace, with an address and a file system of its own as far as
the sweep goes; else it is a process with a home and an address of 127.0.0.0/8.
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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from common import BENCHMARKS, ROOT

from digits.errors import UserError
from digits.files import read_json, write_json
from digits.sweep import grid

RESULTS = BENCHMARKS / "sweep.json"
BIN = Path(sys.executable).parent
SETTINGS = (
    "variants=[mlp64]",
    "train.epochs=2",
    "train.threads=1",
    "models.mlp64.units=[32],[64],[128],[64,32]",
    "models.mlp64.optimizer.learning_rate=0.01,0.05",
    "train.seed=0,1,2",
)
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
KILL_AFTER = 5  # trials
COMPARED = ("dvc.lock", "params.yaml", "metrics", "plots")  # all that an experiment's commit may change


def run(folder: Path, *command: str, **environment: str) -> str:
    """Run a command with this environment's programs and return what it printed.

    Raises:
        UserError: it failed.
    """
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    own = os.environ | KEYS | {"PATH": path, "COLUMNS": "200"} | environment
    result = subprocess.run(
        command, cwd=folder, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode:
        raise UserError(f"{' '.join(command)} exited with {result.returncode}:\n{result.stdout}")
    return result.stdout


def repository(folder: Path, cache: Path) -> Path:
    """Clone this repository's HEAD, with the data of a DVC cache in one of its own, and return the folder."""
    run(folder.parent, "git", "clone", "--quiet", str(ROOT), str(folder))
    run(folder, "git", "config", "user.name", "Digits")
    run(folder, "git", "config", "user.email", "digits@example.org")
    run(folder, "dvc", "remote", "add", "--local", "data", str(cache))
    run(folder, "dvc", "fetch", "--quiet", "--remote", "data", "download", "preprocess", "neighbors")
    run(folder, "dvc", "remote", "remove", "--local", "data")
    return folder


def experiments(folder: Path) -> dict[str, str]:
    """Return the commits of a repository's experiments, by name."""
    listed = run(folder, "git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    found = (re.fullmatch(r"refs/exps/../.{38}/(\S+) (\w+)", line) for line in listed.splitlines())
    return {match[1]: match[2] for match in found if match}


def options(settings: Sequence[str]) -> list[str]:
    """Return settings as DVC's command line takes them."""
    return list(itertools.chain.from_iterable(("-S", setting) for setting in settings))


class Hosts:
    """Hosts with an address each: namespaces where this machine allows them, else processes."""

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
                space = f"digits-{name}"
                self._ip("netns", "add", space)
                self._ip("link", "add", "eth0", "netns", space, "type", "veth", "peer", name, "netns", "digits-net")
                self._ip("-n", "digits-net", "link", "set", name, "master", "bridge", "up")
                self._ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
                self._ip("-n", space, "link", "set", "eth0", "up")
                self._ip("-n", space, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.processes:
            self.kill(name)
        if self.namespaces:
            for space in ["digits-net", *(f"digits-{name}" for name in self.addresses)]:
                self._ip("netns", "delete", space)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a command on a host, in its home; what it prints goes to `log` there."""
        home = self.folder / name
        if self.namespaces:
            others = [str(self.folder / other) for other in self.addresses if other != name]
            hide = "".join(f"mount -t tmpfs none '{other}' && " for other in others)
            script = f'mount --make-rprivate / && {hide}exec "$@"'
            command = ("ip", "netns", "exec", f"digits-{name}", "unshare", "--mount", "sh", "-c", script, "-", *command)
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        own = os.environ | KEYS | {"PATH": path, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
        with (home / "log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=home, env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes[name].append(process)
        return process

    def kill(self, name: str) -> None:
        """Kill all that a host runs, with SIGKILL."""
        if self.namespaces:
            listed = self._ip("netns", "pids", f"digits-{name}")
            for pid in listed.split():
                os.kill(int(pid), signal.SIGKILL)
        for process in self.processes[name]:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _ip(self, *words: str) -> str:
        return run(self.folder, "ip", *words)


def _can_add_namespaces() -> bool:
    command = ("ip", "netns", "add", "digits-try")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    subprocess.run(["ip", "netns", "delete", "digits-try"], check=True)  # noqa: S607
    return True


def wait(seconds: float, what: str) -> Iterator[float]:
    """Yield twice a second, and raise UserError where that has gone on for too long."""
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        yield passed
        time.sleep(0.5)
    raise UserError(f"{what} took longer than {seconds:.0f} s")


def hosts(folder: Path, cache: Path) -> dict[str, Any]:
    """Run 24 trials on three hosts, of which one dies, and each again alone."""
    trials = grid(SETTINGS, "hosts")
    workers = ("one", "two", "three")
    with Hosts(folder, ("hub", "desk", *workers)) as network:
        hub, storage = network.addresses["hub"], folder / "hub"
        desk = repository(folder / "desk/repository", cache)
        for words in (
            ("add", "--default", "storage", "s3://digits"),
            ("modify", "storage", "endpointurl", f"http://{hub}:5000"),
        ):
            run(desk, "dvc", "remote", *words)
        run(desk, "git", "commit", "--quiet", "--all", "--message", "Name the S3 remote")
        run(desk, "git", "clone", "--quiet", "--bare", ".", str(storage / "digits.git"))
        run(desk, "git", "remote", "set-url", "origin", f"git://{hub}/digits.git")
        serve = ("--base-path=.", "--export-all", "--enable=receive-pack", "--reuseaddr", f"--listen={hub}")
        network.start("hub", "git", "daemon", *serve)
        network.start("hub", "moto_server", "--host", hub, "--port", "5000")
        network.start("hub", "dask", "scheduler", "--host", hub, "--port", "8786", "--no-dashboard")
        time.sleep(5)
        make = "import boto3; boto3.client('s3', endpoint_url='http://{}:5000').create_bucket(Bucket='digits')"
        for command in ((sys.executable, "-c", make.format(hub)), ("dvc", "push", "--quiet")):
            process = network.start("desk", "sh", "-c", 'cd repository && exec "$@"', "-", *command)
            if process.wait() and command[0] != "dvc":  # which fails for what is in no cache: models of other variants
                raise UserError((folder / "desk/log").read_text("utf-8"))
        for name in workers:
            network.start(
                name, "dask", "worker", f"{hub}:8786", "--host", network.addresses[name], "--nthreads", "1",
                "--no-dashboard", "--local-directory", str(folder / name / "scratch"), "--name", name,
            )  # fmt: skip
        start = time.monotonic()
        sweep = network.start(
            "desk", "sh", "-c", 'cd repository && exec "$@"', "-",
            "digits", "sweep", "--address", f"tcp://{hub}:8786", "--name", "hosts", *options(SETTINGS),
        )  # fmt: skip
        killed = 0.0
        for passed in wait(3600, "the sweep"):
            ended = len(experiments(storage / "digits.git"))
            if ended >= KILL_AFTER and not killed:
                network.kill("one")
                killed = passed
                print(f"host one killed after {passed:.0f} s, with {ended} trials at the remote", flush=True)
            if sweep.poll() is not None:
                break
        seconds = time.monotonic() - start
        log = (folder / "desk/log").read_text("utf-8", "replace")
        if sweep.returncode:
            raise UserError(f"the sweep exited with {sweep.returncode}:\n{log}")
        print(log)
    found = experiments(desk)
    shown = run(desk, "dvc", "exp", "show", "--csv", "--no-pager")
    listed = {row["Experiment"] for row in csv.DictReader(shown.splitlines())}
    alone = repository(folder / "alone", cache)
    run(alone, "git", "fetch", "--quiet", str(desk), "HEAD")
    run(alone, "git", "checkout", "--quiet", "FETCH_HEAD")
    equal = 0
    for trial in trials:
        run(alone, "git", "checkout", "--quiet", "--force", "HEAD")
        run(alone, "dvc", "exp", "run", "--name", trial.name, "--allow-missing", *options(trial.settings))
        of_both = {
            run(where, "git", "rev-parse", *(f"{commits[trial.name]}:{name}" for name in COMPARED))
            for where, commits in ((desk, found), (alone, experiments(alone)))
        }
        equal += len(of_both) == 1
        print(f"{trial.name}: {'the same' if len(of_both) == 1 else 'ANOTHER'} result alone", flush=True)
    by_host = re.findall(r"^hosts-\S+ took .* s on tcp://([\d.]+):", log, re.MULTILINE)
    names = {address: name for name, address in network.addresses.items()}
    return {
        "namespaces": network.namespaces,
        "trials": len(trials),
        "experiments_at_the_git_remote": len(experiments(storage / "digits.git")),
        "experiments_shown": len({trial.name for trial in trials} & listed),
        "equal_to_the_trial_alone": equal,
        "host_killed_after_seconds": round(killed),
        "seconds": round(seconds),
        "trials_by_host": {names[address]: by_host.count(address) for address in sorted(set(by_host))},
    }


def speed(folder: Path, cache: Path) -> dict[str, Any]:
    """Measure a trial's cost beyond its training, and eight trials with one worker and with two."""
    base = ("variants=[mlp64]", "train.threads=1")

    def sweep(name: str, workers: int, *settings: str) -> tuple[float, list[float]]:
        where = repository(folder / name, cache)
        start = time.monotonic()
        command = ("digits", "sweep", "--workers", str(workers), "--name", name, *options((*base, *settings)))
        printed = run(where, *command)
        seconds = [float(word) for word in re.findall(r" took ([\d.]+) s on ", printed)]
        return time.monotonic() - start, seconds

    # What a trial takes at two lengths gives the seconds of an epoch, and with it what is not training; only the last
    # epoch is evaluated in either. The first trial of each also starts the warm Python, and is left out.
    short, long, seeds = 2, 62, "train.seed=range(0,6)"
    medians = {
        epochs: statistics.median(
            sweep(f"of-{epochs}", 1, f"train.epochs={epochs}", f"train.grid=[{epochs}]", seeds)[1][1:]
        )
        for epochs in (short, long)
    }
    epoch = (medians[long] - medians[short]) / (long - short)
    # Rounds in turn, so that both see the same neighbours.
    walls: dict[int, list[float]] = {1: [], 2: []}
    for turn, workers in itertools.product(range(3), walls):
        walls[workers].append(sweep(f"w{workers}-{turn}", workers, "train.epochs=30", "train.seed=range(0,8)")[0])
    ratios = [two / one for one, two in zip(walls[1], walls[2], strict=True)]
    return {
        "trial_seconds": {str(epochs): round(value, 2) for epochs, value in medians.items()},
        "seconds_an_epoch": round(epoch, 3),
        "seconds_beyond_training": round(medians[short] - short * epoch, 2),
        "eight_trials_seconds": {
            str(workers): [round(value, 1) for value in values] for workers, values in walls.items()
        },
        "two_workers_to_one": round(statistics.median(ratios), 3),
        "load_average_at_the_end": os.getloadavg()[0],
    }


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="digits-sweep-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=["hosts", "speed"])
    parser.add_argument("--cache", type=Path, default=ROOT / ".dvc/cache", help="a DVC cache that has the data")
    arguments = parser.parse_args()
    results = read_json(RESULTS) if RESULTS.exists() else {}
    with ExitStack() as stack:
        for section in arguments.sections:
            folder = stack.enter_context(scratch())
            measure = {"hosts": hosts, "speed": speed}[section]
            results[section] = {
                "commit": run(ROOT, "git", "rev-parse", "--short=10", "HEAD").strip(),
                **measure(folder, arguments.cache.resolve()),
            }
            write_json(RESULTS, results)
            print(json.dumps(results[section], indent=2))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"sweep: {error}")
