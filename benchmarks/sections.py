"""The measurements. Each section returns plain numbers, which report.py summarizes.

The implementations take turns within each round, so that a temporary slowdown of the machine affects both sides of a
ratio.
"""

import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import BENCHMARKS, PARAMS, PIPELINE_BIN, ROOT, THREADS, start_workers
from peers import PEERS

from digits.core.errors import UserError

TARGET_ACCURACY = 0.99
UNREACHABLE = 2.0  # an accuracy that lets every run train all its epochs
IDLE_RUNS = 3
Log = Callable[[str], None]


@dataclass(frozen=True)
class Extent:
    """The extent of the measurements."""

    rounds: int = 9  # section epoch
    checkpoint_rounds: int = 3
    checkpoint_epochs: int = 30
    fit_epochs: tuple[int, ...] = (1, 2, 3)  # of the runs of `fit` that are measured in section checkpoints
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    keras_seeds: int = 3  # the first of `seeds`: a run of Keras's example takes minutes
    max_epochs: int = 15  # to the target accuracy, as in Keras's documentation
    accuracy_epochs: tuple[tuple[str, int], ...] = (("cnn", 30), ("cnn-large", 30))
    side_by_side_epochs: int = 30  # section seeds
    roofline_epochs: int = 6
    pipeline_epochs: int | None = None  # None: `epochs` in params.yaml
    experiment_epochs: int = 6
    scaling_epochs: int = 30
    scaling_repeats: int = 3  # epochs at each size, after a first that includes compilation
    images: tuple[int, ...] = (10_000, 30_000, 60_000, 120_000, 240_000, 480_000)
    units: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048, 4096)


SHORT = Extent(
    rounds=1,
    checkpoint_rounds=1,
    checkpoint_epochs=3,
    fit_epochs=(1, 2),
    seeds=(0,),
    max_epochs=1,
    accuracy_epochs=(("cnn", 2), ("cnn-large", 1)),
    side_by_side_epochs=1,
    roofline_epochs=2,
    pipeline_epochs=2,
    experiment_epochs=3,
    scaling_epochs=4,
    scaling_repeats=1,
    images=(10_000, 30_000, 60_000),
    units=(32, 128, 512),
)


def epoch(extent: Extent, log: Log) -> dict[str, Any]:
    """Return seconds and accuracy of an epoch of mlp128, by round and implementation, after a warm-up round."""
    with start_workers(*PEERS) as workers:
        rounds = []
        for number in range(extent.rounds + 1):
            rounds.append({name: worker.ask("epoch") for name, worker in workers.items()})
            seconds = ", ".join(f"{name} {answer['seconds']:.3f} s" for name, answer in rounds[-1].items())
            log(f"{'warm-up' if number == 0 else f'round {number}'}: {seconds}")
        tests = {name: worker.ask("test") for name, worker in workers.items()}
    return {"warm_up": rounds[0], "rounds": rounds[1:], "test": tests}


def checkpoints(extent: Extent, log: Log) -> dict[str, Any]:
    """Return the seconds of one run that is tested after every epoch, and of separate runs of `fit`, by round."""
    rounds = []
    with start_workers("digits", "keras") as workers:
        digits, keras = workers.values()
        digits.ask("checkpoints", epochs=1)  # leaves out what a process does only once
        keras.ask("checkpoints", epochs=1)
        for number in range(extent.checkpoint_rounds):
            seconds = digits.ask("checkpoints", epochs=extent.checkpoint_epochs)
            fits = [
                {"epochs": epochs, "seconds": keras.ask("checkpoints", epochs=epochs)} for epochs in extent.fit_epochs
            ]
            rounds.append({"digits": seconds, "keras": fits})
            runs = ", ".join(f"{fit['seconds']:.2f} s for {fit['epochs']}" for fit in fits)
            log(f"round {number + 1}: digits {seconds:.2f} s for {extent.checkpoint_epochs} epochs; keras {runs}")
    return {"epochs": extent.checkpoint_epochs, "rounds": rounds}


def time_to_accuracy(extent: Extent, log: Log) -> dict[str, Any]:
    """Return training seconds and test accuracy after each epoch until the target accuracy, by seed and peer."""
    runs = []
    with start_workers("digits", "keras") as workers:
        for seed in extent.seeds:
            run: dict[str, Any] = {"seed": seed}
            for name in ("digits", "keras") if seed in extent.seeds[: extent.keras_seeds] else ("digits",):
                curve = workers[name].ask("train_to", accuracy=TARGET_ACCURACY, max_epochs=extent.max_epochs, seed=seed)
                run[name] = curve
                log(
                    f"seed {seed}: {name} {curve['seconds'][-1]:.1f} s, {len(curve['seconds'])} epochs, "
                    f"{curve['accuracies'][-1]:.2%}"
                )
            runs.append(run)
    return {"accuracy": TARGET_ACCURACY, "max_epochs": extent.max_epochs, "runs": runs}


def accuracy(extent: Extent, log: Log) -> dict[str, Any]:
    """Return training seconds and test accuracy after each epoch of whole runs, by convolutional variant and seed."""
    runs = []
    with start_workers("digits") as workers:
        for variant, epochs in extent.accuracy_epochs:
            for seed in extent.seeds:
                curve = workers["digits"].ask(
                    "train_to", accuracy=UNREACHABLE, max_epochs=epochs, seed=seed, variant=variant
                )
                runs.append({"variant": variant, "seed": seed, **curve})
                log(f"{variant}, seed {seed}: {curve['seconds'][-1]:.1f} s, {curve['accuracies'][-1]:.2%}")
    return {"runs": runs}


def seeds(extent: Extent, log: Log) -> dict[str, Any]:
    """Return the seconds of training with all seeds of params.yaml, by variant: side by side, and one after another.

    Side by side is how stage train does it. One after another, each run has the threads of the other comparisons.
    """
    chosen = list(PARAMS.train.seeds)
    variants = {}
    for variant in PARAMS.variants:
        arguments = {"variant": variant, "epochs": extent.side_by_side_epochs}
        one_by_one = []
        with start_workers("digits") as workers:
            for index, seed in enumerate(chosen):
                if index == len(chosen) // 2:  # in the middle, so that a slow spell of the machine affects both
                    with start_workers("digits") as others:
                        together = others["digits"].ask(
                            "train_seeds", seeds=chosen, threads=PARAMS.train.threads, **arguments
                        )
                one_by_one.append(workers["digits"].ask("train_seeds", seeds=[seed], threads=THREADS, **arguments))
        variants[variant] = {
            "side_by_side": together["seconds"],
            "one_by_one": [answer["seconds"] for answer in one_by_one],
        }
        log(
            f"{variant}: {together['seconds']:.1f} s side by side, "
            f"{sum(variants[variant]['one_by_one']):.1f} s one after another"
        )
    return {
        "seeds": len(chosen),
        "epochs": extent.side_by_side_epochs,
        "workers": together["workers"],
        "threads": PARAMS.train.threads,
        "variants": variants,
    }


def roofline(extent: Extent, log: Log) -> dict[str, Any]:
    """Return the seconds, operations and bytes of a training step, by variant, and the limits of the machine."""
    with start_workers("digits", "numpy") as workers:
        steps = {}
        for variant in (*PARAMS.variants, "cnn-large"):
            steps[variant] = workers["digits"].ask("step", variant=variant, epochs=extent.roofline_epochs)
            log(f"{variant}: {1000 * min(steps[variant]['seconds']):.3f} ms per step")
        return {"steps": steps, "limits": workers["numpy"].ask("limits")}


def pipeline(extent: Extent, log: Log) -> dict[str, Any]:
    """Return the seconds of DVC's commands and of each stage, in a fresh clone of HEAD with an empty cache.

    The data comes from the sources in params.yaml, as it does for a user.
    """
    with tempfile.TemporaryDirectory(prefix="digits-") as folder:
        clone = TimedClone(Path(folder), log)
        clone.warm_up()
        epochs = extent.pipeline_epochs
        full = clone.dvc(*(["repro"] if epochs is None else ["exp", "run", *_settings(f"train.epochs={epochs}")]))
        idle = [clone.dvc("repro") for _ in range(IDLE_RUNS)]
        settings = _settings(f"train.epochs={extent.experiment_epochs}", "train.seeds=[0]")
        return {"full": full, "idle": idle, "experiment": clone.dvc("exp", "run", *settings)}


def _settings(*settings: str) -> list[str]:
    """Return settings as arguments of `dvc exp run`."""
    return [word for setting in settings for word in ("-S", setting)]


class TimedClone:
    """A clone of HEAD whose stages run under stage_timer.py."""

    def __init__(self, folder: Path, log: Log) -> None:
        """Clone the repository into an empty folder, and put a `python` first on the PATH that times the stages."""
        self._clone, programs, self._stages = (folder / name for name in ("clone", "bin", "stages.jsonl"))
        self._log = log
        self._environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        for role in ("AUTHOR", "COMMITTER"):  # `dvc exp run` commits
            self._environment |= {f"GIT_{role}_NAME": "Benchmark", f"GIT_{role}_EMAIL": "benchmark@example.org"}
        _run(["git", "clone", "--quiet", str(ROOT), str(self._clone)], ROOT, dict(os.environ))
        programs.mkdir()
        python = programs / "python"
        command = f'"{PIPELINE_BIN / "python"}" "{BENCHMARKS / "stage_timer.py"}" "{self._stages}"'
        python.write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
        python.chmod(0o755)

    def warm_up(self) -> None:
        """Import the libraries once, so that their files are in the operating system's cache."""
        modules = "import dvc.repo, matplotlib.figure, sklearn, tensorflow"
        _run([str(PIPELINE_BIN / "python"), "-c", modules], ROOT, self._environment)

    def dvc(self, *words: str) -> dict[str, Any]:
        """Run a DVC command in the clone, and return its seconds and what stage_timer.py recorded of each stage."""
        self._stages.write_text("", "utf-8")
        start = time.perf_counter()
        _run([str(PIPELINE_BIN / "dvc"), *words], self._clone, self._environment)
        seconds = time.perf_counter() - start
        stages = [json.loads(line) for line in self._stages.read_text("utf-8").splitlines()]
        command = shlex.join(["dvc", *words])
        self._log(f"{command}: {seconds:.1f} s, {len(stages)} stages")
        return {"command": command, "seconds": seconds, "stages": stages}


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command; raise UserError with the last line of its output if it fails."""
    result = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode:
        last = (result.stdout.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"`{' '.join(command)}` exited with {result.returncode}: {last}")


def scaling(extent: Extent, log: Log) -> dict[str, Any]:
    """Return the seconds of an epoch of mlp128 by epochs, training images and hidden units, and the peak memory."""

    def scaled(images: int, units: int, epochs: int) -> dict[str, Any]:
        with start_workers("digits") as workers:  # one process per size, because each has its own peak memory
            answer = workers["digits"].ask("scale", images=images, units=units, epochs=epochs)
        log(f"{images:,} images, {units:,} units, {epochs} epochs: {sum(answer['seconds']):.1f} s")
        return {"images": images, "units": units, **answer}

    images, units = 60_000, PARAMS.model("mlp128").units[0]
    epochs = extent.scaling_repeats + 1
    return {
        "epochs": scaled(images, units, extent.scaling_epochs),
        "images": [scaled(count, units, epochs) for count in extent.images],
        "units": [scaled(images, count, epochs) for count in extent.units],
    }


SECTIONS: dict[str, Callable[[Extent, Log], dict[str, Any]]] = {
    "epoch": epoch,
    "checkpoints": checkpoints,
    "time_to_accuracy": time_to_accuracy,
    "accuracy": accuracy,
    "seeds": seeds,
    "roofline": roofline,
    "pipeline": pipeline,
    "scaling": scaling,
}
