"""What all tests share: parts of the machine that not every machine has."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def require() -> Callable[[object, str], None]:
    """Skip the test, for the reason given, unless the part is there; continuous integration must have every part."""

    def require(part: object, reason: str) -> None:
        if not part:
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)

    return require
