"""Stage download: the four IDX files of MNIST, uncompressed and verified."""

import sys

from digits.core import params, paths
from digits.data import downloads


def run() -> None:
    """Download the files that are missing, and report the sources that failed."""
    section = params.load(paths.PARAMS).download
    failures = downloads.fetch(
        section.files.by_name(), section.sources, paths.RAW, timeout=section.timeout, retries=section.retries
    )
    for failure in failures:
        print(f"skipped {failure}", file=sys.stderr)
