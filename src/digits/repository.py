"""The repository as DVC sees it, whose failures are a user's to mend."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo

from digits.errors import UserError

LOCK = Path("dvc.lock")  # what each stage read and wrote, by hash


@contextmanager
def opened(root: Path) -> Iterator[Repo]:
    """Open the DVC repository in a folder; what DVC raises inside the block becomes a UserError."""
    try:
        with Repo(str(root)) as repo:
            yield repo
    except DvcException as error:  # locked by another process, a mistake in dvc.yaml, ...
        raise UserError(" ".join(str(error).split())) from None
