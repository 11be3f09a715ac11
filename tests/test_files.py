import json
from pathlib import Path

import numpy as np
import pytest

from digits import files
from digits.errors import UserError


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with files.replacing(path) as temporary:
        temporary.write_text("old", "utf-8")
        assert not path.exists()
    with pytest.raises(RuntimeError, match="half-way"), files.replacing(path) as temporary:
        temporary.write_text("new", "utf-8")
        raise RuntimeError("half-way")
    assert path.read_text("utf-8") == "old"
    assert list(path.parent.iterdir()) == [path]


def test_floats_are_cut_to_six_digits_at_any_depth() -> None:
    value = {"a": [1 / 3, np.float32(2 / 3)], "b": (np.int64(7), True, None, "x"), "c": 1e-9 / 3}
    expected = {"a": [0.333333, 0.666667], "b": [7, True, None, "x"], "c": 3.33333e-10}
    assert files.rounded(value) == expected


def test_json_has_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    files.write_json(path, {"accuracy": 0.5})
    assert files.read_json(path) == json.loads(path.read_text("utf-8")) == {"accuracy": 0.5}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"accuracy": float("nan")})
    assert files.read_json(path) == {"accuracy": 0.5}


def test_csv_has_unix_line_ends_and_empty_cells_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    files.write_csv(path, ("a", "b"), [(1, None), (0.1234567, "x,y")])
    assert path.read_bytes() == b'a,b\n1,\n0.123457,"x,y"\n'


def test_arrays_come_back_and_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    arrays = {"x/y": np.arange(6).reshape(2, 3), "z": np.zeros(0)}
    files.write_arrays(first, **arrays)
    files.write_arrays(second, **arrays)
    assert first.read_bytes() == second.read_bytes()
    read = files.read_arrays(first)
    assert list(read) == list(arrays)
    np.testing.assert_array_equal(read["x/y"], arrays["x/y"])


@pytest.mark.parametrize("content", [None, b"", b"no zip", b"PK\x03\x04 and no more"])
def test_what_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file.npz"
    if content is not None:
        path.write_bytes(content)
    for read in (files.read_arrays, files.read_json):
        with pytest.raises(UserError, match=r"file.npz cannot be read .*dvc repro") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_arrays_of_python_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    np.savez(path, objects=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"file.npz cannot be read \(.*pickle"):
        files.read_arrays(path)


def test_a_damaged_name_of_an_array_is_not_quoted_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    files.write_arrays(path, images=np.zeros(10_000, np.uint8))
    content = bytearray(path.read_bytes())
    content[27] = 30  # the high byte of the name's length
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"file.npz cannot be read \(File name in directory .*dvc repro") as caught:
        files.read_arrays(path)
    assert len(str(caught.value)) < 1000
