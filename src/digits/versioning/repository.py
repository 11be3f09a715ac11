"""The DVC repository, with DVC's exceptions as messages to the user."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo

from digits.core.errors import UserError
from digits.versioning.git import NO_REPOSITORY, WITHOUT_GIT

LOCK = Path("dvc.lock")  # the hash of every file that a stage read or wrote


@contextmanager
def open_repository(root: Path) -> Iterator[Repo]:
    """Open the DVC repository in a folder.

    Raises:
        UserError: DVC raised an exception, here or inside the block: another process holds the lock, dvc.yaml is
            invalid, a stage failed, ...
    """
    try:
        with Repo(str(root)) as repo:
            yield repo
    except DvcException as error:
        raise UserError(_message(error)) from None


def _message(error: BaseException) -> str:
    """Return the message of an exception and of its causes on one line."""
    text = " ".join(str(error).split())
    if text.endswith(NO_REPOSITORY):
        return WITHOUT_GIT
    return f"{text}: {_message(error.__cause__)}" if error.__cause__ else text
