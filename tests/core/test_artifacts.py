import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from digits.core import artifacts
from digits.core.errors import UserError


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with artifacts.atomic_write(path) as temporary:
        temporary.write_text("old", "utf-8")
        assert not path.exists()
    with pytest.raises(RuntimeError, match="half-way"), artifacts.atomic_write(path) as temporary:
        temporary.write_text("new", "utf-8")
        raise RuntimeError("half-way")
    assert path.read_text("utf-8") == "old"
    assert list(path.parent.iterdir()) == [path]


def test_floats_are_rounded_to_six_digits_at_any_depth() -> None:
    value = {"a": [1 / 3, np.float32(2 / 3)], "b": (np.int64(7), True, None, "x"), "c": 1e-9 / 3}
    expected = {"a": [0.333333, 0.666667], "b": [7, True, None, "x"], "c": 3.33333e-10}
    assert artifacts.round_floats(value) == expected


def test_nan_cannot_be_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    artifacts.write_json(path, {"accuracy": 0.5})
    assert artifacts.read_json(path) == json.loads(path.read_text("utf-8")) == {"accuracy": 0.5}
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.write_json(path, {"accuracy": float("nan")})
    assert artifacts.read_json(path) == {"accuracy": 0.5}


def test_csv_has_unix_line_ends_rounded_floats_and_empty_cells_for_missing_values(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    table = pd.DataFrame({"a": [1, 2], "b": [None, 0.1234567], "c": [np.float32(1 / 3), 2e-9 / 3], "d": ["x,y", None]})
    artifacts.write_csv(path, table)
    assert path.read_bytes() == b'a,b,c,d\n1,,0.333333,"x,y"\n2,0.123457,6.66667e-10,\n'


def test_the_bytes_of_arrays_are_the_same_with_every_version_of_python(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    artifacts.write_arrays(path, images=np.arange(6, dtype=np.uint8).reshape(2, 3), labels=np.zeros(2, np.int64))
    expected = "92cac8842953d4bfb56842faaf0394dacf6b0386f520dd299f24efca9dafb4da"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected


def test_arrays_are_read_back_by_name(tmp_path: Path) -> None:
    path, arrays = tmp_path / "a.npz", {"x/y": np.arange(6).reshape(2, 3), "z": np.zeros(0)}
    artifacts.write_arrays(path, **arrays)
    read = artifacts.read_arrays(path)
    assert list(read) == list(arrays)
    np.testing.assert_array_equal(read["x/y"], arrays["x/y"])


@pytest.mark.parametrize("content", [None, b"", b"not a zip file", b"PK\x03\x04 alone"])
def test_a_missing_or_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file.npz"
    if content is not None:
        path.write_bytes(content)
    for read in (artifacts.read_arrays, artifacts.read_json):
        with pytest.raises(UserError, match=r"file.npz cannot be read .*dvc repro") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_arrays_of_python_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    np.savez(path, objects=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"file.npz cannot be read \(.*pickle"):
        artifacts.read_arrays(path)


def test_a_damaged_array_name_is_not_quoted_in_full(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    artifacts.write_arrays(path, images=np.zeros(10_000, np.uint8))
    content = bytearray(path.read_bytes())
    content[27] = 30  # the high byte of the name's length
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"file.npz cannot be read \(File name in directory .*dvc repro") as caught:
        artifacts.read_arrays(path)
    assert len(str(caught.value)) < 1000
