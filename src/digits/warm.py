"""A Python that has imported the slow libraries already, and forks itself for each command line it is asked to run.

`python -P warm.py <socket>` serves; `warm.py` as a program of the name `python` on the PATH asks it. A stage that DVC
starts as `python src train mlp64` then runs the code of its own checkout, in a process of its own, without the seconds
in which TensorFlow is imported. This file imports nothing of digits, so that a fork imports the checkout's own modules.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

SOCKET = "DIGITS_WARM_PYTHON"  # the environment variable that tells a client where to ask
PYTHON = "DIGITS_COLD_PYTHON"  # and which Python to be, where the server is not to run the command line
SIZE = 8  # bytes of the number that says how long a request is
SLOW = (
    "keras",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "scipy.stats",
    "pydantic",
    "ruamel.yaml",
    "tqdm",
    "dvc.repo.experiments.executor.local",
    "dvc.repo.experiments.push",
    "dvc.repo.experiments.queue.workspace",
    "dvc.repo.experiments.run",
)


def serve(path: str, modules: Sequence[str] = SLOW) -> None:
    """Import what is slow, then run the command lines that come over a socket, until standard input ends.

    The end of standard input is that of the process which wanted the server, however it ended: the server's process
    group, which holds all that it runs, is killed.

    Args:
        path: the Unix socket to listen at, in a folder of its own, which is removed at the end.
        modules: what to import; what is not installed is left out.
    """
    threading.Thread(target=_end_with_parent, args=[Path(path)], daemon=True).start()
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    # Looking through what was imported would write to its pages, and so copy them into each fork.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks report for themselves: none is waited for
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen()
        while True:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    listening.close()
                    _answer(connection)


def ask(
    path: str, arguments: Sequence[str], streams: Sequence[int], folder: Path, environment: Mapping[str, str]
) -> socket.socket:
    """Ask a server to run a Python command line, and return the connection, of which `status` reads how it ended.

    Args:
        path: the server's socket.
        arguments: those after `python`: a script or folder, or `-m` and a module, and theirs.
        streams: the file descriptors of standard input, output and error.
        folder: where to run it.
        environment: the whole of it.

    Raises:
        OSError: no server listens there.
    """
    request = {"arguments": list(arguments), "folder": str(folder), "environment": dict(environment)}
    content = json.dumps(request).encode()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
        socket.send_fds(connection, [len(content).to_bytes(SIZE)], list(streams))
        connection.sendall(content)
    except BaseException:
        connection.close()
        raise
    return connection


def status(connection: socket.socket) -> int:
    """Wait until what was asked for has ended, and return its exit status, 1 where it was killed."""
    with connection, connection.makefile("rb") as answer:
        return int(answer.read() or 1)


def _answer(connection: socket.socket) -> None:
    """Run what a client asks for, in this fork, and end it."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        size, streams, _, _ = socket.recv_fds(connection, SIZE, 3)
        request = json.loads(connection.makefile("rb").read(int.from_bytes(size)))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        code = _run(request["arguments"])
    except BaseException:  # whatever it is, only this fork ends
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(str(code).encode())
        os._exit(code)


def _run(arguments: list[str]) -> int:
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(arguments)
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


def _end_with_parent(path: Path) -> None:
    while os.read(0, 1):
        pass
    with contextlib.suppress(OSError):
        path.unlink()
        path.parent.rmdir()
    os.killpg(0, signal.SIGKILL)


def stand_in(folder: Path, path: str, python: str) -> None:
    """Write a program `python` that has the server at `path` run scripts, and runs all else itself."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "python"
    # -I and -S: it needs no library, and starts in 20 ms.
    program.write_text(
        f'#!/bin/sh\n{SOCKET}="{path}" {PYTHON}="{python}" exec "{python}" -IS "{__file__}" "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)


def main() -> None:
    path = os.environ.pop(SOCKET, "")
    if not path:
        serve(sys.argv[1])
    python, arguments = os.environ.pop(PYTHON), sys.argv[1:]
    if arguments and not arguments[0].startswith("-"):
        with contextlib.suppress(ConnectionError, FileNotFoundError):  # it has gone: then without it
            connection = ask(path, arguments, (0, 1, 2), Path.cwd(), os.environ)
            sys.exit(status(connection))
    os.execv(python, [python, *arguments])  # noqa: S606


if __name__ == "__main__":
    main()
