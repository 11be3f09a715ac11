"""The Dask tasks of a sweep: each thread of a worker runs one trial at a time, in a clone of its own."""

import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from distributed import get_worker

from digits.core.errors import UserError
from digits.sweep import fork_server
from digits.sweep import trial as trials
from digits.sweep.scores import Score, read_scores
from digits.sweep.trial import Source, Trial

NUMPY_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one for each BLAS library
CORES = "DIGITS_CORES"  # how many cores a stage may use: digits.modeling.backend reads it
LAST_LINES = 20  # of a failed trial's log, in its error
POLL_SECONDS = 0.5  # between two checks whether a trial has been cancelled


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended."""

    name: str
    host: str  # address of the Dask worker
    seconds: float
    scores: dict[str, Score] = field(default_factory=dict)  # by variant
    error: str | None = None  # the last lines of the log


class TrialCancelledError(Exception):
    """The sweep was interrupted, or its client has gone."""


class CloneRunner:
    """Runs trials one after another in a clone, with a fork server whose process group includes all that they start."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder = folder
        self.source = source
        self.clone = folder / "clone"
        self.log = folder / "log"
        self.server: subprocess.Popen[bytes] | None = None
        self.server_log = folder / "server.log"
        self.socket = ""  # path
        folder.mkdir(exist_ok=True)

    def run(self, trial: Trial) -> TrialOutcome:
        """Run a trial. If it fails, the outcome has the error, and the next trial gets a new clone and server.

        Raises:
            TrialCancelledError: the scheduler has cancelled the task.
        """
        start, host = time.monotonic(), get_worker().address
        scores: dict[str, Score] = {}
        error: str | None = None
        succeeded = False
        try:
            self._prepare()
            succeeded = self._run_process(trials.arguments(trial, self.source)) == 0
            if succeeded:
                scores = read_scores(self.clone, self.source.ref(trial))
            else:
                error = "\n".join(self.log.read_text("utf-8", "replace").rstrip().splitlines()[-LAST_LINES:])
        except (UserError, OSError) as failure:
            error = f"digits: {failure}"
        finally:
            if not succeeded:
                self.close()
        return TrialOutcome(trial.name, host, time.monotonic() - start, scores, error)

    def close(self) -> None:
        """Kill the server and all that runs in the clone, and delete the clone."""
        if self.server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.server.pid, signal.SIGKILL)
            self.server.communicate()
            shutil.rmtree(Path(self.socket).parent, ignore_errors=True)
            self.server = None
        shutil.rmtree(self.clone, ignore_errors=True)

    def _prepare(self) -> None:
        """Start the server and clone the source, unless that is done."""
        if self.server is None or self.server.poll() is not None:
            self._start_server()
        if not self.clone.exists():
            host_caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            trials.clone(self.clone, self.source, host_caches / "digits" / "dvc")

    def _start_server(self) -> None:
        # Not in the folder: the path of a socket has at most 107 bytes.
        self.socket = f"{tempfile.mkdtemp(prefix='digits-')}/python"
        fork_server.write_python(self.folder / "bin", self.socket, sys.executable)
        with self.server_log.open("wb") as log:
            self.server = subprocess.Popen(
                [sys.executable, "-P", fork_server.__file__, "serve", self.socket, *fork_server.SLOW_MODULES],
                stdin=subprocess.PIPE,  # ends with this process
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,  # a process group, to be killed as a whole
            )

    def _run_process(self, arguments: list[str]) -> int:
        """Run `python` with these arguments in the clone, and return its exit status."""
        with open(os.devnull, "rb") as nothing, self.log.open("wb") as log:  # noqa: PTH123
            connection = self._start_process(arguments, (nothing.fileno(), log.fileno(), log.fileno()))
        with connection:
            while not select.select([connection], [], [], POLL_SECONDS)[0]:
                _raise_if_cancelled()
            return fork_server.wait(connection)

    def _start_process(self, arguments: list[str], streams: tuple[int, int, int]) -> socket.socket:
        """Start a process, as soon as the server has imported its modules and listens."""
        while True:
            _raise_if_cancelled()
            try:
                return fork_server.start_program(self.socket, arguments, streams, self.clone, self._environment())
            except (ConnectionError, FileNotFoundError):
                if self.server is None or self.server.poll() is not None:
                    raise UserError(self.server_log.read_text("utf-8", "replace").rstrip()) from None
                time.sleep(0.05)

    def _environment(self) -> dict[str, str]:
        """Return variables with which `python` is the fork server's, and NumPy and stages use one trial's threads."""
        folders = [str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        threads = dict.fromkeys((*NUMPY_THREADS, CORES), str(self.source.threads))
        return os.environ | threads | {"PATH": os.pathsep.join(folders), "TF_CPP_MIN_LOG_LEVEL": "2"}


_runners: dict[int, CloneRunner] = {}  # by thread


def run(trial: Trial, source: Source) -> TrialOutcome:
    """Run a trial in this thread's clone; this is the Dask task."""
    thread = threading.get_native_id()
    runner = _runners.get(thread)
    if runner is None or runner.source != source:
        if runner is not None:
            runner.close()
        runner = CloneRunner(Path(get_worker().local_directory) / f"trials-{thread}", source)
        _runners[thread] = runner
    return runner.run(trial)


def dask_setup(_: object) -> None:
    """Make the worker ignore Ctrl-C, which only the sweep that started it handles; Dask calls this at the start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    silence_tornado()


def silence_tornado() -> None:
    """Keep this process from printing the tracebacks that Tornado logs when connections end."""
    logging.getLogger("tornado.application").disabled = True


def _raise_if_cancelled() -> None:
    """Raise TrialCancelledError if the scheduler has cancelled the task of this thread."""
    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled":
        raise TrialCancelledError
