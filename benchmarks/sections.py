"""The measurements: each section returns plain numbers, which report.py sums up.

The contestants of a section work in turn, one after another, round after round, so that a machine that slows down for a
while slows both sides of a ratio.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from common import BENCHMARKS, PROGRAMS, ROOT, SETTINGS, started
from matplotlib.figure import Figure
from report import growth_lines

from digits.errors import UserError
from digits.figures import COLORS, STYLE, save

PEERS = ("digits", "keras", "pytorch", "sklearn", "jax", "numpy")
Log = Callable[[str], None]


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    rounds: int = 9  # of epoch
    grid_rounds: int = 3
    grid_epochs: int = 30
    grid_fits: tuple[int, ...] = (1, 2, 3)  # epochs of the runs of `fit` that are measured
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    keras_seeds: int = 3  # of the seeds above, for the runs of Keras's example, which take minutes
    cap: int = 15  # epochs to reach the target in: as many as Keras's documentation trains for
    accuracy_epochs: tuple[tuple[str, int], ...] = (("cnn", 30), ("cnn-large", 30))
    bound_epochs: int = 6
    pipeline_epochs: int | None = None  # None: those of params.yaml
    experiment_epochs: int = 6
    growth_epochs: int = 30
    growth_repeats: int = 3  # epochs that are measured at each size, after a first that compiles
    images: tuple[int, ...] = (10_000, 30_000, 60_000, 120_000, 240_000, 480_000)
    units: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048, 4096)


SHORT = Extent(
    rounds=1,
    grid_rounds=1,
    grid_epochs=3,
    grid_fits=(1, 2),
    seeds=(0,),
    cap=1,
    accuracy_epochs=(("cnn", 2), ("cnn-large", 1)),
    bound_epochs=2,
    pipeline_epochs=2,
    experiment_epochs=3,
    growth_epochs=4,
    growth_repeats=1,
    images=(10_000, 30_000, 60_000),
    units=(32, 128, 512),
)


def epoch(extent: Extent, log: Log) -> dict[str, Any]:
    """Return, by round and contestant, seconds and accuracy of an epoch of mlp128; a first round warms up."""
    with started(*PEERS) as workers:
        rounds = []
        for number in range(extent.rounds + 1):
            rounds.append({name: worker.ask("epoch") for name, worker in workers.items()})
            seconds = ", ".join(f"{name} {answer['seconds']:.3f} s" for name, answer in rounds[-1].items())
            log(f"{'warm-up' if number == 0 else f'round {number}'}: {seconds}")
        tests = {name: worker.ask("test") for name, worker in workers.items()}
    return {"first": rounds[0], "rounds": rounds[1:], "test": tests}


def grid(extent: Extent, log: Log) -> dict[str, Any]:
    """Return, by round, the seconds of one run with every number of epochs in it, and of separate runs of `fit`."""
    rounds = []
    with started("digits", "keras") as workers:
        ours, theirs = workers.values()
        ours.ask("grid", epochs=1)  # what a process does but once is on neither side
        theirs.ask("grid", epochs=1)
        for number in range(extent.grid_rounds):
            seconds = ours.ask("grid", epochs=extent.grid_epochs)
            fits = [{"epochs": epochs, "seconds": theirs.ask("grid", epochs=epochs)} for epochs in extent.grid_fits]
            rounds.append({"digits": seconds, "keras": fits})
            runs = ", ".join(f"{fit['seconds']:.2f} s for {fit['epochs']}" for fit in fits)
            log(f"round {number + 1}: digits {seconds:.2f} s for {extent.grid_epochs} epochs; keras {runs}")
    return {"epochs": extent.grid_epochs, "rounds": rounds}


def target(extent: Extent, log: Log) -> dict[str, Any]:
    """Return, by seed and contestant, training seconds and test accuracy after each epoch until 99.0 % is reached."""
    accuracy, runs = 0.99, []
    with started("digits", "keras") as workers:
        for seed in extent.seeds:
            run: dict[str, Any] = {"seed": seed}
            asked = ("digits", "keras") if seed in extent.seeds[: extent.keras_seeds] else ("digits",)
            for worker in (workers[name] for name in asked):
                run[worker.name] = worker.ask("target", seed=seed, accuracy=accuracy, cap=extent.cap)
                curve = run[worker.name]
                log(
                    f"seed {seed}: {worker.name} {curve['seconds'][-1]:.1f} s, {len(curve['seconds'])} epochs, "
                    f"{curve['accuracies'][-1]:.2%}"
                )
            runs.append(run)
    return {"accuracy": accuracy, "cap": extent.cap, "runs": runs}


def accuracy(extent: Extent, log: Log) -> dict[str, Any]:
    """Return, by convolutional variant and seed, training seconds and test accuracy after each epoch of a whole run."""
    runs = []
    with started("digits") as workers:
        for variant, epochs in extent.accuracy_epochs:
            for seed in extent.seeds:
                curve = workers["digits"].ask("target", variant=variant, seed=seed, accuracy=2.0, cap=epochs)
                runs.append({"variant": variant, "seed": seed, **curve})
                log(f"{variant}, seed {seed}: {curve['seconds'][-1]:.1f} s, {curve['accuracies'][-1]:.2%}")
    return {"runs": runs}


def bounds(extent: Extent, log: Log) -> dict[str, Any]:
    """Return the seconds of a step of each variant, its operations and bytes, and what the machine does at most."""
    with started("digits", "numpy") as workers:
        steps = {}
        for variant in (*SETTINGS.variants, "cnn-large"):
            steps[variant] = workers["digits"].ask("step", variant=variant, epochs=extent.bound_epochs)
            log(f"{variant}: {1000 * min(steps[variant]['seconds']):.3f} ms a step")
        return {"steps": steps, "limits": workers["numpy"].ask("limits")}


def pipeline(extent: Extent, log: Log) -> dict[str, Any]:
    """Return what DVC's commands and each stage take in a new clone of HEAD, with a cache of its own that is empty.

    The data come from wherever params.yaml says, as they do for a user.
    """
    with tempfile.TemporaryDirectory(prefix="digits-") as folder:
        clone, programs, notes = (Path(folder) / name for name in ("clone", "bin", "stages.jsonl"))
        _run(["git", "clone", "--quiet", str(ROOT), str(clone)], ROOT, dict(os.environ))
        programs.mkdir()
        python = programs / "python"
        launcher = f'"{PROGRAMS / "python"}" "{BENCHMARKS / "staged.py"}" "{notes}"'
        python.write_text(f'#!/bin/sh\nexec {launcher} "$@"\n', "utf-8")
        python.chmod(0o755)
        environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        for role in ("AUTHOR", "COMMITTER"):  # `dvc exp run` commits
            environment |= {f"GIT_{role}_NAME": "Benchmark", f"GIT_{role}_EMAIL": "benchmark@example.org"}

        def measured(*words: str) -> dict[str, Any]:
            notes.write_text("", "utf-8")
            start = time.perf_counter()
            _run([str(PROGRAMS / "dvc"), *words], clone, environment)
            seconds = time.perf_counter() - start
            stages = [json.loads(line) for line in notes.read_text("utf-8").splitlines()]
            log(f"dvc {' '.join(words)}: {seconds:.1f} s, {len(stages)} stages")
            return {"command": " ".join(["dvc", *words]), "seconds": seconds, "stages": stages}

        def experiment(epochs: int) -> list[str]:
            return ["exp", "run", "-S", f"train.epochs={epochs}"]

        _run(
            [str(PROGRAMS / "python"), "-c", "import dvc.repo, matplotlib.figure, sklearn, tensorflow"],
            ROOT,
            environment,
        )
        full = measured(*(["repro"] if extent.pipeline_epochs is None else experiment(extent.pipeline_epochs)))
        idle = [measured("repro") for _ in range(3)]
        return {"full": full, "idle": idle, "experiment": measured(*experiment(extent.experiment_epochs))}


def growth(extent: Extent, log: Log) -> dict[str, Any]:
    """Return the seconds of an epoch of mlp128 by epochs, by training images and by hidden units, and peak memory."""

    def grown(images: int, units: int, epochs: int) -> dict[str, Any]:
        with started("digits") as workers:  # a process for each, for its peak
            answer = workers["digits"].ask("grow", images=images, units=units, epochs=epochs)
        log(f"{images:,} images, {units:,} units, {epochs} epochs: {sum(answer['seconds']):.1f} s")
        return {"images": images, "units": units, **answer}

    images, units = 60_000, SETTINGS.model("mlp128").units[0]
    repeats = extent.growth_repeats + 1
    return {
        "epochs": grown(images, units, extent.growth_epochs),
        "images": [grown(count, units, repeats) for count in extent.images],
        "units": [grown(images, count, repeats) for count in extent.units],
    }


def growth_figure(section: dict[str, Any], path: Path) -> None:
    """Draw seconds against epochs, images and hidden units, each beside the straight line that fits best."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 3.9), layout="constrained")
        for axis, line in zip(figure.subplots(1, 3), growth_lines(section), strict=True):
            ends = (0, max(line.at))
            axis.plot(ends, [line.value(end) for end in ends], color=COLORS[1], label="straight line (least squares)")
            axis.plot(line.at, line.seconds, "o", color=COLORS[0], markersize=5, label="measured")
            axis.set(title=line.title, xlabel=line.unit, ylabel=line.quantity)
            axis.set_ylim(bottom=0)
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axis.locator_params(axis="x", nbins=5)
        figure.axes[0].legend(loc="upper left")
        figure.suptitle("mlp128: time against size")
        save(figure, path)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command; raise UserError with the last line that it printed when it fails."""
    result = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode:
        last = (result.stdout.strip().splitlines() or ["nothing was printed"])[-1]
        raise UserError(f"benchmarks: {' '.join(command)} exited with {result.returncode}: {last}")


SECTIONS: dict[str, Callable[[Extent, Log], dict[str, Any]]] = {
    "epoch": epoch,
    "grid": grid,
    "target": target,
    "accuracy": accuracy,
    "bounds": bounds,
    "pipeline": pipeline,
    "growth": growth,
}
