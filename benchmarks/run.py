"""Measure training and the pipeline, and write results.json beside this file.

    make bench                                   # install the other libraries, and measure all sections
    python benchmarks/run.py epoch pipeline      # these sections; results.json keeps the others
    python benchmarks/run.py --short             # the least of each section, printed and not written

    epoch          an epoch of mlp128 beside other libraries, and beside its matrix products alone
    time_to_99     training until 99 % of the test images are right, beside the convnet of Keras's documentation
    cnn_large      whole runs of the largest variant, which is not among the default ones: an hour
    pipeline       `dvc repro` in a fresh clone, `dvc repro` with nothing to do, and an experiment

All but `pipeline` need `data/processed` (`make repro`); `pipeline` needs a source of the data that can be reached.
Each run of an implementation has a process of its own, `peers.py`. The implementations take turns, so that a slow spell
of the machine affects both sides of a ratio; pyperf and pytest-benchmark finish one benchmark before they start the
next. Use an idle machine: the threads of PyTorch and NumPy busy-wait, and lose more than their share of time if another
program uses the same cores.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any

from common import BENCHMARKS, ROOT, THREADS, provenance, spread
from peers import IMPLEMENTATIONS

from digits.core.artifacts import read_json, write_json
from digits.core.errors import UserError
from digits.versioning.git import git

RESULTS = BENCHMARKS / "results.json"
CONVNETS = {"digits": "`cnn`", "keras": "Keras's documentation convnet, `fit`"}
# TensorFlow imports JAX if it is installed, which takes nearly a second and memory. So everything that uses TensorFlow
# runs in the environment of `make repro`, which is without JAX.
PIPELINE_BIN = ROOT / ".venv/bin"
USES_TENSORFLOW = ("digits", "keras")
# XLA reads NPROC.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NPROC")

ROUNDS = 9
SEEDS = {"digits": range(5), "keras": range(3)}  # a run of Keras's convnet takes minutes
TARGET, MAX_EPOCHS = 0.99, 15  # as many epochs as in Keras's documentation
LARGE_EPOCHS = 30
IDLE_RUNS = 3
QUICK_LOOK = ("exp", "run", "-S", "train.epochs=6", "-S", "train.seeds=[0]")


def ask(name: str, call: str, **arguments: Any) -> dict[str, Any]:
    """Return the answer of an implementation in a new process; raise UserError if it fails."""
    python = PIPELINE_BIN / "python" if name in USES_TENSORFLOW else sys.executable
    command = [python, BENCHMARKS / "peers.py", call, name, json.dumps(arguments)]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(THREADS)) | {"JAX_PLATFORMS": "cpu"}
    result = subprocess.run(command, env=environment, stdout=PIPE, text=True, check=False)
    if result.returncode:
        raise UserError(f"'{name}' failed in '{call}': see its error message above")
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    print(f"  {name}: {answer}", flush=True)
    return answer


def epoch(*, short: bool) -> dict[str, Any]:
    """Return the seconds of an epoch of mlp128 by each implementation, relative to this repository's in each round."""
    rounds = [{name: ask(name, "epoch") for name in IMPLEMENTATIONS} for _ in range(1 if short else ROUNDS)]
    peers = {
        name: {
            "name": text,
            "seconds": spread([each[name]["seconds"] for each in rounds]),
            "ratio": spread([each[name]["seconds"] / each["digits"]["seconds"] for each in rounds]),
            "accuracy": rounds[-1][name]["accuracy"],
        }
        for name, (text, _) in IMPLEMENTATIONS.items()
    }
    return {"rounds": len(rounds), "epochs": 2, "peers": peers}


def time_to_99(*, short: bool) -> dict[str, Any]:
    """Return the seconds and epochs of training until the target accuracy; a run that misses it counts as a whole."""
    limits = {"accuracy": TARGET, "max_epochs": 1 if short else MAX_EPOCHS}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONVNETS}
    for seed in range(1) if short else max(SEEDS.values(), key=len):
        for name in CONVNETS:
            if seed in SEEDS[name]:
                runs[name].append(ask(name, "train_to", seed=seed, **limits))
    seconds = {name: spread([run["seconds"] for run in each]) for name, each in runs.items()}
    peers = {
        name: {
            "name": text,
            "seeds": len(runs[name]),
            "reached": sum(run["accuracy"] >= TARGET for run in runs[name]),
            "seconds": seconds[name],
            "epochs": spread([run["epochs"] for run in runs[name]]),
            "ratio": seconds[name]["median"] / seconds["digits"]["median"],
        }
        for name, text in CONVNETS.items()
    }
    return {"peers": peers}


def cnn_large(*, short: bool) -> dict[str, Any]:
    """Return the accuracy and the seconds of whole runs of `cnn-large`."""
    limits = {"variant": "cnn-large", "accuracy": 2, "max_epochs": 1 if short else LARGE_EPOCHS}  # never reached
    runs = [ask("digits", "train_to", seed=seed, **limits) for seed in (range(2) if short else SEEDS["digits"])]
    accuracies = [run["accuracy"] for run in runs]
    return {
        "parameters": runs[0]["parameters"],
        "epochs": runs[0]["epochs"],
        "seeds": len(runs),
        "accuracy": {"mean": statistics.mean(accuracies), "std": statistics.stdev(accuracies)},
        "seconds": spread([run["seconds"] for run in runs]),
    }


def pipeline(*, short: bool) -> dict[str, Any]:
    """Return the seconds of DVC's commands and their stages in a fresh clone of HEAD with an empty cache."""
    quick = (*QUICK_LOOK, "-S", "variants=[softmax]") if short else QUICK_LOOK
    with tempfile.TemporaryDirectory(prefix="digits-") as folder:
        clone = Path(folder) / "clone"
        git(ROOT, "clone", "--quiet", str(ROOT), str(clone))
        full = dvc(clone, *(quick if short else ["repro"]))
        idle = sorted((dvc(clone, "repro") for _ in range(IDLE_RUNS)), key=lambda run: run["seconds"])
        return {"commands": {"full": full, "idle": idle[IDLE_RUNS // 2], "quick_look": dvc(clone, *quick)}}


def dvc(folder: Path, *words: str) -> dict[str, Any]:
    """Run a DVC command in a folder, and return its seconds and those from the start of each stage to the next."""
    environment = os.environ | {"PATH": f"{PIPELINE_BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    for role in ("AUTHOR", "COMMITTER"):  # `dvc exp run` commits
        environment |= {f"GIT_{role}_NAME": "Benchmark", f"GIT_{role}_EMAIL": "benchmark@example.org"}
    command, line, names, times = ["dvc", *words], "no output", [], [time.perf_counter()]
    with Popen(command, cwd=folder, env=environment, stdout=PIPE, stderr=STDOUT, text=True) as process:
        for line in process.stdout or ():
            if found := re.fullmatch(r"Running stage '(.+)':\n", line):
                names.append(found[1])
                times.append(time.perf_counter())
    times.append(time.perf_counter())
    if process.returncode:
        raise UserError(f"`{shlex.join(command)}` exited with {process.returncode}: {line.strip()}")
    print(f"  {shlex.join(command)}: {times[-1] - times[0]:.1f} s, {len(names)} stages", flush=True)
    stages = {name: after - before for name, (before, after) in zip(names, pairwise(times[1:]), strict=True)}
    return {"command": shlex.join(command), "seconds": times[-1] - times[0], "stages": stages}


SECTIONS = {"epoch": epoch, "time_to_99": time_to_99, "cnn_large": cnn_large, "pipeline": pipeline}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake of the user becomes one line on standard error and exit status 1."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=SECTIONS, metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--short", action="store_true", help="the least of each section, printed and not written")
    given = parser.parse_args(arguments)
    try:
        for name in given.sections or SECTIONS:
            print(f"{name}:", flush=True)
            section = {"provenance": provenance(), **SECTIONS[name](short=given.short)}
            if given.short:
                print(json.dumps(section, indent=2))
            else:
                write_json(RESULTS, read_json(RESULTS) | {name: section})
    except UserError as error:
        sys.exit(f"benchmarks: {error}")


if __name__ == "__main__":
    main()
