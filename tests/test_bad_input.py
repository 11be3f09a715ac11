"""Input of any kind: each generated file works or is refused in one line, in 5 s of processor time and 500 MiB.

`make faults` runs at least 10,000 generated IDX files and 2,000 generated params.yaml files; `make test` runs fewer.
"""

import gzip
import json
import resource
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FULL, ROOT, idx_bytes
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from digits import files, idx, params, sources, splits
from digits.errors import UserError
from digits.params import FileSpec

SECONDS = 5  # of the processor: the machine may have other things to do
MEMORY = 500 << 20  # bytes

TEXT = (ROOT / "params.yaml").read_text("utf-8")
CONTENT = YAML(typ="safe", pure=True).load(TEXT)


def generated(light: int, full: int) -> settings:
    """Settings for so many examples in `make test`, always the same ones, and so many new ones in `make faults`."""
    return settings(
        max_examples=full if FULL else light,
        derandomize=not FULL,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def bounded() -> Iterator[None]:
    """Fail what takes more than SECONDS, or MEMORY on top of what this process has."""

    def expire(*_: object) -> None:
        raise AssertionError(f"over {SECONDS} s of processor time")

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


def is_clear(message: str) -> bool:
    return message.isprintable() and len(message) < 1000


def refusal(call: Callable[[], object]) -> str | None:
    """Return the one line with which a call refuses its input, None where it works."""
    try:
        with bounded():
            call()
    except UserError as error:
        assert is_clear(str(error)), repr(str(error))
        return str(error)
    return None


# Runs a command and notes its processor seconds and KiB. It is small: Linux counts what a process held before it became
# another program as that program's, and these tests may share a process with TensorFlow.
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss, file=file)
sys.exit(code)
"""


def check_command(folder: Path, *arguments: str) -> str:
    """Run the real command, and return its standard error, empty or one line."""
    launcher = [sys.executable, "-IS", "-c", MEASURED, str(folder / "usage")]
    process = subprocess.run(
        [*launcher, sys.executable, str(ROOT / "src"), *arguments], cwd=folder, capture_output=True, check=False
    )
    message = process.stderr.decode("utf-8")
    seconds, kibibytes = (folder / "usage").read_text("utf-8").split()
    assert float(seconds) < SECONDS
    assert int(kibibytes) * 1024 < MEMORY
    if process.returncode == 0:
        assert message == ""
    else:
        assert process.returncode in (1, 2)
        assert message.startswith("digits: ")
        assert message.endswith("\n")
        assert is_clear(message[:-1]), message
    return message


# IDX files

IMAGES = np.arange(20 * 28 * 28, dtype=np.uint8).reshape(20, 28, 28)
LABELS = np.repeat(np.arange(10, dtype=np.uint8), 2)
SIZES = st.sampled_from([0, 1, 2, 10, 20, 27, 28, 29, 784, 60_000, 2**16, 2**31 - 1, 2**31, 2**32 - 1])


@st.composite
def idx_files(draw: st.DrawFn) -> bytes:
    """Valid files of images and labels, damaged in none to three places: header, length, values, packing."""
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
@generated(light=250, full=5_000)
def test_idx_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, images: bytes, labels: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "images").write_bytes(images)
    (folder / "labels").write_bytes(labels)

    def read() -> None:
        pictures, digits = idx.read_pair(folder / "images", folder / "labels")
        assert pictures.shape[1:] == (28, 28)
        train, validation = splits.stratified(digits, 0.5, 0)
        assert len(train) + len(validation) == len(digits)

    refusal(read)
    for name in ("images", "labels"):  # each alone, too: a pair is read only as far as its first fault
        reader = idx.read_images if name == "images" else idx.read_labels
        message = refusal(lambda name=name, reader=reader: reader(folder / name))  # type: ignore[misc]
        assert message is None or message.startswith(f"{folder / name}: ")


def test_a_file_of_the_wrong_length_is_not_read_however_long(tmp_path: Path) -> None:
    with (tmp_path / "images").open("wb") as file:
        file.write(idx_bytes(IMAGES))
        file.truncate(8 << 30)  # a hole, that takes no place on the disk
    assert "8589934592 bytes, where its header (20, 28, 28) makes 15696" in str(
        refusal(lambda: idx.read_images(tmp_path / "images"))
    )


@given(images=idx_files(), labels=idx_files())
@example(images=idx_bytes(IMAGES), labels=idx_bytes(LABELS))
@generated(light=2, full=40)
def test_the_stage_preprocess_works_or_ends_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, images: bytes, labels: bytes
) -> None:
    folder = tmp_path_factory.mktemp("preprocess")
    (folder / "params.yaml").write_text(TEXT.replace("validation_fraction: 0.25", "validation_fraction: 0.5"), "utf-8")
    (folder / "data/raw").mkdir(parents=True)
    for name, content in zip(CONTENT["download"]["files"], (images, labels) * 2, strict=True):
        (folder / "data/raw" / name).write_bytes(content)
    message = check_command(folder, "preprocess")
    works = (images, labels) == (idx_bytes(IMAGES), idx_bytes(LABELS))
    assert (message == "") == (folder / "plots/dataset/normalization.png").exists()
    assert not works or message == ""


# params.yaml


class Raw(str):
    """Text that goes into a YAML file as it is."""

    __slots__ = ()


def rendered(value: Any) -> str:
    match value:
        case Raw():
            return str(value)
        case dict():
            return "{" + ", ".join(f"{rendered(key)}: {rendered(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(rendered, value)) + "]"
    return json.dumps(value)


def places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, *path, key)


PLACES = list(places(CONTENT))
LAUGHS = "".join(f"&{b} [{', '.join([f'*{a}'] * 9)}], " for a, b in zip("abcdefghi", "bcdefghij", strict=True))
MERGES = "".join(f"&{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}, " for a, b in zip("abcdefghi", "bcdefghij", strict=True))
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
    "[" * 5000, "[" * 200 + "]" * 200, "{a: " * 5000, "? " * 500, f"[&a [lol], {LAUGHS}]",
    f"[&a {{x: 1}}, {MERGES}]", "[" + "1, " * 20_000 + "]", "{" + ", ".join(f"k{i}: {i}" for i in range(10_000)) + "}",
    "x" * 200_000, "|", "%", "@", "\t",
]  # fmt: skip
VALUES = (
    st.sampled_from(FRAGMENTS).map(Raw)
    | st.sampled_from(NAMES)
    | st.text(max_size=20)
    | st.integers()
    | st.floats().map(lambda value: Raw(f"{value!r}".replace("inf", ".inf").replace("nan", ".nan")))
    | st.sampled_from(PLACES).map(lambda path: deepcopy(at(CONTENT, path)))
)


def at(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


@st.composite
def params_files(draw: st.DrawFn) -> bytes:
    """The committed params.yaml with keys or values replaced, or with its bytes and lines damaged, or any text."""
    match draw(st.sampled_from(["value", "value", "key", "key", "bytes", "lines", "other"])):
        case ("value" | "key") as kind:
            content = deepcopy(CONTENT)
            for path in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
                parent: Any = content
                for key in path[:-1]:
                    # An earlier change may have put something else there.
                    parent = parent[key] if isinstance(parent, dict) and key in parent else None
                if kind == "value" and isinstance(parent, dict):
                    parent[path[-1]] = draw(VALUES)
                elif isinstance(parent, dict):
                    parent[draw(st.sampled_from(NAMES) | st.sampled_from(FRAGMENTS).map(Raw) | st.text())] = parent.pop(
                        path[-1], None
                    )
                else:
                    content["variants"] = [draw(VALUES), "mlp64"] if kind == "value" else draw(VALUES)
            return rendered(content).encode("utf-8")
        case "bytes":
            damaged = bytearray(TEXT.encode("utf-8"))
            for where in draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
                damaged[where : where + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
            return bytes(damaged[: draw(st.integers(0, len(damaged)) | st.just(len(damaged)))])
        case "lines":
            lines = TEXT.splitlines(keepends=True)
            here, there = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            lines.insert(here, draw(st.sampled_from(["", " ", "\t", "- ", "  ", "? ", "<<: *a "])) + lines[there])
            return "".join(lines).encode("utf-8")
    text = draw(st.sampled_from(FRAGMENTS) | st.text(max_size=200))
    return text.encode("utf-8", errors="surrogatepass")


@given(content=params_files())
@example(content=TEXT.encode("utf-8"))
@example(content=rendered(CONTENT | {"train": Raw(f"[&a [lol], {LAUGHS}]")}).encode())
@example(content=f"base: [&a {{x: 1}}, {MERGES}]\n".encode())
@example(content=rendered(CONTENT | {"x": {Raw("? " + json.dumps("a\nb")): 1}}).encode())
@example(content=("a: " + "&a {x: 1}\n" + "".join(f"k{i}: 1\n" for i in range(30_000))).encode())
@example(
    content=(
        f"a: &a {{{', '.join(f'k{i}: 1' for i in range(params.MOST_KEYS))}}}\n"
        f"b: {{<<: [{'*a,' * ((params.LONGEST - 5000) // 3)}]}}\n"
    ).encode()
)
@generated(light=80, full=2_500)
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
@example(content=(TEXT + "x: &a 1\ny: &a 2\n").encode())
@example(content=rendered(CONTENT | {"variants": [Raw("0x" + "f" * 5000)]}).encode())
@generated(light=6, full=100)
def test_the_command_params_works_or_ends_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("params")
    (folder / "params.yaml").write_bytes(content)
    message = check_command(folder, "params")
    assert (message == "") == (folder / "params.schema.json").exists()
    assert {path.name for path in folder.iterdir()} <= {"params.yaml", "params.schema.json", "usage"}


@pytest.mark.parametrize("variant", ["../../outside", "mlp46", "a b", ""])
@pytest.mark.parametrize("stage", ["train", "evaluate", "analyze"])
def test_a_stage_takes_no_variant_that_has_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, variant: str
) -> None:
    (tmp_path / "params.yaml").write_text(TEXT, "utf-8")
    monkeypatch.chdir(tmp_path)
    run = import_module(f"digits.stages.{stage}").run
    with pytest.raises(UserError, match="has no entry under models: softmax, "):
        run(variant)


# Sources

SPEC = FileSpec(bytes=3, sha256="0" * 64)
HOSTS = [
    "127.0.0.1:9",
    "[::1]:9",
    "[",
    "127.0.0.1:99999",
    "127.0.0.1:x",
    "a@127.0.0.1:9",
    "",
    "?",
    "#",
    "%00",
    "127.0.0.1:0",
]


@st.composite
def source_texts(draw: st.DrawFn) -> str:
    scheme = draw(
        st.sampled_from(["", "", "~", "~nobody-of-the-kind/", "file:", "file://", "file:///", "npm:", "http://"])
    )
    host = draw(st.sampled_from(HOSTS)) + "/" if scheme == "http://" else ""
    return scheme + host + draw(st.sampled_from(NAMES) | st.text(max_size=20))


@given(text=source_texts())
@example(text="~nobody-of-the-kind/x")
@example(text="http://[/")
@example(text="file:///a%00b")
@example(text="a\0b")
@generated(light=40, full=1_000)
def test_sources_are_refused_or_passed_over(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("sources")
    path = folder / "params.yaml"
    path.write_text(rendered(CONTENT | {"download": CONTENT["download"] | {"sources": [text]}}), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PATH", str(folder))  # no npm
        if refusal(lambda: params.load(path)) is None:
            with pytest.raises(UserError, match="to be had from none of"), bounded():
                sources.fetch({"file": SPEC}, [text], folder / "raw", timeout=1, retries=0)
            assert list((folder / "raw").iterdir()) == []


# Arrays and models of another hand


@given(data=st.data())
@generated(light=300, full=5_000)
def test_damaged_arrays_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "arrays.npz"
    files.write_arrays(path, images=IMAGES[:1], labels=LABELS)
    content = bytearray(path.read_bytes())
    # The local headers, those of the arrays, and the directory at the end: not the pixels alone.
    somewhere = st.integers(0, 260) | st.integers(len(content) - 500, len(content) - 1)
    for where in data.draw(st.lists(somewhere, min_size=1, max_size=3)):
        content[where] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    message = refusal(lambda: files.read_arrays(path))
    assert message is None or message.startswith(f"{path} cannot be read")


def test_a_model_from_elsewhere_runs_no_code(tmp_path: Path) -> None:
    keras, load = import_module("digits.backend").keras, import_module("digits.models").load
    path, mark = tmp_path / "model.keras", tmp_path / "mark"

    name = str(mark)
    layer = keras.layers.Lambda(lambda x: __import__("pathlib").Path(name).touch() or x)
    keras.Sequential([keras.Input((2,)), layer]).save(path)
    mark.unlink()
    with pytest.raises(UserError, match=r"model\.keras cannot be loaded") as caught:
        load(path)
    assert is_clear(str(caught.value))
    assert not mark.exists()
    keras.saving.load_model(path, safe_mode=False)
    assert mark.exists()  # the layer does run where Keras is not told otherwise


@pytest.mark.parametrize("module", ["os", "builtins", "subprocess"])
def test_a_model_that_names_a_function_of_python_is_refused(tmp_path: Path, module: str) -> None:
    keras, load = import_module("digits.backend").keras, import_module("digits.models").load
    path, mark = tmp_path / "model.keras", tmp_path / "mark"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "good.keras")
    call = {"os": "system", "builtins": "eval", "subprocess": "run"}[module]
    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == "config.json":
                config = json.loads(content)
                config |= {"module": module, "class_name": call, "config": {"command": f"touch {mark}"}}
                content = json.dumps(config).encode()
            bad.writestr(name, content)
    with pytest.raises(UserError, match=r"model\.keras cannot be loaded") as caught:
        load(path)
    assert is_clear(str(caught.value))
    assert not mark.exists()
