"""Real faults while the pipeline runs: kills, a full disk, damaged files, two runs at once.

After each fault no partial output is taken for a complete one, and the next run gives the same bytes as an undisturbed
run. `make test` has a quick case of each; those with the mark `faults` try every stage and more moments.
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
from support import ROOT, call, edit, environment, outputs, run, wait_until

from digits.core import config
from digits.versioning.repository import open_repository

VARIANT = "mlp64"
STAGES = [
    "params", "download", "preprocess", "neighbors", f"train@{VARIANT}", f"evaluate@{VARIANT}", f"analyze@{VARIANT}",
    "stress", "compare", "cards",
]  # fmt: skip
NAMES = ["a; touch pwned", "../../outside", "$(touch pwned)", "`touch pwned`", "-rf", "a b", "a\nb", "${models}"]
LOG = "log.txt"
NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount"]

pytestmark = pytest.mark.timeout(1200)


def different(folder: Path, template: Path, *stages: str) -> Iterator[Path]:
    """Yield the output files of stages, or of all stages, whose content an undisturbed run would not write.

    The table that grows during training may be the start of the complete one.
    """
    for out in outputs(template, *stages):
        here = folder / out.relative_to(template)
        for path in [here, *here.rglob("*")]:
            if path.is_file() and ".partial" not in path.name:
                expected = template / path.relative_to(folder)
                content, complete = path.read_bytes(), expected.read_bytes() if expected.exists() else b""
                grows = path.name == "training.csv" and complete.startswith(content)
                if content != complete and not grows:
                    yield path


def check_same(folder: Path, template: Path) -> None:
    """Check that all outputs and dvc.lock have the bytes of an undisturbed run."""
    assert (folder / "dvc.lock").read_bytes() == (template / "dvc.lock").read_bytes()
    for out in outputs(template):
        for path in [out, *out.rglob("*")]:
            assert not path.is_file() or (folder / path.relative_to(template)).read_bytes() == path.read_bytes()
    assert list(different(folder, template)) == []


def check_restored(folder: Path, template: Path) -> None:
    """Check that Git and the DVC cache have the results of an undisturbed run, without another run."""
    run(folder, "git", "checkout", "-q", ".")
    run(folder, "dvc", "checkout", "--force")
    with open_repository(folder) as repo:
        assert repo.status() == {}
    assert run(folder, "git", "status", "--porcelain") == ""
    check_same(folder, template)


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """A copy of the template with its DVC cache."""
    return Path(shutil.copytree(template, tmp_path / "clone", symlinks=True))


@contextlib.contextmanager
def running(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a process group of its own, with its output in LOG beside the folder; kill it in the end."""
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
    def is_printed() -> bool:
        ended = process.poll() is not None
        found = text in printed(folder)
        assert found or not ended, f"it ended before it printed {text}:\n{printed(folder)}"
        return found

    wait_until(is_printed, text, pause=0.002)


def printed(folder: Path) -> str:
    return (folder.parent / LOG).read_text("utf-8")


def written(folder: Path) -> set[tuple[str, int]]:
    """Return every file that stages write, with its modification time."""
    tops = (folder / name for name in ("cards", "data", "models", "metrics", "plots"))
    found = set()
    for path in [folder / "params.schema.json", *(path for top in tops for path in top.rglob("*"))]:
        with contextlib.suppress(FileNotFoundError):
            found.add((str(path), path.stat().st_mtime_ns))
    return found


def kill(folder: Path, stage: str, seconds: float | None, *command: str) -> None:
    """Start DVC, and kill its process group some seconds after the start of a stage, or when it first writes a file."""
    with running(folder, *command) as process:
        wait_for(folder, process, f"Running stage '{stage}':\n> python src")
        before = written(folder)
        if seconds is None:
            wait_until(lambda: not written(folder) <= before, "the stage writes", pause=0.001)
            assert process.poll() is None
        else:
            time.sleep(seconds)


@pytest.mark.slow(10)
def test_after_a_kill_the_next_run_completes_the_stage(folder: Path, template: Path) -> None:
    stage = f"analyze@{VARIANT}"
    kill(folder, stage, None, "dvc", "repro", "--force", "--single-item", stage)
    assert list(different(folder, template)) == []
    assert f"Running stage '{stage}'" in run(folder, "dvc", "repro")
    check_same(folder, template)


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [None, 0.0, 0.1, 0.3, 0.6, 1.0, 2.0, 3.0])
def test_after_a_kill_in_each_stage_the_next_run_completes_the_stage(
    template: Path, tmp_path: Path, seconds: float | None
) -> None:
    fresh = tmp_path / "fresh"  # in which nothing has been run
    run(tmp_path, "git", "clone", "-q", str(template), str(fresh))
    run(fresh, "git", "reset", "-q", "--hard", "HEAD^")
    before = Path(shutil.copytree(fresh, tmp_path / "before", symlinks=True))
    for stage in STAGES:
        if seconds is None or f"\n  {stage}:\n" not in (fresh / "dvc.lock").read_text("utf-8"):
            kill(fresh, stage, seconds, "dvc", "repro")
        # No partial file: each has the content of an undisturbed run or, if its stage has not run, that of the commit.
        for path in different(fresh, template, stage):
            assert path.read_bytes() == (before / path.relative_to(fresh)).read_bytes()
    run(fresh, "dvc", "repro")
    check_same(fresh, template)


@pytest.mark.faults
@pytest.mark.parametrize("stage", STAGES[1:])
def test_after_a_kill_git_and_the_cache_have_the_earlier_results(folder: Path, template: Path, stage: str) -> None:
    if stage == "download":  # it writes nothing if all files are valid
        (folder / "data/raw/train-images-idx3-ubyte").unlink()
    kill(folder, stage, None, "dvc", "repro", "--force", "--single-item", stage)
    check_restored(folder, template)


@pytest.mark.faults
def test_after_a_run_that_diverges_git_and_the_cache_have_the_earlier_results(folder: Path, template: Path) -> None:
    before = [out for out in outputs(folder) if out.exists()]
    wild = {"normalize": False, "units": [64] * 4, "optimizer": {"name": "sgd", "learning_rate": 100}}
    edit(folder / "params.yaml", **{f"models__{VARIANT}__{key}": value for key, value in wild.items()})
    output = run(folder, "dvc", "repro", fails=True)
    assert f"digits: {VARIANT} diverges: in epoch 1 of seed " in output
    assert "Traceback" not in output
    # DVC has deleted the outputs of this one stage; all others are as they were.
    assert [out for out in before if not out.exists()] == outputs(folder, f"train@{VARIANT}")
    check_restored(folder, template)


@pytest.mark.slow(15)
def test_a_second_run_is_refused_control_c_is_one_line_and_the_earlier_results_come_back(
    folder: Path, template: Path
) -> None:
    edit(folder / "params.yaml", train__epochs=10_000, train__seeds=[0])
    with running(folder, "dvc", "repro", f"train@{VARIANT}") as process:
        wait_for(folder, process, f"{VARIANT} epoch 3/10000: ")
        second = run(folder, "dvc", "repro", "--force", "--single-item", f"train@{VARIANT}", fails=True)
        epochs = printed(folder).count("\n")
        wait_until(lambda: printed(folder).count("\n") > epochs, "the first run goes on")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
    assert "is busy, it is being blocked by:" in second or "Unable to acquire lock" in second
    assert "digits: interrupted; `dvc repro` starts again with the stage that was running" in printed(folder)
    assert "Traceback" not in second + printed(folder)
    check_restored(folder, template)


@pytest.mark.slow(12)
@pytest.mark.parametrize(
    ("stage", "name", "reader"),
    [
        ("neighbors", "data/neighbors.npz", "analyze"),
        pytest.param(f"train@{VARIANT}", f"models/{VARIANT}/weights.npz", "evaluate", marks=pytest.mark.faults),
    ],
)
def test_damaged_and_edited_files_are_found_and_restored_even_those_of_the_cache(
    folder: Path, template: Path, stage: str, name: str, reader: str
) -> None:
    intact = "no file of the DVC cache is damaged\n"
    assert call(folder, "repair") == intact
    md5 = hashlib.md5((folder / name).read_bytes()).hexdigest()
    damaged = folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    flip_bit(damaged)
    (folder / name).unlink()
    run(folder, "dvc", "checkout")  # DVC does not hash a write-protected file of its cache, and copies the damage
    assert list(different(folder, template)) == [folder / name]
    output = run(folder, "python", "src", reader, VARIANT, fails=True)
    assert re.fullmatch(
        rf"digits: {name} cannot be read \(Bad CRC-32.+type `digits repair`, then `dvc repro`\n", output
    )
    deleted, advice = call(folder, "repair").splitlines()
    assert deleted.startswith("deleted: ")
    assert deleted.endswith(f"/{damaged.parent.name}/{damaged.name}")
    assert advice == "type `dvc repro` to restore their contents, or `dvc pull` to download them"

    flip_bit(folder / "data/raw/train-images-idx3-ubyte")
    edited = folder / "metrics/summary.json"
    edited.write_text(edited.read_text("utf-8").replace("0.", "1."), "utf-8")
    with open_repository(folder) as repo:
        found = str(repo.status())
    for path in ("data/raw", "metrics/summary.json"):
        assert f"'{path}': 'modified'" in found
    assert f"Running stage '{stage}'" in run(folder, "dvc", "repro")
    assert run(folder, "git", "status", "--porcelain") == ""
    assert call(folder, "repair") == intact
    check_same(folder, template)


def flip_bit(path: Path) -> None:
    """Flip one bit of a file, in the values of its first array, and keep its permissions."""
    content, mode = bytearray(path.read_bytes()), path.stat().st_mode
    content[len(content) // 3] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.faults
def test_two_queue_workers_at_once_give_the_results_of_single_runs(folder: Path, template: Path) -> None:
    seeds = {"first": 1, "second": 2, "again": 1}
    for name, seed in seeds.items():
        run(folder, "dvc", "exp", "run", "--queue", "-n", name, "-S", f"train.seeds=[{seed}]")
    # A worker may not notice that the queue is empty: https://github.com/treeverse/dvc/issues/10427.
    for words in (["exp", "run", "--run-all", "--jobs", "2"], ["queue", "stop", "--kill"]):
        with running(folder, "dvc", *words) as process:
            assert process.wait(600) == 0, printed(folder)
    assert "Failed" not in run(folder, "dvc", "queue", "status")
    locks = {}
    for name in seeds:
        ref = run(folder, "git", "for-each-ref", "--format=%(refname)", f"refs/exps/**/{name}").strip()
        locks[name] = run(folder, "git", "show", f"{ref}:dvc.lock")
    assert locks["first"] == locks["again"] != locks["second"]
    assert run(folder, "git", "status", "--porcelain") == ""
    check_same(folder, template)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("stage", "output"),
    [(["params"], "params.schema.json"), (["analyze", VARIANT], f"plots/variants/{VARIANT}/errors.csv")],
)
def test_without_space_a_file_is_not_written_and_the_stage_ends_in_one_line(
    clone: Path, stage: list[str], output: str
) -> None:
    path = clone / output
    before = path.read_bytes()
    path.with_name(f".{path.stem}.partial{path.suffix}").symlink_to("/dev/full")  # where every write finds a full disk
    message = call(clone, *stage, fails=True)
    assert message == f"digits: {stage[0]}: No space left on device: free some space, then type `dvc repro`\n"
    assert path.read_bytes() == before
    assert run(clone, "git", "status", "--porcelain") == ""


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip a test if this machine does not allow mounts in namespaces of one's own."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    result = subprocess.run([*NAMESPACES, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    if result.returncode:
        pytest.skip(f"this user may not mount a file system: {result.stderr.decode()}")


@pytest.mark.faults
@pytest.mark.usefixtures("namespaces")
def test_on_a_full_disk_every_stage_ends_in_one_line(template: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    free = ["0", "4", "20", "100", "300"]
    script = [sys.executable, str(Path(__file__).with_name("full_disk.py")), str(template), str(tmp_path / "disk")]
    output = run(tmp_path, *NAMESPACES, *script, ",".join(free), variables={"PYTHONPATH": str(ROOT / "tests")})
    runs = [json.loads(line) for line in output.splitlines()]
    assert [run[:2] for run in runs] == [[stage, int(left)] for left in free for stage in STAGES]
    for stage, left, status, errors, wrong in runs:
        assert wrong == [], (stage, left, wrong)
        if left == 0:
            assert status == 1, (stage, errors)
        if status:
            # TensorFlow compiles by way of a temporary file, and may warn that it could not write it.
            *warnings, message = re.split(r"^(?=digits: )", errors, flags=re.MULTILINE)
            assert re.fullmatch(r"digits: .*No space left on device: free some space, then type `dvc repro`\n", message)
            assert "Traceback" not in errors
            assert not "".join(warnings) or (stage.startswith("train") and left), (stage, left, errors)


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(
    "stages",  # a download writes nothing if all files are valid
    [["params"], pytest.param([*STAGES[2:], "repro"], marks=pytest.mark.faults, id="every")],
)
def test_in_a_read_only_folder_every_stage_ends_in_one_line(clone: Path, stages: list[str]) -> None:
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && exec "$@"'
    for stage in stages:
        words = ["dvc", "repro"] if stage == "repro" else ["python", "src", *stage.split("@")]
        output = run(clone, *NAMESPACES, "sh", "-c", mount, str(clone), *words, fails=True)
        if stage == "repro":
            assert "Read-only file system" in output
            assert "Traceback" not in output
        else:
            expected = r"digits: .*Read-only file system: the folder of the repository must be writable\n"
            assert re.fullmatch(expected, output)


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.faults) for name in NAMES[1:])])
def test_the_name_of_a_variant_reaches_no_shell_and_no_path_and_no_output_is_deleted(
    folder: Path, template: Path, tmp_path: Path, name: str
) -> None:
    models = config.parse_like_dvc((folder / "params.yaml").read_text("utf-8"))["models"]
    edit(folder / "params.yaml", variants=[VARIANT, name], models=models | {name: models[VARIANT]})
    output = run(folder, "dvc", "repro", fails=True)
    assert "Traceback" not in output
    assert "digits: params.yaml: variants[1] is " in output
    assert "; `git checkout params.yaml` puts the committed file back\n" in output
    run(folder, "git", "checkout", "-q", ".")
    assert "pwned" not in run(folder, "git", "status", "--porcelain", "--ignored")
    assert [path.name for path in tmp_path.iterdir()] == ["clone"]
    check_same(folder, template)
