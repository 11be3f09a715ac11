"""The comparison of two revisions for a reviewer, from what Git and the DVC cache have of both."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from digits.core import paths
from digits.core.artifacts import read_arrays
from digits.core.config import parse_fast, parse_like_dvc
from digits.core.errors import UserError
from digits.evaluation import comparison
from digits.evaluation.comparison import ImageChange, Mistake, Result, Verdict
from digits.versioning import lock, revisions
from digits.versioning.repository import LOCK, open_repository
from digits.versioning.results import VariantResults, read_results, test_images
from digits.versioning.revisions import Revision
from digits.versioning.settings import settings_in

SPLITS = {"train": paths.TRAIN, "validation": paths.VALIDATION, "test": paths.TEST}
Probabilities = NDArray[np.float32]
Content = Mapping[str, Any]
Kind = TypeVar("Kind")
PARSERS: dict[Path, Callable[[str], Any]] = {  # of the files that are compared
    paths.PARAMS: parse_like_dvc,
    LOCK: parse_fast,
    paths.DATASET_METRICS: json.loads,
    paths.SUMMARY: json.loads,
}


class Sides(NamedTuple, Generic[Kind]):
    """Something of both sides of a review; None on a side that does not have it."""

    base: Kind
    head: Kind


Changes = dict[str, Sides[Any]]  # values that differ, by dotted key
Inputs = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Side:
    """What a review reads of a revision.

    Attributes:
        revision: The revision.
        contents: The contents of the files in `PARSERS`; empty for a file that cannot be read.
        images: The number of test images; None if that cannot be read.
        stale: Why its results are not of its code, parameters and data; empty if they are.
        results: The results of each variant; None for those that this version of digits cannot read.
        probabilities: The mean probabilities over the seeds, (n, 10), of each variant of which the DVC cache has them.
    """

    revision: Revision
    contents: Mapping[Path, Content]
    images: int | None
    stale: Sequence[str] = ()
    results: Mapping[str, VariantResults | None] = field(default_factory=dict)
    probabilities: Mapping[str, Probabilities] = field(default_factory=dict)

    @property
    def variants(self) -> Iterable[str]:
        """The names of the variants."""
        return self.contents[paths.SUMMARY]

    @cached_property
    def inputs(self) -> Inputs:
        """The MD5 of each file and folder that a stage in dvc.lock depends on, by stage and path.

        Stages of variants that are no longer listed, which DVC keeps there, are left out.
        """
        return {
            name: {dep["path"]: dep["md5"] for dep in stage.get("deps", ()) if "md5" in dep}
            for name, stage in (self.contents[LOCK].get("stages") or {}).items()
            if "@" not in name or name.partition("@")[2] in self.variants
        }

    def md5(self, path: Path) -> str | None:
        """Return the MD5 of a file that a stage depends on, or None if no stage does."""
        return next((files[path.as_posix()] for files in self.inputs.values() if path.as_posix() in files), None)

    @property
    def has_results(self) -> bool:
        """Whether there is anything to judge, in a format that this version of digits can read."""
        return bool(self.variants) and self.images is not None and self.md5(paths.TEST) is not None


@dataclass(frozen=True)
class Note:
    """What is missing from a review, and why.

    Attributes:
        blocks: Whether a review that is to fail if a variant is worse fails for this reason, too.
    """

    text: str
    blocks: bool = False

    @property
    def effect(self) -> str:
        return "blocks" if self.blocks else "does not block"


@dataclass(frozen=True)
class Allowed:
    """What cannot be compared and need not be.

    Attributes:
        removed: Variants that the head may lack.
        new_data: Whether the test images may differ.
        fewer_seeds: Whether the head may have fewer seeds than the base.
        no_base: Whether the base may lack results that are its own and that this version of digits can read.
    """

    removed: Collection[str] = ()
    new_data: bool = False
    fewer_seeds: bool = False
    no_base: bool = False


@dataclass(frozen=True)
class Chart:
    """A complete Vega-Lite specification with the data of both sides."""

    name: str
    title: str
    specification: dict[str, Any]
    changed: bool


@dataclass
class Review:
    """A whole review."""

    base: Revision
    head: Revision
    allowed: Allowed = field(default_factory=Allowed)
    test_md5: str | None = None  # of the test images; None unless both sides were evaluated on the same ones
    notes: list[Note] = field(default_factory=list)
    stale: dict[str, list[str]] = field(default_factory=dict)  # by side, why its results are not its own: no verdicts
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    mistakes: dict[str, Sides[dict[int, Mistake]]] = field(default_factory=dict)
    by_writers: bool = False  # whether the verdicts know who wrote each test image
    probabilities: dict[str, Sides[Probabilities | None]] = field(default_factory=dict)
    parameters: Changes = field(default_factory=dict)
    metrics: Changes = field(default_factory=dict)
    data: Changes = field(default_factory=dict)
    code: dict[str, list[str]] = field(default_factory=dict)  # changed packages and files of each stage
    charts: list[Chart] = field(default_factory=list)
    pictures: dict[str, Sides[bytes | None]] = field(default_factory=dict)  # the PNG files of the pipeline, by path

    @property
    def void(self) -> bool:
        """Whether the results of a side are not its own, which is not allowed: the review judges nothing."""
        return self.head.name in self.stale or (self.base.name in self.stale and not self.allowed.no_base)

    def refuses(self, *, one_seed: bool = False) -> bool:
        """Return whether a variant is significantly worse, or cannot be compared although it must.

        Args:
            one_seed: whether a verdict by the images alone counts.
        """
        return any(note.blocks for note in self.notes) or any(
            verdict.outcome is comparison.Outcome.WORSE and (one_seed or not verdict.images_only)
            for verdict in self.verdicts.values()
        )

    def note(self, text: str, *, blocks: bool = False) -> None:
        """Add a note."""
        self.notes.append(Note(text, blocks))

    def may_lack(self, side: Side) -> bool:
        """Return whether a side need not have results that this version of digits can read."""
        return self.allowed.no_base and side.revision is self.base

    def more_wrong(self, variant: str) -> list[ImageChange]:
        """Return the images that more seeds of the head misclassify.

        The most changed come first; of those that changed alike, the most confident mistakes.
        """
        changed = [change for change in self.verdicts[variant].changed if change.head > change.base]
        return _ranked(changed, self.mistakes[variant].head)

    def less_wrong(self, variant: str) -> list[ImageChange]:
        """Return the images that fewer seeds of the head misclassify, in the same order."""
        changed = [change for change in self.verdicts[variant].changed if change.head < change.base]
        return _ranked(changed, self.mistakes[variant].base)

    def label(self, variant: str, index: int) -> int | None:
        """Return the label of a test image, or None if it is among the listed mistakes of neither side."""
        return next((mistakes[index].label for mistakes in self.mistakes[variant] if index in mistakes), None)


def _ranked(changes: Iterable[ImageChange], mistakes: Mapping[int, Mistake]) -> list[ImageChange]:
    def rank(change: ImageChange) -> tuple[float, float]:
        mistake = mistakes.get(change.index)
        confidence = mistake.probability_answer - mistake.probability_label if mistake else -1
        return -abs(change.head - change.base), -confidence

    return sorted(changes, key=rank)


def review(root: Path, base: str, head: str | None, allowed: Allowed) -> Review:
    """Compare two revisions.

    Args:
        root: the folder of dvc.yaml.
        base: a branch, tag, commit or experiment.
        head: likewise; None for the workspace.
        allowed: what may be missing.

    Raises:
        UserError: a revision does not exist.
    """
    before = revisions.resolve(root, base)
    after = revisions.resolve(root, head) if head else revisions.workspace(root)
    result = judge(Sides(read_side(before), read_side(after)), allowed)
    if not revisions.is_ancestor(root, before, after):
        result.note(
            f"'{base}' is not an ancestor of '{after.name}': the review includes what changed in '{base}' since they "
            "diverged."
        )
    if not result.stale:
        _add_plots(result, root)
    return result


def read_side(revision: Revision) -> Side:
    """Read what a review compares of a revision: no results if they are not of its code, parameters and data."""
    contents = {path: revision.mapping(path, parse) for path, parse in PARSERS.items()}
    variants, images = contents[paths.SUMMARY], test_images(revision)
    side = Side(revision, contents, images, lock.stale(revision, variants))
    if side.stale or images is None:
        return side
    results = {name: read_results(revision, name, images) for name in variants}
    return replace(side, results=results, probabilities=_probabilities(side))


def judge(sides: Sides[Side], allowed: Allowed) -> Review:
    """Compare two sides: their values and, unless the results of one are not its own, the errors of each variant."""
    result = Review(sides.base.revision, sides.head.revision, allowed=allowed)
    for side in sides:
        for path in (path for path, content in side.contents.items() if not content):
            result.note(f"'{side.revision.name}' has no {path} that can be read: its values are not compared.")
    result.parameters = _changes(*(side.contents[paths.PARAMS] for side in sides))
    result.data = _changes(*(side.contents[paths.DATASET_METRICS] for side in sides))
    result.data |= _changes(*({f"{split}.md5": side.md5(path) for split, path in SPLITS.items()} for side in sides))
    result.code = _changed_code(*(side.inputs for side in sides))
    _add_stale(result, sides)
    if not result.stale:
        result.metrics = _changes(*(side.contents[paths.SUMMARY] for side in sides))
        _add_verdicts(result, sides)
    return result


def _flatten(content: Content, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _changes(base: Content, head: Content) -> Changes:
    """Return the values that differ, by dotted key."""
    if not base or not head:
        return {}
    before, after = dict(_flatten(base)), dict(_flatten(head))
    found = {key: Sides(before.get(key), after.get(key)) for key in before | after}
    return {key: sides for key, sides in found.items() if sides.base != sides.head}


def _changed_code(base: Inputs, head: Inputs) -> dict[str, list[str]]:
    """Return the packages and files under src/ that changed, for each stage that both sides have."""
    changed = {
        stage: [path for path in files if path.startswith("src/") and base[stage].get(path) != files[path]]
        for stage, files in head.items()
        if base.get(stage)
    }
    return {stage: names for stage, names in changed.items() if names}


def _add_stale(result: Review, sides: Sides[Side]) -> None:
    """Add the reasons why the results of a side are not of its code, parameters and data."""
    for side in sides:
        if not side.stale or (side is sides.base and not side.has_results):  # there will be a note on the latter
            continue
        result.stale[side.revision.name] = list(side.stale)
        stages = ", ".join(dict.fromkeys(line.partition(":")[0] for line in side.stale))
        result.note(
            f"The results of '{side.revision.name}' are not of its code, parameters and data: there are no verdicts. "
            f"Not up to date: {stages}.",
            blocks=result.void,
        )


def _add_verdicts(result: Review, sides: Sides[Side]) -> None:
    """Add the verdicts on the variants that both sides have, and a note on each of the others."""
    missing = [side for side in sides if not side.has_results]
    for side in missing:
        text = f"'{side.revision.name}' has no results that this version of digits can read: there are no verdicts."
        result.note(text, blocks=not result.may_lack(side))
    if missing:
        return
    for name in dict.fromkeys([*sides.base.variants, *sides.head.variants]):
        if name not in sides.base.variants:
            result.note(f"'{result.base.name}' does not have variant {name}: it is not compared.")
        elif name not in sides.head.variants:
            text = f"'{result.head.name}' no longer has variant {name}: it is not compared."
            result.note(text, blocks=name not in result.allowed.removed)
    if sides.base.md5(paths.TEST) != sides.head.md5(paths.TEST):
        text = "The test images of the two sides are not the same: there are no verdicts."
        result.note(text, blocks=not result.allowed.new_data)
        return
    result.test_md5 = sides.head.md5(paths.TEST)
    compared: dict[str, tuple[Result, Result]] = {}
    for name in (name for name in sides.head.variants if name in sides.base.variants):
        base, head = (side.results.get(name) for side in sides)
        if base and head:
            compared[name] = base.result, head.result
            result.mistakes[name] = Sides(base.mistakes, head.mistakes)
            result.probabilities[name] = Sides(*(side.probabilities.get(name) for side in sides))
        for side in (side for side in sides if not side.results.get(name)):
            text = (
                f"'{side.revision.name}' has no results of variant {name} that this version of digits can read: "
                "there is no verdict on it."
            )
            result.note(text, blocks=not result.may_lack(side))
    _note_fewer_seeds(result, compared)
    settings = settings_in(sides.base.contents[paths.PARAMS])  # no branch decides by what margin it is judged
    writers = settings.writers(result.head.root, sides.base.images) if compared else None
    result.verdicts = comparison.compare(compared, margin=settings.margin, writers=writers)
    result.by_writers = writers is not None


def _note_fewer_seeds(result: Review, compared: Mapping[str, tuple[Result, Result]]) -> None:
    """Note the variants with fewer seeds in the head, with which a difference must be larger to be found."""
    seeds = {name: (len(base.errors), len(head.errors)) for name, (base, head) in compared.items()}
    fewer = ", ".join(f"{name}: {head} instead of {base}" for name, (base, head) in seeds.items() if head < base)
    if fewer:
        text = (
            f"'{result.head.name}' has fewer seeds than '{result.base.name}' ({fewer}): "
            "the review may miss larger differences."
        )
        result.note(text, blocks=not result.allowed.fewer_seeds)


def _probabilities(side: Side) -> dict[str, Probabilities]:
    """Return the mean probabilities over the seeds of each variant of which the DVC cache has the predictions.

    Git has only those of the misclassified images, in errors.csv.
    """
    with open_repository(side.revision.root) as repo:
        sums = {name: side.md5(paths.VariantFiles(name).predictions) for name in side.variants}
        files = {name: Path(repo.cache.local.oid_to_path(md5)) for name, md5 in sums.items() if md5}
    return {name: read_arrays(file)["probabilities"].mean(axis=0) for name, file in files.items() if file.is_file()}


def _add_plots(result: Review, root: Path) -> None:
    """Add the charts and pictures that `dvc plots diff` shows."""
    names = Sides(result.base.commit or "", result.head.commit or revisions.WORKSPACE)
    with tempfile.TemporaryDirectory(prefix="digits-") as folder:
        command = [sys.executable, "-m", "dvc", "plots", "diff", *names, "--json", "--out", folder]
        output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if output.returncode:
        reason = (output.stderr.strip().splitlines() or ["no message"])[-1]
        result.note(f"There are no charts: `dvc plots diff` failed: {reason}")
        return
    plots = json.loads(output.stdout)
    for failure in plots.get("errors", ()):
        result.note(f"`dvc plots diff` could not plot {failure.get('name')} of '{failure.get('rev')}'.")
    for name, versions in plots["data"].items():
        if name.endswith(".png"):
            result.pictures[name] = Sides(result.base.read(Path(name)), result.head.read(Path(name)))
        elif versions:
            labels = Sides(result.base.name, result.head.name)
            result.charts.append(_chart(name, versions[0]["content"], names, labels))


def _chart(name: str, specification: dict[str, Any], revs: Sides[str], labels: Sides[str]) -> Chart:
    """Return a chart whose legend has the names that the user gave.

    Args:
        name: DVC's name of the plot.
        specification: DVC's Vega-Lite specification.
        revs: the revisions as DVC was given them.
        labels: the names of the revisions in the chart.
    """
    values = specification["data"]["values"]
    if not isinstance(values, list):
        raise UserError(f"the template of {name} does not use its data: see .dvc/plots/")
    title = specification.get("title", name)
    rows: dict[str, list[Any]] = {rev: [] for rev in revs}  # a single key if both sides are the same commit
    for value in values:
        for rev, label in zip(revs, labels, strict=True):
            if rev.startswith(value["rev"]):
                rows[rev].append({key: cell for key, cell in value.items() if key != "rev"})
                value["rev"] = label
                break
    text = title["text"] if isinstance(title, dict) else title
    return Chart(name, text or name, specification, changed=rows[revs.base] != rows[revs.head])
