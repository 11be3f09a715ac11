"""QMNIST's table from a file and from an HTTP server on this machine."""

import gzip
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import QuietHandler, WebServer, serving

from digits.core.errors import UserError
from digits.core.params import Writers
from digits.data import writers
from digits.data.writers import read_writers

# The columns of QMNIST: digit, series, writer, number of the image, class, global number, two that are not used.
ROWS = [(7, 4, 30), (2, 4, 31), (1, 4, 30), (0, 1, 30), (4, 1, 2600), (9, 1, 30)]
TABLE = "".join(
    f"{digit}\t{series}\t{writer}\t{index}\t{48 + digit}\t{index}\t0\t0\n"
    for index, (digit, series, writer) in enumerate(ROWS)
).encode()
COMPRESSED = gzip.compress(TABLE, mtime=0)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def save(tmp_path: Path) -> Callable[[bytes], Writers]:
    """Write a table to a file, and return it with its checksum."""

    def write(content: bytes) -> Writers:
        (tmp_path / "table").write_bytes(content)
        return Writers(source=str(tmp_path / "table"), sha256=sha256(content))

    return write


Save = Callable[[bytes], Writers]


@pytest.mark.parametrize("content", [TABLE, COMPRESSED], ids=["plain", "gzipped"])
def test_a_writer_is_a_number_that_is_unique_within_a_series(save: Save, cache: Path, content: bytes) -> None:
    found = read_writers(save(content), cache, 6).tolist()
    # Images 0 and 2 are by writer 30 of series 4, 3 and 5 by writer 30 of series 1.
    assert [found.index(writer) for writer in found] == [0, 1, 0, 3, 4, 3]
    assert sorted(set(found)) == [0, 1, 2, 3]
    assert not cache.exists()


def test_the_first_rows_are_the_test_images(save: Save, cache: Path) -> None:
    assert len(read_writers(save(TABLE), cache, 3)) == 3


def test_a_table_with_too_few_rows_is_refused(save: Save, cache: Path) -> None:
    table = save(TABLE)
    with pytest.raises(UserError, match=rf"evaluate\.writers: {re.escape(table.source)} has 6 rows for 7 test images"):
        read_writers(table, cache, 7)


def test_a_table_with_another_checksum_is_refused(save: Save, cache: Path) -> None:
    table = save(TABLE).model_copy(update={"sha256": "0" * 64})
    with pytest.raises(UserError, match=rf"has the SHA-256 {sha256(TABLE)}; expected 0{{64}}"):
        read_writers(table, cache, 6)


def test_a_missing_table_is_refused(tmp_path: Path, cache: Path) -> None:
    table = Writers(source=str(tmp_path / "nowhere"), sha256="0" * 64)
    expected = r"nowhere cannot be read \(No such file or directory\): name a copy of the table, or null"
    with pytest.raises(UserError, match=expected):
        read_writers(table, cache, 6)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no table\n",
        b"1\t2\n",
        TABLE[:-30] + b'"',
        b"\x1f\x8b",
        b"\x1f\x8bno gzip stream",
        COMPRESSED[:-20],
        b"\xff\xfe\t\xff\t\xff\n",
    ],
    ids=["empty", "text", "two columns", "quote", "magic", "not gzip", "truncated", "not UTF-8"],
)
def test_another_file_is_refused_in_one_line(save: Save, cache: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"^evaluate\.writers: .*table (is not QMNIST's table|has \d rows)") as caught:
        read_writers(save(content), cache, 6)
    assert str(caught.value).isprintable()


# Tables from a server


class Server(WebServer):
    """A web server with one file, which counts the requests for it."""

    content: bytes
    announced: int  # bytes, if not those of the content
    patience: float  # seconds from the end of the content to that of the connection
    requests: int

    @property
    def url(self) -> str:
        return f"{self.address}/table"


class Handler(QuietHandler):
    server: Server

    def answer(self) -> None:
        self.server.requests += 1
        if self.path != "/table":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.announced or len(self.server.content)))
        if self.server.content[:2] == b"\x1f\x8b":
            self.send_header("Content-Encoding", "gzip")  # as some servers do: the checksum is that of the file
        self.end_headers()
        self.wfile.write(self.server.content)
        self.wfile.flush()
        time.sleep(self.server.patience)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(Handler)
    server.content, server.announced, server.patience, server.requests = TABLE, 0, 0, 0
    with serving(server):
        yield server


@pytest.mark.parametrize("content", [TABLE, COMPRESSED], ids=["plain", "gzipped"])
def test_a_table_is_downloaded_once_and_kept_under_its_checksum(server: Server, cache: Path, content: bytes) -> None:
    server.content = content
    table = Writers(source=server.url, sha256=sha256(content))
    found = [read_writers(table, cache, 6).tolist() for _ in range(2)]
    assert found[0] == found[1]
    assert server.requests == 1
    assert [(path.name, path.read_bytes()) for path in cache.iterdir()] == [(sha256(content), content)]


def test_a_damaged_download_is_refused_and_not_kept(server: Server, cache: Path) -> None:
    table = Writers(source=server.url, sha256=sha256(TABLE))
    server.content = TABLE + b"more"
    with pytest.raises(UserError, match=f"has the SHA-256 {sha256(server.content)}; expected {sha256(TABLE)}"):
        read_writers(table, cache, 6)
    assert not cache.exists()
    server.content = TABLE
    assert len(read_writers(table, cache, 6)) == 6


def test_a_kept_table_that_is_damaged_is_refused(server: Server, cache: Path) -> None:
    table = Writers(source=server.url, sha256=sha256(TABLE))
    read_writers(table, cache, 6)
    (cache / sha256(TABLE)).write_bytes(b"damaged")
    with pytest.raises(UserError, match="has the SHA-256"):
        read_writers(table, cache, 6)


def test_an_error_of_the_server_is_one_line(server: Server, cache: Path) -> None:
    table = Writers(source=server.url + "s", sha256=sha256(TABLE))
    with pytest.raises(UserError, match=r"tables cannot be read \(.+\): name a copy of the table, or null") as caught:
        read_writers(table, cache, 6)
    assert str(caught.value).isprintable()


def test_a_download_that_is_cut_short_is_refused(server: Server, cache: Path) -> None:
    table = Writers(source=server.url, sha256=sha256(TABLE))
    server.content, server.announced = TABLE[:-10], len(TABLE)
    with pytest.raises(UserError, match=r"^evaluate\.writers: .*/table (cannot be read|has the SHA-256)") as caught:
        read_writers(table, cache, 6)
    assert str(caught.value).isprintable()
    assert not cache.exists()


def test_a_server_that_stops_sending_is_one_line(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "TIMEOUT", 0.2)
    table = Writers(source=server.url, sha256=sha256(TABLE))
    server.announced, server.patience = len(TABLE) + 10, 1
    with pytest.raises(UserError, match=r"table cannot be read \(.+\): name a copy of the table, or null") as caught:
        read_writers(table, cache, 6)
    assert str(caught.value).isprintable()
    assert not cache.exists()


def test_a_server_that_cannot_be_reached_is_one_line(cache: Path) -> None:
    table = Writers(source="http://127.0.0.1:9/table", sha256=sha256(TABLE))
    with pytest.raises(UserError, match=r"cannot be read \(.+\): name a copy of the table, or null") as caught:
        read_writers(table, cache, 6)
    assert str(caught.value).isprintable()
