"""Who wrote each test image, by QMNIST's table."""

import gzip
import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import requests
from numpy.typing import NDArray
from urllib3.exceptions import HTTPError

from digits.core.artifacts import atomic_write
from digits.core.errors import UserError
from digits.core.params import Writers

TIMEOUT = 60  # seconds without an answer of the server
LIMIT = 1 << 26  # bytes: QMNIST's table has 2 MB
SERIES, WRITER = 1, 2  # columns; a writer's number is unique within a series of NIST


def read_writers(table: Writers, cache: Path, images: int) -> NDArray[np.int64]:
    """Return who wrote each test image, as numbers from 0, (images,).

    The format is that of QMNIST's `qmnist-test-labels.tsv`, plain or gzipped: a row for each image, with columns that
    tabs separate, the third of which is the writer. Its first 10,000 rows are the test images of MNIST. Source:
    C. Yadav and L. Bottou, Cold case: the lost MNIST digits, NeurIPS 2019.

    Args:
        table: where the table is, and its checksum.
        cache: the folder that keeps a downloaded table, under its checksum.
        images: the number of test images.

    Raises:
        UserError: the table cannot be read, has another checksum, or has fewer rows than there are images.
    """
    content = _content(table, cache)
    try:
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        rows = pd.read_csv(io.BytesIO(plain), sep="\t", header=None, usecols=[SERIES, WRITER], nrows=images)
    except (EOFError, OSError, ValueError, zlib.error):
        raise UserError(
            f"evaluate.writers: {table.source} is not QMNIST's table: three or more columns that tabs separate, plain "
            "or gzipped"
        ) from None
    if len(rows) < images:
        raise UserError(f"evaluate.writers: {table.source} has {len(rows)} rows for {images} test images")
    return np.asarray(rows.groupby([SERIES, WRITER]).ngroup(), np.int64)


def _content(table: Writers, cache: Path) -> bytes:
    """Return the bytes of the table, from the cache if it was downloaded before."""
    remote = table.source.startswith(("http://", "https://"))
    kept = cache / table.sha256
    path = kept if remote and kept.is_file() else Path(table.source).expanduser()
    try:
        content = _download(table.source) if remote and path != kept else path.read_bytes()
    except (HTTPError, OSError, ValueError) as error:  # requests' exceptions are OSErrors, too
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise UserError(
            f"evaluate.writers: {table.source} cannot be read ({reason}): "
            "name a copy of the table, or null for a fixed design effect"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != table.sha256:
        file = kept if path == kept else table.source
        raise UserError(f"evaluate.writers: {file} has the SHA-256 {found}; expected {table.sha256}")
    if remote and path != kept:
        with atomic_write(kept) as temporary:
            temporary.write_bytes(content)
    return content


def _download(url: str) -> bytes:
    with requests.get(url, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        # Not decoded: the checksum is that of the file as it is stored.
        content: bytes = response.raw.read(LIMIT, decode_content=False)
    return content
