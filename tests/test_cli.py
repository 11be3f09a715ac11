import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT

from digits import cli, experiments, paths
from digits.files import read_json


def test_help_lists_the_stages_and_starts_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(stage in printed for stage in cli.STAGES)


def test_the_command_line_knows_the_stages_of_the_pipeline() -> None:
    assert set(cli.STAGES) == {path.stem for path in (ROOT / "src/digits/stages").glob("[!_]*.py")}


def test_a_mistake_is_one_line_and_status_1(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "src", "params"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        "digits: params.yaml: cannot be read (No such file or directory): run digits in the folder that holds it\n"
    )


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text("utf-8"), "utf-8")
    (tmp_path / "params.schema.json").mkdir()
    result = subprocess.run(
        [sys.executable, ROOT / "src", "params"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("digits: ")
    assert result.stderr.count("\n") == 1
    assert "Is a directory" in result.stderr


def test_an_interrupted_command_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "imported", interrupted)
    with pytest.raises(SystemExit) as caught:
        cli.main(["drift"])
    assert caught.value.code == "digits: interrupted; `dvc repro` starts again with the stage that was running"


def stage_that_fails(interrupted: bool) -> SimpleNamespace:
    """Return a stage that raises SystemError, as TensorFlow does where Ctrl-C finds it making a tensor."""

    def run() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            if interrupted:
                signal.raise_signal(signal.SIGINT)
        raise SystemError("returned a result with an exception set")

    return SimpleNamespace(run=run)


def test_an_interruption_that_became_another_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "imported", lambda name: stage_that_fails(interrupted=True))
    with pytest.raises(SystemExit, match="digits: interrupted; `dvc repro` starts again"):
        cli.main(["compare"])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.default_int_handler])
def test_an_error_of_the_program_itself_is_not_taken_for_an_interruption(
    monkeypatch: pytest.MonkeyPatch, handler: Any
) -> None:
    ignored = handler is signal.SIG_IGN
    monkeypatch.setattr(cli, "imported", lambda name: stage_that_fails(interrupted=ignored))
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(SystemError):
            cli.main(["compare"])
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_experiments_are_run_and_their_results_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (paths.EXPERIMENTS, paths.PUBLISHED):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text((ROOT / path).read_text("utf-8"), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiments, "run", lambda root, wanted: f"commit of {len(wanted.experiments)}")
    monkeypatch.setattr(experiments, "results", lambda root, wanted, source, commit: {"run on": commit})
    cli.main(["experiments"])
    count = len(experiments.load(paths.EXPERIMENTS).experiments)
    assert read_json(paths.EXPERIMENT_METRICS) == {"run on": f"commit of {count}"}


def test_without_the_environment_the_line_says_what_to_type(tmp_path: Path) -> None:
    # -S: without site-packages, as for a Python in which nothing is installed
    result = subprocess.run(
        [sys.executable, "-S", ROOT / "src", "params"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "type `make repro`, or activate the environment" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_dask_a_sweep_says_what_to_type() -> None:
    code = "import sys; sys.modules['distributed'] = None; from digits import cli; cli.main(['sweep', '-S', 'a=1'])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "digits: sweep needs distributed: type `make cluster`\n")


def test_another_copy_runs_its_own_code(tmp_path: Path) -> None:
    package = tmp_path / "src" / "digits"
    package.mkdir(parents=True)
    (tmp_path / "src" / "__main__.py").write_text((ROOT / "src/__main__.py").read_text("utf-8"), "utf-8")
    (package / "__init__.py").write_text("", "utf-8")
    (package / "cli.py").write_text("def main() -> None:\n    print('the copy')\n", "utf-8")
    printed = subprocess.run([sys.executable, "src"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert printed.stdout == "the copy\n"
