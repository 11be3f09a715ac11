"""The files of this repository at a revision or in the workspace."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.scm import RevError, resolve_rev

from digits.core.errors import UserError
from digits.versioning.git import git_bytes, git_succeeds
from digits.versioning.repository import open_repository

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Revision:
    """The workspace, or a commit under the name that the user gave."""

    root: Path
    name: str
    commit: str | None  # None: the workspace

    def read(self, path: Path) -> bytes | None:
        """Return the content of a file, or None if the revision does not have it.

        Args:
            path: relative to the root.
        """
        if self.commit is None:
            file = self.root / path
            return file.read_bytes() if file.is_file() else None
        return git_bytes(self.root, "show", f"{self.commit}:{path.as_posix()}")

    def text(self, path: Path) -> str | None:
        """Return the text of a UTF-8 file, or None if the revision does not have it."""
        content = self.read(path)
        return None if content is None else content.decode("utf-8")

    def mapping(self, path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
        """Return the mapping in a JSON or YAML file; it is empty if the file is missing or contains something else."""
        try:
            content = parse(self.text(path) or "")
        except Exception:  # ruamel.yaml documents no complete set
            return {}
        return content if isinstance(content, dict) else {}


def workspace(root: Path) -> Revision:
    """Return the workspace."""
    return Revision(root, WORKSPACE, None)


def resolve(root: Path, name: str) -> Revision:
    """Return the revision that a branch, tag, commit or DVC experiment names.

    Raises:
        UserError: nothing has this name.
    """
    with open_repository(root) as repo:
        try:
            return Revision(root, name, resolve_rev(repo.scm, name))
        except RevError:
            raise UserError(
                f"'{name}' is no branch, tag, commit or experiment here: `git fetch` brings a remote's branches, "
                "`dvc exp list` names the experiments"
            ) from None


def is_ancestor(root: Path, base: Revision, head: Revision) -> bool:
    """Return whether the base is in the history of the head."""
    return git_succeeds(root, "merge-base", "--is-ancestor", base.commit or "HEAD", head.commit or "HEAD")
