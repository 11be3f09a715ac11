"""Whether dvc.lock, and with it the committed results, is of the code and parameters beside it."""

from pathlib import Path
from typing import Any

from digits.errors import UserError
from digits.repository import opened

ABSENT = ("deleted", "not in cache")  # DVC's words


def drift(root: Path) -> list[str]:
    """Return what stands otherwise in the work tree than in dvc.lock, a line each: the stage, the path, and how.

    A file that belongs to the DVC cache and has not been pulled is no drift: the lock speaks for it.

    Args:
        root: the folder of dvc.yaml.

    Raises:
        UserError: DVC can't tell.
    """
    with opened(root) as repo:
        cached = {str(Path(out.fs_path).relative_to(repo.root_dir)) for out in repo.index.outs if out.use_cache}
        status: dict[str, list[Any]] = repo.status()
    lines = []
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):  # "changed command", "changed checksum"
                lines.append(f"{stage}: {change}")
                continue
            for kind, paths in change.items():
                for path, how in paths.items():
                    if how in ABSENT and any(Path(path).is_relative_to(out) for out in cached):
                        continue
                    what = ", ".join(f"{key} {state}" for key, state in how.items()) if isinstance(how, dict) else how
                    lines.append(f"{stage}: {kind}: {path}: {what}")
    return lines


def check(root: Path) -> None:
    """Raise UserError, naming every difference, unless the results are those of the code and parameters beside them."""
    lines = drift(root)
    if lines:
        raise UserError(
            "dvc.lock is of other code, parameters or results than are here:\n"
            + "".join(f"  {line}\n" for line in lines)
            + "type `dvc repro`, then commit dvc.lock, metrics/ and plots/ with the change"
        )
