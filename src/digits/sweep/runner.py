"""A sweep: a grid of parameters, of which each point is a DVC experiment, run on a Dask cluster."""

import hashlib
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed
from distributed.utils import silence_logging_cmgr
from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from tqdm import tqdm

from digits.core import params, paths
from digits.core.errors import UserError
from digits.core.formatting import percent_spread
from digits.sweep import worker
from digits.sweep.scores import Score, read_scores
from digits.sweep.trial import Source, Trial
from digits.sweep.worker import TrialOutcome
from digits.versioning.git import git, git_succeeds
from digits.versioning.repository import open_repository
from digits.versioning.revisions import Revision
from digits.versioning.settings import ComparisonSettings, comparison_settings

FOLDER = Path("sweeps")  # for tables and charts; Git ignores it
CLONES = Path(".dvc/tmp/sweep")  # of local workers: on the file system of the cache, so that DVC can link files
SLUG_LENGTH = 48  # characters
CONNECT_TIMEOUT = "10s"
SILENT = logging.CRITICAL + 1
RUN_AGAIN = "type the same command again to run the rest"

worker.silence_tornado()


@dataclass(frozen=True)
class Sweep:
    """The trials of a sweep, where they run, and how their results come back."""

    root: Path  # the folder of dvc.yaml
    trials: tuple[Trial, ...]
    address: str | None = None  # of a Dask scheduler; None: start workers on this machine
    workers: int | None = None  # on this machine; None: as many as its cores have threads for
    remote: str | None = None  # Git remote; None: origin if there is an address, else this repository itself
    pull_cache: bool = True  # download the models and predictions of the experiments

    @property
    def git_remote(self) -> str | None:
        """The Git remote that workers clone; None: they clone this repository."""
        return self.remote or ("origin" if self.address else None)


@dataclass(frozen=True)
class SweepResult:
    """The results of the trials of a sweep."""

    scores: dict[str, dict[str, Score]]  # by trial and variant
    failed: dict[str, str]  # the last lines of the log of each failed trial
    settings: ComparisonSettings  # of the commit


def grid(overrides: Sequence[str], prefix: str) -> tuple[Trial, ...]:
    """Return the trials of a grid, in its order.

    The name of a trial depends on the prefix and its own settings alone, so that a larger grid finds the experiments of
    a smaller one.

    Args:
        overrides: as for `dvc exp run --queue -S`: `key=1,2`, `key=range(0,3)`, `key=choice(1,2)`, `file:key=1`.
        prefix: the beginning of the names.

    Raises:
        UserError: a setting or the prefix is malformed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", prefix):
        raise UserError(
            f"--name is '{prefix}': it must start with a letter or digit and contain only letters, digits, - and _"
        )
    try:
        points = get_hydra_sweeps(to_path_overrides(list(overrides)))
    except Exception as error:  # the exceptions of Hydra and ANTLR have no common base
        raise UserError(f"-S {' '.join(overrides)}: {' '.join(str(error).split())}") from None
    every = [
        tuple(
            setting if file == str(paths.PARAMS) else f"{file}:{setting}"
            for file, settings in point.items()
            for setting in settings
        )
        for point in points
    ]
    return tuple(Trial(_trial_name(prefix, settings), settings) for settings in dict.fromkeys(every))


def _trial_name(prefix: str, settings: tuple[str, ...]) -> str:
    """Return a name that shows the settings, shortened, and ends with their hash."""
    ordered = sorted(settings)
    assignments = (setting.rpartition(":")[2].partition("=") for setting in ordered)
    words = "-".join(f"{key.rpartition('.')[2]}-{value}" for key, _, value in assignments)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", words)[:SLUG_LENGTH].strip("-")
    digest = hashlib.sha256("\n".join(ordered).encode()).hexdigest()
    return f"{prefix}-{slug}-{digest[:10]}"


def run(sweep: Sweep) -> SweepResult:
    """Run the trials that are not yet experiments of this commit, and fetch the experiments.

    Raises:
        UserError: the workspace has uncommitted changes, the Git remote lacks the commit, the scheduler cannot be
            reached or is lost, or the user typed Ctrl-C. The next call runs what is missing.
    """
    try:
        source = _source(sweep)
        here = _experiment_names(sweep.root, source)
        known = here | (_experiment_names(sweep.root, source, sweep.git_remote) if sweep.git_remote else set())
        missing = [trial for trial in sweep.trials if trial.name not in known]
        present = len(sweep.trials) - len(missing)
        print(f"{len(sweep.trials)} trials on commit {source.commit[:10]}; {present} have already run", flush=True)
        failed = _run_trials(sweep, source, missing) if missing else {}
        succeeded = [trial for trial in sweep.trials if trial.name not in failed]
        remote_only = [trial.name for trial in succeeded if trial.name not in here]
        if sweep.git_remote and remote_only:
            with open_repository(sweep.root) as repo:
                repo.experiments.pull(sweep.git_remote, remote_only, pull_cache=sweep.pull_cache)
        scores = {trial.name: read_scores(sweep.root, source.ref(trial)) for trial in succeeded}
        return SweepResult(scores, failed, comparison_settings(Revision(sweep.root, source.commit, source.commit)))
    except KeyboardInterrupt:
        raise UserError(f"interrupted: {RUN_AGAIN}") from None


def _source(sweep: Sweep) -> Source:
    """Return the commit to run and the repository to clone, once both are checked."""
    root, remote = sweep.root, sweep.git_remote
    changed = git(root, "status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        raise UserError(
            f"{changed[0][3:]} has uncommitted changes: a sweep runs a commit, so commit or stash them first"
        )
    _check_keys(root, sweep.trials[0])
    commit = git(root, "rev-parse", "HEAD").strip()
    cache = None
    if remote:
        _check_pushed(root, remote, commit)
    else:
        with open_repository(root) as repo:
            cache = str(repo.cache.local_cache_dir)
    name, _, address = git(root, "var", "GIT_AUTHOR_IDENT").rpartition(">")[0].partition(" <")
    return Source(_url(root, remote), commit, cache, (name, address), _threads(root, sweep.trials))


def _check_keys(root: Path, trial: Trial) -> None:
    """Raise UserError if the parameter files lack a key of the grid, for which every trial would fail."""
    with tempfile.TemporaryDirectory() as folder:
        for file, settings in to_path_overrides(list(trial.settings)).items():
            copy = Path(folder, Path(file).name)
            try:
                copy.write_bytes((root / file).read_bytes())
                apply_overrides(copy, settings)
            except OSError as error:
                raise UserError(f"{file}: {error.strerror}") from None
            except DvcException as error:
                cause = " ".join(str(error.__cause__ or error).split())
                raise UserError(f"{file}: {', '.join(settings)}: {cause}") from None


def _check_pushed(root: Path, remote: str, commit: str) -> None:
    tips = {line.split()[0] for line in git(root, "ls-remote", "--heads", "--tags", remote).splitlines()}
    if not any(tip == commit or git_succeeds(root, "merge-base", "--is-ancestor", commit, tip) for tip in tips):
        raise UserError(f"commit {commit[:10]} is on no branch of {remote}, which workers clone: `git push` it first")


def _url(root: Path, remote: str | None) -> str:
    """Return the URL of a remote or the path of this repository; a path is absolute."""
    words = ("remote", "get-url", remote) if remote else ("rev-parse", "--show-toplevel")
    url = git(root, *words).strip()
    return str((root / url).resolve()) if (root / url).exists() else url


def _threads(root: Path, trials: Sequence[Trial]) -> int:
    """Return how many threads each trial uses: the largest `train.threads` of the grid, or that of params.yaml."""
    key = "train.threads="
    values = [setting.removeprefix(key) for trial in trials for setting in trial.settings if setting.startswith(key)]
    if values and all(value.isdecimal() for value in values):
        return max(1, *map(int, values))
    return params.load(root / paths.PARAMS).train.threads


def _experiment_names(root: Path, source: Source, remote: str = ".") -> set[str]:
    """Return the names of this commit's experiments, in this repository or at a Git remote."""
    return {line.rpartition("/")[2] for line in git(root, "ls-remote", remote, f"{source.ref_prefix}*").splitlines()}


@contextmanager
def _connect(sweep: Sweep, source: Source) -> Iterator[Client]:
    """Connect to the scheduler, or start workers on this machine for the duration of the block."""
    if sweep.address:
        try:
            client = Client(sweep.address, timeout=CONNECT_TIMEOUT)
        except (OSError, ValueError) as error:
            raise UserError(f"--address {sweep.address}: no Dask scheduler answers there ({error})") from None
        with client:
            yield client
        return
    clones = sweep.root / CLONES
    clones.mkdir(parents=True, exist_ok=True)
    with (
        LocalCluster(
            n_workers=sweep.workers or max(1, CPU_COUNT // source.threads),
            threads_per_worker=1,
            processes=True,
            memory_limit=None,
            silence_logs=SILENT,
            dashboard_address=":0",  # any free port
            local_directory=str(clones),
            preload=[worker.__name__],
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _run_trials(sweep: Sweep, source: Source, trials: Sequence[Trial]) -> dict[str, str]:
    """Run trials on the cluster, and return the last lines of the log of each failed one, by name."""
    failed: dict[str, str] = {}
    total, finished = len(sweep.trials), 0
    with (
        silence_logging_cmgr(SILENT),  # Dask logs tracebacks; the messages here replace them
        _connect(sweep, source) as client,
        tqdm(total=total, initial=total - len(trials), desc="sweep", unit="trial", disable=None) as bar,
    ):
        progress = _Progress(bar)
        # A cluster runs a key once, even if two sweeps submit it.
        futures = {
            client.submit(worker.run, trial, source, key=f"{trial.name}@{source.commit}"): trial for trial in trials
        }
        try:
            for future in as_completed(futures):
                outcome = _outcome(future, futures[future].name)
                finished += 1
                if outcome.error:
                    failed[outcome.name] = outcome.error
                progress.update(outcome)
                future.release()
        except CancelledError:
            raise UserError(f"lost the scheduler after {finished} of {len(trials)} trials: {RUN_AGAIN}") from None
        except KeyboardInterrupt:
            client.cancel(list(futures), force=True)
            time.sleep(2 * worker.POLL_SECONDS)  # workers that are closed while a trial runs print errors
            raise UserError(f"interrupted after {finished} of {len(trials)} trials: {RUN_AGAIN}") from None
    return failed


def _outcome(future: Future, name: str) -> TrialOutcome:
    """Return how a trial ended, whether the task returned, raised, or took its workers with it.

    Raises:
        CancelledError: the scheduler is lost.
    """
    try:
        outcome: TrialOutcome = future.result()
    except CancelledError:
        raise
    except KilledWorker:
        return TrialOutcome(name, "every worker that tried it", 0, error="the workers died one after another")
    except Exception as error:  # raised on the worker, before or after the trial
        return TrialOutcome(name, "a worker", 0, error=f"{type(error).__name__}: {error}")
    return outcome


class _Progress:
    """A progress bar in a terminal, otherwise a line for each trial; both show the best trial so far of each split."""

    def __init__(self, bar: "tqdm[NoReturn]") -> None:
        self.bar = bar
        self.best: dict[str, tuple[str, Score]] = {}  # by split

    def update(self, outcome: TrialOutcome) -> None:
        self.bar.update()
        for variant, score in outcome.scores.items():
            best = self.best.get(score.ranked_by)
            if best is None or score.accuracy.mean > best[1].accuracy.mean:
                self.best[score.ranked_by] = f"{variant} of {outcome.name}", score
        self.bar.set_postfix_str(str(self))
        if outcome.error:
            self.bar.write(f"{outcome.name} failed on {outcome.host}:\n{outcome.error}")
        elif self.bar.disable:
            print(f"{outcome.name} took {outcome.seconds:.1f} s on {outcome.host}; {self}", flush=True)

    def __str__(self) -> str:
        best = (
            f"{percent_spread(score.accuracy.mean, score.accuracy.std)} on {split}: {name}"
            for split, (name, score) in self.best.items()
        )
        return f"best so far {'; '.join(best)}" if self.best else "no trial has succeeded yet"
