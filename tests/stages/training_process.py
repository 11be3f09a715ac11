"""A process that trains and evaluates the configurations that test_configurations.py generates."""

import json
import multiprocessing
import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from digits.core.errors import UserError
from digits.modeling.backend import pin_threads
from digits.stages import evaluate, train

EXAMPLES = 20  # in a process
STAGES = {"train": train, "evaluate": evaluate}


class TrainingProcess:
    """Another process, which trains and evaluates configurations, and which is replaced after some of them.

    TensorFlow may end it without an exception, even during a later configuration than the one that damaged its memory.
    The message names all of them.
    """

    def __init__(self) -> None:
        self.pool: ProcessPoolExecutor | None = None
        self.examples: list[Any] = []  # of the present process

    def run(self, variant: str, folder: Path, example: Any) -> tuple[str, str]:
        """Return the stage that refused the configuration in a folder, and its message; or "" twice.

        Args:
            variant: to train and to evaluate.
            folder: with the parameters and the arrays.
            example: the configuration, for the message.

        Raises:
            AssertionError: the process ended.
        """
        if len(self.examples) == EXAMPLES:
            self.close()
        if self.pool is None:
            context = multiprocessing.get_context("spawn")  # a fork of TensorFlow's threads may hang
            self.pool = ProcessPoolExecutor(1, context, _start)
        self.examples.append(example)
        try:
            return self.pool.submit(_run, variant, folder).result()
        except BrokenProcessPool:
            lines = "\n".join(map(json.dumps, self.examples))
            self.close()
            raise AssertionError(f"the process was ended by one of these configurations:\n{lines}") from None

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()
        self.pool, self.examples = None, []


def _start() -> None:
    warnings.simplefilter("error")  # as pytest does in its own process
    warnings.simplefilter("ignore", DeprecationWarning)
    pin_threads(2, 2)  # once in a process; several, because with one TensorFlow survives more
    for stage in STAGES.values():
        stage.pin_threads = lambda *_: None  # type: ignore[attr-defined]


def _run(variant: str, folder: Path) -> tuple[str, str]:
    os.chdir(folder)
    for name, stage in STAGES.items():
        try:
            stage.run(variant)
        except UserError as error:
            return name, str(error)
    return "", ""
