"""Generated input: each file works or is refused in one line, within 5 s of processor time and 500 MiB of memory.

`make faults` generates at least 10,000 IDX files and 2,000 params.yaml files; `make test` generates fewer.
"""

import gzip
import json
import re
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from support import FULL, ROOT, committed, generated, idx_bytes, is_clear

from digits.core import artifacts, config, params
from digits.core.errors import UserError
from digits.core.params import FileSpec
from digits.data import downloads, idx, split

SECONDS = 5  # of processor time, because the machine may be busy
MEMORY = 500 << 20  # bytes

TEXT = committed("params.yaml")
CONTENT = config.parse_like_dvc(TEXT)


@contextmanager
def bounded() -> Iterator[None]:
    """Fail if the block takes more than SECONDS, or MEMORY in addition to that of this process."""

    def expire(*_: object) -> None:
        raise AssertionError(f"it took more than {SECONDS} s of processor time")

    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, expire)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGVTALRM, before)


def refusal(call: Callable[[], object]) -> str | None:
    """Return the one-line message of a call that refuses its input, None if the call succeeds."""
    try:
        with bounded():
            call()
    except UserError as error:
        assert is_clear(str(error)), repr(str(error))
        return str(error)
    return None


# Runs a command, and records its processor time in seconds and its memory in KiB. It is a small process because Linux
# counts the memory that a process had before it executed a program, and the process of the tests may hold TensorFlow.
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss, file=file)
sys.exit(code)
"""


# IDX files

IMAGES = np.arange(20 * 28 * 28, dtype=np.uint8).reshape(20, 28, 28)
LABELS = np.repeat(np.arange(10, dtype=np.uint8), 2)
SIZES = st.sampled_from([0, 1, 2, 10, 20, 27, 28, 29, 784, 60_000, 2**16, 2**31 - 1, 2**31, 2**32 - 1])


@st.composite
def idx_files(draw: st.DrawFn) -> bytes:
    """Generate files of images and labels with up to three defects in header, length, values or compression."""
    content = idx_bytes(draw(st.sampled_from([IMAGES, IMAGES[:1], LABELS, LABELS[:5]])))
    for kind in draw(st.lists(st.sampled_from(["field", "magic", "cut", "more", "byte", "gzip", "other"]), max_size=3)):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        match kind:
            case "field":
                field = 4 + 4 * draw(st.integers(0, 3))
                content = content[:field] + struct.pack(">I", draw(SIZES)) + content[field + 4 :]
            case "magic":
                content = draw(st.binary(min_size=4, max_size=4)) + content[4:]
            case "cut":
                content = content[:at]
            case "more":
                content += draw(st.binary(max_size=1000))
            case "byte":
                content = content[:at] + draw(st.binary(min_size=1, max_size=1)) + content[at + 1 :]
            case "gzip":
                content = gzip.compress(content, mtime=0)
            case "other":
                content = draw(st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
    return content


@given(images=idx_files(), labels=idx_files())
@example(images=struct.pack(">HBB3I", 0, 8, 3, 0, 2**32 - 1, 2**32 - 1), labels=b"")
@example(images=struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), labels=b"")
@generated(light=100, full=5_000)
def test_idx_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, images: bytes, labels: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "images").write_bytes(images)
    (folder / "labels").write_bytes(labels)

    def read() -> None:
        pictures, digits = idx.read_pair(folder / "images", folder / "labels")
        assert pictures.shape[1:] == (28, 28)
        train, validation = split.stratified_split(digits, 0.5, 0)
        assert len(train) + len(validation) == len(digits)

    refusal(read)
    for name in ("images", "labels"):  # each by itself, too: the reader of a pair stops at the first defect
        reader = idx.read_images if name == "images" else idx.read_labels
        message = refusal(lambda name=name, reader=reader: reader(folder / name))  # type: ignore[misc]
        assert message is None or message.startswith(f"{folder / name}: ")


def test_a_file_of_the_wrong_length_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "images").open("wb") as file:
        file.write(idx_bytes(IMAGES))
        file.truncate(8 << 30)  # a sparse file
    assert "has 8589934592 bytes; its header (20, 28, 28) requires 15696" in str(
        refusal(lambda: idx.read_images(tmp_path / "images"))
    )


# params.yaml


PLAIN = yaml.safe_dump(CONTENT, sort_keys=False)
BLOCK = re.compile(r"^( *)([\w-]+):(.*(?:\n\1[ -].*)*)$", re.MULTILINE)  # indentation, key, and value to its last line
DEPTH = 5000 if FULL else 1000  # the parser takes seconds to give up at the greater
LAUGHS = "".join(f"&{b} [{', '.join([f'*{a}'] * 9)}], " for a, b in zip("abcdefghi", "bcdefghij", strict=True))
NAMES = [
    "../../etc", "..", ".", "/etc/passwd", "a/b", "a b", "a;touch pwned", "$(touch pwned)", "`id`", "a'b", 'a"b',
    "-rf", "--help", "${models}", "${item.variant}", "*", "~", "a\nb", "a\0b", "\ud800", "\u202ecod.exe", "é",
    "a-errors", "a" * 65, "x" * 100_000, "", "[key]", "mlp64", "npm:--help", "npm:../x@1", "npm:x@1 --ignore-scripts=0",
    "npm:git+https://x@1", "ftp://x", "http://", "http://[", "http://x:99999", "javascript:alert(1)",
]  # fmt: skip
FRAGMENTS = [
    "~", "true", "yes", "-1", "0", "1", "1.0", "1e400", ".nan", ".inf", "-.inf", "0x" + "f" * 5000, "9" * 4000,
    "9" * 5000, "0o777", "2001-01-01", "2001-99-99", "!!bool x", "!!int x", "!!float x", "!!binary x", "!!set {a}",
    "!!omap [a: 1]", "!!timestamp x", "!!python/object/apply:os.system [touch pwned]", "!!python/name:os.system",
    "!unknown x", "*nowhere", "&x [*x]", "&x {a: *x}", "{<<: 1}", "{<<: {a: 1}}", "{a: 1, a: 2}", "{? [1]: 2}",
    "{1: 2}", "{~: 2}", "[]", "{}",
    "[" * DEPTH, "[" * 200 + "]" * 200, "{a: " * DEPTH, "? " * 500, f"[&a [lol], {LAUGHS}]",
    "[" + "1, " * 20_000 + "]", "{" + ", ".join(f"k{i}: {i}" for i in range(10_000)) + "}",
    "x" * 200_000, "|", "%", "@", "\t",
]  # fmt: skip
VALUES = (
    st.sampled_from(FRAGMENTS)
    | st.sampled_from([block[3] for block in BLOCK.finditer(PLAIN)])
    | (st.sampled_from(NAMES) | st.text(max_size=20) | st.integers()).map(json.dumps)
    | st.floats().map(lambda value: f"{value!r}".replace("inf", ".inf").replace("nan", ".nan"))
)


def changed(key: str, value: str) -> bytes:
    """Return params.yaml with another value of a key."""
    return re.sub(rf"^{key}:(\n[ -].*)*$", lambda _: f"{key}: {value}", PLAIN, flags=re.MULTILINE).encode("utf-8")


@st.composite
def params_files(draw: st.DrawFn) -> bytes:
    """Generate the committed params.yaml with other values, keys, lines and bytes, or any text."""
    text = draw(st.sampled_from([PLAIN] * 9 + [""])) or draw(st.sampled_from(FRAGMENTS) | st.text(max_size=200))
    for block in draw(st.lists(st.sampled_from(list(BLOCK.finditer(PLAIN))), max_size=3)):
        indentation, key, value = block.groups()
        key, value = draw(st.tuples(st.just(key), VALUES.map(" {}".format)) | st.tuples(VALUES, st.just(value)))
        text = text.replace(block[0], f"{indentation}{key}:{value}", 1)
    more = draw(st.sampled_from(["", "", "", "line", "bytes"]))
    if more == "line":
        lines = text.split("\n")
        line = draw(st.sampled_from(["", " ", "\t", "- ", "  ", "? ", "<<: *a "])) + draw(st.sampled_from(lines))
        lines.insert(draw(st.integers(0, len(lines))), line)
        text = "\n".join(lines)
    content = bytearray(text.encode("utf-8", errors="surrogatepass"))
    if more == "bytes":
        for where in draw(st.lists(st.integers(0, len(content)), max_size=3)):
            content[where : where + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
        del content[draw(st.just(len(content)) | st.integers(0, len(content))) :]
    return bytes(content)


@given(content=params_files())
@example(content=TEXT.encode("utf-8"))
@example(content=changed("train", f"[&a [lol], {LAUGHS}]"))
@example(content=f"{PLAIN}x: {{? {json.dumps('a' + chr(10) + 'b')}: 1}}".encode())
@generated(light=60, full=2_500)
def test_params_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    path.write_bytes(content)
    message = refusal(lambda: params.load(path))
    if message is None:
        loaded = params.load(path)
        for name in (*loaded.variants, *loaded.models):
            assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
            assert name[0] != "-"
    else:
        assert message.startswith(f"{path}: ")


@given(content=params_files())
@example(content=changed("variants", f"[0x{'f' * 5000}]"))
@generated(light=1, full=100)
def test_the_stage_params_succeeds_or_ends_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("params")
    (folder / "params.yaml").write_bytes(content)
    (folder / ".dvc").mkdir()
    command = [sys.executable, "-IS", "-c", MEASURED, "usage", sys.executable, str(ROOT / "src"), "params"]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    seconds, kibibytes = (folder / "usage").read_text("utf-8").split()
    assert float(seconds) < SECONDS
    assert int(kibibytes) * 1024 < MEMORY
    if process.returncode == 0:
        assert process.stderr == ""
    else:
        assert process.returncode == 1
        assert re.fullmatch("digits: .+\n", process.stderr)
        assert is_clear(process.stderr[:-1]), process.stderr
    assert (process.returncode == 0) == (folder / "params.schema.json").exists()
    assert {path.name for path in folder.iterdir()} <= {".dvc", "params.yaml", "params.schema.json", "usage"}


@pytest.mark.parametrize("stage", ["train", "evaluate", "analyze"])
def test_a_stage_refuses_a_variant_without_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    (tmp_path / "params.yaml").write_text(TEXT, "utf-8")
    monkeypatch.chdir(tmp_path)
    run = import_module(f"digits.stages.{stage}").run
    with pytest.raises(UserError, match="has no entry under models; the entries are softmax, "):
        run("../../outside")


# Sources

SPEC = FileSpec(bytes=3, sha256="0" * 64)
PREFIXES = ["", "~", "~nobody-of-the-kind/", "file:", "file://", "file:///", "npm:"]
HOSTS = ["127.0.0.1:9", "[::1]:9", "[", "127.0.0.1:99999", "127.0.0.1:x", "a@127.0.0.1:9", "127.0.0.1:0", "", "?", "#"]
SOURCES = st.builds(
    str.__add__,
    st.sampled_from([*PREFIXES, *(f"http://{host}/" for host in HOSTS)]),
    st.sampled_from([*NAMES, "%00"]) | st.text(max_size=20),
)


@given(text=SOURCES)
@example(text="~nobody-of-the-kind/x")
@example(text="http://[/")
@example(text="file:///a%00b")
@example(text="a\0b")
@generated(light=20, full=1_000)
def test_a_source_is_refused_or_skipped(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("sources")
    path = folder / "params.yaml"
    path.write_text(json.dumps(CONTENT | {"download": CONTENT["download"] | {"sources": [text]}}), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PATH", str(folder))  # no npm
        if refusal(lambda: params.load(path)) is None:
            with pytest.raises(UserError, match=r"no source in download\.sources has a valid copy"), bounded():
                downloads.fetch({"file": SPEC}, [text], folder / "raw", timeout=1, retries=0)
            assert list((folder / "raw").iterdir()) == []


# Arrays


@given(data=st.data())
@generated(light=100, full=5_000)
def test_damaged_arrays_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "arrays.npz"
    artifacts.write_arrays(path, images=IMAGES[:1], labels=LABELS)
    content = bytearray(path.read_bytes())
    # The headers of the zip file and of the arrays, and the directory at the end, rather than the pixels alone.
    somewhere = st.integers(0, 260) | st.integers(len(content) - 500, len(content) - 1)
    for where in data.draw(st.lists(somewhere, min_size=1, max_size=3)):
        content[where] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    message = refusal(lambda: artifacts.read_arrays(path))
    assert message is None or message.startswith(f"{path} cannot be read")
