from collections.abc import Iterator

import pytest
from servers import Mirror, serving


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving(Mirror()) as server:
        yield server
