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
        raise UserError(_message(error)) from None


def _message(error: BaseException) -> str:
    """Return in one line what DVC says, and what it says of the causes."""
    text = " ".join(str(error).split())
    return f"{text}: {_message(error.__cause__)}" if error.__cause__ else text
