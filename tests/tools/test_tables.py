import json
from pathlib import Path
from typing import Any

import pytest
import tables
from support import run

from digits.core.errors import UserError
from digits.versioning.revisions import workspace

PUBLISHED: dict[str, Any] = {
    "report": "A",
    "section": "7",
    "quantity": "accuracy",
    "published": 0.95,
    "measured": 0.925,
    "difference": -0.025,
    "tolerance": 0.01,
    "reproduced": False,
    "experiments": {"refit": {"reproduced": True}, "scaled": {"reproduced": False}},
}
CLAIM = {"report": "A", "section": "3 and 7", "claim": "the loss rises", "from": -0.00123456, "to": 0.5, "holds": True}
EXPERIMENT_NUMBER = {
    "report": "A",
    "quantity": "accuracy",
    "epoch": 21,
    "published": 0.95,
    "mean": 0.951234,
    "standard_deviation": 0.00456,
    "tolerance": 0.01,
    "reproduced": True,
}
RESULTS: dict[str, Any] = {
    "metrics/summary.json": {"cnn": {"epochs": 2}},
    "metrics/variants/cnn.json": {
        "parameters": 80202,
        "test": {"accuracy": 0.9937, "accuracy_interval": [0.9919, 0.9951], "errors": 1234, "loss": 0.01911},
        "calibration": {"expected_error": 0.0031},
        "best": {"accuracy": 0.9939, "epoch": 1, "selected_on": "validation"},
    },
    "metrics/variants/cnn-errors.json": {
        "resemblance": {"wrong": {"share": 0.54}, "right": {"share": None}},
        "rare_style": {"wrong": {"distance_quartiles": [5, 5.774, 6]}, "right": {"distance_quartiles": None}},
        "overlap": {
            "pairs": [{"digits": [4, 9], "observed": 7, "ratio": 3.51}],
            "share_of_errors": 0.1,
            "pairs_above_chance": 1,
        },
    },
    "metrics/published.json": {
        "numbers": [
            PUBLISHED,
            PUBLISHED
            | {"quantity": "images", "published": 70000, "measured": 70000, "difference": 0, "reproduced": True},
            PUBLISHED | {"measured": None, "difference": None, "reproduced": None, "experiments": {}},
        ],
        "claims": [CLAIM, CLAIM | {"section": "3", "from": None, "to": None, "holds": None}],
    },
    "metrics/experiments.json": {
        "refit": {
            "description": "one model",
            "numbers": [
                EXPERIMENT_NUMBER,
                EXPERIMENT_NUMBER
                | {"quantity": "loss", "epoch": None, "standard_deviation": None, "reproduced": False},
            ],
        }
    },
    "benchmarks/results.json": {
        "epoch": {
            "rounds": [
                {"digits": {"seconds": 0.2}, "numpy": {"seconds": 0.1}},
                {"digits": {"seconds": 0.4}, "numpy": {"seconds": 0.3}},
            ],
            "test": {"digits": 0.94, "numpy": None},
        },
        "accuracy": {
            "runs": [
                {"variant": "cnn", "seed": 0, "parameters": 80202, "seconds": [1, 60.2], "accuracies": [0.9, 0.993]},
                {"variant": "cnn", "seed": 1, "parameters": 80202, "seconds": [1, 62.2], "accuracies": [0.9, 0.995]},
            ]
        },
    },
}
EXPECTED = {
    "results": """\
| variant | parameters | test accuracy after 2 epochs (95 % interval) | errors | loss | calibration error | test accuracy at the best epoch |
| :-- | --: | --: | --: | --: | --: | --: |
| `cnn` | 80,202 | 99.37 % (99.19 % to 99.51 %) | 1,234 | 0.019 | 0.003 | 99.39 % at 1, chosen on validation |
""",  # noqa: E501
    "published": """\
| report | section | quantity | published | measured | difference | tolerance | reproduced |
| :-- | --: | :-- | --: | :-- | :-- | --: | :-- |
| A | 7 | accuracy | 0.95 | 0.925 | −0.025 | 0.01 | by `refit` |
| A | 7 | images | 70,000 | 70,000 | 0 | 0.01 | yes |
| A | 7 | accuracy | 0.95 | not run | not run | 0.01 | not run |
""",
    "claims": """\
| report | section | claim | from | to | holds |
| :-- | --: | :-- | :-- | :-- | :-- |
| A | 3 and 7 | the loss rises | −0.001235 | 0.5 | yes |
| A | 3 | the loss rises | not run | not run | not run |
""",
    "experiments": """\
| experiment | report | quantity | published | measured | tolerance | reproduced |
| :-- | :-- | :-- | --: | --: | --: | :-- |
| `refit`: one model | A | accuracy (epoch 21) | 0.95 | 0.9512 ± 0.0046 | 0.01 | yes |
|  | A | loss | 0.95 | 0.9512 | 0.01 | **no** |
""",
    "errors": """\
| variant | nearest training image is another digit: wrong against right answers | median distance to the nearest training image of the same digit: wrong against right | most confused pair | errors in pairs confused above chance |
| :-- | --: | --: | --: | --: |
| `cnn` | 54.0 % against – | 5.77 against – | 4 and 9, 7 times (3.5 times chance) | 10 % in 1 pair |
""",  # noqa: E501
    "speed": """\
| one epoch of `mlp128` | seconds | times as long | test accuracy after 3 epochs |
| :-- | --: | --: | :-- |
| DIGITS | 0.30 | 1 | 94.00 % |
| NUMPY | 0.20 | 0.62 | – |
""",
    "convolutional": """\
| variant | parameters | epochs | test accuracy, 2 seeds | seconds of training |
| :-- | --: | --: | --: | --: |
| `cnn` | 80,202 | 2 | 99.40 % ± 0.14 % | 61 |
""",
}
PAGES = {
    "README.md": ("results", "speed"),
    "docs/replication.md": ("published", "claims", "experiments", "errors", "convolutional"),
}


def block(name: str, content: str = "stale\n") -> str:
    return f"<!-- table: {name} -->\n\n{content}\n<!-- end -->"


def commit(root: Path) -> None:
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "-qm", "Change")


def change(root: Path, file: str, **values: Any) -> None:
    """Change keys of a JSON file."""
    content = json.loads((root / file).read_text("utf-8"))
    (root / file).write_text(json.dumps(content | values), "utf-8")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with every file that the tables are made of, and two pages with current tables, all committed."""
    monkeypatch.setattr(tables, "PEERS", {"digits": "DIGITS", "numpy": "NUMPY"})
    run(tmp_path, "git", "init", "-q")
    for file, content in RESULTS.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(json.dumps(content), "utf-8")
    for page, names in PAGES.items():
        (tmp_path / page).parent.mkdir(exist_ok=True)
        text = "\n\n".join(block(name, EXPECTED[name]) for name in names)
        (tmp_path / page).write_text(f"# Page\n\n{text}\n\nThe end.\n", "utf-8")
    (tmp_path / "other.md").write_text("No table, and no `<!-- table: NAME -->` either.\n", "utf-8")
    commit(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_table_is_written_from_its_files(tree: Path, name: str) -> None:
    text = f"Before.\n{block(name)}\nAfter.\n"
    expected = f"Before.\n{block(name, EXPECTED[name])}\nAfter.\n"
    assert tables.rendered(text, Path("page.md"), workspace(tree)) == expected


def test_only_tables_that_differ_are_written(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {page: (tree / page).read_text("utf-8") for page in PAGES}
    tables.main([], tree)
    assert capsys.readouterr().out == "all tables match the results\n"
    change(tree, "metrics/summary.json", cnn={"epochs": 8765})
    tables.main([], tree)
    assert capsys.readouterr().out == "README.md: table 'results' written\n"
    assert (tree / "README.md").read_text("utf-8") == before["README.md"].replace(
        "after 2 epochs (", "after 8765 epochs ("
    )
    assert (tree / "docs/replication.md").read_text("utf-8") == before["docs/replication.md"]


def test_a_page_that_is_not_in_git_yet_is_written(tree: Path) -> None:
    (tree / "docs/new.md").write_text(block("speed"), "utf-8")
    assert tables.write(tree) == ["docs/new.md: table 'speed' written"]
    assert (tree / "docs/new.md").read_text("utf-8") == block("speed", EXPECTED["speed"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            block("other"),
            f"page.md: 'other' is not a table: the tables are {', '.join(tables.TABLES)}",
        ),
        (
            f"<!-- table: speed -->\n{block('results')}",
            "page.md: table 'speed' has no end: write `<!-- end -->` below it",
        ),
        ("<!-- table: speed -->\nText.\n", "page.md: table 'speed' has no end: write `<!-- end -->` below it"),
        (block("claims"), "metrics/published.json is missing in workspace: type `dvc repro`"),
        (block("results"), "page.md: table 'results' does not fit the files in workspace: KeyError('parameters')"),
    ],
)
def test_a_table_that_cannot_be_written_is_an_error_of_one_line(tree: Path, text: str, message: str) -> None:
    (tree / "metrics/published.json").unlink()
    (tree / "metrics/variants/cnn.json").write_text('{"test": {"accuracy_interval": [0, 1]}, "best": {}}', "utf-8")
    with pytest.raises(UserError) as error:
        tables.rendered(text, Path("page.md"), workspace(tree))
    assert str(error.value) == message


def test_an_error_ends_the_command_with_one_line_and_changes_no_page(tree: Path) -> None:
    (tree / "README.md").write_text(block("speed"), "utf-8")
    (tree / "docs/replication.md").write_text(block("other"), "utf-8")
    with pytest.raises(SystemExit, match=r"^tables: docs/replication.md: 'other' is not a table: [^\n]+$"):
        tables.main([], tree)
    assert (tree / "README.md").read_text("utf-8") == block("speed")


def test_the_check_reads_neither_results_nor_pages_of_the_work_tree(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(tree, "metrics/summary.json", cnn={"epochs": 8765})
    (tree / "metrics/published.json").unlink()
    (tree / "README.md").write_text(block("other"), "utf-8")
    tables.main(["--check"], tree)
    assert capsys.readouterr().out == "all tables match the results\n"


def test_the_check_names_each_page_and_table_that_is_stale_in_the_commit(tree: Path) -> None:
    change(tree, "metrics/summary.json", cnn={"epochs": 8765})
    change(tree, "metrics/published.json", claims=[])
    commit(tree)
    tables.write(tree)
    with pytest.raises(SystemExit) as error:
        tables.main(["--check"], tree)
    assert error.value.code == (
        "README.md: table 'results' differs from the committed results: type `make tables`\n"
        "docs/replication.md: table 'claims' differs from the committed results: type `make tables`"
    )
    commit(tree)
    tables.main(["--check"], tree)


def test_the_check_names_tables_that_are_unknown_or_on_no_page(tree: Path) -> None:
    (tree / "README.md").write_text(block("other"), "utf-8")
    commit(tree)
    unknown, *absent = tables.check(tree)
    assert unknown.startswith("README.md: 'other' is not a table: ")
    assert absent == [f"no page has table '{name}': write `<!-- table: {name} -->`" for name in PAGES["README.md"]]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (None, 4, "not run"),
        (float("nan"), 4, "not run"),
        (70000.0, 4, "70,000"),
        (6, 4, "6"),
        (0.438498, 4, "0.4385"),
        (0.438498, 6, "0.438498"),
        (-0.0139, 3, "−0.0139"),
    ],
)
def test_a_number_has_significant_digits_and_a_whole_number_all(value: float | None, digits: int, text: str) -> None:
    assert tables.number(value, digits) == text
