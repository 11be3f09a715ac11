"""Run a stage like `python src <stage> [variant]`, and record how long its parts take.

    python benchmarks/stage_timer.py LOG src STAGE [VARIANT]

While the pipeline is measured, this script stands in for `python`. It appends a line of JSON to LOG. Durations are in
seconds:

    startup     from the start of the process to the stage's `run`: the interpreter and the imports
    compiling   the first call of the epoch function and of each logits function, minus the median of its later calls
    training    stage train only: the epochs and the validation after each, including compilation
    seconds     from the start of the process to the end of `run`
    peak        the peak memory, in bytes
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
from memory import peak_bytes

EPOCH_FACTORY = ("digits.modeling.training", "compile_epoch")
LOGITS_FACTORY = ("digits.modeling.networks", "compile_logits")


class CallTimer:
    """Durations of the calls of functions, in seconds, with a list for each function."""

    def __init__(self) -> None:
        self.durations: list[list[float]] = []

    def wrap_factory(self, module: str, name: str) -> None:
        """Make a factory in a module return timed functions, if the module is imported."""
        if loaded := sys.modules.get(module):  # few stages import TensorFlow
            factory = getattr(loaded, name)
            setattr(loaded, name, lambda *args, **kwargs: self._timed(factory(*args, **kwargs)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        durations: list[float] = []
        self.durations.append(durations)

        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            result = function(*args)
            for value in result if isinstance(result, tuple) else ():
                value.numpy()  # waits for the tensor to be computed
            durations.append(time.perf_counter() - start)
            return result

        return timed

    @property
    def total(self) -> float:
        return sum(sum(durations) for durations in self.durations)

    @property
    def compilation(self) -> float:
        return sum(compilation_time(durations) for durations in self.durations if durations)


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
            line = {
                "stage": "@".join([stage, *variant]),
                "startup": run_start - start,
                "compiling": epochs.compilation + logits.compilation,
                "training": epochs.total + logits.total if epochs.durations else 0.0,
                "seconds": time.time() - start,
                "peak": peak_bytes(),
            }
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    module.run = timed_run
    cli.main([stage, *variant])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[3], sys.argv[4:])
