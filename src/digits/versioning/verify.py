"""The comparison of the results here with committed ones: the same bytes, or a verdict on the difference.

Results that are not of the code, the parameters and the data beside them get no verdict.

Results have the same bytes on machines with the same kind of processor. On another kind they differ as those of other
seeds do, so the comparison is that of a review.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import yaml

from digits.core import paths
from digits.core.config import parse_fast
from digits.core.errors import UserError
from digits.core.formatting import percent_spread, points
from digits.evaluation import comparison
from digits.evaluation.comparison import Outcome, Result, Verdict
from digits.versioning import lock, revisions
from digits.versioning.git import git
from digits.versioning.repository import LOCK
from digits.versioning.results import read_results, test_images
from digits.versioning.revisions import Revision
from digits.versioning.settings import comparison_settings

INPUTS = ("dvc.yaml", "params.yaml", "requirements.txt", "src")  # what the results depend on, besides the data
RESULTS = ("cards", "dvc.lock", "metrics", "plots")
MAX_NAMES = 3  # of changed inputs in a message
HEAD = "HEAD"


class Agreement(StrEnum):
    """The degree to which results agree with the committed ones."""

    SAME = "same bytes"
    NO_EVIDENCE = "no evidence of a difference"
    DIFFERS = "differs"


@dataclass(frozen=True)
class Comparison:
    """The results of one variant, compared with the committed ones.

    Attributes:
        outputs: The files whose bytes differ.
        here: The errors of each seed on each test image; None if there are none here.
        committed: Likewise.
        verdict: None if a side has no results, or the test images are not the same.
    """

    outputs: list[str]
    here: Result | None
    committed: Result | None
    verdict: Verdict | None

    @property
    def agreement(self) -> Agreement:
        """Whether the results agree."""
        if self.verdict is None or self.verdict.outcome in (Outcome.BETTER, Outcome.WORSE):
            return Agreement.DIFFERS
        return Agreement.NO_EVIDENCE if self.outputs else Agreement.SAME

    def __str__(self) -> str:
        here, committed = (_accuracy(side) for side in (self.here, self.committed))
        text = f"{here} here, {committed} as committed: {self.agreement}"
        if self.verdict is None or self.agreement is Agreement.SAME:
            return text
        if self.verdict.outcome is Outcome.SAME:
            first, others = self.outputs[0], len(self.outputs) - 1
            files = f"{first} and {others} more differ" if others else f"{first} differs"
            return f"{here} here, {committed} as committed: the same errors, but {files}"
        low, high = (points(end) for end in self.verdict.interval)
        text += f": {points(self.verdict.difference)} points ({low} to {high})"
        return f"{text}, one seed: by the images alone" if self.verdict.images_only else text


def _accuracy(result: Result | None) -> str:
    return "no comparable results" if result is None else percent_spread(result.accuracy.mean, result.accuracy.std)


@dataclass(frozen=True)
class Verification:
    """The results of all variants, compared with those of a revision."""

    base: Revision
    variants: dict[str, Comparison]
    changed_inputs: list[str]  # files that the results depend on and that differ from the revision
    stale: dict[str, list[str]] = field(default_factory=dict)  # why the results of a side are not its own, by its name

    @property
    def passed(self) -> bool:
        """Whether the results are those of the files here, and agree."""
        return not self.stale and self.agreement is not Agreement.DIFFERS

    @property
    def agreement(self) -> Agreement:
        """The agreement of the variant that agrees least."""
        found = {comparison.agreement for comparison in self.variants.values()}
        return max(found, key=list(Agreement).index, default=Agreement.SAME)

    def explanation(self) -> str:
        """Return what the comparison means and what the user can do, one sentence a line."""
        name = self.base.name
        if self.stale:
            return "\n".join(_stale(side, lines) for side, lines in self.stale.items())
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
                "To keep the results, commit cards/, dvc.lock, metrics/ and plots/ with the change."
            )
        if self.agreement is Agreement.DIFFERS:
            return (
                f"The results differ from those committed in {name} by more than other seeds or another kind of "
                f"processor explain, although the code and the parameters are those of {name}.\n"
                f"Possible causes: the results in {name} were made by other code, the libraries are not those of "
                "requirements.txt (`make repro` installs them), or a file is damaged (`digits repair` finds it)."
            )
        results = " ".join(RESULTS)
        text = (
            f"The bytes differ from those committed in {name}, as on another kind of processor, but there is no "
            "evidence that the models do: nothing is wrong.\n"
            f"To put the committed results back, type `git checkout {self._git_name} -- {results}`.\n"
            "models/ and data/predictions/ stay as computed here: `dvc status` and `digits check-lock` then report "
            "them as modified, `digits verify` and `digits review` give no verdict, and `dvc repro` trains again."
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

    The comparison covers the bytes of every output of the variant's stages, and the errors of its seeds. There is none
    if the results of a side are not of its code, parameters and data.

    Args:
        root: the folder of dvc.yaml.
        base: a branch, tag, commit or experiment.

    Raises:
        UserError: the revision does not exist, or a result is missing.
    """
    committed, here = revisions.resolve(root, base), revisions.workspace(root)
    variants = _variants(committed)
    variants_here = _variants(here)  # fails if there are no results here
    hashes, hashes_here = _hashes(committed), _hashes(here)
    changed_inputs = _changed_inputs(root, committed)
    reasons = {side.name: lock.stale(side, names) for side, names in ((committed, variants), (here, variants_here))}
    if any(reasons.values()):
        return Verification(committed, {}, changed_inputs, {name: lines for name, lines in reasons.items() if lines})
    images, images_here = test_images(committed), test_images(here)
    results: dict[str, tuple[Result | None, Result | None]] = dict.fromkeys(variants, (None, None))
    if images is not None and images == images_here:
        results = {name: (_result(committed, name, images), _result(here, name, images)) for name in variants}
    settings = comparison_settings(committed)
    verdicts = comparison.compare(
        {name: (before, after) for name, (before, after) in results.items() if before and after},
        margin=settings.margin,
        writers=settings.writers(root, images),
    )
    compared = {}
    for name in variants:
        sums, sums_here = hashes.get(name, {}), hashes_here.get(name, {})
        outputs = [
            path
            for path in sums | sums_here
            if sums.get(path) != sums_here.get(path) or _differs_from_git(committed, here, Path(path))
        ]
        before, after = results[name]
        compared[name] = Comparison(outputs, after, before, verdicts.get(name))
    return Verification(committed, compared, changed_inputs)


def _stale(side: str, lines: list[str]) -> str:
    """Return why there is no verdict on the results of a side, and what the user can do."""
    if side == revisions.WORKSPACE:
        text = "the results here are not of the code, the parameters and the data here: type `dvc repro`"
    else:
        text = f"the results in {side} are not of the code, the parameters and the data in it: name another revision"
    return "\n".join([f"There is no verdict, because {text}. DVC finds:", *(f"  {line}" for line in lines)])


def _result(side: Revision, variant: str, images: int) -> Result | None:
    """Return the errors of a variant on a number of test images, or None if there are none that can be read."""
    results = read_results(side, variant, images)
    return results.result if results else None


def _differs_from_git(committed: Revision, here: Revision, path: Path) -> bool:
    """Return whether an output that Git holds differs here; the others are compared by their hashes in dvc.lock."""
    before = committed.read(path)
    return before is not None and before != here.read(path)


def _changed_inputs(root: Path, base: Revision) -> list[str]:
    """Return the files that the results depend on and that differ from a revision, new ones included."""
    changed = git(root, "diff", "--name-only", "--relative", "-z", str(base.commit), "--", *INPUTS)
    added = git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *INPUTS)
    return sorted({path for path in (changed + added).split("\0") if path})


def _variants(side: Revision) -> list[str]:
    """Return the variants of a revision that have results."""
    with _parsing(side, paths.SUMMARY) as text:
        return list(json.loads(text).keys())


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
