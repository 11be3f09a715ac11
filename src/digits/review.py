"""What a reviewer of a change wants to know: two revisions' results set side by side, from what Git has of both."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from digits import paths, revisions, verdicts
from digits.errors import UserError
from digits.files import read_arrays
from digits.repository import LOCK, opened
from digits.revisions import Revision
from digits.verdicts import Mistake, Verdict

SPLITS = {"train": paths.TRAIN, "validation": paths.VALIDATION, "test": paths.TEST}
Probabilities = NDArray[np.float32]
READ = (paths.PARAMS, LOCK, paths.DATASET_METRICS, paths.SUMMARY)


@dataclass(frozen=True)
class Change:
    """A value that differs; None where a side has none of the name."""

    key: str
    base: Any
    head: Any


@dataclass(frozen=True)
class Chart:
    """A finished Vega-Lite specification with both sides' data in it."""

    name: str
    title: str
    specification: dict[str, Any]
    changed: bool


@dataclass(frozen=True)
class Picture:
    """A PNG file of the pipeline, as each side has it."""

    path: str
    base: bytes | None
    head: bytes | None


@dataclass
class Review:
    """A whole review."""

    base: Revision
    head: Revision
    test_md5: str | None = None  # of the test images, where both sides were evaluated on the same
    notes: list[str] = field(default_factory=list)  # what could not be made, and why
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    mistakes: dict[str, tuple[dict[int, Mistake], dict[int, Mistake]]] = field(default_factory=dict)
    probabilities: dict[str, list[Probabilities | None]] = field(default_factory=dict)  # both sides'; None: not here
    parameters: list[Change] = field(default_factory=list)
    metrics: list[Change] = field(default_factory=list)
    data: list[Change] = field(default_factory=list)
    code: dict[str, list[str]] = field(default_factory=dict)  # stage: its files that changed
    charts: list[Chart] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    @property
    def is_worse(self) -> bool:
        """Whether any variant is significantly worse."""
        return any(verdict.word is verdicts.Word.WORSE for verdict in self.verdicts.values())

    def probability(self, variant: str, side: int, index: int, digit: int) -> float | None:
        """Return the probability that a side (0: base, 1: head) gives a digit for a test image, None if not at hand."""
        known = self.probabilities[variant][side]
        return None if known is None else float(known[index, digit])


def review(root: Path, base: str, head: str | None) -> Review:
    """Compare two revisions.

    Args:
        root: the folder of dvc.yaml.
        base: a branch, tag, commit or experiment.
        head: likewise; None for the workspace.

    Raises:
        UserError: a revision does not exist.
    """
    sides = revisions.resolve(root, base), revisions.resolve(root, head) if head else revisions.workspace(root)
    result = Review(*sides)
    if not revisions.is_ancestor(root, *sides):
        result.notes.append(
            f"'{base}' is no ancestor of '{sides[1].name}': what changed in '{base}' since they parted shows here too."
        )
    contents = {path: _both(sides, path, result.notes) for path in READ}
    result.parameters.extend(_changes(*contents[paths.PARAMS]))
    result.metrics.extend(_changes(*contents[paths.SUMMARY]))
    locks = [_Lock(*side) for side in zip(contents[LOCK], contents[paths.SUMMARY], strict=True)]
    result.data.extend(_changes(*contents[paths.DATASET_METRICS]))
    result.data.extend(
        _changes(*({f"{split}.md5": lock.input(path) for split, path in SPLITS.items()} for lock in locks))
    )
    result.code.update(_code(*locks))
    _judge(result, contents, locks)
    _draw(result, root)
    return result


class _Lock:
    """What is asked of a dvc.lock."""

    def __init__(self, content: Mapping[str, Any], variants: Iterable[str]) -> None:
        # DVC leaves the stages of variants that are no longer listed where they are.
        self.stages = {
            name: stage
            for name, stage in (content.get("stages") or {}).items()
            if "@" not in name or name.partition("@")[2] in variants
        }

    def sums(self, stage: str) -> dict[str, str]:
        return {dep["path"]: dep["md5"] for dep in self.stages.get(stage, {}).get("deps", ()) if "md5" in dep}

    def input(self, path: Path) -> str | None:
        """Return the hash that stages found in a file that they read."""
        found = (self.sums(stage).get(path.as_posix()) for stage in self.stages)
        return next((md5 for md5 in found if md5), None)


def _both(sides: tuple[Revision, Revision], path: Path, notes: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a JSON or YAML file's content at both revisions, empty where there is none that can be read."""
    found: list[dict[str, Any]] = []
    for side in sides:
        content = _yaml(side.text(path))
        if content is None:
            notes.append(f"'{side.name}' has no {path} that can be read: what stands in it is not compared.")
            content = {}
        found.append(content)
    return found[0], found[1]


def _yaml(text: str | None) -> dict[str, Any] | None:
    """Return a mapping in YAML or JSON, None where it is none."""
    try:
        content = None if text is None else YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return None
    return content if isinstance(content, dict) else None


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _changes(base: Mapping[str, Any], head: Mapping[str, Any]) -> list[Change]:
    if not base or not head:
        return []
    before, after = dict(_flat(base)), dict(_flat(head))
    keys = [*before, *(key for key in after if key not in before)]
    return [Change(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def _code(base: _Lock, head: _Lock) -> dict[str, list[str]]:
    changed = {}
    for stage in head.stages:
        before, after = base.sums(stage), head.sums(stage)
        files = [path for path in after if path.startswith("src/") and before.get(path) != after[path]]
        if before and files:
            changed[stage] = files
    return changed


def _judge(result: Review, contents: Mapping[Path, Any], locks: list[_Lock]) -> None:
    """Fill in the verdicts of the variants that both sides have, and note the others."""
    listed = [list(summary) for summary in contents[paths.SUMMARY]]
    for name in dict.fromkeys(listed[0] + listed[1]):
        if name not in listed[0] or name not in listed[1]:
            side = result.base if name in listed[0] else result.head
            result.notes.append(f"Variant {name} is in '{side.name}' alone: there is nothing to compare it with.")
    sums = [lock.input(paths.TEST) for lock in locks]
    images = [dataset.get("test", {}).get("images") for dataset in contents[paths.DATASET_METRICS]]
    if sums[0] is None or sums[0] != sums[1] or not images[0]:
        result.notes.append("The two sides' test images differ or are not known: no verdict can be given.")
        return
    result.test_md5 = sums[0]
    for name in listed[1]:
        if name in listed[0]:
            texts = [side.text(paths.Variant(name).errors) for side in (result.base, result.head)]
            if texts[0] is None or texts[1] is None:
                result.notes.append(f"Variant {name} has no errors.csv on both sides: no verdict can be given.")
                continue
            result.mistakes[name] = verdicts.read_mistakes(texts[0]), verdicts.read_mistakes(texts[1])
            path = paths.Variant(name).predictions
            result.probabilities[name] = [_probabilities(result.head.root, lock.input(path)) for lock in locks]
    result.verdicts.update(verdicts.judge(result.mistakes, images[0]))


def _probabilities(root: Path, md5: str | None) -> Probabilities | None:
    """Return a variant's probabilities, (n, 10), from the DVC cache, None where it does not have them.

    Git has those of the wrong answers alone, in errors.csv.
    """
    if md5 is None:
        return None
    with opened(root) as repo:
        file = Path(repo.cache.local.oid_to_path(md5))
    return read_arrays(file)["probabilities"] if file.is_file() else None


def _draw(result: Review, root: Path) -> None:
    """Fill in what `dvc plots diff` would draw."""
    names = [result.base.commit or "", result.head.commit or revisions.WORKSPACE]
    with tempfile.TemporaryDirectory(prefix="digits-") as folder:
        command = [sys.executable, "-m", "dvc", "plots", "diff", *names, "--json", "--out", folder]
        output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if output.returncode:
        result.notes.append(f"`dvc plots diff` drew nothing: {output.stderr.strip().splitlines()[-1]}")
        return
    drawn = json.loads(output.stdout)
    for failure in drawn.get("errors", ()):
        result.notes.append(f"`dvc plots diff` could not draw {failure.get('name')} of '{failure.get('rev')}'.")
    for name, versions in drawn["data"].items():
        if name.endswith(".png"):
            result.pictures.append(Picture(name, result.base.read(Path(name)), result.head.read(Path(name))))
        elif versions:
            shown = (result.base.name, result.head.name)
            result.charts.append(_chart(name, versions[0]["content"], names, shown))


def _chart(name: str, specification: dict[str, Any], revs: list[str], shown: tuple[str, str]) -> Chart:
    """Return a chart whose revisions are named as they were asked for, and say whether their data differ."""
    values = specification["data"]["values"]
    if not isinstance(values, list):
        raise UserError(f"the template of {name} has its data nowhere: see .dvc/plots/")
    title = specification.get("title", name)
    rows: dict[str, list[Any]] = {rev: [] for rev in revs}  # of one key where both sides are the same commit
    for value in values:
        for rev, label in zip(revs, shown, strict=True):
            if rev.startswith(value["rev"]):
                rows[rev].append({key: cell for key, cell in value.items() if key != "rev"})
                value["rev"] = label
                break
    text = title["text"] if isinstance(title, dict) else title
    return Chart(name, text or name, specification, changed=rows[revs[0]] != rows[revs[1]])
