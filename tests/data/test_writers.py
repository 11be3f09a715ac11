"""QMNIST's table from a file and from an HTTP server on this machine."""

import gzip
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

import pytest
from servers import Mirror, Response, body, stalled

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
DAMAGED = COMPRESSED[:10] + b"\xff" * 10 + COMPRESSED[20:]


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


def test_a_table_needs_a_row_for_each_test_image(save: Save, cache: Path) -> None:
    table = save(TABLE)
    assert len(read_writers(table, cache, 3)) == 3
    with pytest.raises(UserError, match=rf"evaluate\.writers: {re.escape(table.source)} has 6 rows for 7 test images"):
        read_writers(table, cache, 7)


def test_a_table_with_another_checksum_is_refused(save: Save, cache: Path) -> None:
    table = save(TABLE).model_copy(update={"sha256": "0" * 64})
    with pytest.raises(UserError, match=rf"has the SHA-256 {sha256(TABLE)}; expected 0{{64}}"):
        read_writers(table, cache, 6)


@pytest.mark.parametrize(
    "content",
    [b"", b"1\t2\n", b"\xff\xfe\t\xff\t\xff\n", b"\x1f\x8bno gzip stream", COMPRESSED[:-20], DAMAGED],
)
def test_another_file_is_refused_in_one_line(save: Save, cache: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"^evaluate\.writers: .*table is not QMNIST's table: three") as caught:
        read_writers(save(content), cache, 6)
    assert str(caught.value).isprintable()


# Tables from a server


@pytest.mark.parametrize(
    ("content", "response"),
    [(TABLE, body(TABLE)), (COMPRESSED, body(COMPRESSED, Content_Encoding="gzip"))],  # as some servers answer
)
def test_a_table_is_downloaded_once_and_kept_under_its_checksum(
    mirror: Mirror, cache: Path, content: bytes, response: Response
) -> None:
    mirror.responses["/mnist/table"] = response
    table = Writers(source=f"{mirror.url}table", sha256=sha256(content))
    found = [read_writers(table, cache, 6).tolist() for _ in range(2)]
    assert found[0] == found[1]
    assert mirror.requested == ["/mnist/table"]
    assert [(path.name, path.read_bytes()) for path in cache.iterdir()] == [(sha256(content), content)]
    (cache / sha256(content)).write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"{cache}/{sha256(content)} has the SHA-256"):
        read_writers(table, cache, 6)


@pytest.mark.parametrize("content", [TABLE + b"more", TABLE[:-10]], ids=["another file", "cut short"])
def test_a_damaged_download_is_refused_and_not_kept(mirror: Mirror, cache: Path, content: bytes) -> None:
    mirror.responses["/mnist/table"] = body(content, length=max(len(TABLE), len(content)))
    table = Writers(source=f"{mirror.url}table", sha256=sha256(TABLE))
    with pytest.raises(UserError, match=f"has the SHA-256 {sha256(content)}; expected {sha256(TABLE)}"):
        read_writers(table, cache, 6)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("source", "response", "reason"),
    [
        ("table", body(b"", 404), "HTTPError"),
        ("table", stalled(TABLE), "ReadTimeoutError"),
        ("http://127.0.0.1:9/table", None, "ConnectionError"),
        ("file", None, "No such file or directory"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_in_one_line(
    source: str, response: Response, reason: str, mirror: Mirror, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "TIMEOUT", 0.2)
    mirror.responses["/mnist/table"] = response
    source = str(cache / source) if source == "file" else urljoin(mirror.url, source)
    with pytest.raises(UserError) as caught:
        read_writers(Writers(source=source, sha256=sha256(TABLE)), cache, 6)
    assert str(caught.value) == (
        f"evaluate.writers: {source} cannot be read ({reason}): "
        "name a copy of the table, or null for a fixed design effect"
    )
    assert not cache.exists()
