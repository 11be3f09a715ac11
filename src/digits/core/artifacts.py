"""Files that are either whole or absent, and that have the same bytes for the same values."""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from digits.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT_DIGITS = 6  # of a float: more than any result here means, and few enough to read in a diff


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` if the block succeeds and is deleted if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because NumPy, Keras and Matplotlib choose the format by it.
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def round_floats(value: Any) -> Any:
    """Return `value` with every float in it, at any depth, rounded to `SIGNIFICANT_DIGITS`."""
    match value:
        case dict():
            return {key: round_floats(item) for key, item in value.items()}
        case list() | tuple():
            return [round_floats(item) for item in value]
        case float():  # np.float64 is one, too
            return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
        case np.generic():
            return round_floats(value.item())
        case _:
            return value


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, with rounded floats.

    Raises:
        ValueError: `value` contains NaN or an infinity, which JSON does not have.
    """
    write_text(path, json.dumps(round_floats(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file; raise UserError if the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): run `dvc repro`") from None


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV with Unix line ends and rounded floats; a missing value becomes an empty cell."""
    with atomic_write(path) as temporary:
        table.map(round_floats).to_csv(temporary, index=False, lineterminator="\n")


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write named arrays to an uncompressed `.npz` file, whose bytes depend on the arrays alone.

    Those of `numpy.savez` depend on the version of Python, too: it asks for zip64 headers, which versions write
    differently. Here a file has them only if it needs them.
    """
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980
            entry.file_size = array.nbytes
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file by name; raise UserError if the file is missing or damaged."""
    try:
        with path.open("rb") as file, NpzFile(file) as arrays:
            return dict(arrays)
    except Exception as error:  # zipfile documents no complete set: it raises RuntimeError for an "encrypted" bit
        reason = str(error)[:200]  # zipfile quotes a damaged name in full, which can take 64 KiB
        raise UserError(f"{path} cannot be read ({reason}): type `digits repair`, then `dvc repro`") from None
