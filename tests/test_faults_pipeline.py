"""Faults made for real while DVC runs the pipeline: kills, a full disk, damaged files, two runs at once.

After each, no half-written output is taken for a whole one, and the undisturbed run's outputs come back byte for byte.
`make faults` tries more moments than `make test`.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import FULL, copy_repository, edit, environment, queue_workers, run
from ruamel.yaml import YAML

VARIANT = "mlp64"
STAGES = [
    "params", "download", "preprocess", "neighbors", f"train@{VARIANT}", f"evaluate@{VARIANT}", f"analyze@{VARIANT}",
    "compare",
]  # fmt: skip
NAMES = ["a; touch pwned", "../../outside", "$(touch pwned)", "`touch pwned`", "-rf", "a b", "a\nb", "${models}"]
LOG = "log.txt"
NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount"]

pytestmark = pytest.mark.timeout(1200)


def outputs(folder: Path, stage: str) -> list[Path]:
    """Return what a stage of the recorded pipeline writes."""
    lock = YAML(typ="safe", pure=True).load((folder / "dvc.lock").read_text("utf-8"))
    return [folder / out["path"] for out in lock["stages"][stage]["outs"]]


def different(folder: Path, pristine: Path, stage: str) -> Iterator[Path]:
    """Yield the files among a stage's outputs, however it ended, that are not those of the undisturbed run.

    The table that grows while a variant is trained may be the beginning of the undisturbed one.
    """
    for out in outputs(pristine, stage):
        here = folder / out.relative_to(pristine)
        for path in [here, *here.rglob("*")]:
            if path.is_file() and ".partial" not in path.name:
                wanted = pristine / path.relative_to(folder)
                content, whole = path.read_bytes(), wanted.read_bytes() if wanted.exists() else b""
                grows = path.name == "training.csv" and whole.startswith(content)
                if content != whole and not grows:
                    yield path


def copied(source: Path, target: Path) -> Path:
    """Copy a repository with its DVC cache."""
    return Path(shutil.copytree(source, target, symlinks=True))


@contextlib.contextmanager
def running(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a process group of its own, which prints to LOG beside the folder; kill it in the end."""
    given = environment(PYTHONUNBUFFERED="1")
    with (folder.parent / LOG).open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=given, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(folder: Path, process: subprocess.Popen[bytes], text: str) -> None:
    deadline = time.monotonic() + 120
    while text not in printed(folder):
        assert process.poll() is None, f"ended before it printed {text}:\n{printed(folder)}"
        assert time.monotonic() < deadline, printed(folder)
        time.sleep(0.002)


def printed(folder: Path) -> str:
    return (folder.parent / LOG).read_text("utf-8")


def written(folder: Path) -> set[tuple[str, int]]:
    """Return every file that stages write, with its time."""
    files = (folder / name for name in ("data", "models", "metrics", "plots"))
    found = set()
    for path in [folder / "params.schema.json", *(path for top in files for path in top.rglob("*"))]:
        with contextlib.suppress(FileNotFoundError):
            found.add((str(path), path.stat().st_mtime_ns))
    return found


def kill(folder: Path, stage: str, moment: str | float, *command: str) -> None:
    """Start DVC and kill its process group in a stage: as it starts, as it first writes, or so many seconds later."""
    with running(folder, *command) as process:
        wait_for(folder, process, f"Running stage '{stage}':\n> python src")
        before, deadline = written(folder), time.monotonic() + 60
        while moment == "writing" and written(folder) <= before and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        if not isinstance(moment, str):
            time.sleep(moment)
        assert process.poll() is None or moment != "writing"


@pytest.fixture(scope="module")
def fresh(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of one variant in which nothing has been run."""
    folder = tmp_path_factory.mktemp("fresh") / "clone"
    folder.mkdir()
    copy_repository(folder, raw, variants=[VARIANT], train__epochs=2)
    return folder


@pytest.fixture(scope="module")
def pristine(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after an undisturbed run, which is committed."""
    folder = copied(fresh, tmp_path_factory.mktemp("pristine") / "clone")
    run(folder, "dvc", "repro")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "-qm", "Run the pipeline")
    return folder


def check_same(folder: Path, pristine: Path) -> None:
    assert (folder / "dvc.lock").read_bytes() == (pristine / "dvc.lock").read_bytes()
    for stage in STAGES:
        assert [path for path in different(folder, pristine, stage) if path.name != "training.csv"] == []
        for out in outputs(pristine, stage):
            for path in [out, *out.rglob("*")]:
                assert not path.is_file() or (folder / path.relative_to(pristine)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("moment", ["writing", "start", 0.1, 0.3, 0.6, 1.0, 2.0, 3.0] if FULL else ["writing"])
def test_killed_in_every_stage_the_next_run_completes_it(
    fresh: Path, pristine: Path, tmp_path: Path, moment: str | float
) -> None:
    folder = copied(fresh, tmp_path / "clone")
    committed = copied(fresh, tmp_path / "committed")
    for stage in STAGES:
        if moment == "writing" or f"\n  {stage}:\n" not in (folder / "dvc.lock").read_text("utf-8"):
            kill(folder, stage, moment, "dvc", "repro")
        # Nothing half-written: each file is of the undisturbed run, or as it was committed before.
        assert set(different(folder, pristine, stage)) <= {
            path
            for path in folder.rglob("*")
            if path.is_file()
            and (committed / path.relative_to(folder)).is_file()
            and path.read_bytes() == (committed / path.relative_to(folder)).read_bytes()
        }
    run(folder, "dvc", "repro")
    check_same(folder, pristine)


@pytest.mark.parametrize("stage", STAGES[1:] if FULL else [f"train@{VARIANT}"])
def test_after_a_kill_the_earlier_results_are_in_git_and_the_cache(pristine: Path, tmp_path: Path, stage: str) -> None:
    folder = copied(pristine, tmp_path / "clone")
    if stage == "download":  # which leaves what is whole alone, so would write nothing
        (folder / "data/raw/train-images-idx3-ubyte").unlink()
    kill(folder, stage, "writing", "dvc", "repro", "--force", "--single-item", stage)
    run(folder, "git", "checkout", "-q", ".")
    run(folder, "dvc", "checkout", "--force")
    assert "up to date" in run(folder, "dvc", "repro")
    assert run(folder, "git", "status", "--porcelain") == ""
    check_same(folder, pristine)


def test_control_c_in_training_is_one_line_and_the_next_run_trains(pristine: Path, tmp_path: Path) -> None:
    folder = copied(pristine, tmp_path / "clone")
    edit(folder / "params.yaml", train__epochs=10_000)
    with running(folder, "dvc", "repro") as process:
        wait_for(folder, process, f"{VARIANT} epoch 3/10000: ")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
    assert "digits: interrupted; `dvc repro` starts again with the stage that was running" in printed(folder)
    assert "Traceback" not in printed(folder)
    edit(folder / "params.yaml", train__epochs=2)
    run(folder, "dvc", "repro")
    check_same(folder, pristine)


def test_damaged_and_edited_outputs_are_made_anew(pristine: Path, tmp_path: Path) -> None:
    folder = copied(pristine, tmp_path / "clone")
    flip(folder / "models" / VARIANT / "weights.npz")
    flip(folder / "data/raw/train-images-idx3-ubyte")
    edited = folder / f"metrics/variants/{VARIANT}.json"
    edited.write_text(edited.read_text("utf-8").replace("0.", "1."), "utf-8")
    found = run(folder, "dvc", "status")
    for path in (f"models/{VARIANT}", "data/raw", f"metrics/variants/{VARIANT}.json"):
        assert re.search(rf"modified: +{re.escape(path)}\n", found)
    run(folder, "dvc", "repro")
    assert run(folder, "git", "status", "--porcelain") == ""
    check_same(folder, pristine)


def flip(path: Path) -> None:
    """Turn one bit in the middle of a file, and leave its rights as they were."""
    content, mode = bytearray(path.read_bytes()), path.stat().st_mode
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


def test_a_damaged_cache_is_found_and_made_anew(pristine: Path, tmp_path: Path) -> None:
    folder = copied(pristine, tmp_path / "clone")
    assert run(folder, "digits", "repair") == ""
    md5 = hashlib.md5((folder / "models" / VARIANT / "weights.npz").read_bytes()).hexdigest()
    damaged = folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    flip(damaged)
    shutil.rmtree(folder / "models")
    run(folder, "dvc", "checkout")  # DVC trusts a read-only file of its cache, and copies the damage
    assert list(different(folder, pristine, f"train@{VARIANT}")) == [folder / "models" / VARIANT / "weights.npz"]
    output = run(folder, "python", "src", "evaluate", VARIANT, fails=True)
    assert output.startswith(f"digits: models/{VARIANT}/weights.npz cannot be read (Bad CRC-32")
    assert "type `digits repair`, then `dvc repro`" in output
    assert output.count("\n") == 1

    output = run(folder, "digits", "repair", fails=True)
    assert output.startswith("digits: damaged files of the DVC cache, now deleted:\n")
    assert f"/{damaged.parent.name}/{damaged.name}\n" in output
    assert output.count("\n") == 3
    assert f"Running stage 'train@{VARIANT}'" in run(folder, "dvc", "repro")
    assert run(folder, "git", "status", "--porcelain") == ""
    assert run(folder, "digits", "repair") == ""
    check_same(folder, pristine)


def test_a_second_run_at_once_is_turned_away(pristine: Path, tmp_path: Path) -> None:
    folder = copied(pristine, tmp_path / "clone")
    stage = f"train@{VARIANT}"
    with running(folder, "dvc", "repro", "--force", "--single-item", stage) as process:
        wait_for(folder, process, "> python src train")
        output = run(folder, "dvc", "repro", "--force", "--single-item", stage, fails=True)
        assert process.wait(120) == 0
    assert "is busy, it is being blocked by:" in output or "Unable to acquire lock" in output
    assert "Traceback" not in output
    assert run(folder, "git", "status", "--porcelain") == ""
    check_same(folder, pristine)


@pytest.mark.skipif(not FULL, reason="`make faults` runs it: half a minute")
def test_two_queue_workers_at_once_give_what_single_runs_give(pristine: Path, tmp_path: Path) -> None:
    folder = copied(pristine, tmp_path / "clone")
    seeds = {"first": 1, "second": 2, "again": 1}
    for name, seed in seeds.items():
        run(folder, "dvc", "exp", "run", "--queue", "-n", name, "-S", f"train.seed={seed}")
    with queue_workers(folder, 2):
        deadline = time.monotonic() + 300
        while len(re.findall(r"Success|Failed", status := run(folder, "dvc", "queue", "status"))) < 3:
            assert time.monotonic() < deadline, status
            time.sleep(1)
    assert "Failed" not in status
    locks = {}
    for name in seeds:
        ref = run(folder, "git", "for-each-ref", "--format=%(refname)", f"refs/exps/**/{name}").strip()
        locks[name] = run(folder, "git", "show", f"{ref}:dvc.lock")
    assert locks["first"] == locks["again"] != locks["second"]
    assert run(folder, "git", "status", "--porcelain") == ""
    check_same(folder, pristine)


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip where this machine allows no mount in namespaces of one's own."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    result = subprocess.run([*NAMESPACES, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    if result.returncode:
        pytest.skip(f"mounting a file system takes a privilege that is not given here: {result.stderr.decode()}")


@pytest.mark.usefixtures("namespaces")
def test_on_a_full_disk_every_stage_ends_in_one_line(pristine: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    free = ["0", "4", "20", "100", "300"] if FULL else ["0"]
    script = str(Path(__file__).with_name("full_disk.py"))
    output = run(tmp_path, *NAMESPACES, sys.executable, script, str(pristine), str(tmp_path / "disk"), ",".join(free))
    runs = [json.loads(line) for line in output.splitlines()]
    assert [run[:2] for run in runs] == [[stage, int(left)] for left in free for stage in STAGES]
    for stage, left, status, errors, wrong in runs:
        assert wrong == [], (stage, left, wrong)
        if left == 0:
            assert status == 1, (stage, errors)
        if status:
            # TensorFlow, which compiles by way of a temporary file, may warn that it could not write it.
            *warnings, message = re.split(r"^(?=digits: )", errors, flags=re.MULTILINE)
            assert re.fullmatch(r"digits: .*No space left on device: free some room, then type `dvc repro`\n", message)
            assert "Traceback" not in errors
            assert not "".join(warnings) or (stage.startswith("train") and left), (stage, left, errors)


@pytest.mark.usefixtures("namespaces")
def test_a_checkout_that_cannot_be_written_is_one_line(pristine: Path) -> None:
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && exec "$@"'
    # A download that is whole writes nothing.
    for stage in [stage for stage in STAGES if stage != "download"] if FULL else ["params", "compare"]:
        words = ["python", "src", *stage.split("@")]
        output = run(pristine, *NAMESPACES, "sh", "-c", mount, str(pristine), *words, fails=True)
        assert re.fullmatch(
            r"digits: .*Read-only file system: the repository's folder must be one that can be written\n", output
        )
    output = run(pristine, *NAMESPACES, "sh", "-c", mount, str(pristine), "dvc", "repro", fails=True)
    assert "Read-only file system" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("name", NAMES if FULL else NAMES[:2])
def test_a_name_that_is_no_word_reaches_no_shell_and_no_path(pristine: Path, tmp_path: Path, name: str) -> None:
    folder = copied(pristine, tmp_path / "clone")
    content = YAML(typ="safe", pure=True).load((folder / "params.yaml").read_text("utf-8"))
    models = content["models"] | {name: content["models"][VARIANT]}
    edit(folder / "params.yaml", variants=[VARIANT, name], models=models)
    output = run(folder, "dvc", "repro", fails=True)
    assert "Traceback" not in output
    assert "digits: params.yaml: variants[1] is " in output
    run(folder, "git", "checkout", "-q", ".")
    assert run(folder, "git", "status", "--porcelain", "--ignored").count("pwned") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"clone"}
    check_same(folder, pristine)
