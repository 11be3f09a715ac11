"""Measure, and write results.json, results.md and scaling.png beside this file.

    make bench                                 # install the peers, and run all sections
    python benchmarks/run.py                   # all sections
    python benchmarks/run.py epoch scaling     # these sections; results.json keeps the others
    python benchmarks/run.py --render          # write results.md and scaling.png from results.json, without measuring
    python benchmarks/run.py --short           # one round of few epochs, to try the benchmarks: do not quote them

The sections need `data/processed` (`make repro`). Section pipeline also needs a source of the data that can be reached.
Use an idle machine: the threads of PyTorch and NumPy busy-wait, and lose more than their share of time if another
program uses the same cores.

A section is a function in sections.py. Each implementation runs in a process of its own, `with_<name>.py`, which
answers requests in JSON. stage_timer.py stands in for `python` while the pipeline runs. report.py summarizes the
results, and makes the page from results.md.j2 and notes.md.j2.
"""

import argparse
import contextlib
import datetime as dt
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from common import BENCHMARKS, PIPELINE_BIN, ROOT, THREADS
from figure import draw_scaling
from report import render
from sections import SECTIONS, SHORT, Extent

from digits.core import paths
from digits.core.artifacts import read_json, write_json, write_text
from digits.core.errors import UserError
from digits.versioning.git import git, git_succeeds

RESULTS, PAGE, FIGURE = (BENCHMARKS / name for name in ("results.json", "results.md", "scaling.png"))
PACKAGES = {
    "TensorFlow": "tensorflow",
    "Keras": "keras",
    "PyTorch": "torch",
    "JAX": "jax",
    "scikit-learn": "scikit-learn",
    "NumPy": "numpy",
    "DVC": "dvc",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake of the user becomes one line on standard error and exit status 1."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--short", action="store_true", help="one round of few epochs, to try the benchmarks")
    parser.add_argument("--render", action="store_true", help="write the page from results.json, without measuring")
    given = parser.parse_args(arguments)
    try:
        if given.render:
            write_page(read_json(RESULTS))
        else:
            measure(given.sections or list(SECTIONS), SHORT if given.short else Extent())
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit("benchmarks: interrupted; results.json has the sections that were finished")


def measure(names: list[str], extent: Extent) -> None:
    """Measure sections one after the other, and write the results after each.

    Raises:
        UserError: a section is unknown, or the pipeline has not been run.
    """
    for name in names:
        if name not in SECTIONS:
            raise UserError(f"'{name}' is not a section; the sections are {', '.join(SECTIONS)}")
    measured_commit = commit()
    for path in (PIPELINE_BIN / "dvc", *(ROOT / split for split in (paths.TRAIN, paths.VALIDATION, paths.TEST))):
        if not path.exists():
            raise UserError(f"{path.relative_to(ROOT)} is missing: type `make repro`")
    for name in names:
        print(f"{name}:", flush=True)
        section = SECTIONS[name](extent, lambda line: print(f"  {line}", flush=True))
        section["provenance"] = {
            "commit": measured_commit,
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "short": extent == SHORT,
            "machine": machine(),
            "versions": versions(),
        }
        known = read_json(RESULTS) if RESULTS.exists() else {}
        write_json(RESULTS, {each: (known | {name: section})[each] for each in SECTIONS if each in {*known, name}})
        write_page(read_json(RESULTS))  # with rounded floats, so that --render writes the same page


def write_page(results: dict[str, Any]) -> None:
    """Write the page and, if section scaling was measured, its figure."""
    if "scaling" in results:
        draw_scaling(results["scaling"], FIGURE)
    write_text(PAGE, render(results, BENCHMARKS))


def commit() -> str:
    """Return the commit that is measured, with a remark if files differ from it."""
    try:
        name = git(ROOT, "rev-parse", "--short=10", "HEAD").strip()
    except UserError:
        raise UserError(f"{ROOT} has no Git commit: run the benchmarks in a clone of the repository") from None
    written = [f":!{path.relative_to(ROOT)}" for path in (RESULTS, PAGE, FIGURE)]
    unchanged = git_succeeds(ROOT, "diff", "--quiet", "HEAD", "--", ".", *written)
    return name if unchanged else f"{name} with uncommitted changes"


def machine() -> dict[str, Any]:
    """Return the processor, its cores, the threads used, the memory in bytes, and the operating system."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "threads": THREADS,
        "memory": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the measured packages that are installed."""
    installed = {"Python": platform.python_version()}
    for name, package in PACKAGES.items():
        with contextlib.suppress(PackageNotFoundError):  # section pipeline does not need the peers
            installed[name] = version(package)
    return installed


if __name__ == "__main__":
    main()
