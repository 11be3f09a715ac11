"""Run a stage like `python src <stage> [variant]`, and record how long its parts take.

    python benchmarks/stage_timer.py LOG src STAGE [VARIANT]

While the pipeline is measured, this script stands in for `python`. It appends a line of JSON to LOG. Durations are in
seconds:

    startup     from the start of the process to the stage's `run`: the interpreter and the imports
    compiling   the first call of an epoch function and of a logits function, minus the median of its later calls; of
                functions that workers call at the same time, the longest
    training    stage train only: from the first call of an epoch function to the last result, including compilation and
                the validation after each epoch
    cpu         the share of the cores that this process keeps busy during `training`; null without it
    seconds     from the start of the process to the end of `run`
    peak        the peak memory, in bytes
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from memory import peak_bytes

EPOCH_FACTORY = ("digits.modeling.training", "compile_epoch")
LOGITS_FACTORY = ("digits.modeling.networks", "compile_logits")


class Moment(NamedTuple):
    """A time, in seconds: the wall time, and the processor time of all threads of this process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Moment":
        return cls(time.perf_counter(), time.process_time())


class CallTimer:
    """The calls of functions, each from one moment to another, with a list for each function."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[Moment, Moment]]] = []

    def wrap_factory(self, module: str, name: str) -> None:
        """Make a factory in a module return timed functions, if the module is imported."""
        if loaded := sys.modules.get(module):  # few stages import TensorFlow
            factory = getattr(loaded, name)
            setattr(loaded, name, lambda *args, **kwargs: self._timed(factory(*args, **kwargs)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        calls: list[tuple[Moment, Moment]] = []
        self.calls.append(calls)

        def timed(*args: Any) -> Any:
            start = Moment.now()
            result = function(*args)
            for value in result if isinstance(result, tuple) else ():
                value.numpy()  # waits for the tensor to be computed
            calls.append((start, Moment.now()))
            return result

        return timed

    @property
    def compilation(self) -> float:
        """The time of compilation; each worker has a function of its own, and they compile at the same time."""
        return max(
            (compilation_time([end.wall - start.wall for start, end in calls]) for calls in self.calls), default=0.0
        )


def training_time(epochs: CallTimer, logits: CallTimer, cores: int) -> tuple[float, float | None]:
    """Return the seconds from the first epoch to the last result, and the share of the cores that were busy meanwhile.

    Args:
        epochs: the calls of the epoch functions; without any, there is no training.
        logits: the calls of the functions that validate.
        cores: those that the process may use.
    """
    starts = [start for calls in epochs.calls for start, _ in calls]
    if not starts:
        return 0.0, None
    ends = [end for timer in (epochs, logits) for calls in timer.calls for _, end in calls]
    first, last = min(starts), max(ends)
    seconds = last.wall - first.wall
    return seconds, (last.cpu - first.cpu) / seconds / cores


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compilation_time(durations: list[float]) -> float:
    """Return the excess of a function's first call over the median of the other calls, in seconds."""
    return max(0.0, durations[0] - statistics.median(durations[1:])) if len(durations) > 1 else 0.0


def process_start() -> float:
    """Return the time at which this process started, in seconds since 1970."""
    created = float(psutil.Process().create_time())
    if hasattr(time, "CLOCK_BOOTTIME"):
        # On Linux, the start is exact relative to the boot, but the time of the boot is rounded to a second.
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + created - float(psutil.boot_time())
    return created


def main(log: Path, stage: str, variant: list[str]) -> None:
    """Run a stage like `python src`, and append its line to `log` even if it fails."""
    start = process_start()
    sys.path[0] = str(Path("src").resolve())  # replaces this file's folder, so that the checkout's code runs
    cli = import_module("digits.cli")
    with cli.garbage_collection_suspended():  # as the command does
        module: Any = import_module(f"digits.stages.{stage}")
    run = module.run
    epochs, logits = CallTimer(), CallTimer()
    epochs.wrap_factory(*EPOCH_FACTORY)
    logits.wrap_factory(*LOGITS_FACTORY)

    def timed_run(*args: Any, **kwargs: Any) -> None:
        run_start = time.time()
        try:
            run(*args, **kwargs)
        finally:
            training, cpu = training_time(epochs, logits, available_cores())
            line = {
                "stage": "@".join([stage, *variant]),
                "startup": run_start - start,
                "compiling": epochs.compilation + logits.compilation,
                "training": training,
                "cpu": cpu,
                "seconds": time.time() - start,
                "peak": peak_bytes(),
            }
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    module.run = timed_run
    cli.main([stage, *variant])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[3], sys.argv[4:])
