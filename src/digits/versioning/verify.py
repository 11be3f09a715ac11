"""The comparison of the results here with committed ones: the same bytes, or numbers within a tolerance.

Results have the same bytes on machines with the same kind of processor. On another kind, the last bits of sums differ,
and training amplifies the difference.
"""

import csv
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml

from digits.core import paths
from digits.core.config import parse_fast
from digits.core.errors import UserError
from digits.versioning import revisions
from digits.versioning.git import git
from digits.versioning.repository import LOCK
from digits.versioning.revisions import Revision

# The largest difference of a variant's numbers, at any epoch, between two kinds of processor. Each value is twice the
# largest difference measured between the committed run and two runs that simulate a processor without AVX-512 and one
# without AVX2; docs/trust.md lists the settings and the differences.
TOLERANCES = {
    "softmax": {"accuracy": 0.0001, "loss": 2e-6, "calibration_error": 2e-7},  # accuracy: measured 0, one image allowed
    "mlp64": {"accuracy": 0.0008, "loss": 0.0001, "calibration_error": 0.00078},
    "mlp128": {"accuracy": 0.025, "loss": 0.16, "calibration_error": 0.025},
    "cnn": {"accuracy": 0.0028, "loss": 0.0049, "calibration_error": 0.0015},
}
DEFAULT_VARIANT = "cnn"  # its tolerances apply to a variant that is not listed
# These follow from the curves and have no tolerance of their own; a tiny difference can move the best epoch far.
SKIPPED = ("errors", "best_epoch", "best_accuracy", "best_loss")
INPUTS = ("dvc.yaml", "params.yaml", "requirements.txt", "src")  # what the results depend on, besides the data
RESULTS = ("dvc.lock", "metrics", "plots")
MAX_NAMES = 3  # of changed inputs in a message
HEAD = "HEAD"


class Agreement(StrEnum):
    """The degree to which results agree with the committed ones."""

    SAME = "same bytes"
    WITHIN = "within tolerance"
    OUTSIDE = "outside tolerance"


@dataclass(frozen=True)
class Difference:
    """A number that differs."""

    quantity: str
    place: str
    committed: float | None  # None: missing
    here: float | None
    tolerance: float

    @property
    def ratio(self) -> float:
        """The difference divided by the tolerance."""
        if self.committed is None or self.here is None or not self.tolerance:
            return math.inf
        return abs(self.here - self.committed) / self.tolerance

    def __str__(self) -> str:
        sides = (
            f"{side} {'none' if value is None else value}"
            for side, value in (("here", self.here), ("committed", self.committed))
        )
        return f"{self.quantity} {self.place}: {', '.join(sides)}, tolerance {self.tolerance:g}"


@dataclass(frozen=True)
class Comparison:
    """The results of one variant, compared with the committed ones."""

    outputs: list[str]  # whose bytes differ
    differences: list[Difference]  # the largest first, relative to the tolerance

    @property
    def agreement(self) -> Agreement:
        """Whether the results agree."""
        if any(difference.ratio > 1 for difference in self.differences):
            return Agreement.OUTSIDE
        return Agreement.WITHIN if self.outputs or self.differences else Agreement.SAME

    def __str__(self) -> str:
        if self.agreement is Agreement.SAME:
            return str(self.agreement)
        if not self.differences:
            return f"{self.agreement}: no number differs, but {', '.join(self.outputs)}"
        count = len(self.differences)
        counted = "1 number differs" if count == 1 else f"{count} numbers differ, the largest"
        return f"{self.agreement}: {counted}: {self.differences[0]}"


@dataclass(frozen=True)
class Verification:
    """The results of all variants, compared with those of a revision."""

    base: Revision
    variants: dict[str, Comparison]
    changed_inputs: list[str]  # files that the results depend on and that differ from the revision

    @property
    def agreement(self) -> Agreement:
        """The agreement of the variant that agrees least."""
        found = {comparison.agreement for comparison in self.variants.values()}
        return max(found, key=list(Agreement).index, default=Agreement.SAME)

    def explanation(self) -> str:
        """Return what the comparison means and what the user can do, one sentence a line."""
        name = self.base.name
        if self.agreement is Agreement.SAME:
            return f"The results have the same bytes as those committed in {name}."
        if self.changed_inputs:
            names = self.changed_inputs[:MAX_NAMES]
            if others := len(self.changed_inputs) - len(names):
                names.append(f"{others} more")
            listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
            return (
                f"Different results are expected, because the code or the parameters are not those of {name}: "
                f"{listed} changed.\n"
                "To keep the results, commit dvc.lock, metrics/ and plots/ with the change."
            )
        if self.agreement is Agreement.OUTSIDE:
            return (
                f"The results differ from those committed in {name} by more than another kind of processor explains, "
                f"although the code and the parameters are those of {name}.\n"
                f"Possible causes: the results in {name} were made by other code, the libraries are not those of "
                "requirements.txt (`make repro` installs them), or a file is damaged (`digits repair` finds it)."
            )
        results = " ".join(RESULTS)
        text = (
            f"The results differ from those committed in {name} as results from another kind of processor do: "
            "nothing is wrong.\n"
            f"To put the committed results back, type `git checkout {self._git_name} -- {results}`.\n"
            "models/ and data/predictions/ stay as computed here: `dvc status` and `digits check-lock` then report "
            "them as modified, and `dvc repro` trains again."
        )
        if name == HEAD:
            text += (
                f"\nTo switch back later without training, type `git stash push -- {results}` instead; `git stash pop` "
                "restores the results of this machine."
            )
        return text

    @property
    def _git_name(self) -> str:
        """A name of the revision that Git knows, which the name of an experiment is not."""
        return HEAD if self.base.name == HEAD else str(self.base.commit)


def verify(root: Path, base: str) -> Verification:
    """Compare the results in the workspace with those committed in a revision, for each variant of the revision.

    The comparison covers the bytes of every output of the variant's stages, and the numbers in metrics/summary.json and
    plots/curves.csv.

    Args:
        root: the folder of dvc.yaml.
        base: a branch, tag, commit or experiment.

    Raises:
        UserError: the revision does not exist, or a result is missing.
    """
    committed, here = revisions.resolve(root, base), revisions.workspace(root)
    numbers, numbers_here = _numbers(committed), _numbers(here)
    hashes, hashes_here = _hashes(committed), _hashes(here)
    variants = {}
    for variant in numbers:
        tolerances = TOLERANCES.get(variant, TOLERANCES[DEFAULT_VARIANT])
        before, after = numbers[variant], numbers_here.get(variant, {})
        differences = [
            Difference(*key, before.get(key), after.get(key), tolerances.get(key[0], 0))
            for key in before | after
            if before.get(key) != after.get(key)
        ]
        sums, sums_here = hashes.get(variant, {}), hashes_here.get(variant, {})
        outputs = [
            path
            for path in sums | sums_here
            if sums.get(path) != sums_here.get(path) or _differs_from_git(committed, here, Path(path))
        ]
        variants[variant] = Comparison(outputs, sorted(differences, key=lambda each: -each.ratio))
    return Verification(committed, variants, _changed_inputs(root, committed))


def _differs_from_git(committed: Revision, here: Revision, path: Path) -> bool:
    """Return whether an output that Git holds differs here; the others are compared by their hashes in dvc.lock."""
    before, after = committed.read(path), here.read(path)
    if before is not None and after is None:
        raise _missing(here, path)
    return before is not None and before != after


def _changed_inputs(root: Path, base: Revision) -> list[str]:
    """Return the files that the results depend on and that differ from a revision, new ones included."""
    changed = git(root, "diff", "--name-only", "--relative", "-z", str(base.commit), "--", *INPUTS)
    added = git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *INPUTS)
    return sorted({path for path in (changed + added).split("\0") if path})


def _numbers(side: Revision) -> dict[str, dict[tuple[str, str], float]]:
    """Return the numbers of each variant at a revision, by quantity and place."""
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
    """Return the MD5 of each output of each variant's stages in the dvc.lock of a revision, by path."""
    hashes: dict[str, dict[str, str]] = {}
    with _parsing(side, LOCK) as text:
        for name, stage in parse_fast(text)["stages"].items():
            variant = name.partition("@")[2]
            hashes.setdefault(variant, {}).update({out["path"]: out["md5"] for out in stage.get("outs", ())})
    return hashes


@contextmanager
def _parsing(side: Revision, path: Path) -> Iterator[str]:
    """Yield the text of a file; raise UserError if it is missing or the block cannot parse it."""
    content = side.read(path)
    if content is None:
        raise _missing(side, path)
    try:
        yield content.decode("utf-8")
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError):
        raise UserError(f"'{side.name}' has a {path} that the pipeline did not write: run `dvc repro`") from None


def _missing(side: Revision, path: Path) -> UserError:
    return UserError(f"'{side.name}' has no {path}: name a revision with results, or run `dvc repro`")
