import json
import re
from pathlib import Path

import pytest
from conftest import ROOT

from digits import readme
from digits.errors import UserError

TEXT = (ROOT / "README.md").read_text("utf-8")


def test_the_tables_are_those_of_the_committed_metrics() -> None:
    assert readme.rendered(TEXT, ROOT) == TEXT
    assert set(re.findall(r"<!-- table: ([a-z-]+) -->", TEXT)) == set(readme.TABLES)


def test_percentages_in_the_prose_are_in_the_metrics() -> None:
    """Prose may repeat a figure of a table; a figure that stands nowhere else would go stale unseen."""
    prose = readme.BLOCK.sub("", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
    tables = "".join(table[0] for table in readme.BLOCK.finditer(TEXT))
    quoted = re.findall(r"\d+\.\d+ %", prose)
    assert [figure for figure in quoted if figure not in tables] == []


def test_a_changed_metric_changes_the_table(tmp_path: Path) -> None:
    for path in [*(ROOT / "metrics").rglob("*.json"), ROOT / "benchmarks/results.json"]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text("utf-8"), "utf-8")
    changed = tmp_path / "metrics/variants/cnn.json"
    content = json.loads(changed.read_text("utf-8"))
    content["test"]["errors"] = 8765
    changed.write_text(json.dumps(content), "utf-8")
    assert "8,765" in readme.rendered(TEXT, tmp_path)


def test_update_writes_what_is_rendered(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# A\n\n<!-- table: results -->\nstale\n<!-- end -->\n", "utf-8")
    readme.update(path, ROOT)
    assert "stale" not in path.read_text("utf-8")
    assert "| `cnn` |" in path.read_text("utf-8")


def test_an_unknown_table_is_one_line() -> None:
    with pytest.raises(
        UserError,
        match="'other' is no table: results, published, claims, errors, experiments, speed, convolutional are",
    ):
        readme.rendered("<!-- table: other -->\n<!-- end -->", ROOT)
