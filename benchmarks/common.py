"""The data, the spread of repeated measurements, and where, when and with what a measurement was made."""

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits.core import params, paths
from digits.core.artifacts import read_arrays, write_json
from digits.core.errors import UserError
from digits.versioning.git import git, git_succeeds

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
PARAMS = params.load(ROOT / paths.PARAMS)
THREADS = 2  # of every implementation in a comparison; the pipeline has threads of its own for each seed
CPU_INFORMATION = Path("/proc/cpuinfo")
PACKAGES = ("TensorFlow", "Keras", "torch", "JAX", "scikit-learn", "NumPy", "DVC")


def load(*splits: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the concatenated images, uint8 (n, 28, 28), and labels, uint8 (n,), of splits of `data/processed`."""
    parts = [read_arrays(ROOT / paths.PROCESSED / f"{split}.npz") for split in splits]
    images, labels = (np.concatenate([part[key] for part in parts]) for key in ("images", "labels"))
    return images, labels


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the extremes of repeated measurements."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def provenance() -> dict[str, Any]:
    """Return the commit, the date, the processor, its cores, and the versions of the packages that are installed."""
    try:
        commit = git(ROOT, "rev-parse", "--short=10", "HEAD").strip()
    except UserError:
        raise UserError(f"{ROOT} has no Git commit: run the benchmarks in a clone of the repository") from None
    if not git_succeeds(ROOT, "diff", "--quiet", "HEAD", "--", ".", ":!benchmarks/*.json"):
        commit += " with uncommitted changes"
    lines = CPU_INFORMATION.read_text("utf-8").splitlines() if CPU_INFORMATION.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = {"Python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # the environment of `make repro` has not all of them
            versions[package] = version(package)
    return {
        "commit": commit,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "versions": versions,
    }


def command(description: str | None, measure: Callable[..., dict[str, Any]], path: Path) -> None:
    """Run the command line of a script that measures, and write its results and their provenance.

    With `--short` it measures as little as possible, and prints the results instead.
    """
    parser = argparse.ArgumentParser(description=str(description).splitlines()[0])
    parser.add_argument("--short", action="store_true", help="measure as little as possible; print instead of writing")
    short = parser.parse_args().short
    try:
        found = measure(short=short)
        if short:
            print(json.dumps(found, indent=2))
        else:
            write_json(path, found | {"provenance": provenance()})
    except UserError as error:
        sys.exit(f"{path.stem}: {error}")
