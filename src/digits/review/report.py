"""The comparison of two revisions for a reviewer, from what Git and the DVC cache have of both."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from digits.versioning.results import read_results, test_images
from digits.versioning.revisions import Revision
from digits.versioning.settings import comparison_settings

SPLITS = {"train": paths.TRAIN, "validation": paths.VALIDATION, "test": paths.TEST}
Probabilities = NDArray[np.float32]
Content = Mapping[str, Any]
PARSERS: dict[Path, Callable[[str], Any]] = {  # of the files that are compared
    paths.PARAMS: parse_like_dvc,
    LOCK: parse_fast,
    paths.DATASET_METRICS: json.loads,
    paths.SUMMARY: json.loads,
}


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

    removed: frozenset[str] = frozenset()
    new_data: bool = False
    fewer_seeds: bool = False
    no_base: bool = False


NOTHING = Allowed()


@dataclass(frozen=True)
class Change:
    """A value that differs; None on a side that does not have it."""

    key: str
    base: Any
    head: Any


@dataclass(frozen=True)
class Chart:
    """A complete Vega-Lite specification with the data of both sides."""

    name: str
    title: str
    specification: dict[str, Any]
    changed: bool


@dataclass(frozen=True)
class Picture:
    """A PNG file of the pipeline on both sides; None on a side that does not have it."""

    path: str
    base: bytes | None
    head: bytes | None


@dataclass
class Review:
    """A whole review."""

    base: Revision
    head: Revision
    test_md5: str | None = None  # of the test images; None unless both sides were evaluated on the same ones
    allowed: Allowed = NOTHING
    notes: list[Note] = field(default_factory=list)
    stale: dict[str, list[str]] = field(default_factory=dict)  # by side, why its results are not its own: no verdicts
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    mistakes: dict[str, tuple[dict[int, Mistake], dict[int, Mistake]]] = field(default_factory=dict)
    by_writers: bool = False  # whether the verdicts know who wrote each test image
    probabilities: dict[str, tuple[Probabilities | None, Probabilities | None]] = field(default_factory=dict)
    parameters: list[Change] = field(default_factory=list)
    metrics: list[Change] = field(default_factory=list)
    data: list[Change] = field(default_factory=list)
    code: dict[str, list[str]] = field(default_factory=dict)  # changed packages and files of each stage
    charts: list[Chart] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

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

    def more_wrong(self, variant: str) -> list[ImageChange]:
        """Return the images that more seeds of the head misclassify.

        The most changed come first; of those that changed alike, the most confident mistakes.
        """
        return sorted(self.verdicts[variant].more_wrong, key=lambda change: self._rank(variant, change))

    def less_wrong(self, variant: str) -> list[ImageChange]:
        """Return the images that fewer seeds of the head misclassify, in the same order."""
        return sorted(self.verdicts[variant].less_wrong, key=lambda change: self._rank(variant, change))

    def _rank(self, variant: str, change: ImageChange) -> tuple[float, float]:
        mistake = self.mistakes[variant][change.head > change.base].get(change.index)
        confidence = mistake.probability_answer - mistake.probability_label if mistake else -1
        return -abs(change.head - change.base), -confidence

    def label(self, variant: str, index: int) -> int | None:
        """Return the label of a test image, or None if it is among the listed mistakes of neither side."""
        found = [mistakes[index] for mistakes in self.mistakes[variant] if index in mistakes]
        return found[0].label if found else None

    def probability(self, variant: str, side: int, index: int, digit: int) -> float | None:
        """Return a variant's mean probability of a digit over the seeds, or None if the cache does not have it.

        Args:
            variant: the variant.
            side: 0 for the base, 1 for the head.
            index: the test image.
            digit: the digit.
        """
        known = self.probabilities[variant][side]
        return None if known is None else float(known[index, digit])


class LockedStages:
    """The stages in a dvc.lock, without those of variants that are no longer listed, which DVC keeps there."""

    def __init__(self, lock: Content, variants: Iterable[str]) -> None:
        self._stages = {
            name: stage
            for name, stage in (lock.get("stages") or {}).items()
            if "@" not in name or name.partition("@")[2] in variants
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._stages)

    def dependencies(self, stage: str) -> dict[str, str]:
        """Return the MD5 of each file and folder that a stage depends on, by path."""
        return {dep["path"]: dep["md5"] for dep in self._stages.get(stage, {}).get("deps", ()) if "md5" in dep}

    def input_md5(self, path: Path) -> str | None:
        """Return the MD5 of a file that a stage depends on, or None if no stage does."""
        found = (self.dependencies(stage).get(path.as_posix()) for stage in self)
        return next((md5 for md5 in found if md5), None)


def review(root: Path, base: str, head: str | None, allowed: Allowed = NOTHING) -> Review:
    """Compare two revisions.

    If the results of one are not of its code, parameters and data, its results are not compared.

    Args:
        root: the folder of dvc.yaml.
        base: a branch, tag, commit or experiment.
        head: likewise; None for the workspace.
        allowed: what may be missing.

    Raises:
        UserError: a revision does not exist.
    """
    sides = revisions.resolve(root, base), revisions.resolve(root, head) if head else revisions.workspace(root)
    result = Review(*sides, allowed=allowed)
    if not revisions.is_ancestor(root, *sides):
        text = (
            f"'{base}' is not an ancestor of '{sides[1].name}': the review includes what changed in '{base}' since "
            "they diverged."
        )
        result.notes.append(Note(text))
    contents = {path: _read_both(result, path) for path in PARSERS}
    result.parameters.extend(_changes(*contents[paths.PARAMS]))
    base_lock, head_lock = (
        LockedStages(locked, summary) for locked, summary in zip(contents[LOCK], contents[paths.SUMMARY], strict=True)
    )
    locks = base_lock, head_lock
    result.data.extend(_changes(*contents[paths.DATASET_METRICS]))
    result.data.extend(
        _changes(*({f"{split}.md5": locked.input_md5(path) for split, path in SPLITS.items()} for locked in locks))
    )
    result.code.update(_changed_code(*locks))
    _add_stale(result, contents[paths.SUMMARY], locks)
    if not result.stale:
        result.metrics.extend(_changes(*contents[paths.SUMMARY]))
        _add_verdicts(result, contents[paths.SUMMARY], locks)
        _add_plots(result, root)
    return result


def _read_both(result: Review, path: Path) -> tuple[Content, Content]:
    """Return the content of a JSON or YAML file on both sides; one that cannot be read is noted and empty."""
    found: list[Content] = []
    for side in (result.base, result.head):
        content = _parse(side.read(path), PARSERS[path])
        if content is None:
            result.notes.append(Note(f"'{side.name}' has no {path} that can be read: its values are not compared."))
        found.append(content or {})
    return found[0], found[1]


def _parse(file: bytes | None, parse: Callable[[str], Any]) -> Content | None:
    """Return the mapping in a UTF-8 file, or None if the file is missing or contains something else."""
    try:
        content = None if file is None else parse(file.decode("utf-8"))
    except Exception:  # ruamel.yaml documents no complete set
        return None
    return content if isinstance(content, dict) else None


def _flatten(content: Content, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _changes(base: Content, head: Content) -> list[Change]:
    if not base or not head:
        return []
    before, after = dict(_flatten(base)), dict(_flatten(head))
    return [Change(key, before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)]


def _changed_code(base: LockedStages, head: LockedStages) -> dict[str, list[str]]:
    """Return the packages and files under src/ that changed, for each stage that both sides have."""
    changed = {}
    for stage in head:
        before, after = base.dependencies(stage), head.dependencies(stage)
        names = [path for path in after if path.startswith("src/") and before.get(path) != after[path]]
        if before and names:
            changed[stage] = names
    return changed


def _has_results(side: Revision, summary: Content, locked: LockedStages) -> bool:
    return bool(summary) and test_images(side) is not None and locked.input_md5(paths.TEST) is not None


def _add_stale(result: Review, summaries: tuple[Content, Content], locks: tuple[LockedStages, LockedStages]) -> None:
    """Add the reasons why the results of a side are not of its code, parameters and data."""
    for side, summary, locked in zip((result.base, result.head), summaries, locks, strict=True):
        if side is result.base and not _has_results(side, summary, locked):
            continue  # there is a note on it
        if lines := lock.stale(side, summary):
            result.stale[side.name] = lines
            stages = ", ".join(dict.fromkeys(line.partition(":")[0] for line in lines))
            text = (
                f"The results of '{side.name}' are not of its code, parameters and data: there are no verdicts. "
                f"Not up to date: {stages}."
            )
            result.notes.append(Note(text, blocks=result.void))


def _add_verdicts(result: Review, summaries: tuple[Content, Content], locks: tuple[LockedStages, LockedStages]) -> None:
    """Add the verdicts on the variants that both sides have, and a note on each of the others."""
    sides, allowed = (result.base, result.head), result.allowed
    found = zip(sides, summaries, locks, strict=True)
    missing = [side for side, summary, locked in found if not _has_results(side, summary, locked)]
    for side in missing:
        blocks = side is result.head or not allowed.no_base
        text = f"'{side.name}' has no results that this version of digits can read: there are no verdicts."
        result.notes.append(Note(text, blocks))
    if missing:
        return
    for name in dict.fromkeys([*summaries[0], *summaries[1]]):
        if name not in summaries[0]:
            result.notes.append(Note(f"'{result.base.name}' does not have variant {name}: it is not compared."))
        elif name not in summaries[1]:
            text = f"'{result.head.name}' no longer has variant {name}: it is not compared."
            result.notes.append(Note(text, blocks=name not in allowed.removed))
    md5, head_md5 = (locked.input_md5(paths.TEST) for locked in locks)
    images = test_images(result.base)
    if md5 != head_md5 or images is None:
        text = "The test images of the two sides are not the same: there are no verdicts."
        result.notes.append(Note(text, blocks=not allowed.new_data))
        return
    result.test_md5 = md5
    compared: dict[str, tuple[Result, Result]] = {}
    for name in summaries[1]:
        if name not in summaries[0]:
            continue
        base, head = (read_results(side, name, images) for side in sides)
        if base is None or head is None:
            for side, results in zip(sides, (base, head), strict=True):
                if results is not None:
                    continue
                text = (
                    f"'{side.name}' has no results of variant {name} that this version of digits can read: "
                    "there is no verdict on it."
                )
                result.notes.append(Note(text, blocks=side is result.head or not allowed.no_base))
            continue
        compared[name] = base.result, head.result
        result.mistakes[name] = base.mistakes, head.mistakes
        file = paths.VariantFiles(name).predictions
        before, after = (_probabilities(result.head.root, locked.input_md5(file)) for locked in locks)
        result.probabilities[name] = before, after
    _note_fewer_seeds(result, compared)
    settings = comparison_settings(result.base)
    writers = settings.writers(result.head.root, images) if compared else None
    result.verdicts.update(comparison.compare(compared, margin=settings.margin, writers=writers))
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
        result.notes.append(Note(text, blocks=not result.allowed.fewer_seeds))


def _probabilities(root: Path, md5: str | None) -> Probabilities | None:
    """Return a variant's mean probabilities over the seeds, (n, 10), or None if the DVC cache does not have them.

    Git has only those of the misclassified images, in errors.csv.
    """
    if md5 is None:
        return None
    with open_repository(root) as repo:
        file = Path(repo.cache.local.oid_to_path(md5))
    if not file.is_file():
        return None
    mean: Probabilities = read_arrays(file)["probabilities"].mean(axis=0)
    return mean


def _add_plots(result: Review, root: Path) -> None:
    """Add the charts and pictures that `dvc plots diff` shows."""
    names = result.base.commit or "", result.head.commit or revisions.WORKSPACE
    with tempfile.TemporaryDirectory(prefix="digits-") as folder:
        command = [sys.executable, "-m", "dvc", "plots", "diff", *names, "--json", "--out", folder]
        output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if output.returncode:
        reason = (output.stderr.strip().splitlines() or ["no message"])[-1]
        result.notes.append(Note(f"There are no charts: `dvc plots diff` failed: {reason}"))
        return
    plots = json.loads(output.stdout)
    for failure in plots.get("errors", ()):
        result.notes.append(Note(f"`dvc plots diff` could not plot {failure.get('name')} of '{failure.get('rev')}'."))
    for name, versions in plots["data"].items():
        if name.endswith(".png"):
            result.pictures.append(Picture(name, result.base.read(Path(name)), result.head.read(Path(name))))
        elif versions:
            labels = result.base.name, result.head.name
            result.charts.append(_chart(name, versions[0]["content"], names, labels))


def _chart(name: str, specification: dict[str, Any], revs: tuple[str, str], labels: tuple[str, str]) -> Chart:
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
    return Chart(name, text or name, specification, changed=rows[revs[0]] != rows[revs[1]])
