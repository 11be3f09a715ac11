"""The check that results are those of the code, the parameters and the data beside them, as dvc.lock records."""

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.output import Output
from dvc.stage import PipelineStage

from digits.core import paths
from digits.core.errors import UserError
from digits.versioning.repository import open_repository
from digits.versioning.results import result_files
from digits.versioning.revisions import Revision

ABSENT = ("deleted", "not in cache")  # states that DVC reports
Changes = list[str | dict[str, dict[str, Any]]]  # of a stage: "changed command", or states by kind and path
States = dict[tuple[type, str, str], dict[str, Any]]  # by kind, path and recorded hash: many stages read the same files


def mismatches(root: Path, commit: str | None = None, results: Iterable[Path] = ()) -> list[str]:
    """Return the differences between dvc.lock and the files beside it, one line each: the stage, the path, its state.

    A missing file of the DVC cache is not a difference: Git does not hold it, or it has not been pulled. What dvc.lock
    says of it is taken on trust, but the stage that wrote it and those that read it must have recorded the same MD5.

    Args:
        root: the folder of dvc.yaml.
        commit: the commit whose files are compared, as Git holds them; None for the workspace.
        results: files that a stage must write.

    Raises:
        UserError: DVC failed.
    """
    with open_repository(root) as repo, repo.switch(commit) if commit else nullcontext():
        stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
        # DVC's own status needs a lock, which it cannot write into a commit.
        states: States = {}
        found = {stage.addressing: _changes(stage, states) for stage in stages} if commit else repo.status()
        written = _written(stages)
        lines = [line for stage in stages for line in _lines(stage, found.get(stage.addressing, []), written)]
        outputs = {out.def_path for stage in stages for out in stage.outs}
    return lines + [f"{path}: no stage writes it" for path in results if path.as_posix() not in outputs]


def stale(side: Revision, variants: Iterable[str]) -> list[str]:
    """Return why the results of a revision are not those of its code, parameters and data; an empty list if they are.

    Args:
        side: the revision.
        variants: the variants whose results are to be judged.
    """
    try:
        judged = [paths.SUMMARY, *(path for variant in variants for path in result_files(side, variant))]
        return mismatches(side.root, side.commit, judged)
    except (UserError, OSError) as error:  # a link that leads nowhere
        return [f"all stages: {error}"]


def check(root: Path) -> None:
    """Raise UserError with a line for each difference unless dvc.lock matches the workspace."""
    lines = mismatches(root)
    if lines:
        raise UserError(
            "dvc.lock does not match the code, parameters or results here:\n"
            + "".join(f"  {line}\n" for line in lines)
            + "type `dvc repro`, then commit cards/, dvc.lock, metrics/ and plots/ with the change"
        )


def _changes(stage: PipelineStage, known: States) -> Changes:
    """Return what `Repo.status` returns for a stage of a commit, without a connection to a server that it names."""
    changes: Changes = []
    for kind, files in (("changed deps", stage.deps), ("changed outs", stage.outs)):
        states: dict[str, Any] = {}
        for file in files:
            states.update(_status(file, known))
        if states:
            changes.append({kind: states})
    if stage.changed_stage():
        changes.append("changed command")
    return changes


def _status(file: Output, known: States) -> dict[str, Any]:
    """Return the state of a dependency or an output by path; empty if it is as dvc.lock records it."""
    if file.fs.protocol != "local":
        return {file.def_path: "not in this repository"}
    if isinstance(file, ParamsDependency):  # its state depends on the keys that the stage reads
        status: dict[str, Any] = file.status()
        return status
    key = type(file), file.def_path, str(file.hash_info)
    if key not in known:
        known[key] = file.status()
    return known[key]


def _written(stages: Iterable[PipelineStage]) -> dict[str, str]:
    """Return the MD5 that dvc.lock records of each output in the DVC cache, and of the files in it, by path."""
    written = {}
    for out in (out for stage in stages for out in stage.outs if out.use_cache):
        written[out.def_path] = out.hash_info.value
        if out.hash_info.isdir and (folder := out.get_obj()) is not None:  # the cache has the list of its files
            written.update({"/".join([out.def_path, *key]): info.value for key, (_, info) in folder.as_dict().items()})
    return written


def _lines(stage: PipelineStage, changes: Changes, written: dict[str, str]) -> list[str]:
    lines = [f"{stage.name}: frozen: DVC does not check it"] if stage.frozen else []
    read = {dep.def_path: dep for dep in stage.deps if not isinstance(dep, ParamsDependency)}
    for change in changes:
        if isinstance(change, str):
            lines.append(f"{stage.name}: {change}")
            continue
        for kind, states in change.items():
            for path, state in states.items():
                if state in ABSENT and any(Path(path).is_relative_to(out) for out in written):
                    if kind == "changed outs" or _agree(read[path], written):
                        continue
                    state = "not as the stage that writes it recorded"  # noqa: PLW2901
                if isinstance(state, dict):  # of a file of parameters, by key
                    state = ", ".join(f"{key} {how}" for key, how in state.items())  # noqa: PLW2901
                lines.append(f"{stage.name}: {kind}: {path}: {state}")
    return lines


def _agree(dep: Output, written: dict[str, str]) -> bool:
    """Return whether a stage has read what another has written, as far as the list of a folder's files is known."""
    return dep.def_path not in written or bool(written[dep.def_path] == dep.hash_info.value)
