"""The rules of the house that a reader relies on, read from the code itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

SRC = ROOT / "src"
PACKAGE = SRC / "digits"
PIPELINE = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text("utf-8"))
STAGES = list(PIPELINE["stages"])


def imported_modules(path: Path) -> set[Path]:
    """Return the files of this package that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = {SRC.joinpath(*name.split(".")).with_suffix(".py") for name in names if name.startswith("digits.")}
    return {file for file in files if file.exists()}


def closure(path: Path) -> set[Path]:
    todo, found = [path], set()
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            todo += imported_modules(file)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_exactly_the_modules_that_a_stage_imports(stage: str) -> None:
    module = PACKAGE / "stages" / f"{stage}.py"
    wanted = sorted(str(path.relative_to(ROOT)) for path in closure(module))
    assert [dep for dep in PIPELINE["stages"][stage]["deps"] if dep.startswith("src/")] == wanted


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_run_under_its_own_name(stage: str) -> None:
    words = PIPELINE["stages"][stage]["cmd"].split()
    assert words[:3] == ["python", "src", stage]


def test_every_stage_module_is_a_stage() -> None:
    assert sorted(STAGES) == sorted(path.stem for path in (PACKAGE / "stages").glob("[!_]*.py"))


def test_packages_hold_no_code_of_their_own() -> None:
    assert [path for path in PACKAGE.rglob("__init__.py") if path.read_text("utf-8").strip()] == []


def test_the_library_imports_no_stage_no_path_and_no_command_line() -> None:
    paths, cli, stages = PACKAGE / "paths.py", PACKAGE / "cli.py", set((PACKAGE / "stages").glob("*.py"))
    of_a_repository = {PACKAGE / f"{name}.py" for name in ("review", "experiments", "sweep", "trial", "verify")}
    library = set(PACKAGE.glob("*.py")) - {cli}
    forbidden = {
        path.name: imported_modules(path) & ({cli, *stages} if path in of_a_repository else {cli, paths, *stages})
        for path in library
    }
    assert {name: found for name, found in forbidden.items() if found} == {}


def test_tensorflow_is_imported_by_one_module_and_reaches_two_stages() -> None:
    importing = {path.stem for path in PACKAGE.rglob("*.py") if "import tensorflow" in path.read_text("utf-8")}
    assert importing == {"backend"}
    assert {stage for stage in STAGES if PACKAGE / "backend.py" in closure(PACKAGE / "stages" / f"{stage}.py")} == {
        "train",
        "evaluate",
    }


@pytest.mark.parametrize("stage", ["params", "download", "preprocess", "neighbors", "analyze", "compare"])
def test_other_stages_start_without_tensorflow(stage: str) -> None:
    code = f"import digits.cli, digits.stages.{stage}, sys; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_default_variant_is_an_artifact() -> None:
    params = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text("utf-8"))
    paths = {name: artifact["path"] for name, artifact in PIPELINE["artifacts"].items()}
    assert paths == {name: f"models/{name}/model.keras" for name in params["variants"]}


def test_the_locks_have_hashes_and_name_no_host() -> None:
    locks = (
        ("requirements.txt", 100),
        ("requirements-s3.txt", 5),
        ("requirements-cluster.txt", 5),
        ("requirements-dev.txt", 150),
    )
    for name, least in locks:
        text = (ROOT / name).read_text("utf-8")
        assert "://" not in text
        pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert len(pinned) > least
        assert all("==" in line and line.endswith("\\") for line in pinned)
        assert text.count("--hash=sha256:") >= len(pinned)
