"""Check what the documentation states: print one line for each problem, and exit with status 1 if there is one.

- Percentages in the prose of README.md and docs/ stand in a table of the same page, or in a table that tools/tables.py
  writes, which `tables.py --check` compares with the committed results.
- Every test that docs/ names exists.
- Relative links in Markdown files lead to files that Git has.
- At Git's HEAD, metrics/experiments.json belongs to experiments.yaml and params.yaml, and metrics/published.json has
  its results.
- docs/licenses.md lists every locked package.

Results are read from Git's HEAD alone: those in a work tree change with every experiment and kind of processor.
"""

import json
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import tables
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pydantic import TypeAdapter, ValidationError
from tables import ROOT

from digits.core import paths
from digits.core.config import parse_fast, parse_like_dvc
from digits.core.errors import UserError
from digits.replication.experiments import Experiment, Experiments, Target, targets
from digits.replication.published import ExperimentResult, ExperimentResults, Published, measure
from digits.versioning.revisions import Revision, workspace

Kind = TypeVar("Kind")

TESTS = Path("tests")
LICENSES = Path("docs/licenses.md")
LOCK = Path("requirements-dev.txt")

FENCED = re.compile(r"^(```+|~~~+).*?^\1", re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"`[^`\n]*`")
TABLE_ROW = re.compile(r"^ *\|.*$", re.MULTILINE)
PERCENTAGE = re.compile(r"(?:(?P<mean>\d+\.\d+)\s±\s)?(?P<share>\d+\.\d+)\s?%")  # e.g. 99.41 ± 0.03 %
NAMED_TEST = re.compile(r"(?P<file>(?:[\w-]+/)*test_\w+\.py)(?:::(?P<test>test_\w+))?|`(?P<bare>test_\w+)`")
LINK = re.compile(
    r"\]\(\s*<?([^()\s<>]+)>?(?:\s+[\"'][^)]*)?\)"  # [text](target "title")
    r"|^ {0,3}\[[^\]]+\]:\s*(\S+)"  # [label]: target
    r"|<[^>]+\b(?:src|href)=\"([^\"]+)\"",
    re.MULTILINE,
)


def percentages(root: Path) -> list[str]:
    """Return a line for each percentage in prose that stands in no table.

    On a page with tables that tables.py writes, tables written by hand count as prose.
    """
    pages = {path: _without(FENCED, text) for path, text in documentation(root).items()}
    written = {path: "".join(block[0] for block in tables.BLOCK.finditer(text)) for path, text in pages.items()}
    known = {figure for text in written.values() for figure, _ in _figures(text)}
    lines = []
    for path, text in pages.items():
        prose, allowed = _without(tables.BLOCK, text), known
        if not written[path]:
            allowed = known | {figure for row in TABLE_ROW.findall(prose) for figure, _ in _figures(row)}
            prose = _without(TABLE_ROW, prose)
        lines += [
            f"{_place(path, prose, found)}: {figure} % stands in no table: correct it, or take it out"
            for figure, found in _figures(prose)
            if figure not in allowed
        ]
    return lines


def _figures(text: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield the percentages in a text, and where they stand; a mean and its standard deviation are two."""
    for found in PERCENTAGE.finditer(text):
        yield from ((figure, found) for figure in found.groups() if figure)


def named_tests(root: Path) -> list[str]:
    """Return a line for each test that README.md or a page in docs/ names and tests/ does not have."""
    files = [path for path in tables.files(workspace(root)) if path.is_relative_to(TESTS) and path.suffix == ".py"]
    tests = {path: workspace(root).text(path) or "" for path in files}
    lines = []
    for page, text in documentation(root).items():
        for found in NAMED_TEST.finditer(text):
            file, test = found["file"], found["test"] or found["bare"]
            texts = [code for path, code in tests.items() if not file or f"/{path}".endswith(f"/{file}")]
            if not texts:
                lines.append(f"{_place(page, text, found)}: there is no file {file} in tests/")
            elif test and not any(f"def {test}(" in code for code in texts):
                lines.append(f"{_place(page, text, found)}: there is no test {test} in {file or 'tests/'}")
    return lines


def links(root: Path) -> list[str]:
    """Return a line for each relative link in a Markdown file that does not lead to a file or folder of the repository.

    A file that Git ignores does not count: whoever reads the page elsewhere does not have it.
    """
    known = {str(path) for file in tables.files(workspace(root)) for path in (file, *file.parents)}
    lines = []
    for page, text in tables.pages(workspace(root)).items():
        for found in LINK.finditer(_without(INLINE_CODE, _without(FENCED, text))):
            target = found[found.lastindex or 0]
            path = unquote(re.split(r"[#?]", target)[0])
            if not path or re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
                continue
            folder = "" if path.startswith("/") else page.parent.as_posix()
            if posixpath.normpath(posixpath.join(folder, path.lstrip("/"))) not in known:
                lines.append(f"{_place(page, text, found)}: the link {target} leads to no file in Git")
    return lines


def experiments(root: Path) -> list[str]:
    """Return a line for each experiment whose committed results do not agree with the other committed files."""
    head = tables.head(root)
    wanted = _parsed(head, paths.EXPERIMENTS, Experiments, parse_fast).experiments
    source = _parsed(head, paths.PUBLISHED, Published, parse_fast)
    results = _parsed(head, paths.EXPERIMENT_METRICS, dict[str, ExperimentResult], json.loads)
    seeds = parse_like_dvc(_text(head, paths.PARAMS))["train"]["seeds"]
    problems = [f"'{name}' is not in {paths.EXPERIMENTS}" for name in results if name not in wanted]
    for name, experiment in wanted.items():
        if name not in results:
            problems.append(f"'{name}' is missing")
        elif results[name].seeds != seeds:
            problems.append(f"'{name}' was not run with the seeds of {paths.PARAMS}")
        elif not _is_as_asked(results[name], experiment, targets(name, experiment, source)):
            problems.append(f"'{name}' is not as in {paths.EXPERIMENTS} and {paths.PUBLISHED}")
    return [f"{paths.EXPERIMENT_METRICS}: {problem}: type `make experiments`" for problem in problems] + [
        f"{paths.PUBLISHED_METRICS}: '{row['quantity']}' does not have the results of {paths.EXPERIMENT_METRICS}: "
        "type `dvc repro`"
        for row in json.loads(_text(head, paths.PUBLISHED_METRICS))["numbers"]
        if row["experiments"] != _outcomes(row["report"], row["quantity"], results)
    ]


def _is_as_asked(result: ExperimentResult, experiment: Experiment, asked: list[Target]) -> bool:
    """Return whether a result is that of an experiment, with the verdicts that the published numbers now have."""
    if (result.description, result.set) != (experiment.description, experiment.settings):
        return False
    numbers = [(row.report, row.quantity, row.epoch, row.published) for row in result.numbers]
    if numbers != [(number.report, number.quantity, epoch, number.published) for number, _, epoch in asked]:
        return False
    return all(
        row.measured.reproduced == measure(number, row.measured.values).reproduced
        for row, (number, _, _) in zip(result.numbers, asked, strict=True)
    )


def _outcomes(report: str, quantity: str, results: ExperimentResults) -> dict[str, bool | None]:
    """Return whether each experiment that measures a published number reproduces it."""
    return {
        name: row.measured.reproduced
        for name, result in results.items()
        for row in result.numbers
        if (row.report, row.quantity) == (report, quantity)
    }


def licenses(root: Path) -> list[str]:
    """Return a line for each package that is locked for this platform and has no licence listed, or vice versa."""
    page = workspace(root).text(LICENSES) or ""
    rows = re.findall(r"^\| (\S+) +\| (\d\S*) +\| (.+?) +\|$", page, re.MULTILINE)
    listed = {(canonicalize_name(name), Version(version)) for name, version, _ in rows}
    locked = set()
    for line in re.findall(r"^[^\s#].*==.*$", _text(workspace(root), LOCK), re.MULTILINE):
        requirement = Requirement(line.removesuffix("\\"))
        if requirement.marker is None or requirement.marker.evaluate():
            locked.add((canonicalize_name(requirement.name), Version(next(iter(requirement.specifier)).version)))
    return [
        *(
            f"{LICENSES}: {name} {version} is missing: type `make licenses`"
            for name, version in sorted(locked - listed)
        ),
        *(
            f"{LICENSES}: {name} {version} is not locked: type `make licenses`"
            for name, version in sorted(listed - locked)
        ),
        *(
            f"{LICENSES}: the licence of {name} is UNKNOWN: state it above the table"
            for name, _, licence in rows
            if licence == "UNKNOWN" and f"`{name}`" not in page
        ),
    ]


def documentation(root: Path) -> dict[Path, str]:
    """Return the texts of README.md and of the pages in docs/."""
    pages = tables.pages(workspace(root))
    return {path: text for path, text in pages.items() if path == Path("README.md") or path.parent == Path("docs")}


def _without(pattern: re.Pattern[str], text: str) -> str:
    """Return a text in which spaces replace what matches a pattern, so that the lines keep their numbers."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def _place(page: Path, text: str, found: re.Match[str]) -> str:
    line = text.count("\n", 0, found.start()) + 1
    return f"{page}:{line}"


def _text(revision: Revision, path: Path) -> str:
    text = revision.text(path)
    if text is None:
        raise UserError(f"{path} is missing in {revision.name}")
    return text


def _parsed(revision: Revision, path: Path, kind: type[Kind], parse: Callable[[str], Any]) -> Kind:
    """Return the checked content of a file; raise UserError if it does not fit the code in the work tree."""
    try:
        return TypeAdapter(kind).validate_python(parse(_text(revision, path)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path} in {revision.name}: {key}: {first['msg']}") from None


CHECKS: tuple[Callable[[Path], list[str]], ...] = (percentages, named_tests, links, experiments, licenses)


def main(root: Path = ROOT) -> None:
    """Run all checks; exit with status 1 if one has found a problem."""
    lines = []
    for check in CHECKS:
        try:
            lines += check(root)
        except UserError as error:
            lines.append(str(error))
    if lines:
        sys.exit("\n".join(lines))


if __name__ == "__main__":
    main()
