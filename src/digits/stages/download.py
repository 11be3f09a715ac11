"""Stage download: the four IDX files of MNIST, uncompressed and verified."""

import sys

from digits import params, paths, sources


def run() -> None:
    section = params.load(paths.PARAMS).download
    failures = sources.fetch(
        section.files.by_name(), section.sources, paths.RAW, timeout=section.timeout, retries=section.retries
    )
    for failure in failures:
        print(f"passed over {failure}", file=sys.stderr)
