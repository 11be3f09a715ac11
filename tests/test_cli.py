"""The command line: its help, its messages and what it passes on."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import ROOT, call, committed, committed_params

from digits import cli
from digits.core import paths
from digits.core.artifacts import read_json
from digits.core.errors import UserError
from digits.replication import experiments
from digits.replication.published import ExperimentResult
from digits.review import render, report
from digits.versioning import lock, repair, verify
from digits.versioning.revisions import Revision
from digits.versioning.verify import Comparison, Verification


def test_help_lists_the_stages() -> None:
    assert set(cli.STAGES) == {path.stem for path in (ROOT / "src/digits/stages").glob("[!_]*.py")}
    printed = call(ROOT, "--help")
    assert all(re.search(rf"^ +{stage} ", printed, re.MULTILINE) for stage in cli.STAGES)


def test_help_imports_no_slow_library() -> None:
    code = "import sys; from digits import cli\ntry: cli.main(['--help'])\nfinally: print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", capture_output=True, text=True, check=True)
    modules = set(printed.stdout.splitlines()[-1].split())
    assert "digits.cli" in modules
    assert not modules & {"dvc", "keras", "matplotlib", "numpy", "pandas", "pydantic", "scipy", "sklearn", "tensorflow"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a repository without any other file."""
    (tmp_path / ".dvc").mkdir()
    return tmp_path


@pytest.fixture
def params(root: Path) -> Path:
    """The `params.yaml` of this repository in that one."""
    path = root / "params.yaml"
    path.write_text(committed("params.yaml"), "utf-8")
    return path


def test_the_version_is_that_of_the_package() -> None:
    assert call(ROOT, "--version") == f"digits {version('digits')}\n"


def test_outside_of_a_repository_the_message_says_what_to_do(tmp_path: Path) -> None:
    assert call(tmp_path, "params", fails=True) == (
        f"digits: {tmp_path} is not in a repository: no folder from there up has .dvc; change into a clone of Digits\n"
    )


def test_a_stage_writes_where_the_root_is(root: Path, params: Path) -> None:
    folder = root / "src/digits"
    folder.mkdir(parents=True)
    assert call(folder, "params") == ""
    assert (root / "params.schema.json").is_file()
    assert not list(folder.iterdir())


def test_in_a_subfolder_a_message_has_the_folder_of_its_paths_and_commands(root: Path) -> None:
    (root / "docs").mkdir()
    (root / "params.yaml").write_text("variants: 1\n", "utf-8")
    message = call(root, "params", fails=True)
    assert message.startswith("digits: params.yaml: variants is 1: it must be a list")
    assert call(root / "docs", "params", fails=True) == message.replace("\n", " (in ..)\n")
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text("utf-8"), "utf-8")
    for folder, up in (("docs", " (in ..)"), (".", "")):
        message = call(root / folder, "page", fails=True)
        assert message == f"digits: 'softmax' has no trained model in models/softmax: type `make repro`{up}\n"


@pytest.mark.parametrize("command", ["check-lock", "repair", "verify", "review", "experiments"])
def test_without_git_the_message_says_what_to_do(root: Path, command: str) -> None:
    for path in (paths.EXPERIMENTS, paths.PUBLISHED):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text((ROOT / path).read_text("utf-8"), "utf-8")
    message = call(root, command, fails=True)
    assert message.startswith(
        "digits: this folder is not a Git repository; perhaps it was unpacked from an archive. Get it with "
    )
    assert message.count("\n") == 1


def test_a_path_that_cannot_be_written_is_one_line(root: Path, params: Path) -> None:
    (root / "params.schema.json").mkdir()
    message = call(root, "params", fails=True)
    assert message.startswith("digits: ")
    assert message.endswith("Is a directory\n")
    assert message.count("\n") == 1


def failing_stage(interrupted: bool) -> SimpleNamespace:
    """Return a stage that raises SystemError, as TensorFlow does if Ctrl-C interrupts it while it creates a tensor."""

    def run() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            if interrupted:
                signal.raise_signal(signal.SIGINT)
        raise SystemError("returned a result with an exception set")

    return SimpleNamespace(run=run)


def test_an_interruption_that_became_another_exception_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "import_module", lambda name: failing_stage(interrupted=True))
    with pytest.raises(SystemExit, match="digits: interrupted; `dvc repro` starts again"):
        cli.main(["compare"])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.default_int_handler])
def test_an_exception_without_an_interruption_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch, handler: Any) -> None:
    ignored = handler is signal.SIG_IGN
    monkeypatch.setattr(cli, "import_module", lambda name: failing_stage(interrupted=ignored))
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(SystemError):
            cli.main(["compare"])
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


class ResourceExhaustedError(Exception):
    """As TensorFlow's."""


@pytest.mark.parametrize(
    ("arguments", "ways"),
    [
        (["compare"], "end other programs"),
        (
            ["evaluate", "cnn"],
            "end other programs, or set the environment variable DIGITS_CORES to 1, so that one seed runs at a time",
        ),
    ],
)
@pytest.mark.parametrize("error", [MemoryError, ResourceExhaustedError])
def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], ways: str, error: type[Exception]
) -> None:
    def run(**_: str) -> None:
        raise error

    errors = SimpleNamespace(ResourceExhaustedError=ResourceExhaustedError)
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(errors=errors))
    monkeypatch.setattr(cli, "import_module", lambda name: SimpleNamespace(run=run))
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == f"digits: {arguments[0]}: not enough memory: {ways}"


@pytest.mark.parametrize("command", ["check-lock", "drift"])
def test_check_lock_is_also_called_drift(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change = "evaluate@cnn: changed deps: src/digits/evaluation: modified"
    monkeypatch.setattr(lock, "mismatches", lambda root: [change])
    assert call(ROOT, command, fails=True) == (
        "digits: dvc.lock does not match the code, parameters or results here:\n"
        f"  {change}\n"
        "type `dvc repro`, then commit cards/, dvc.lock, metrics/ and plots/ with the change\n"
    )
    monkeypatch.setattr(lock, "mismatches", lambda root: [])
    assert call(ROOT, command) == ""


def test_repair_prints_what_it_deleted_and_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = ["cache/00/11", "cache/22/33.dir"]
    monkeypatch.setattr(repair, "remove_damaged", lambda root: damaged)
    assert call(ROOT, "repair") == (
        "deleted: cache/00/11\ndeleted: cache/22/33.dir\n"
        "type `dvc repro` to restore their contents, or `dvc pull` to download them\n"
    )
    damaged.clear()
    assert call(ROOT, "repair") == "no file of the DVC cache is damaged\n"


@pytest.mark.parametrize(
    "error", [UserError("'HEAD' has no metrics/summary.json"), PermissionError(13, "Denied", "dvc.lock")]
)
def test_verify_after_repro_succeeds_if_the_results_cannot_be_compared(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: Path, base: str) -> None:
        raise error

    monkeypatch.setattr(verify, "verify", fail)
    message = f"The results were not compared with committed ones: {error}\n"
    assert call(ROOT, "verify", "--after-repro") == message
    assert call(ROOT, "verify", fails=True).startswith("digits: ")


def test_verify_after_repro_succeeds_if_a_variant_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    differs = Comparison(["a.csv"], None, None, None)
    result = Verification(Revision(Path(), "HEAD", "0" * 40), {"cnn": differs}, [])
    monkeypatch.setattr(verify, "verify", lambda root, base: result)
    printed = f"cnn  {differs}\n{result.explanation()}\n"
    assert call(ROOT, "verify", "--after-repro") == call(ROOT, "verify", fails=True) == printed


@pytest.mark.parametrize(
    ("outcome", "options", "fails"),
    [
        ("worse", [], False),
        ("worse", ["--fail-if-worse"], True),
        ("worse by the images alone", ["--fail-if-worse"], False),
        ("worse by the images alone", ["--fail-if-worse", "--one-seed"], True),
        ("void", [], True),
    ],
)
def test_a_review_fails_if_it_is_void_or_if_it_is_asked_to_and_a_variant_is_worse(
    outcome: str, options: list[str], fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*, one_seed: bool) -> bool:
        return outcome == "worse" or (one_seed and outcome == "worse by the images alone")

    found = SimpleNamespace(refuses=refuses, void=outcome == "void")
    monkeypatch.setattr(report, "review", lambda root, base, head, allowed: found)
    monkeypatch.setattr(render, "write", lambda result, folder, test: None)
    monkeypatch.setattr(render, "summary", lambda result: outcome)
    printed = call(ROOT, "review", *options, fails=fails)
    assert printed == f"{outcome}\nwritten: review/index.html, review/index.md\n"


def test_a_reader_that_has_seen_enough_is_no_error(root: Path, params: Path) -> None:
    (root / "digits").mkdir()
    for name in committed_params().download.files.by_name():
        (root / "digits" / name).write_bytes(b"any")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(ROOT / "src"), "checksums", "digits"]
    result = subprocess.run(command, cwd=root, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "")


def test_in_a_subfolder_written_paths_are_relative_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    monkeypatch.setattr(report, "review", lambda root, base, head, allowed: SimpleNamespace(void=False))
    monkeypatch.setattr(render, "write", lambda result, folder, test: written.append(folder.absolute()))
    monkeypatch.setattr(render, "summary", lambda result: "done")
    printed = call(ROOT / "src/digits", "review")
    assert printed == "done\nwritten: ../../review/index.html, ../../review/index.md\n"
    assert written == [ROOT / "review"]


def test_experiments_are_run_and_their_results_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (paths.EXPERIMENTS, paths.PUBLISHED):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text((ROOT / path).read_text("utf-8"), "utf-8")
    monkeypatch.chdir(root)
    monkeypatch.setattr(experiments, "run", lambda root, wanted, source: f"commit of {len(wanted.experiments)}")
    monkeypatch.setattr(
        experiments,
        "results",
        lambda root, wanted, source, commit: {"a": ExperimentResult(commit, [], [0], [])},
    )
    cli.main(["experiments"])
    wanted = experiments.load(paths.EXPERIMENTS)
    result = {"description": f"commit of {len(wanted.experiments)}", "set": [], "seeds": [0], "numbers": []}
    assert read_json(paths.EXPERIMENT_METRICS) == {"a": result}


def test_without_the_environment_the_message_says_what_to_type(root: Path) -> None:
    command = [sys.executable, "-S", str(ROOT / "src"), "params"]  # without site-packages, as if nothing were installed
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "type `make repro`, or activate the environment" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_dask_the_message_of_sweep_says_what_to_type() -> None:
    code = "import sys; sys.modules['distributed'] = None; from digits import cli; cli.main(['sweep', '-S', 'a=1'])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "digits: sweep needs distributed: type `make environment`\n")


def test_another_checkout_runs_its_own_code(tmp_path: Path) -> None:
    package = tmp_path / "src" / "digits"
    package.mkdir(parents=True)
    (tmp_path / "src" / "__main__.py").write_text((ROOT / "src/__main__.py").read_text("utf-8"), "utf-8")
    (package / "__init__.py").write_text("", "utf-8")
    (package / "cli.py").write_text("def main() -> None:\n    print('the copy')\n", "utf-8")
    printed = subprocess.run([sys.executable, "src"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert printed.stdout == "the copy\n"
