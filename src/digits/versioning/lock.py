"""The check that dvc.lock matches the files in the workspace."""

from pathlib import Path
from typing import Any

from digits.core.errors import UserError
from digits.versioning.repository import open_repository

ABSENT = ("deleted", "not in cache")  # states that DVC reports


def mismatches(root: Path) -> list[str]:
    """Return the differences between dvc.lock and the workspace, one line each: the stage, the path and its state.

    A missing file of the DVC cache is not a difference: it may just not have been pulled.

    Args:
        root: the folder of dvc.yaml.

    Raises:
        UserError: DVC failed.
    """
    with open_repository(root) as repo:
        cached = {str(Path(out.fs_path).relative_to(repo.root_dir)) for out in repo.index.outs if out.use_cache}
        status: dict[str, list[Any]] = repo.status()
    lines = []
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):  # "changed command", "changed checksum"
                lines.append(f"{stage}: {change}")
                continue
            for kind, paths in change.items():  # "changed deps" or "changed outs"
                for path, state in paths.items():
                    if state in ABSENT and any(Path(path).is_relative_to(out) for out in cached):
                        continue
                    if isinstance(state, dict):  # of a file of parameters, by key
                        state = ", ".join(f"{key} {how}" for key, how in state.items())  # noqa: PLW2901
                    lines.append(f"{stage}: {kind}: {path}: {state}")
    return lines


def check(root: Path) -> None:
    """Raise UserError with a line for each difference unless dvc.lock matches the workspace."""
    lines = mismatches(root)
    if lines:
        raise UserError(
            "dvc.lock does not match the code, parameters or results here:\n"
            + "".join(f"  {line}\n" for line in lines)
            + "type `dvc repro`, then commit cards/, dvc.lock, metrics/ and plots/ with the change"
        )
