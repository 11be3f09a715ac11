"""Results of a variant that no training made: a test chooses which seed misclassifies which test images."""

import contextlib
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from dvc.repo import Repo
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils.serialize import dump_yaml

from digits.core import seeds_wrong
from digits.core.artifacts import read_json, write_csv, write_json
from digits.core.paths import DATASET_METRICS, VariantFiles
from digits.evaluation.comparison import Mistake


def set_errors(folder: Path, variant: str, seeds: Sequence[Collection[int]]) -> None:
    """Replace the errors of a variant by those of seeds that misclassify these test images; `dvc.lock` agrees."""
    files, images = VariantFiles(variant), read_json(folder / DATASET_METRICS)["test"]["images"]
    counts = Counter(index for wrong in seeds for index in set(wrong))
    rows = [Mistake(index, index % 10, counts[index], (index + 1) % 10, 0.6, 0.3) for index in sorted(counts)]
    write_csv(folder / files.errors, pd.DataFrame(rows, columns=list(Mistake.__dataclass_fields__)))
    seeds_wrong.write(folder / files.test_errors, np.array([counts[index] for index in range(images)]))
    metrics = read_json(folder / files.metrics)
    metrics["test"]["errors"]["values"] = [len(set(wrong)) for wrong in seeds]
    write_json(folder / files.metrics, metrics)
    record(folder)


def record(folder: Path) -> None:
    """Make `dvc.lock` that of the code, the parameters and the results in a folder, as if the pipeline had run."""
    with contextlib.chdir(folder), Repo() as repo:
        for file in (file for stage in repo.index.stages for file in (*stage.deps, *stage.outs) if file.exists):
            file.save()
        lock = {stage.addressing: to_single_stage_lockfile(stage) for stage in repo.index.stages}
    dump_yaml(folder / "dvc.lock", {"schema": "2.0", "stages": lock})
