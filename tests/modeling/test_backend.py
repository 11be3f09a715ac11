import os

import pytest
from support import WITH_TENSORFLOW, lazily

backend = lazily("digits.modeling.backend")
pytestmark = WITH_TENSORFLOW


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


def test_there_are_as_many_workers_as_the_cores_have_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for limit, threads, workers in [("", 1, 8), ("", 3, 2), ("", 9, 1), ("3", 1, 3), ("16", 1, 16)]:
        monkeypatch.setenv("DIGITS_CORES", limit)
        assert backend.available_workers(threads) == workers
    for unusable in ("0", "-1", "many"):
        monkeypatch.setenv("DIGITS_CORES", unusable)
        assert backend.available_workers(1) == 8
