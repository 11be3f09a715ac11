import functools
import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import check_docs
import pytest
import results
from support import ROOT, run

from digits.core.errors import UserError
from digits.versioning import lock

FILES = ("README.md", "docs/README.md", "metrics", "benchmarks/*.json", "params.yaml", "experiments.yaml", "data")
VARIANT = "metrics/variants/{}.json"
PUBLISHED, EXPERIMENTS = "metrics/published.json", "metrics/experiments.json"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the results of this one's HEAD, and with pages written from them, all committed."""
    monkeypatch.setattr(lock, "check", lambda root: None)
    run(ROOT, "git", "archive", f"--output={tmp_path / 'head.zip'}", "HEAD", *FILES)
    root = tmp_path / "tree"
    shutil.unpack_archive(tmp_path / "head.zip", root)
    run(root, "git", "init", "-q")
    results.update(root, check=False)
    commit(root)
    return root


def commit(root: Path) -> None:
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "-qm", "Change")


def content(root: Path, file: str) -> Any:
    return json.loads((root / file).read_text("utf-8"))


def change(root: Path, file: str, values: dict[str, Any]) -> None:
    """Change values of a JSON file, by their keys with dots between them."""
    changed = content(root, file)
    for name, value in values.items():
        *keys, last = [int(key) if key.isdigit() else key for key in name.split(".")]
        functools.reduce(lambda part, key: part[key], keys, changed)[last] = value
    (root / file).write_text(json.dumps(changed), "utf-8")


def pages(root: Path) -> str:
    """Write the pages, and return their texts."""
    results.update(root, check=False)
    return "".join((root / path).read_text("utf-8") for path in (results.README, results.PAGE))


MEASURED = {"mean": 0.925123, "std": 0.01234, "values": [], "interval": [-0.111111, 0.939], "reproduced": False}
SUPPORT = {str(digit): {"support": 1010 if digit == 1 else 1000} for digit in range(10)}


def test_results_are_written_as_means_with_their_spread_and_interval(tree: Path) -> None:
    name = next(iter(content(tree, "metrics/summary.json")))
    values = {
        "seeds": [0, 1],
        "per_class": SUPPORT,
        "test.accuracy": {"mean": 0.5437, "std": 0.44342, "values": [0.101, 0.987]},
        "test.accuracy_interval": [0.5019, 0.5951],
        "test.errors": {"mean": 1234.5, "std": 6.25},
    }
    change(tree, VARIANT.format(name), values)
    change(tree, PUBLISHED, {"numbers.0.measured": MEASURED, "numbers.0.experiments": {"refit": True, "scaled": False}})
    row = {"accuracy": {"mean": 0.9}, "interval": [-0.06, 0.001], "outcome": "worse"}
    change(tree, "metrics/stress.json", {f"test.variants.{name}": row})
    text = pages(tree)
    assert f"| `{name}` (**learned nothing** with 1 of 2 seeds) |" in text
    assert "| 54.37 ± 44.34 % (50.19 % to 59.51 %) | 1,234.5 ± 6.2 |" in text
    assert "| 0.9251 ± 0.012 | −0.1111 to 0.939 | by `refit` |" in text
    assert "| **90.0 % (−6.0 to +0.1)** |" in text


def test_results_of_one_seed_or_of_another_data_set_have_no_verdict(tree: Path) -> None:
    name = next(iter(content(tree, "metrics/summary.json")))
    values: dict[str, Any] = {"seeds": [0], "per_class": SUPPORT, "test.accuracy.values": [0.101]}
    change(tree, VARIANT.format(name), values | {"test.errors": {"mean": 1000.0, "std": None}})
    values = {"numbers.0.measured": MEASURED | {"std": None, "interval": None, "reproduced": None}}
    values |= {"numbers.0.experiments": {}, "numbers.1.experiments": {}, "numbers.1.measured": None}
    change(tree, PUBLISHED, values | {"not_applicable": "not MNIST"})
    text = pages(tree)
    assert f"| `{name}` (**learned nothing**) |" in text
    assert " %) | 1,000 |" in text
    assert "| 0.925123 | – | unknown from one seed |" in text
    assert "| not run | – | not applicable |" in text


def test_the_check_names_each_row_that_differs_in_the_commit_whatever_the_work_tree_has(tree: Path) -> None:
    name = next(iter(content(tree, "metrics/summary.json")))
    change(tree, VARIANT.format(name), {"parameters": 8765})
    commit(tree)
    (tree / PUBLISHED).unlink()
    (tree / "README.md").write_text("")
    with pytest.raises(SystemExit) as error:
        results.main(["--check"], tree)
    page, _, _, old, new, *_, last = str(error.value.code).splitlines()
    assert (page, last) == ("--- README.md in HEAD", "The pages differ from the committed results: type `make tables`")
    assert old.startswith(f"-| `{name}` | ")
    assert new.startswith(f"+| `{name}` | 8,765 | ")
    run(tree, "git", "checkout", "-q", ".")
    results.main([], tree)
    commit(tree)
    results.main(["--check"], tree)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (PUBLISHED, None, r"metrics/published\.json is missing in workspace: type `dvc repro`"),
        (PUBLISHED, '{"numbers": []}', r"docs/results\.md does not fit the files in workspace: .*claims.*"),
        ("README.md", "", r"README\.md has no place for its table: write `<!-- results -->` and `<!-- end -->`"),
    ],
)
def test_pages_that_cannot_be_written_are_an_error_of_one_line(
    tree: Path, file: str, text: str | None, message: str
) -> None:
    (tree / file).unlink() if text is None else (tree / file).write_text(text)
    with pytest.raises(SystemExit, match=f"^results: {message}$"):
        results.main([], tree)


def test_results_that_do_not_match_the_lock_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "check", Mock(side_effect=UserError("dvc.lock does not match")))
    with pytest.raises(SystemExit, match=r"^results: dvc\.lock does not match$"):
        results.main([], tmp_path)


def test_each_problem_of_the_documentation_is_a_line(tree: Path) -> None:
    change(tree, PUBLISHED, {"numbers.0.quantity": "95.20 ± 0.11 %"})
    results.update(tree, check=False)
    (tree / "tests/stages").mkdir(parents=True)
    (tree / "tests/stages/test_faults.py").write_text("def test_killed() -> None: ...\n")
    lock = "namex==1.0 \\\n    --hash=sha256:0\nother==2.1 ; python_version > '3' \\\nno==3 ; python_version < '3'\n"
    pages = {
        "requirements.txt": lock,
        "docs/licenses.md": "| NameX | 1.0 | MIT |\n| other | 2.0 | MIT |\n",
        "docs/gate.md": "`test_faults.py`, `stages/test_faults.py::test_killed[cnn]`, `test_faults.py::test_kill`",
        "docs/trust.md": "`test_no.py`",
        "docs/use.md": "95.20 ± 0.11 %, 95.20 ± 0.123 %, 95.213\n%, 25 %, `1.5 %`\n\n| by hand |\n| 1.5 % |\n",
    }
    for page, text in pages.items():
        (tree / page).write_text(text)
    with pytest.raises(SystemExit) as error:
        check_docs.main(tree)
    assert str(error.value.code).splitlines() == [
        "docs/use.md: 0.123 % stands in no table of results: correct it, or take it out",
        "docs/use.md: 95.213 % stands in no table of results: correct it, or take it out",
        "docs/gate.md: there is no test test_faults.py::test_kill",
        "docs/trust.md: there is no test test_no.py",
        "docs/licenses.md: other 2.1 is missing: type `make licenses`",
    ]


def test_experiments_that_do_not_belong_to_the_other_committed_files_are_named(tree: Path) -> None:
    name = next(iter(content(tree, EXPERIMENTS)))
    quantity = content(tree, PUBLISHED)["numbers"][0]["quantity"]
    change(tree, EXPERIMENTS, {f"{name}.seeds": [99]})
    change(tree, PUBLISHED, {"numbers.0.experiments.wide": True})
    assert check_docs.experiments(tree) == []  # the commit has neither change
    commit(tree)
    asked = "experiments.yaml, data/published.yaml and params.yaml"
    assert check_docs.experiments(tree) == [
        f"{EXPERIMENTS}: '{name}' is not as in {asked}: type `make experiments`",
        f"{PUBLISHED}: '{quantity}' does not have the results of {EXPERIMENTS}: type `dvc repro`",
    ]


def test_the_linter_finds_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Title\n\n[a](no.md), [b](#no), [c](#title), [d](https://example.org/no)\n")
    found = run(tmp_path, "rumdl", "check", "--no-cache", f"--config={ROOT / 'pyproject.toml'}", ".", fails=True)
    assert re.findall(r"\[(MD\d+)\]", found) == ["MD057", "MD051"]
