"""Stage download: the four IDX files of MNIST, uncompressed and verified."""

import sys

from digits.core import params, paths
from digits.data import downloads


def run() -> None:
    """Download the files that are missing, and report the sources that failed."""
    section = params.load(paths.PARAMS).download
    files = section.files.by_name()
    if all(downloads.is_valid(paths.RAW / name, spec) for name, spec in files.items()):
        print(
            f"{paths.RAW} has the files in download.files already, so download.sources is not read; "
            "`digits checksums FOLDER` prints the entry for other files"
        )
    failures = downloads.fetch(files, section.sources, paths.RAW, timeout=section.timeout, retries=section.retries)
    for failure in failures:
        print(f"skipped {failure}", file=sys.stderr)
