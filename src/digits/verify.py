"""Whether the results here are the committed ones: in every byte, or as near as those of another processor."""

import csv
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from digits import paths, revisions
from digits.errors import UserError
from digits.repository import LOCK
from digits.revisions import Revision

# By how much a variant's numbers may differ, at any epoch, on another kind of processor: twice the largest difference
# that was measured, to two digits, between the committed run and two on the same machine, as if without AVX-512
# and as if without AVX2. docs/trust.md has the settings and the differences.
TOLERANCES = {
    "softmax": {"accuracy": 0.0001, "loss": 2e-6, "calibration_error": 2e-7},  # accuracy: none was; one image may
    "mlp64": {"accuracy": 0.0008, "loss": 0.0001, "calibration_error": 0.00078},
    "mlp128": {"accuracy": 0.025, "loss": 0.16, "calibration_error": 0.025},
    "cnn": {"accuracy": 0.0028, "loss": 0.0049, "calibration_error": 0.0015},
}
LIKE = "cnn"  # what a variant that is not listed is taken to be like
# What follows from the curves has no tolerance of its own; the best epoch of many that are as good moves at a touch.
SKIPPED = ("errors", "best_epoch", "best_accuracy", "best_loss")


class Word(StrEnum):
    """What a comparison comes to."""

    SAME = "same bytes"
    WITHIN = "within tolerance"
    OUTSIDE = "outside tolerance"


@dataclass(frozen=True)
class Difference:
    """A number that differs; None on the side that does not have it."""

    quantity: str
    place: str
    committed: float | None
    here: float | None
    tolerance: float  # by how much they may differ

    @property
    def share(self) -> float:
        """By how many tolerances they differ."""
        if self.committed is None or self.here is None or not self.tolerance:
            return math.inf
        return abs(self.here - self.committed) / self.tolerance

    def __str__(self) -> str:
        sides = (
            f"{side} {'nowhere' if value is None else value}"
            for side, value in (("here", self.here), ("committed", self.committed))
        )
        return f"{self.quantity} {self.place}: {', '.join(sides)}, tolerance {self.tolerance:g}"


@dataclass(frozen=True)
class Comparison:
    """A variant's results here beside the committed ones."""

    outputs: list[str]  # whose bytes differ
    differences: list[Difference]  # the largest first, in tolerances

    @property
    def word(self) -> Word:
        """Whether they agree."""
        if any(difference.share > 1 for difference in self.differences):
            return Word.OUTSIDE
        return Word.WITHIN if self.outputs or self.differences else Word.SAME

    def __str__(self) -> str:
        if self.word is Word.SAME:
            return str(self.word)
        if not self.differences:
            return f"{self.word}: no number differs, but {', '.join(self.outputs)}"
        count = len(self.differences)
        counted = "1 number differs" if count == 1 else f"{count} numbers differ, the largest"
        return f"{self.word}: {counted}: {self.differences[0]}"


def verify(root: Path, base: str) -> dict[str, Comparison]:
    """Compare the workspace's results with those committed in a revision, by variant of that revision.

    Compared are the bytes of every output of the variant's stages, and the numbers in metrics/summary.json and
    plots/curves.csv.

    Args:
        root: the folder of dvc.yaml.
        base: a branch, tag, commit or experiment.

    Raises:
        UserError: there is no such revision, or a side lacks a file.
    """
    sides = revisions.resolve(root, base), revisions.workspace(root)
    numbers, hashes = [_numbers(side) for side in sides], [_hashes(side) for side in sides]
    comparisons = {}
    for variant in numbers[0]:
        tolerances = TOLERANCES.get(variant, TOLERANCES[LIKE])
        committed, here = (side.get(variant, {}) for side in numbers)
        differences = [
            Difference(*key, committed.get(key), here.get(key), tolerances.get(key[0], 0))
            for key in committed | here
            if committed.get(key) != here.get(key)
        ]
        before, after = (side.get(variant, {}) for side in hashes)
        outputs = [
            path for path in before | after if before.get(path) != after.get(path) or _edited(*sides, Path(path))
        ]
        comparisons[variant] = Comparison(outputs, sorted(differences, key=lambda each: -each.share))
    return comparisons


def _edited(committed: Revision, here: Revision, path: Path) -> bool:
    """Tell whether an output that Git holds is another here; of those that it does not hold, dvc.lock alone speaks."""
    before, after = committed.read(path), here.read(path)
    if before is not None and after is None:
        raise _missing(here, path)
    return before is not None and before != after


def _numbers(side: Revision) -> dict[str, dict[tuple[str, str], float]]:
    """Return each variant's numbers at a revision, by quantity and place."""
    numbers: dict[str, dict[tuple[str, str], float]] = {}
    with _parsing(side, paths.SUMMARY) as text:
        for variant, summary in json.loads(text).items():
            numbers[variant] = {
                (quantity, "after the last epoch"): value
                for quantity, value in summary.items()
                if quantity not in SKIPPED
            }
    with _parsing(side, paths.CURVES) as text:
        for row in csv.DictReader(text.splitlines()):
            place = f"at epoch {row['epoch']} on the {row['split']} images"
            values = {(quantity, place): float(row[quantity]) for quantity in ("accuracy", "loss")}
            numbers.setdefault(row["variant"], {}).update(values)
    return numbers


def _hashes(side: Revision) -> dict[str, dict[str, str]]:
    """Return the MD5 sum of each output of each variant's stages, by path, as dvc.lock has it at a revision."""
    hashes: dict[str, dict[str, str]] = {}
    with _parsing(side, LOCK) as text:
        for name, stage in YAML(typ="safe", pure=True).load(text)["stages"].items():
            variant = name.partition("@")[2]
            hashes.setdefault(variant, {}).update({out["path"]: out["md5"] for out in stage.get("outs", ())})
    return hashes


@contextmanager
def _parsing(side: Revision, path: Path) -> Iterator[str]:
    """Yield a file's text; a file that is missing, or what fails on it, becomes a UserError."""
    text = side.text(path)
    if text is None:
        raise _missing(side, path)
    try:
        yield text
    except (AttributeError, KeyError, TypeError, ValueError, YAMLError):
        raise UserError(f"'{side.name}' has a {path} that the pipeline did not write: run `dvc repro`") from None


def _missing(side: Revision, path: Path) -> UserError:
    return UserError(f"'{side.name}' has no {path}: name a revision with results, or run `dvc repro`")
