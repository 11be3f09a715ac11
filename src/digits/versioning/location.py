"""The repository around the folder in which a command is typed, found as DVC finds it."""

import os
from dataclasses import dataclass
from pathlib import Path

from digits.core.errors import UserError

MARK = ".dvc"  # the folder that makes another one the root of a DVC repository


@dataclass(frozen=True)
class Location:
    """Where the user stands, and the root of the repository around it, in which the commands run."""

    here: Path
    root: Path

    def shown(self, path: str | Path) -> str:
        """Return a path within the repository as the user would type it, and any other path unchanged."""
        full = self.root / path
        return os.path.relpath(full, self.here) if full.is_relative_to(self.root) else str(path)

    def message(self, text: str) -> str:
        """Return a message with the folder that its paths and commands are meant in, if it is not this one."""
        return text if self.here == self.root else f"{text} (in {self.shown(self.root)})"


def locate(here: Path) -> Location:
    """Return the location of a folder.

    Raises:
        UserError: the folder is in no repository.
    """
    for folder in (here, *here.parents):
        if (folder / MARK).is_dir():
            return Location(here, folder)
    raise UserError(f"{here} is not in a repository: no folder from there up has {MARK}; change into a clone of Digits")
