"""Measure what a trial of `digits sweep` costs besides its training, and write sweep.json beside this file.

    python benchmarks/sweep.py
    python benchmarks/sweep.py --short      # one sweep of each kind, printed and not written

It needs the data in the DVC cache (`make repro`) and two cores, and takes a quarter of an hour. A trial trains `mlp64`
with one seed and one thread. The difference between trials of 2 and of 14 epochs is the time of 12 epochs. Sweeps with
one worker and with two take turns, so that other programs slow both alike.
"""

import itertools
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from subprocess import PIPE, CalledProcessError, run
from typing import Any

from common import BENCHMARKS, ROOT, command, spread

from digits.core.errors import UserError
from digits.versioning.git import git

TRIALS, TURNS = 8, 3
SHORT, LONG = 2, 14  # epochs
RATES = ",".join(f"{0.010 + 0.001 * step:.3f}" for step in range(TRIALS))  # trials that take equally long
SETTINGS = ("variants=[mlp64]", "train.threads=1", "train.seeds=[0]", f"models.mlp64.optimizer.learning_rate={RATES}")
PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def output(folder: Path, *words: str) -> str:
    """Return the standard output of a command.

    Raises:
        UserError: it failed; it has printed its own message.
    """
    try:
        variables = os.environ | {"PATH": PROGRAMS}
        return run(words, cwd=folder, env=variables, stdout=PIPE, text=True, check=True).stdout
    except CalledProcessError as error:
        raise UserError(str(error)) from None


def clone(folder: Path) -> Path:
    """Clone this repository at HEAD, with the data in a cache of its own, and return the folder."""
    git(folder.parent, "clone", "--quiet", str(ROOT), str(folder))
    output(folder, "dvc", "remote", "add", "--quiet", "--local", "--default", "data", str(ROOT / ".dvc/cache"))
    output(folder, "dvc", "fetch", "--quiet", "download", "preprocess", "neighbors")
    return folder


def sweep(folder: Path, workers: int, epochs: int) -> tuple[float, list[float]]:
    """Return the seconds of a sweep in a new clone, and those of its trials, without the first one of each worker.

    The first trial also starts the fork server and makes the clone of its worker.
    """
    clone(folder)
    settings = (*SETTINGS, f"train.epochs={epochs}", f"train.checkpoints=[{epochs}]")
    options = [word for setting in settings for word in ("-S", setting)]
    start = time.monotonic()
    printed = output(folder, "digits", "sweep", "--workers", str(workers), *options)
    seconds = time.monotonic() - start
    return seconds, [float(found) for found in re.findall(r" took ([\d.]+) s on ", printed)][workers:]


def measure(*, short: bool) -> dict[str, Any]:
    turns = 1 if short else TURNS
    with tempfile.TemporaryDirectory(prefix="digits-sweep-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        totals: dict[int, list[float]] = {1: [], 2: []}
        trials: dict[int, list[float]] = {SHORT: [], LONG: []}
        for turn, workers in itertools.product(range(turns), totals):
            seconds, each = sweep(folder / f"{workers}-{turn}", workers, SHORT)
            totals[workers].append(seconds)
            trials[SHORT] += each if workers == 1 else []
        trials[LONG] = sweep(folder / "long", 1, LONG)[1]
    medians = {epochs: statistics.median(values) for epochs, values in trials.items()}
    epoch = (medians[LONG] - medians[SHORT]) / (LONG - SHORT)
    return {
        "trial_seconds": {str(epochs): spread(values) for epochs, values in trials.items()},
        "epoch_seconds": epoch,
        "seconds_beyond_training": medians[SHORT] - SHORT * epoch,
        "sweep_seconds": {str(workers): spread(values) for workers, values in totals.items()},
        "two_workers_to_one": statistics.median(two / one for one, two in zip(*totals.values(), strict=True)),
    }


if __name__ == "__main__":
    command(__doc__, measure, BENCHMARKS / "sweep.json")
