"""Files of this repository at a revision, or as they are in the workspace."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from dvc.scm import RevError, resolve_rev

from digits.errors import UserError
from digits.repository import opened

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Revision:
    """The workspace, or a commit under the name by which it was asked for."""

    root: Path
    name: str
    commit: str | None  # None: the workspace

    def read(self, path: Path) -> bytes | None:
        """Return a file's content, None where there is none at this revision.

        Args:
            path: relative to the root.
        """
        if self.commit is None:
            file = self.root / path
            return file.read_bytes() if file.is_file() else None
        result = subprocess.run(
            ["git", "show", f"{self.commit}:{path.as_posix()}"],  # noqa: S607
            cwd=self.root,
            capture_output=True,
            check=False,
        )
        return result.stdout if result.returncode == 0 else None

    def text(self, path: Path) -> str | None:
        """Return a UTF-8 file's text, None where there is none at this revision."""
        content = self.read(path)
        return None if content is None else content.decode("utf-8")


def workspace(root: Path) -> Revision:
    """Return the workspace."""
    return Revision(root, WORKSPACE, None)


def resolve(root: Path, name: str) -> Revision:
    """Return a branch, tag, commit or DVC experiment.

    Raises:
        UserError: there is none of the name.
    """
    with opened(root) as repo:
        try:
            return Revision(root, name, resolve_rev(repo.scm, name))
        except RevError:
            raise UserError(
                f"'{name}' is no branch, tag, commit or experiment here: `git fetch` brings a remote's branches, "
                "`dvc exp list` names the experiments"
            ) from None


def is_ancestor(root: Path, base: Revision, head: Revision) -> bool:
    """Tell whether a base is in the history of a head."""
    command = ["git", "merge-base", "--is-ancestor", base.commit or "HEAD", head.commit or "HEAD"]
    return subprocess.run(command, cwd=root, capture_output=True, check=False).returncode == 0
