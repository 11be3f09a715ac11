"""Results of a variant that no training made: a test chooses which seed misclassifies which test images."""

import csv
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from digits.core.paths import VariantFiles
from digits.evaluation.comparison import Mistake
from digits.evaluation.statistics import spread


def set_errors(folder: Path, variant: str, seeds: Sequence[Collection[int]]) -> None:
    """Replace the errors of a variant in `errors.csv` and in its metrics, which therefore agree.

    Args:
        folder: the repository.
        variant: the variant.
        seeds: for each seed, the test images that it misclassifies, by index.
    """
    files = VariantFiles(variant)
    counts = Counter(index for images in seeds for index in set(images))
    mistakes = [
        asdict(Mistake(index, index % 10, count, (index + 1) % 10, 0.6, 0.3)) for index, count in sorted(counts.items())
    ]
    with (folder / files.errors).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, Mistake.__dataclass_fields__, lineterminator="\n")
        writer.writeheader()
        writer.writerows(mistakes)

    path = folder / files.metrics
    metrics = json.loads(path.read_text("utf-8"))
    images = json.loads((folder / "metrics/dataset.json").read_text("utf-8"))["test"]["images"]
    errors = [len(set(wrong)) for wrong in seeds]
    metrics["seeds"] = list(range(len(seeds)))
    metrics["test"]["errors"] = asdict(spread(errors))
    metrics["test"]["accuracy"] = asdict(spread([1 - count / images for count in errors]))
    path.write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
