import json
from pathlib import Path
from typing import Any

import check_docs
import pytest
from support import ROOT, run
from yaml import safe_dump

from digits.core.errors import UserError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty repository."""
    run(tmp_path, "git", "init", "-q")
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    """Write files by their paths, with the folders that they need."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


BLOCK = "<!-- table: results -->\n\n| accuracy |\n| --: |\n| 95.20 % (94.76 % to 95.60 %) |\n\n<!-- end -->\n"


def test_a_percentage_in_prose_must_stand_in_a_table(tree: Path) -> None:
    write(tree, {"README.md": f"{BLOCK}\nIt reaches 95.20 %, not 95.21 %,\nand holds out 25 %. Chance: 5.20 %.\n"})
    assert check_docs.percentages(tree) == [
        "README.md:9: 95.21 % stands in no table: correct it, or take it out",
        "README.md:10: 5.20 % stands in no table: correct it, or take it out",
    ]


def test_a_page_may_quote_the_table_of_another_page(tree: Path) -> None:
    write(tree, {"README.md": BLOCK, "docs/replication.md": "It reaches 95.20%; another reaches 99.1%.\n"})
    assert check_docs.percentages(tree) == [
        "docs/replication.md:1: 99.1 % stands in no table: correct it, or take it out"
    ]


def test_a_mean_and_its_standard_deviation_in_prose_must_both_stand_in_a_table(tree: Path) -> None:
    table = "<!-- table: results -->\n\n| accuracy |\n| --: |\n| 95.20 ± 0.11 % |\n\n<!-- end -->\n"
    write(
        tree,
        {"README.md": f"{table}It reaches 95.20 %, that is 95.20 ± 0.11 %,\nnot 95.20 ± 0.12 % or 95.21 ±\n0.11 %.\n"},
    )
    assert check_docs.percentages(tree) == [
        "README.md:9: 0.12 % stands in no table: correct it, or take it out",
        "README.md:9: 95.21 % stands in no table: correct it, or take it out",
    ]


def test_percentages_in_code_and_on_other_pages_are_not_checked(tree: Path) -> None:
    write(tree, {"README.md": "```\n50.5 %\n```\n", "CHANGELOG.md": "50.5 %\n", "benchmarks/results.md": "50.5 %\n"})
    assert check_docs.percentages(tree) == []


def test_a_table_written_by_hand_may_be_quoted_unless_others_are_generated_there(tree: Path) -> None:
    table = "| module | noticed |\n| :-- | --: |\n| idx | 94.5 % |\n\n"
    write(tree, {"docs/trust.md": f"{table}In all 94.5 %.\n", "docs/other.md": "In all 94.5 %.\n"})
    assert check_docs.percentages(tree) == ["docs/other.md:1: 94.5 % stands in no table: correct it, or take it out"]
    write(tree, {"docs/trust.md": f"{BLOCK}\n{table}In all 94.5 %.\n", "docs/other.md": ""})
    assert check_docs.percentages(tree) == [
        f"docs/trust.md:{line}: 94.5 % stands in no table: correct it, or take it out" for line in (11, 13)
    ]


def test_every_named_test_must_exist(tree: Path) -> None:
    code = "def test_killed() -> None: ...\n"
    write(tree, {"tests/stages/test_faults.py": code, "tests/test_cli.py": "def test_help() -> None: ...\n"})
    page = """\
`tests/stages/test_faults.py::test_killed`, `test_killed`, `test_cli.py::test_help`, `test_faults.py`
`stages/test_faults.py::test_killed[cnn]`, `pytest -n0 tests/test_cli.py::test_help`
"""
    write(tree, {"docs/trust.md": page})
    assert check_docs.named_tests(tree) == []
    page = """\
`test_faults.py::test_help`
`tests/test_faults.py::test_killed`
`test_kill`
`test_sources.py`
"""
    write(tree, {"docs/trust.md": page})
    assert check_docs.named_tests(tree) == [
        "docs/trust.md:1: there is no test test_help in test_faults.py",
        "docs/trust.md:2: there is no file tests/test_faults.py in tests/",
        "docs/trust.md:3: there is no test test_kill in tests/",
        "docs/trust.md:4: there is no file test_sources.py in tests/",
    ]


def test_the_page_on_trust_names_its_tests() -> None:
    assert len(check_docs.NAMED_TEST.findall((ROOT / "docs/trust.md").read_text("utf-8"))) > 40


def test_a_relative_link_must_lead_to_a_file_in_git(tree: Path) -> None:
    links = "[up](../README.md) [same](sharing.md#keys) [root](/README.md)\n"
    write(tree, {"docs/trust.md": links, "docs/sharing.md": "", ".gitignore": "review/\n", "review/index.html": ""})
    links = """\
[a](docs/trust.md), ![b](docs/trust.md 'title'), [folder](docs) [folder](docs/) [page](#results)
[web](https://example.org/x.md) [mail](mailto:a@example.org) <img src="docs/sharing.md"> `[code](no.md)`
```
[code](no.md)
```
[label]: docs/sharing.md
"""
    write(tree, {"README.md": links})
    assert check_docs.links(tree) == []
    links = """\
[a](docs/no.md#top)
![b](docs/no%20picture.png)
[label]: no.md
<img src="no.png">
[ignored](review/index.html) [outside](../../issues)
"""
    write(tree, {"README.md": links})
    assert check_docs.links(tree) == [
        f"README.md:{line}: the link {target} leads to no file in Git"
        for line, target in (
            (1, "docs/no.md#top"),
            (2, "docs/no%20picture.png"),
            (3, "no.md"),
            (4, "no.png"),
            (5, "review/index.html"),
            (5, "../../issues"),
        )
    ]


def test_a_link_to_a_committed_file_that_a_run_deleted_is_no_problem(tree: Path) -> None:
    write(tree, {"README.md": "![plot](plots/cnn.png)\n", "plots/cnn.png": ""})
    run(tree, "git", "add", ".")
    run(tree, "git", "commit", "-qm", "Start")
    (tree / "plots/cnn.png").unlink()
    assert check_docs.links(tree) == []


POINT = {"variant": "mlp128", "split": "test", "column": "accuracy", "epoch": 6}
NUMBER = {"report": "A", "section": "7", "quantity": "accuracy", "published": 0.95, "rounding": 0.005, "curve": POINT}
MEASURED = {"mean": 0.93, "std": 0.01, "values": [0.92, 0.94], "interval": [0.7, 1.2], "reproduced": True}
ROW = {"report": "A", "quantity": "accuracy", "epoch": 21, "published": 0.95, "measured": MEASURED}
SCALED = {
    "description": "scaled",
    "set": ["variants=[mlp128]", "models.mlp128.normalize=true"],
    "seeds": [4, 1],
    "numbers": [ROW],
}
NOT_AS_ASKED = "metrics/experiments.json: 'scaled' is not as in experiments.yaml and data/published.yaml"
AGAIN = "type `make experiments`"


def commit_experiments(
    root: Path,
    results: dict[str, Any],
    *,
    seeds: tuple[int, ...] = (4, 1),
    number: dict[str, Any] | None = None,
    pipeline: dict[str, bool | None] | None = None,
) -> None:
    """Commit an experiment, and results.

    Args:
        root: the repository.
        results: the content of metrics/experiments.json.
        seeds: those of params.yaml.
        number: changes in the published number that the experiment measures.
        pipeline: the experiments in metrics/published.json; None: as in `results`.
    """
    wanted = {
        "scaled": {
            "description": "scaled",
            "variant": "mlp128",
            "set": ["models.mlp128.normalize=true"],
            "epochs": {6: 21},
        }
    }
    outcomes = {name: True for name, result in results.items() if result.get("numbers")}
    row = {"report": "A", "quantity": "accuracy", "experiments": outcomes if pipeline is None else pipeline}
    files = {
        "experiments.yaml": safe_dump({"experiments": wanted}),
        "params.yaml": safe_dump({"train": {"seeds": list(seeds)}}),
        "data/published.yaml": safe_dump(
            {"data": {}, "reports": {}, "numbers": [NUMBER | (number or {})], "claims": []}
        ),
        "metrics/published.json": json.dumps({"numbers": [row]}),
        "metrics/experiments.json": json.dumps(results),
    }
    write(root, files)
    run(root, "git", "add", ".")
    run(root, "git", "commit", "-qm", "Run the experiments")


def test_committed_experiments_that_agree_are_no_problem_whatever_the_work_tree_has(tree: Path) -> None:
    commit_experiments(tree, {"scaled": SCALED})
    assert check_docs.experiments(tree) == []
    write(
        tree,
        {"metrics/published.json": "{}", "metrics/experiments.json": "{}", "experiments.yaml": "", "params.yaml": ""},
    )
    assert check_docs.experiments(tree) == []


def test_experiments_that_are_missing_or_too_many_are_named(tree: Path) -> None:
    commit_experiments(tree, {"wide": SCALED | {"numbers": []}})
    assert check_docs.experiments(tree) == [
        f"metrics/experiments.json: 'wide' is not in experiments.yaml: {AGAIN}",
        f"metrics/experiments.json: 'scaled' is missing: {AGAIN}",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"description": "old"},
        {"set": []},
        {"numbers": []},
        {"numbers": [ROW | {"quantity": "loss"}]},
        {"numbers": [ROW | {"epoch": 6}]},
        {"numbers": [ROW | {"published": 0.96}]},
    ],
)
def test_results_of_another_experiment_are_named(tree: Path, change: dict[str, Any]) -> None:
    commit_experiments(tree, {"scaled": SCALED | change})
    assert f"{NOT_AS_ASKED}: {AGAIN}" in check_docs.experiments(tree)


def test_results_for_another_published_number_are_named(tree: Path) -> None:
    commit_experiments(tree, {"scaled": SCALED}, number={"published": 0.5})
    assert check_docs.experiments(tree) == [f"{NOT_AS_ASKED}: {AGAIN}"]


def test_a_verdict_of_another_rounding_is_named(tree: Path) -> None:
    """0.95 lies in the interval of 0.92 and 0.94, but 1.5 does only if it is rounded to a whole number."""
    apart = {"scaled": SCALED | {"numbers": [ROW | {"published": 1.5, "measured": MEASURED | {"reproduced": True}}]}}
    commit_experiments(tree, apart, number={"published": 1.5, "rounding": 0.5})
    assert check_docs.experiments(tree) == []
    commit_experiments(tree, apart, number={"published": 1.5, "rounding": 0.05})
    assert check_docs.experiments(tree) == [f"{NOT_AS_ASKED}: {AGAIN}"]


def test_experiments_with_other_seeds_than_the_pipeline_are_named(tree: Path) -> None:
    commit_experiments(tree, {"scaled": SCALED}, seeds=(4,))
    assert check_docs.experiments(tree) == [
        f"metrics/experiments.json: 'scaled' was not run with the seeds of params.yaml: {AGAIN}"
    ]


@pytest.mark.parametrize("pipeline", [{}, {"scaled": False}, {"scaled": True, "wide": None}])
def test_published_metrics_without_the_results_of_the_experiments_are_named(
    tree: Path, pipeline: dict[str, bool | None]
) -> None:
    commit_experiments(tree, {"scaled": SCALED}, pipeline=pipeline)
    assert check_docs.experiments(tree) == [
        "metrics/published.json: 'accuracy' does not have the results of metrics/experiments.json: type `dvc repro`"
    ]


def test_experiments_in_another_format_are_an_error_of_one_line(tree: Path) -> None:
    commit_experiments(tree, {"scaled": {"says": "scaled"}})
    with pytest.raises(UserError, match=r"^metrics/experiments\.json in HEAD: scaled\.description: Field required$"):
        check_docs.experiments(tree)


LICENSES = """\
# Licences

`namex` states none; its licence file is that of Apache 2.0.

| Name  | Version | License |
|-------|---------|---------|
| NameX | 1.0     | UNKNOWN |
| namex | 1.0     | UNKNOWN |
| other | 2.0.0   | MIT     |
"""


def test_every_locked_package_must_be_listed_with_a_licence(tree: Path) -> None:
    lock = (
        "namex==1.0 \\\n    --hash=sha256:0\nother==2.0 ; python_version > '3' \\\nabsent==3 ; python_version < '3'\n"
    )
    write(
        tree,
        {
            "requirements-dev.txt": lock,
            "docs/licenses.md": LICENSES.replace("| NameX | 1.0     | UNKNOWN |\n", ""),
        },
    )
    assert check_docs.licenses(tree) == []
    write(tree, {"requirements-dev.txt": lock.replace("2.0", "2.1"), "docs/licenses.md": LICENSES.replace("`", "")})
    assert check_docs.licenses(tree) == [
        "docs/licenses.md: other 2.1 is missing: type `make licenses`",
        "docs/licenses.md: other 2.0.0 is not locked: type `make licenses`",
        "docs/licenses.md: the licence of NameX is UNKNOWN: state it above the table",
        "docs/licenses.md: the licence of namex is UNKNOWN: state it above the table",
    ]


def test_all_problems_are_printed_and_the_exit_status_is_1(tree: Path) -> None:
    commit_experiments(tree, {"scaled": {"says": "scaled"}})
    write(tree, {"README.md": "[a](no.md)\n1.5 %\n", "docs/licenses.md": "", "requirements-dev.txt": "other==2.0 \\\n"})
    with pytest.raises(SystemExit) as error:
        check_docs.main(tree)
    assert str(error.value.code).splitlines() == [
        "README.md:2: 1.5 % stands in no table: correct it, or take it out",
        "README.md:1: the link no.md leads to no file in Git",
        "metrics/experiments.json in HEAD: scaled.description: Field required",
        "docs/licenses.md: other 2.0 is missing: type `make licenses`",
    ]


def test_a_tree_without_problems_passes_in_silence(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit_experiments(tree, {"scaled": SCALED})
    write(tree, {"docs/licenses.md": "| other | 2.0 | MIT |\n", "requirements-dev.txt": "other==2.0 \\\n"})
    check_docs.main(tree)
    assert capsys.readouterr().out == ""
