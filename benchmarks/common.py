"""Data, timing and worker processes, shared by the runner and the workers."""

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

from digits.core import params, paths
from digits.core.artifacts import read_arrays
from digits.core.errors import UserError

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
PARAMS = params.load(ROOT / paths.PARAMS)
THREADS = 2  # of every implementation in a comparison; the pipeline has threads of its own for each seed

# The peers have an environment of their own (`make bench`). TensorFlow imports JAX if it is installed, which takes
# nearly a second and memory. So everything that uses TensorFlow runs in the environment of `make repro`, without JAX.
PIPELINE_BIN = ROOT / ".venv/bin"
USES_TENSORFLOW = ("digits", "keras")

READY = "ready"  # a call that every worker answers, as soon as it has loaded its libraries
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NPROC",  # read by XLA
)

# (down, right) in pixels: the first copy of the images is unchanged, each further copy has another shift.
SHIFTS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1))

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def load(*splits: str) -> Arrays:
    """Return the concatenated images, uint8 (n, 28, 28), and labels, uint8 (n,), of splits of `data/processed`.

    Raises:
        UserError: a file is missing or damaged.
    """
    parts = [read_arrays(ROOT / paths.PROCESSED / f"{split}.npz") for split in splits]
    images, labels = (np.concatenate([part[key] for part in parts]) for key in ("images", "labels"))
    return images, labels


def load_enlarged(count: int) -> Arrays:
    """Return `count` training images, uint8 (count, 28, 28), and labels, uint8 (count,).

    Beyond the 60,000 training images, they repeat, shifted by a pixel.

    Args:
        count: at most 480,000.
    """
    images, labels = load("train", "validation")
    enlarged = np.empty((count, *images.shape[1:]), np.uint8)  # filled in place, to keep the peak memory low
    for start, shift in zip(range(0, count, len(images)), SHIFTS, strict=False):
        part = enlarged[start : start + len(images)]
        part[:] = np.roll(images[: len(part)], shift, axis=(1, 2))
    return enlarged, np.resize(labels, count)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the duration of a call, in seconds, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def serve(calls: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until standard input ends.

    A request is a line of JSON, `[name, arguments]`; the answer is a line of JSON on standard output.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not disturb the answers
    for line in sys.stdin:
        name, arguments = json.loads(line)
        answers.write(json.dumps(calls[name](**arguments) if name != READY else None) + "\n")
        answers.flush()


class Worker:
    """A process that runs one implementation, so that no two libraries share a process. It is stopped between calls."""

    def __init__(self, name: str) -> None:
        """Start `with_<name>.py` with THREADS threads."""
        self.name = name
        self._process = subprocess.Popen(
            [PIPELINE_BIN / "python" if name in USES_TENSORFLOW else sys.executable, BENCHMARKS / f"with_{name}.py"],
            env=os.environ | dict.fromkeys(THREAD_VARIABLES, str(THREADS)) | {"JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, call: str, **arguments: Any) -> Any:
        """Return the answer to a call; raise UserError if the process exits."""
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
            raise UserError(f"worker '{self.name}' exited during '{call}': see its error message above")
        self._process.send_signal(signal.SIGSTOP)  # threads that busy-wait would slow the next worker
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
        self._process.communicate()  # closes standard input, which ends the worker


@contextmanager
def start_workers(*names: str) -> Iterator[dict[str, Worker]]:
    """Start workers one after the other, and end them with the block."""
    with ExitStack() as stack:
        workers = {}
        for name in names:
            workers[name] = stack.enter_context(Worker(name))
            workers[name].ask(READY)
        yield workers
