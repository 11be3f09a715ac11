"""Stands in for `python` while the pipeline is measured: runs `src <stage> [variant]`, and notes where its time goes.

    python benchmarks/staged.py LOG src STAGE [VARIANT]

It adds a line of JSON to LOG, with seconds counted from the start of the process:

    startup     until the stage's `run` begins: the interpreter and the imports
    compiling   the first call of the epoch's function and of the one that gives logits, each less the median of its
                later calls
    training    in the stage train: the epochs and the validation after each, compiling included, as `fit` counts them
    seconds     until `run` has ended
    peak        the most memory held at once, in bytes
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


def compiling(calls: list[float]) -> float:
    """Return by how many seconds the first call of a function took longer than the median of the others."""
    return max(0.0, calls[0] - statistics.median(calls[1:])) if len(calls) > 1 else 0.0


def _noting(make: Callable[..., Any], made: list[list[float]]) -> Callable[..., Any]:
    """Return `make`, which makes a function, so that the seconds of each call of what it makes are added to `made`."""

    def makes(*arguments: Any, **named: Any) -> Callable[..., Any]:
        function = make(*arguments, **named)
        calls: list[float] = []
        made.append(calls)

        def called(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments)
            for value in result if isinstance(result, tuple) else ():
                value.numpy()  # waits for it
            calls.append(time.perf_counter() - start)
            return result

        return called

    return makes


def started() -> float:
    """Return when this process started, in seconds since 1970."""
    created = float(psutil.Process().create_time())
    if hasattr(time, "CLOCK_BOOTTIME"):  # Linux: exact since the boot, but of the boot itself only the second is known
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + created - float(psutil.boot_time())
    return created


def main(log: Path, stage: str, variant: list[str]) -> None:
    """Run a stage as `python src` does, and add its line to `log`, also when it fails."""
    born = started()
    sys.path[0] = str(Path("src").resolve())  # in place of this file's folder, as `python src` has it
    cli: Any = import_module("digits.cli")
    module: Any = cli.imported(f"digits.stages.{stage}")
    run = module.run
    epochs: list[list[float]] = []
    logits: list[list[float]] = []
    for name, maker, made in (("training", "compile_epoch", epochs), ("models", "compile_logits", logits)):
        if loaded := sys.modules.get(f"digits.{name}"):  # few stages import TensorFlow
            setattr(loaded, maker, _noting(getattr(loaded, maker), made))

    def noted(*arguments: Any, **named: Any) -> None:
        begun = time.time()
        try:
            run(*arguments, **named)
        finally:
            line = {
                "stage": "@".join([stage, *variant]),
                "startup": begun - born,
                "compiling": sum(compiling(calls) for calls in [*epochs, *logits] if calls),
                "training": sum(sum(calls) for calls in [*epochs, *logits]) if epochs else 0.0,
                "seconds": time.time() - born,
                "peak": peak_bytes(),
            }
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    module.run = noted
    cli.main([stage, *variant])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[3], sys.argv[4:])
