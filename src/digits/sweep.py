"""A sweep: the product of a grid of parameters, each trial a DVC experiment, spread over a Dask cluster."""

import hashlib
import logging
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dask.system import CPU_COUNT
from distributed import Client, KilledWorker, LocalCluster, as_completed
from distributed.utils import silence_logging_cmgr
from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from tqdm import tqdm

from digits import params, paths, worker
from digits.errors import UserError
from digits.repository import opened
from digits.standings import chosen_by
from digits.trial import Score, Source, Trial, git, scores

FOLDER = Path("sweeps")  # of tables and charts, ignored by Git
SCRATCH = Path(
    ".dvc/tmp/sweep"
)  # the local workers' clones: on the file system of the cache, which DVC can then link from
SLUG = 48  # characters of a trial's settings in its name


# Without a handler, Python would print what Tornado logs, with tracebacks, when connections end.
logging.getLogger("tornado").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Sweep:
    """Where a sweep's trials run, and how their results come back."""

    root: Path  # the folder of dvc.yaml
    trials: tuple[Trial, ...]
    address: str | None = None  # of a Dask scheduler; None: workers on this machine
    workers: int | None = None  # on this machine; None: as many as its cores have threads for
    remote: str | None = None  # the Git remote; None: `origin` with an address, this repository itself without
    pull_cache: bool = True  # bring the experiments' models and predictions, too


def grid(overrides: Sequence[str], prefix: str) -> tuple[Trial, ...]:
    """Return the product of a grid.

    Args:
        overrides: as after `dvc exp run --queue -S`: `key=1,2`, `key=range(0,3)`, `key=choice(1,2)`, `file:key=1`.
        prefix: the names' first part.

    Returns:
        The trials, in the grid's order. A trial's name depends on the prefix and its own settings alone, so that a
        grid which is extended finds the trials that it had.

    Raises:
        UserError: a setting can't be parsed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", prefix):
        raise UserError(
            f"--name is '{prefix}': it must be of letters, digits, - and _, as it begins experiments' names"
        )
    try:
        by_file = get_hydra_sweeps(to_path_overrides(list(overrides)))
    except Exception as error:  # Hydra's and ANTLR's exceptions have no base of their own
        raise UserError(f"-S {' '.join(overrides)}: {' '.join(str(error).split())}") from None
    every = [
        tuple(
            setting if file == str(paths.PARAMS) else f"{file}:{setting}"
            for file, settings in point.items()
            for setting in settings
        )
        for point in by_file
    ]
    return tuple(Trial(_name(prefix, settings), settings) for settings in dict.fromkeys(every))


def _name(prefix: str, settings: tuple[str, ...]) -> str:
    text = "\n".join(sorted(settings))
    last = (setting.rpartition(":")[2].partition("=") for setting in sorted(settings))
    words = "-".join(f"{key.rpartition('.')[2]}-{value}" for key, _, value in last)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", words)[:SLUG].strip("-")
    return f"{prefix}-{slug}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


@dataclass(frozen=True)
class Result:
    """What a sweep came to."""

    scores: dict[str, dict[str, Score]]  # by trial and variant
    failed: dict[str, str]  # the last lines of each failed trial's log


def run(sweep: Sweep) -> Result:
    """Run the trials that no experiment of this commit has the results of, and bring the experiments here.

    Raises:
        UserError: the workspace is not that of a commit, the commit is not at the Git remote, the scheduler can't be
            reached or has gone, or the user has had enough; the next call runs what is missing.
    """
    try:
        source, remote = _source(sweep)
        known = _experiments(sweep.root, remote, source)
        missing = [trial for trial in sweep.trials if trial.name not in known]
        every, there = len(sweep.trials), len(sweep.trials) - len(missing)
        print(f"{every} trials on {source.commit[:10]}, of which {there} have been run", flush=True)
        failed = _run_all(sweep, source, missing) if missing else {}
        _pull(sweep, source, remote, failed)
        done = {trial.name: scores(sweep.root, source.ref(trial)) for trial in sweep.trials if trial.name not in failed}
        return Result(done, failed)
    except KeyboardInterrupt:
        raise UserError("interrupted: the same command runs the rest") from None


def _source(sweep: Sweep) -> tuple[Source, str | None]:
    """Return where workers clone from, and the Git remote that is of, None for this repository itself."""
    root, remote = sweep.root, sweep.remote or ("origin" if sweep.address else None)
    changed = git(root, "status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        raise UserError(f"{changed[0][3:]} is not as committed: a sweep runs a commit, so commit or stash it first")
    _check_keys(sweep)
    commit = git(root, "rev-parse", "HEAD").strip()
    if remote:
        _check_commit(root, remote, commit)
    url = (
        git(root, "remote", "get-url", remote).strip() if remote else git(root, "rev-parse", "--show-toplevel").strip()
    )
    if (root / url).exists():
        url = str((root / url).resolve())
    with opened(root) as repo:
        cache = None if remote else str(repo.cache.local_cache_dir)
    name, _, address = git(root, "var", "GIT_AUTHOR_IDENT").rpartition(">")[0].partition(" <")
    return Source(url, commit, cache, (name, address), _threads(sweep)), remote


def _check_keys(sweep: Sweep) -> None:
    """Raise UserError where params.yaml has no such keys: all trials would fail for it."""
    with tempfile.TemporaryDirectory() as folder:
        for file, settings in to_path_overrides(list(sweep.trials[0].settings)).items():
            copy = Path(folder, Path(file).name)
            try:
                copy.write_bytes((sweep.root / file).read_bytes())
                apply_overrides(copy, settings)
            except OSError as error:
                raise UserError(f"{file}: {error.strerror}") from None
            except DvcException as error:
                cause = " ".join(str(error.__cause__ or error).split())
                raise UserError(f"{file}: {', '.join(settings)}: {cause}") from None


def _check_commit(root: Path, remote: str, commit: str) -> None:
    tips = {line.split()[0] for line in git(root, "ls-remote", "--heads", "--tags", remote).splitlines()}
    for tip in tips:
        command = ["git", "merge-base", "--is-ancestor", commit, tip]
        if tip == commit or subprocess.run(command, cwd=root, capture_output=True, check=False).returncode == 0:
            return
    raise UserError(f"commit {commit[:10]} is on no branch of {remote}, from which workers clone: `git push` it first")


def _threads(sweep: Sweep) -> int:
    """Return how many threads a trial has: those of params.yaml, which the results depend on, or of the grid."""
    key = "train.threads="
    asked = [
        setting.removeprefix(key) for trial in sweep.trials for setting in trial.settings if setting.startswith(key)
    ]
    if asked and all(number.isdecimal() for number in asked):
        return max(1, *map(int, asked))
    return params.load(sweep.root / paths.PARAMS).train.threads


def _experiments(root: Path, remote: str | None, source: Source) -> set[str]:
    """Return the names of this commit's experiments, here and at the Git remote."""
    pattern = source.ref(Trial("", ()))
    listed = git(root, "for-each-ref", "--format=%(refname)", pattern)
    if remote:
        listed += git(root, "ls-remote", remote, f"{pattern}*")
    return {line.rpartition("/")[2] for line in listed.splitlines()}


@contextmanager
def _client(sweep: Sweep, source: Source) -> Iterator[Client]:
    if sweep.address:
        try:
            client = Client(sweep.address, timeout="10s")
        except (OSError, ValueError) as error:
            raise UserError(f"--address {sweep.address}: no Dask scheduler answers there ({error})") from None
        with client:
            yield client
        return
    scratch = sweep.root / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    workers = sweep.workers or max(1, CPU_COUNT // source.threads)
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,
            dashboard_address=None,
            local_directory=str(scratch),
            preload=[worker.__name__],
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _run_all(sweep: Sweep, source: Source, missing: Sequence[Trial]) -> dict[str, str]:
    """Run trials on the cluster, and return the last lines of those that failed, by name."""
    failed: dict[str, str] = {}
    ended = 0
    left = "the same command runs the rest"
    with (
        silence_logging_cmgr(logging.CRITICAL + 1),  # what Dask says, with tracebacks, is said here in a line
        _client(sweep, source) as client,
        _Progress(len(sweep.trials), len(missing)) as progress,
    ):
        # The key is the trial's: a cluster runs it once, even where two ask for it.
        futures = {
            client.submit(worker.run, trial, source, key=f"{trial.name}@{source.commit}"): trial for trial in missing
        }
        try:
            for future in as_completed(futures):
                name = futures[future].name
                try:
                    outcome = future.result()
                except KilledWorker:
                    outcome = worker.Outcome(
                        name, "", 0, ran=True, error="each worker that ran it died, one after another"
                    )
                except CancelledError:
                    raise UserError(f"the scheduler has gone, after {ended} of {len(missing)} trials: {left}") from None
                except Exception as error:  # on the worker, before or after the trial
                    outcome = worker.Outcome(name, "", 0, ran=True, error=f"{type(error).__name__}: {error}")
                ended += 1
                if outcome.error:
                    failed[name] = outcome.error
                progress.update(outcome)
                future.release()
        except KeyboardInterrupt:
            client.cancel(list(futures), force=True)
            time.sleep(2 * worker.PATIENCE)  # workers that are closed while they still work complain
            raise UserError(f"interrupted after {ended} of {len(missing)} trials: {left}") from None
    return failed


class _Progress:
    """A bar on a terminal, and a line a trial elsewhere, with the best so far."""

    def __init__(self, total: int, missing: int) -> None:
        self.bar = tqdm(total=total, initial=total - missing, desc="sweep", unit="trial", disable=None)
        self.best: tuple[float, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, outcome: worker.Outcome) -> None:
        self.bar.update()
        for variant, score in outcome.scores.items():
            value, split = chosen_by(score)
            if self.best is None or value > self.best[0]:
                self.best = (value, f"best so far {value * 100:.2f} % on {split}: {variant} of {outcome.name}")
        best = self.best[1] if self.best else "none has ended well so far"
        self.bar.set_postfix_str(best)
        if outcome.error:
            self.bar.write(f"{outcome.name} failed on {outcome.host}:\n{outcome.error}")
        elif self.bar.disable:
            print(f"{outcome.name} took {outcome.seconds:.1f} s on {outcome.host}; {best}", flush=True)


def _pull(sweep: Sweep, source: Source, remote: str | None, failed: dict[str, Any]) -> None:
    """Bring the experiments that are not here."""
    if remote is None:
        return
    here = _experiments(sweep.root, None, source)
    names = [trial.name for trial in sweep.trials if trial.name not in here and trial.name not in failed]
    if names:
        with opened(sweep.root) as repo:
            repo.experiments.pull(remote, names, pull_cache=sweep.pull_cache)
