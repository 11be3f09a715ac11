import os
import subprocess
import sys

import pytest

from digits.modeling import backend

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def test_the_messages_of_native_code_appear_only_if_the_block_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with backend.hold_back_stderr():
        os.write(2, b"the features of the CPU")
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError, match="it fails"), backend.hold_back_stderr():
        os.write(2, b"the reason")
        raise ValueError("it fails")
    assert capfd.readouterr().err == "the reason"
    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"


def test_nothing_is_printed_from_the_import_to_the_first_result() -> None:
    code = "from digits.modeling.backend import keras; keras.ops.ones(1)"
    variables = {name: value for name, value in os.environ.items() if name not in {"CUDA_VISIBLE_DEVICES", LEVEL}}
    result = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize(("cores", "threads", "workers"), [(8, 1, 8), (8, 3, 2), (2, 2, 1), (2, 5, 1)])
def test_there_are_as_many_workers_as_the_cores_have_room_for(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int, workers: int
) -> None:
    monkeypatch.delenv("DIGITS_CORES", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert backend.available_workers(threads) == workers


@pytest.mark.parametrize(("limit", "workers"), [("3", 3), ("16", 16), ("", 8), ("0", 8), ("-1", 8), ("many", 8)])
def test_the_number_of_cores_can_be_set_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, limit: str, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("DIGITS_CORES", limit)
    assert backend.available_workers(1) == workers
