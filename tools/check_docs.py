"""Check what the documentation states: print one line for each problem, and exit with status 1 if there is one.

- Percentages in the prose of README.md and docs/ stand in a table that tools/results.py writes.
- Every test that docs/ names exists.
- At Git's HEAD, metrics/experiments.json belongs to experiments.yaml and params.yaml, and metrics/published.json has
  its results.
- docs/licenses.md lists every locked package.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from results import PAGE, README, ROOT, head, text

from digits.core import paths
from digits.core.config import parse_fast, parse_like_dvc
from digits.core.errors import UserError
from digits.replication.experiments import Experiments, targets
from digits.replication.published import Published

LICENSES = Path("docs/licenses.md")
LOCKS = "requirements*.txt"

CODE = re.compile(r"^(```+).*?^\1|`[^`\n]*`", re.DOTALL | re.MULTILINE)
TABLE_ROW = re.compile(r"^ *\|.*$", re.MULTILINE)
PERCENTAGE = re.compile(r"(?:(\d+\.\d+)\s±\s)?(\d+\.\d+)\s?%")  # e.g. 99.41 ± 0.03 %
LICENSE = re.compile(r"^\| (\S+) +\| (\d\S*) +\|", re.MULTILINE)
LOCKED = re.compile(r"^[^\s#].*==.*$", re.MULTILINE)
NAMED_TEST = re.compile(r"((?:[\w-]+/)*test_\w+\.py)(?:::(test_\w+))?")


def percentages(root: Path) -> list[str]:
    """Return a line for each percentage with a decimal point in prose that stands in no table of results."""
    pages = documentation(root)
    tables = "".join(TABLE_ROW.findall(pages[README] + pages[PAGE]))
    known = {figure for figures in PERCENTAGE.findall(tables) for figure in figures}
    return [
        f"{path}: {figure} % stands in no table of results: correct it, or take it out"
        for path, page in pages.items()
        for figures in PERCENTAGE.findall(TABLE_ROW.sub("", CODE.sub("", page)))
        for figure in figures
        if figure and figure not in known
    ]


def named_tests(root: Path) -> list[str]:
    """Return a line for each test that a page names and tests/ does not have."""
    code = {f"/{path.as_posix()}": path.read_text("utf-8") for path in (root / "tests").rglob("test_*.py")}
    return [
        f"{page}: there is no test {f'{file}::{test}' if test else file}"
        for page, content in documentation(root).items()
        for file, test in NAMED_TEST.findall(content)
        if not any(path.endswith(f"/{file}") and (not test or f"def {test}(" in found) for path, found in code.items())
    ]


def experiments(root: Path) -> list[str]:
    """Return a line for each experiment whose committed results do not agree with the other committed files."""
    commit = head(root)
    wanted = Experiments.model_validate(parse_fast(text(commit, paths.EXPERIMENTS))).experiments
    source = Published.model_validate(parse_fast(text(commit, paths.PUBLISHED)))
    seeds = parse_like_dvc(text(commit, paths.PARAMS))["train"]["seeds"]
    results = json.loads(text(commit, paths.EXPERIMENT_METRICS))
    asked = {
        name: {
            "description": experiment.description,
            "set": experiment.settings,
            "seeds": seeds,
            "numbers": [
                (number.report, number.quantity, epoch, number.published)
                for number, _, epoch in targets(name, experiment, source)
            ],
        }
        for name, experiment in wanted.items()
    }
    found = {
        name: result | {"numbers": [_number(row) for row in result["numbers"]]} for name, result in results.items()
    }
    lines = [
        f"{paths.EXPERIMENT_METRICS}: '{name}' is not as in {paths.EXPERIMENTS}, {paths.PUBLISHED} and {paths.PARAMS}: "
        "type `make experiments`"
        for name in asked | found
        if asked.get(name) != found.get(name)
    ]
    return lines + [
        f"{paths.PUBLISHED_METRICS}: '{row['quantity']}' does not have the results of {paths.EXPERIMENT_METRICS}: "
        "type `dvc repro`"
        for row in json.loads(text(commit, paths.PUBLISHED_METRICS))["numbers"]
        if row["experiments"] != _outcomes(row["report"], row["quantity"], results)
    ]


def _number(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["report"], row["quantity"], row["epoch"], row["published"]


def _outcomes(report: str, quantity: str, results: dict[str, Any]) -> dict[str, bool | None]:
    """Return whether each experiment that measures a published number reproduces it."""
    return {
        name: row["measured"]["reproduced"]
        for name, result in results.items()
        for row in result["numbers"]
        if (row["report"], row["quantity"]) == (report, quantity)
    }


def licenses(root: Path) -> list[str]:
    """Return a line for each package that is locked for this platform and has no licence listed for its version."""
    page = (root / LICENSES).read_text("utf-8")
    listed = {(canonicalize_name(name), Version(version)) for name, version in LICENSE.findall(page)}
    locked = [
        Requirement(line.removesuffix("\\"))
        for lock in sorted(root.glob(LOCKS))
        for line in LOCKED.findall(lock.read_text("utf-8"))
    ]
    needed = [requirement for requirement in locked if not requirement.marker or requirement.marker.evaluate()]
    versions = [(canonicalize_name(each.name), Version(next(iter(each.specifier)).version)) for each in needed]
    return [
        f"{LICENSES}: {name} {version} is missing: type `make licenses`"
        for name, version in versions
        if (name, version) not in listed
    ]


def documentation(root: Path) -> dict[Path, str]:
    """Return the texts of README.md and of the pages in docs/."""
    files = [root / README, *sorted((root / "docs").glob("*.md"))]
    return {file.relative_to(root): file.read_text("utf-8") for file in files}


def main(root: Path = ROOT) -> None:
    """Run all checks; exit with status 1 if one has found a problem."""
    try:
        lines = [line for check in (percentages, named_tests, experiments, licenses) for line in check(root)]
    except UserError as error:
        lines = [str(error)]
    if lines:
        sys.exit("\n".join(lines))


if __name__ == "__main__":
    main()
