"""The fork server, without any module to import."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support import wait_until

from digits.sweep import fork_server

Server = tuple[subprocess.Popen[bytes], str]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A fork server and the path of its socket."""
    (tmp_path / "socket").mkdir()
    path = os.path.relpath(tmp_path / "socket/python")  # the path of a socket has at most 107 bytes
    command = [sys.executable, "-P", fork_server.__file__, "serve", path]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    wait_until(Path(path).exists, "the server listens")
    yield process, path
    process.kill()
    process.communicate()


def test_its_python_runs_programs_as_python_does(server: Server, tmp_path: Path) -> None:
    fork_server.write_python(tmp_path / "bin", server[1], sys.executable)
    variables = os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "WORD": "word"}
    script = tmp_path / "script.py"

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["python", *arguments]
        return subprocess.run(command, env=variables, input="line\n", capture_output=True, text=True, check=False)

    script.write_text(
        "import os, sys\nprint(sys.argv[1:], os.environ['WORD'], input(), os.getppid())\nsys.exit(int(sys.argv[1]))\n",
        "utf-8",
    )
    result = python(os.path.relpath(script), "3")
    assert result.stdout == f"['3'] word line {server[0].pid}\n"  # the server is the parent
    assert result.returncode == 3
    assert python("-c", "print(6 * 7)").stdout == "42\n"
    script.write_text("import sys; sys.exit('a message')", "utf-8")
    result = python(str(script))
    assert (result.returncode, result.stderr) == (1, "a message\n")
    script.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "utf-8")
    assert python(str(script)).returncode == 1


def test_the_status_of_a_fork_killed_before_it_read_its_request_is_1() -> None:
    connection, fork = socket.socketpair()
    connection.sendall(b"request")
    fork.close()  # with unread data, which resets the connection
    assert fork_server.wait(connection) == 1


def test_it_ends_with_its_parent_and_kills_its_forks(server: Server, tmp_path: Path) -> None:
    process, path = server
    script = tmp_path / "sleep.py"
    script.write_text("import time; time.sleep(100)", "utf-8")
    connection = fork_server.start_program(path, [str(script)], (0, 1, 2), tmp_path, os.environ)
    wait_until(lambda: psutil.Process(process.pid).children(), "the script runs")
    (child,) = psutil.Process(process.pid).children()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == -signal.SIGKILL
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the fork is dead")
    assert fork_server.wait(connection) == 1
    assert not Path(path).parent.exists()
