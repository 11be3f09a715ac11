import re

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs/trust.md").read_text("utf-8")
TESTS = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py")}
# A name without a file is of the file named last.
NAMED = re.findall(r"`(?:(test_\w+\.py)::)?(test_\w+)`", PAGE)


@pytest.mark.parametrize("name", [name for _, name in NAMED])
def test_every_test_that_is_named_is_there(name: str) -> None:
    assert any(f"def {name}(" in text for text in TESTS.values())


def test_every_test_is_in_the_file_that_is_named() -> None:
    assert [f"{file}::{name}" for file, name in NAMED if file and f"def {name}(" not in TESTS.get(file, "")] == []
    assert len(NAMED) > 40
