"""The architecture: the layers of packages, and the code that each stage depends on, by the imports in the files."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from support import ROOT, committed, committed_params, run

from digits.core import config

SRC = ROOT / "src"
PACKAGE = SRC / "digits"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
PIPELINE = config.parse_fast((ROOT / "dvc.yaml").read_text("utf-8"))
STAGES = list(PIPELINE["stages"])
# A package or module imports from the layers above its own line only, and from itself.
LAYERS = [
    {"core"},
    {"data", "modeling", "evaluation", "plots"},
    {"versioning"},
    {"cards", "inference", "replication", "review", "sweep"},
    {"stages", "cli"},
]
# These work on a whole repository, whose paths they therefore know.
KNOW_PATHS = {"cli", "inference", "replication.experiments", "review", "stages", "sweep", "versioning"}


@cache
def imports(path: Path) -> frozenset[Path]:
    """Return the files of `digits` that a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = {SRC.joinpath(*name.split(".")).with_suffix(".py") for name in names if name.startswith("digits.")}
    return frozenset(file for file in files if file.exists())


def reached(path: Path) -> set[Path]:
    """Return a file and the files that it imports, directly or through others."""
    todo, found = [path], set()
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            todo += imports(file)
    return found


def module(path: Path) -> str:
    """Return the name of a file's module within `digits`, such as core.paths."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def part(path: Path) -> str:
    """Return the package that a file is in, or its own name if it is directly in `digits`."""
    return module(path).partition(".")[0]


def stage_file(stage: str) -> Path:
    return PACKAGE / "stages" / f"{stage}.py"


def code_deps(stage: str) -> list[Path]:
    """Return the files and folders of code among the deps of a stage."""
    return [ROOT / dep for dep in PIPELINE["stages"][stage]["deps"] if dep.startswith("src/")]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_its_module_and_its_code_deps_are_what_that_imports(stage: str) -> None:
    deps, files = code_deps(stage), reached(stage_file(stage))
    missing = [module(file) for file in files if not any(file.is_relative_to(dep) for dep in deps)]
    assert missing == [], f"name them, or their packages, in the deps of {stage} in dvc.yaml"
    unused = [str(dep.relative_to(ROOT)) for dep in deps if not any(file.is_relative_to(dep) for file in files)]
    assert unused == [], f"remove them from the deps of {stage} in dvc.yaml"
    assert stage_file(stage) in deps
    assert PIPELINE["stages"][stage]["cmd"].split()[:3] == ["python", "src", stage]


def test_only_core_modeling_and_its_own_file_retrain() -> None:
    assert set(code_deps("train")) == {PACKAGE / "core", PACKAGE / "modeling", stage_file("train")}


def test_packages_import_from_lower_layers_only_and_no_import_is_circular() -> None:
    assert {part(path) for path in MODULES} == set().union(*LAYERS)
    layer = {name: number for number, names in enumerate(LAYERS) for name in names}
    wrong = [
        f"{module(path)} imports {module(file)}"
        for path in MODULES
        for file in imports(path)
        if part(path) != part(file) and layer[part(file)] >= layer[part(path)]
    ]
    assert wrong == []
    circular = [module(path) for path in MODULES for file in imports(path) if path in reached(file)]
    assert circular == []


def test_every_stage_module_is_a_stage_and_nothing_imports_it_or_cli() -> None:
    assert sorted(STAGES) == sorted(path.stem for path in MODULES if part(path) == "stages")
    imported = {part(file) for path in MODULES for file in imports(path)}
    assert not {"cli", "stages"} & imported


def test_only_code_that_works_on_a_whole_repository_knows_its_paths() -> None:
    importing = {path for path in MODULES if PACKAGE / "core/paths.py" in imports(path)}
    assert {module(path) for path in importing if not {module(path), part(path)} & KNOW_PATHS} == set()


def test_init_files_are_empty() -> None:
    assert [path for path in PACKAGE.rglob("__init__.py") if path.read_text("utf-8").strip()] == []


def test_one_module_imports_tensorflow_and_two_stages_reach_it() -> None:
    importing = [module(path) for path in MODULES if "import tensorflow" in path.read_text("utf-8")]
    assert importing == ["modeling.backend"]
    backend = PACKAGE / "modeling/backend.py"
    assert {stage for stage in STAGES if backend in reached(stage_file(stage))} == {"train", "evaluate"}


def test_help_the_other_stages_and_an_unknown_variant_need_no_tensorflow() -> None:
    code = (
        "import contextlib, importlib, sys\n"
        "from digits.cli import main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main(['--help'])\n"
        "for stage in sys.argv[1:]:\n"
        "    importlib.import_module(f'digits.stages.{stage}')\n"
        "    assert 'tensorflow' not in sys.modules, stage\n"
        "for stage in ('train', 'evaluate'):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main([stage, 'nosuch'])\n"
        "    assert 'tensorflow' not in sys.modules, stage\n"
    )
    others = [stage for stage in STAGES if stage not in ("train", "evaluate")]
    run(ROOT, sys.executable, "-c", code, *others)


def test_params_yaml_is_written_as_dvc_writes_it_when_an_experiment_sets_a_value(tmp_path: Path) -> None:
    path, before = tmp_path / "params.yaml", committed("params.yaml")
    path.write_text(before, "utf-8")
    apply_overrides(path, ["train.epochs=6"])
    assert path.read_text("utf-8") == re.sub(r"^  epochs: \d+$", "  epochs: 6", before, count=1, flags=re.MULTILINE)


def test_every_default_variant_is_an_artifact_with_a_card() -> None:
    found = {name: (artifact["path"], artifact["meta"]["card"]) for name, artifact in PIPELINE["artifacts"].items()}
    assert found == {name: (f"models/{name}/model.keras", f"cards/{name}.md") for name in committed_params().variants}
    assert all((ROOT / card).exists() for _, card in found.values())
