from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import generated

from digits.core import seeds_wrong


def test_images_that_follow_each_other_share_a_row(tmp_path: Path) -> None:
    path = tmp_path / "wrong.csv"
    seeds_wrong.write(path, np.array([0, 2, 0, 1, 12, 3, 0, 0, 5]))
    assert path.read_text("utf-8") == "index,seeds_wrong\n1,2\n3,1 12 3\n8,5\n"


@given(st.lists(st.sampled_from([0, 0, 0, 1, 5, 100]), max_size=60))
@generated(light=100, full=2000)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, counts: list[int]) -> None:
    path = tmp_path_factory.getbasetemp() / "wrong.csv"
    seeds_wrong.write(path, np.array(counts, np.int64))
    assert seeds_wrong.read(path.read_text("utf-8")) == {index: count for index, count in enumerate(counts) if count}
    assert seeds_wrong.read("index,seeds_wrong\n7,2\n8,1\n") == {7: 2, 8: 1}  # a row for each image


@pytest.mark.parametrize(
    "text",
    ["", "index,label\n1,2\n", "index,seeds_wrong\n1\n", "index,seeds_wrong\n1,x\n", "index,seeds_wrong\n1,2 3\n2,1\n"],
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        seeds_wrong.read(text)
