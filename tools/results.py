"""Write docs/results.md and the table of README.md from metrics/ and benchmarks/.

python tools/results.py            # from the results in the work tree
python tools/results.py --check    # fail if the committed pages differ from the committed results

`--check` reads Git's HEAD alone: those in a work tree change with every experiment and kind of processor.
"""

import argparse
import difflib
import json
import re
import sys
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from digits.core.artifacts import write_text
from digits.core.chance import is_chance
from digits.core.errors import UserError
from digits.core.formatting import percent, percent_spread, points
from digits.versioning import lock
from digits.versioning.git import git
from digits.versioning.revisions import Revision, workspace

ROOT = Path(__file__).parent.parent
README, PAGE = Path("README.md"), Path("docs/results.md")
BLOCK = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- end -->)", re.DOTALL)
FILES = {
    "published": "metrics/published.json",
    "experiments": "metrics/experiments.json",
    "stress": "metrics/stress.json",
    "reading": "benchmarks/reading.json",
    "page": "benchmarks/page.json",
    "calibration": "benchmarks/calibration.json",
    "speed": "benchmarks/results.json",
}


def head(root: Path) -> Revision:
    """Return the commit that is checked out."""
    return Revision(root, "HEAD", git(root, "rev-parse", "HEAD").strip())


def text(revision: Revision, path: Path | str) -> str:
    """Return the text of a file; raise UserError if the revision does not have it."""
    found = revision.text(Path(path))
    if found is None:
        raise UserError(f"{path} is missing in {revision.name}: type `dvc repro`")
    return found


def rendered(results: Revision) -> dict[Path, str]:
    """Return the texts of README.md and docs/results.md with the tables of a revision's results.

    Raises:
        UserError: a file is missing, has no place for its table, or does not fit the template.
    """

    def read(file: str) -> Any:
        return json.loads(text(results, file))

    names = list(read("metrics/summary.json"))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (Markdown)
    )
    environment.filters |= {"number": _number, "percent": _percent, "points": points, "warning": _warning}
    environment.globals |= {"spread": lambda values: percent_spread(values["mean"], values["std"])}
    try:
        content = {name: read(file) for name, file in FILES.items()}
        metrics = {name: read(f"metrics/variants/{name}.json") for name in names}
        first = metrics[names[0]]
        content |= {
            "metrics": metrics,
            "errors": {name: read(f"metrics/variants/{name}-errors.json") for name in names},
            "seeds": "1 seed" if len(first["seeds"]) == 1 else f"{len(first['seeds'])} seeds",
            "epochs": first["epochs"],
            "unmeasured": "not applicable" if "not_applicable" in content["published"] else "not run",
        }
        template = environment.get_template("results.md.j2").make_module(content)
        table = str(template.accuracies())  # type: ignore[attr-defined] # a macro of the template
    except (TemplateError, KeyError, TypeError, ValueError) as error:  # of another version of the code, or by hand
        raise UserError(f"{PAGE} does not fit the files in {results.name}: {error!r}") from None
    readme = text(results, README)
    if not BLOCK.search(readme):
        raise UserError(f"{README} has no place for its table: write `<!-- results -->` and `<!-- end -->`")
    return {README: BLOCK.sub(lambda _: f"\n{table}\n", readme), PAGE: str(template).lstrip()}


def update(root: Path, *, check: bool) -> list[str]:
    """Write the pages that differ from the results in the work tree, or compare those of HEAD.

    Returns:
        The lines that differ, in the form of `diff`.
    """
    results = head(root) if check else workspace(root)
    lines: list[str] = []
    for path, new in rendered(results).items():
        old = results.text(path) or ""
        names = f"{path} in {results.name}", f"{path} from the results in {results.name}"
        lines += difflib.unified_diff(old.splitlines(), new.splitlines(), *names, n=0, lineterm="")
        if old != new and not check:
            write_text(root / path, new)
    return lines


def _number(value: float | None, digits: int = 4) -> str:
    """Return a number with a count of significant digits, but a whole number in full."""
    if value is None:
        return "not run"
    number = f"{value:,.0f}" if value == int(value) else f"{value:.{digits}g}"
    return number.replace("-", "−")


def _percent(share: float | None, places: int = 2) -> str:
    return "–" if share is None else percent(share, places)


def _warning(metrics: dict[str, Any]) -> str:
    """Return a remark on the seeds that are no better on the test images than a constant answer."""
    counts = [digit["support"] for digit in metrics["per_class"].values()]
    count = sum(is_chance(accuracy, counts) for accuracy in metrics["test"]["accuracy"]["values"])
    seeds = len(metrics["seeds"])
    return f" (**learned nothing**{'' if count == seeds else f' with {count} of {seeds} seeds'})" if count else ""


def main(arguments: list[str] | None = None, root: Path = ROOT) -> None:
    """Write the pages, or check them and exit with status 1 if one is stale."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if a committed page differs from committed results")
    check = parser.parse_args(arguments).check
    try:
        if not check:
            lock.check(root)  # results of other code or parameters do not belong into the documentation
        lines = update(root, check=check)
    except UserError as error:
        sys.exit(f"results: {error}")
    if check and lines:
        sys.exit("\n".join([*lines, "The pages differ from the committed results: type `make tables`"]))
    print("\n".join(lines) if lines else "the pages match the results")


if __name__ == "__main__":
    main()
