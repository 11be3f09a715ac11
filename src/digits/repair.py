"""Whether each file of the DVC cache holds what its name says: DVC does not look into one that is read-only."""

import hashlib
import os
from pathlib import Path

from digits.errors import UserError
from digits.repository import opened


def remove_damaged(root: Path) -> list[Path]:
    """Delete the damaged files of the DVC cache, and let DVC look anew at all that was copied out of it.

    Args:
        root: the folder of dvc.yaml.

    Returns:
        The files deleted. A file of the cache is named by the MD5 of its content, split after two digits.
    """
    with opened(root) as repo:
        cache = Path(repo.cache.local.path)
        outs = [Path(out.fs_path) for out in repo.index.outs if out.use_cache]
    damaged = [
        path
        for path in sorted(cache.glob("[0-9a-f][0-9a-f]/*"))
        if _md5(path) != path.parent.name + path.name.removesuffix(".dir")
    ]
    for path in damaged:
        path.unlink()
    # DVC takes a file for what it was as long as its time is the same.
    for out in outs:
        for path in (out, *out.rglob("*")):
            if path.is_file():
                os.utime(path)
    return damaged


def check(root: Path) -> None:
    """Raise UserError, naming each, where files of the DVC cache were damaged; they are gone then."""
    damaged = remove_damaged(root)
    if damaged:
        raise UserError(
            "damaged files of the DVC cache, now deleted:\n"
            + "".join(f"  {path}\n" for path in damaged)
            + "type `dvc repro` to make what they held anew, or `dvc pull` to bring it"
        )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
