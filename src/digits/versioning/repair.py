"""The repair of a damaged DVC cache. DVC itself does not read a file again that is write-protected."""

import hashlib
import os
from pathlib import Path

from digits.versioning.repository import open_repository


def remove_damaged(root: Path) -> list[Path]:
    """Delete the damaged files of the DVC cache, and make DVC hash again every file that was checked out of it.

    A file is damaged if its MD5 is not the one in its name.

    Args:
        root: the folder of dvc.yaml.

    Returns:
        The deleted files.
    """
    with open_repository(root) as repo:
        cache = Path(repo.cache.local.path)
        outs = [Path(out.fs_path) for out in repo.index.outs if out.use_cache]
    damaged = [
        path
        for path in sorted(cache.glob("[0-9a-f][0-9a-f]/*"))
        if _md5(path) != path.parent.name + path.name.removesuffix(".dir")
    ]
    for path in damaged:
        path.unlink()
    # DVC trusts a hash that it has recorded until the file's modification time changes.
    for out in outs:
        for path in (out, *out.rglob("*")):
            if path.is_file():
                os.utime(path)
    return damaged


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
