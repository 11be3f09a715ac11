from pathlib import Path

import pytest

from digits.core.errors import UserError
from digits.versioning.git import git, git_bytes, git_succeeds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "ä.bin").write_bytes(b"\xff\n")
    git(tmp_path, "add", ".")
    return tmp_path


def test_git_returns_the_output(folder: Path) -> None:
    assert git(folder, "ls-files", "-z") == "ä.bin\0"
    assert git_bytes(folder, "show", ":ä.bin") == b"\xff\n"
    assert git_succeeds(folder, "cat-file", "-e", ":ä.bin")


def test_a_failure_of_git_is_one_line_or_a_value(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^`git cat-file -p nowhere`: fatal: Not a valid object name nowhere$"):
        git(folder, "cat-file", "-p", "nowhere")
    with pytest.raises(UserError, match=r"^`git rev-parse --verify --quiet nowhere`: exit status 1$"):
        git(folder, "rev-parse", "--verify", "--quiet", "nowhere")
    assert git_bytes(folder, "show", ":nowhere") is None
    assert not git_succeeds(folder, "cat-file", "-e", ":nowhere")


def test_a_missing_git_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"^`git` cannot be run \(No such file or directory\): install Git$"):
        git_succeeds(folder, "status")
