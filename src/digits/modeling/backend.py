"""TensorFlow and Keras, set up to start quickly and quietly: every other module imports them from here.

They compute on the CPU, because a GPU adds in another order, which changes the last digits.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hide_modules(*modules: str) -> Iterator[None]:
    """Make `import` fail for modules that are installed but not yet imported.

    Keras imports these if it finds them, for adapters that are not used here: 2.3 s of a 5 s start.
    """
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's own mark for "not found"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def hold_back_stderr() -> Iterator[None]:
    """Discard what native code writes to standard error, unless the block fails.

    TensorFlow reports there, on every start and at any log level, which CPU features and GPU drivers it looked for.
    """
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(before, held.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors, no warnings
with hold_back_stderr(), _hide_modules("matplotlib", "pandas", "sklearn"):
    import keras
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # here, because TensorFlow reports an error if there is none

__all__ = ["available_workers", "hold_back_stderr", "keras", "pin_threads", "tf"]


def pin_threads(threads: int, workers: int = 1) -> None:
    """Compute with a fixed number of threads; call it before anything is computed.

    Another number of threads adds in another order, which changes the last digits. The number of workers changes
    nothing.

    Args:
        threads: of each operation.
        workers: Python threads that compute at the same time.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(workers)


def available_workers(threads: int) -> int:
    """Return how many workers, with a number of threads each, the cores have room for that this process may use.

    The environment variable DIGITS_CORES limits the number of cores; without it, they are those of the process.
    """
    limit = os.environ.get("DIGITS_CORES", "")
    if limit.isdecimal() and int(limit):
        cores = int(limit)
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)
