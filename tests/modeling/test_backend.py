import os

import pytest

from digits.modeling import backend


def test_the_messages_of_native_code_appear_only_if_the_block_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with backend._hold_back_stderr():
        os.write(2, b"the features of the CPU")
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError, match="it fails"), backend._hold_back_stderr():
        os.write(2, b"the reason")
        raise ValueError("it fails")
    assert capfd.readouterr().err == "the reason"
    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"
