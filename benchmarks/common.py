"""What the runner and its workers share: the data, and lines of JSON between processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np
from numpy.typing import NDArray

from digits import params, paths
from digits.errors import UserError
from digits.files import read_arrays

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
SETTINGS = params.load(ROOT / paths.PARAMS)
THREADS = SETTINGS.train.threads
# TensorFlow imports JAX where it finds it: nearly a second, and memory, that nobody spends who has not installed it. So
# whatever uses TensorFlow runs in the environment of `make repro`.
PROGRAMS = ROOT / ".venv/bin"
ON_TENSORFLOW = ("digits", "keras")
READY = "ready"  # the call that every worker knows
Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]

# In the order in which images are moved when there have to be more of them than there are: down, right.
MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1))


def load(*names: str) -> Arrays:
    """Return images, uint8 (n, 28, 28), and labels, uint8 (n,), of the splits that are named, one after another.

    Raises:
        UserError: a file of `data/processed` is missing or damaged.
    """
    parts = [read_arrays(ROOT / paths.PROCESSED / f"{name}.npz") for name in names]
    images, labels = (np.concatenate([part[key] for part in parts]) for key in ("images", "labels"))
    return images, labels


def load_many(count: int) -> Arrays:
    """Return the first `count` training images, uint8 (count, 28, 28), and labels, uint8 (count,).

    When the 60,000 are used up, they come again, moved by a pixel; at most 480,000.
    """
    images, labels = load("train", "validation")
    many = np.empty((count, *images.shape[1:]), np.uint8)  # filled in place, to add no more to the peak than they take
    for start, move in zip(range(0, count, len(images)), MOVES, strict=False):
        part = many[start : start + len(images)]
        part[:] = np.roll(images[: len(part)], move, axis=(1, 2))
    return many, np.resize(labels, count)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def serve(calls: Mapping[str, Callable[..., Any]]) -> None:
    """Answer each line of standard input, `[call, arguments]` as JSON, with a line of JSON, until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    for line in sys.stdin:
        name, arguments = json.loads(line)
        answers.write(json.dumps(calls[name](**arguments) if name != READY else None) + "\n")
        answers.flush()


class Worker:
    """A process that holds one contestant, so that no two libraries share one, and works only when asked."""

    def __init__(self, name: str) -> None:
        """Start `with_<name>.py` of this folder, held to the threads of params.yaml."""
        self.name = name
        # NPROC is the one that XLA heeds.
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NPROC")
        self._process = subprocess.Popen(
            [PROGRAMS / "python" if name in ON_TENSORFLOW else sys.executable, BENCHMARKS / f"with_{name}.py"],
            env=os.environ | dict.fromkeys(variables, str(THREADS)) | {"JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, call: str, **arguments: Any) -> Any:
        """Return a call's answer; raise UserError when the process ends instead."""
        requests, answers = self._pipes()
        self._process.send_signal(signal.SIGCONT)
        try:
            requests.write(json.dumps([call, arguments]) + "\n")
            requests.flush()
        except BrokenPipeError:
            answer = ""
        else:
            answer = answers.readline()
        if not answer:
            raise UserError(f"benchmarks: the worker '{self.name}' ended in '{call}': what it printed stands above")
        self._process.send_signal(signal.SIGSTOP)  # threads that spin while they wait would slow the next worker
        return json.loads(answer)

    def _pipes(self) -> tuple[TextIO, TextIO]:
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("a worker always has both pipes")
        return self._process.stdin, self._process.stdout  # type: ignore[return-value]  # opened as text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self._process.send_signal(signal.SIGCONT)
        self._process.communicate()  # closes its input, upon which it ends


@contextmanager
def started(*names: str) -> Iterator[dict[str, Worker]]:
    """Start workers, each when the one before has loaded all it needs, and end them with the block."""
    with ExitStack() as stack:
        workers = {}
        for name in names:
            workers[name] = stack.enter_context(Worker(name))
            workers[name].ask(READY)
        yield workers
