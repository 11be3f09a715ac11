"""A Python process that has imported the slow libraries and forks itself to run other Python programs.

A stage that DVC starts as `python src train mlp64` then starts without importing TensorFlow. `serve` is the server.
`write_python` writes a program named `python`, for the PATH, that has the server run scripts.

This file imports nothing from digits, so that a fork imports the modules of the clone that it runs in.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import shlex
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

SLOW_MODULES = (
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


def serve(path: str, modules: Sequence[str]) -> None:
    """Import modules, then run each requested program in a fork, until standard input ends.

    Standard input ends with the process that started the server, even if that is killed. The server then kills its
    process group, which includes all forks.

    Args:
        path: of the Unix socket to create, in a folder of its own that is deleted at the end.
        modules: what to import, if it is installed.
    """
    threading.Thread(target=_end_with_parent, args=[Path(path)], daemon=True).start()
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    # A garbage collection in a fork would write to the pages of the imported modules, and so copy them.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks send their exit status themselves
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    _serve_request(connection)


def start_program(
    path: str, arguments: Sequence[str], streams: Sequence[int], folder: Path, environment: Mapping[str, str]
) -> socket.socket:
    """Have a server run a program, and return the connection for `wait`.

    Args:
        path: of the server's socket.
        arguments: what would follow `python`: a script or folder, or `-m` and a module, then their arguments.
        streams: the file descriptors of standard input, output and error.
        folder: the program's current folder.
        environment: all of the program's environment variables.

    Raises:
        OSError: no server listens there.
    """
    request = {"arguments": list(arguments), "folder": str(folder), "environment": dict(environment)}
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
        socket.send_fds(connection, [b" "], list(streams))
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
    except BaseException:
        connection.close()
        raise
    return connection


def wait(connection: socket.socket) -> int:
    """Wait for a program to end, and return its exit status, which is 1 if it was killed."""
    with connection, connection.makefile("rb") as file:
        try:
            return int(file.read() or 1)
        except ConnectionResetError:  # killed before it had read the request
            return 1


def write_python(folder: Path, path: str, python: str) -> None:
    """Write a program `python` that has a server run scripts and that passes everything else to a Python interpreter.

    Args:
        folder: where to write it.
        path: of the server's socket.
        python: the interpreter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "python"
    # With -I and -S it starts in 20 ms.
    command = shlex.join([python, "-IS", __file__, "run", path, python])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o755)


def main() -> None:
    """Serve, or run a program like `python` does: `serve <socket> <modules>` or `run <socket> <python> <arguments>`."""
    action, path, *rest = sys.argv[1:]
    if action == "serve":
        serve(path, rest)
    python, *arguments = rest
    if arguments and not arguments[0].startswith("-"):
        with contextlib.suppress(ConnectionError, FileNotFoundError):  # without a server, Python runs the script
            sys.exit(wait(start_program(path, arguments, (0, 1, 2), Path.cwd(), os.environ)))
    os.execv(python, [python, *arguments])  # noqa: S606


def _serve_request(connection: socket.socket) -> None:
    """Run the requested program in this fork, send its exit status, and end the fork."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        request = json.load(connection.makefile("rb"))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        status = _run_program(request["arguments"])
    except BaseException:  # must not return to the loop of the server
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(str(status).encode())
        os._exit(status)


def _run_program(arguments: list[str]) -> int:
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(arguments)
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    return 0


def _end_with_parent(path: Path) -> None:
    while os.read(0, 1):
        pass
    with contextlib.suppress(OSError):
        path.unlink()
        path.parent.rmdir()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
