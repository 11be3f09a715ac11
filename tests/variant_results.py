"""Results of a variant that no training made: a test chooses which seed misclassifies which test images."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from digits.core import seeds_wrong
from digits.core.config import parse_fast, parse_like_dvc
from digits.core.paths import VariantFiles
from digits.evaluation.comparison import Mistake
from digits.evaluation.statistics import spread


def set_errors(folder: Path, variant: str, seeds: Sequence[Collection[int]]) -> None:
    """Replace the errors of a variant in its tables, in its metrics and in `dvc.lock`, which therefore agree.

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
    seeds_wrong.write(folder / files.test_errors, np.array([counts[index] for index in range(images)]))
    errors = [len(set(wrong)) for wrong in seeds]
    metrics["seeds"] = list(range(len(seeds)))
    metrics["test"]["errors"] = asdict(spread(errors))
    metrics["test"]["accuracy"] = asdict(spread([1 - count / images for count in errors]))
    path.write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
    record(folder)


def record(folder: Path) -> None:
    """Make `dvc.lock` that of the code, the parameters and the results in a folder, as if the pipeline had run."""
    path = folder / "dvc.lock"
    lock = parse_fast(path.read_text("utf-8"))
    params = parse_like_dvc((folder / "params.yaml").read_text("utf-8"))
    for stage in lock["stages"].values():
        for file in (*stage.get("deps", ()), *stage.get("outs", ())):
            if file["path"].startswith(("cards", "metrics", "params", "plots", "src")):
                file["md5"] = md5(folder / file["path"])
        for keys in stage.get("params", {}).values():
            keys.update({key: value_at(params, key) for key in keys})
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(lock, file)


def value_at(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content[part]
    return content


def md5(path: Path) -> str:
    """Return the MD5 of a file or a folder as DVC computes it."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    listed = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listed.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"
