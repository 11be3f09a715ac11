"""Measure, and write results.json, results.md and growth.png beside this file. `make bench` does all of it.

    python benchmarks/run.py                   # all sections
    python benchmarks/run.py epoch growth      # these; the others stay as they are in results.json
    python benchmarks/run.py --render          # results.md anew from results.json, nothing measured
    python benchmarks/run.py --short           # one round of few epochs, to try it out: no figure of it is to be quoted

Sections: epoch, grid, target, accuracy, pipeline, growth. They need `data/processed` (`make repro`), the pipeline a
source of the data that can be reached, and all of them a machine that does nothing else: threads that spin while they
wait, as PyTorch's and NumPy's do, lose far more than their share to another program.

A section is a function in sections.py. Its contestants are the files `with_<name>.py`, processes that answer lines of
JSON; staged.py stands in for `python` in the pipeline; report.py sums up, by results.md.j2 and notes.md.j2.
"""

import argparse
import datetime as dt
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from common import BENCHMARKS, PROGRAMS, ROOT, THREADS
from report import render
from sections import SECTIONS, SHORT, Extent, growth_figure

from digits import paths
from digits.errors import UserError
from digits.files import read_json, replacing, write_json

RESULTS, PAGE, FIGURE = (BENCHMARKS / name for name in ("results.json", "results.md", "growth.png"))
PACKAGES = {
    "TensorFlow": "tensorflow",
    "Keras": "keras",
    "PyTorch": "torch",
    "JAX": "jax",
    "scikit-learn": "scikit-learn",
    "NumPy": "numpy",
    "DVC": "dvc",
}


def commit() -> str:
    """Return the commit that is measured, and say so where files differ from it."""
    written = [f":!{path.relative_to(ROOT)}" for path in (RESULTS, PAGE, FIGURE)]

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607

    name = git("rev-parse", "--short=10", "HEAD").stdout.strip()
    if not name:
        raise UserError(f"benchmarks: {ROOT} is no Git repository with a commit: clone it")
    changed = git("diff", "--quiet", "HEAD", "--", ".", *written).returncode != 0
    return f"{name} with changes" if changed else name


def machine() -> dict[str, Any]:
    """Return the processor's name, its cores, the threads used, the memory in bytes, and the operating system."""
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
    """Return the versions of Python and of the packages that are measured."""
    return {"Python": platform.python_version()} | {name: version(package) for name, package in PACKAGES.items()}


def write(results: dict[str, Any]) -> None:
    """Write the figure, if there is a section for it, and the page."""
    if "growth" in results:
        growth_figure(results["growth"], FIGURE)
    with replacing(PAGE) as temporary:
        temporary.write_text(render(results, BENCHMARKS), encoding="utf-8")


def measure(names: list[str], extent: Extent) -> None:
    """Measure sections one after another; each is written as soon as it is done."""
    of = commit()
    for path in (PROGRAMS / "dvc", *(ROOT / each for each in (paths.TRAIN, paths.VALIDATION, paths.TEST))):
        if not path.exists():
            raise UserError(f"benchmarks: {path.relative_to(ROOT)} is missing: type `make repro`")
    for name in names:
        print(f"{name}:", flush=True)
        section = SECTIONS[name](extent, lambda line: print(f"  {line}", flush=True))
        section["made"] = {
            "commit": of,
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "short": extent == SHORT,
            "machine": machine(),
            "versions": versions(),
        }
        known = read_json(RESULTS) if RESULTS.exists() else {}
        results = {each: section if each == name else known[each] for each in SECTIONS if each in {*known, name}}
        write_json(RESULTS, results)
        write(read_json(RESULTS))  # with the digits that are kept, so that the page is always that of the file


def main() -> None:
    """Run what the command line asks for; a user's mistake becomes one line and exit status 1."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--short", action="store_true", help="one round of few epochs, to try it out")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    given = parser.parse_args()
    for name in given.sections:
        if name not in SECTIONS:
            sys.exit(f"benchmarks: '{name}' is no section: {', '.join(SECTIONS)} are")
    try:
        if given.render:
            write(read_json(RESULTS))
        else:
            measure(given.sections or list(SECTIONS), SHORT if given.short else Extent())
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("benchmarks: interrupted; the sections that were done are in results.json")


if __name__ == "__main__":
    main()
