"""What a Dask worker does of a sweep: each of its threads runs a trial at a time, in its own clone and warm Python."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from distributed import get_worker

from digits import trial as trials
from digits import warm
from digits.errors import UserError
from digits.files import read_json
from digits.trial import Score, Source, Trial

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # of NumPy, by what it was built with
LAST_LINES = 20  # of a failed trial's log
PATIENCE = 0.5  # seconds between two looks at whether a trial is still wanted


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    name: str
    host: str
    seconds: float
    ran: bool  # False: it had been run before
    scores: dict[str, Score] = field(default_factory=dict)  # by variant
    error: str | None = None  # the last lines of its log


class Slot:
    """A clone, and a warm Python whose process group holds all that runs in it."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder = folder
        self.source = source
        self.clone = folder / "clone"
        self.log = folder / "log"
        self.server: subprocess.Popen[bytes] | None = None
        self.socket = ""

    def run(self, trial: Trial) -> Outcome:
        """Run a trial; what goes wrong in it is part of the outcome.

        Raises:
            NoLongerWantedError: it is no longer wanted.
        """
        start, host = time.monotonic(), get_worker().address
        order, answer = self.folder / "order.json", self.folder / "answer.json"
        ended = False
        try:
            self._prepare()
            order.write_text(trials.order(trial, self.source), encoding="utf-8")
            answer.unlink(missing_ok=True)
            with self.log.open("wb") as log:
                ended = self._run(["-m", "digits.trial", str(order), str(answer)], log.fileno()) == 0
            if ended:
                return Outcome(trial.name, host, time.monotonic() - start, **read_json(answer))
            error = "\n".join(self.log.read_text("utf-8", "replace").rstrip().splitlines()[-LAST_LINES:])
        except (UserError, OSError) as failure:
            error = f"digits: {failure}"
        finally:
            if not ended:  # whatever state it was left in
                self.close()
        return Outcome(trial.name, host, time.monotonic() - start, ran=True, error=error)

    def close(self) -> None:
        """End all that runs here, and remove the clone."""
        if self.server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.server.pid, signal.SIGKILL)
            self.server.communicate()
            shutil.rmtree(Path(self.socket).parent, ignore_errors=True)
            self.server = None
        shutil.rmtree(self.clone, ignore_errors=True)

    def _prepare(self) -> None:
        if self.server is None or self.server.poll() is not None:
            # Not in the folder: a socket's path has at most 107 bytes.
            self.socket = f"{tempfile.mkdtemp(prefix='digits-')}/python"
            warm.stand_in(self.folder / "bin", self.socket, sys.executable)
            with (self.folder / "python.log").open("wb") as log:
                self.server = subprocess.Popen(
                    [sys.executable, "-P", warm.__file__, self.socket],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=self._environment(),
                    start_new_session=True,  # so that it and what it runs can be ended together
                )
        if not self.clone.exists():
            caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            trials.clone(self.clone, self.source, caches / "digits" / "dvc")

    def _run(self, arguments: list[str], log: int) -> int:
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123
            streams = (nothing.fileno(), log, log)
            while True:
                _stay_if_wanted()
                try:
                    connection = warm.ask(self.socket, arguments, streams, self.clone, self._environment())
                    break
                except (ConnectionError, FileNotFoundError):  # it still imports
                    if self.server is None or self.server.poll() is not None:
                        raise UserError((self.folder / "python.log").read_text("utf-8", "replace")) from None
                    time.sleep(0.05)
        with connection:
            while not select.select([connection], [], [], PATIENCE)[0]:
                _stay_if_wanted()
            return warm.status(connection)

    def _environment(self) -> dict[str, str]:
        """Return an environment with this Python's programs, the stand-in first, and a trial's share of threads."""
        programs = [str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        threads = dict.fromkeys(THREADS, str(self.source.threads))
        return os.environ | threads | {"PATH": os.pathsep.join(programs), "TF_CPP_MIN_LOG_LEVEL": "2"}


_slots: dict[int, Slot] = {}


def run(trial: Trial, source: Source) -> Outcome:
    """Run a trial in the slot of this thread, as a Dask task."""
    thread = threading.get_native_id()
    slot = _slots.get(thread)
    if slot is None or slot.source != source:
        if slot is not None:
            slot.close()
        slot = Slot(Path(get_worker().local_directory) / f"trials-{thread}", source)
        slot.folder.mkdir(exist_ok=True)
        _slots[thread] = slot
    return slot.run(trial)


def dask_setup(_: object) -> None:
    """Leave Ctrl-C, which a terminal sends to the workers, too, to the sweep that started them: Dask's hook."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class NoLongerWantedError(Exception):
    """The sweep was interrupted, or is of a client that has gone."""


def _stay_if_wanted() -> None:
    """Raise NoLongerWantedError where the scheduler has taken back the task that this thread runs."""
    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled":
        raise NoLongerWantedError
