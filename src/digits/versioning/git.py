"""Calls to the `git` program."""

import subprocess
from pathlib import Path

from digits.core.errors import UserError

NO_REPOSITORY = "not a git repository"  # in messages of Git and DVC
WITHOUT_GIT = (
    "this folder is not a Git repository; perhaps it was unpacked from an archive. Get it with `git clone`, "
    "or type `git init && git add . && git commit -m Start`"
)


def git(folder: Path, *words: str) -> str:
    """Run a Git command in a folder and return its standard output.

    Raises:
        UserError: the command failed; the message quotes Git's.
    """
    result = _run(folder, words)
    if result.returncode:
        message = " ".join(result.stderr.decode("utf-8", "replace").split())
        if NO_REPOSITORY in message:
            raise UserError(WITHOUT_GIT)
        raise UserError(f"`git {' '.join(words)}`: {message or f'exit status {result.returncode}'}")
    return result.stdout.decode("utf-8", "surrogateescape")


def git_succeeds(folder: Path, *words: str) -> bool:
    """Run a Git command in a folder and return whether its exit status is 0."""
    return _run(folder, words).returncode == 0


def git_bytes(folder: Path, *words: str) -> bytes | None:
    """Run a Git command in a folder and return its standard output unchanged, or None if it failed."""
    result = _run(folder, words)
    return None if result.returncode else result.stdout


def _run(folder: Path, words: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, check=False)  # noqa: S607
    except OSError as error:
        raise UserError(f"`git` cannot be run ({error.strerror}): install Git") from None
