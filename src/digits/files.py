"""Files that are either whole or absent, and the same bytes for the same values."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from digits.errors import UserError

DIGITS = 6  # significant digits kept of a float: more than any result here means, few enough to read a diff


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` that takes the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, as NumPy, Keras and Matplotlib choose the format by it.
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def rounded(value: Any) -> Any:
    """Return `value` with every float in it, at any depth, cut to `DIGITS` significant digits."""
    match value:
        case dict():
            return {key: rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [rounded(item) for item in value]
        case float():  # np.float64 among them
            return float(f"{value:.{DIGITS}g}")
        case np.generic():
            return rounded(value.item())
        case _:
            return value


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; raise ValueError for NaN and infinities, which JSON does not have."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(rounded(value), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file; raise UserError where it is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): run `dvc repro`") from None


def csv_line(row: Iterable[Any]) -> list[str]:
    """Return a row's cells as text: floats rounded, None as an empty cell."""
    return ["" if cell is None else str(cell) for cell in rounded(list(row))]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write `rows` under `header`, with Unix line ends."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(csv_line(row) for row in rows)


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write named arrays to an uncompressed `.npz`, whose bytes depend on nothing but the arrays."""
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` by name; raise UserError where it is missing or damaged."""
    try:
        with path.open("rb") as file, NpzFile(file) as arrays:
            return dict(arrays)
    except Exception as error:  # zipfile raises RuntimeError where a bit says "encrypted", and documents no set
        reason = str(error)[:200]  # zipfile quotes a damaged name whole, of up to 64 KiB
        raise UserError(
            f"{path} cannot be read ({reason}): type `digits repair`, then `dvc repro`, to make it anew"
        ) from None
