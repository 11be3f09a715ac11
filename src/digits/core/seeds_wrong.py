"""How many seeds misclassify each image, as a table that stays short even if they misclassify all of them.

The table is CSV with the columns `index` and `seeds_wrong`. A row is for a run of misclassified images that follow each
other in the set: the index of the first, then the number for each of them, separated by spaces. Images that every seed
classifies correctly have no row.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digits.core.artifacts import write_text

COLUMNS = "index,seeds_wrong"


def write(path: Path, counts: NDArray[np.integer]) -> None:
    """Write how many seeds misclassify each image, (n,)."""
    index = np.flatnonzero(counts)
    runs = np.split(index, np.flatnonzero(np.diff(index) > 1) + 1) if len(index) else []
    rows = [f"{run[0]},{' '.join(map(str, counts[run]))}\n" for run in runs]
    write_text(path, f"{COLUMNS}\n{''.join(rows)}")


def read(text: str) -> dict[int, int]:
    """Return how many seeds misclassify an image, by its index in the set, from a text that `write` has written.

    Raises:
        ValueError: the text is something else.
    """
    header, *rows = text.splitlines()
    if header != COLUMNS:
        raise ValueError(f"the columns are {header}")
    counts: dict[int, int] = {}
    for row in rows:
        first, numbers = row.split(",")
        for index, count in enumerate(numbers.split(), int(first)):
            if index in counts:
                raise ValueError(f"image {index} has two rows")
            counts[index] = int(count)
    return counts
