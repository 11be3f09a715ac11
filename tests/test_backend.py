import os

import pytest

from digits import backend


def test_what_native_code_says_is_passed_on_only_when_the_block_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with backend._quiet():
        os.write(2, b"which processor this is")
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError, match="it fails"), backend._quiet():
        os.write(2, b"what went wrong")
        raise ValueError("it fails")
    assert capfd.readouterr().err == "what went wrong"
    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"
