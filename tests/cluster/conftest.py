"""One cluster of three hosts, shared by the tests of a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster.hosts import Hosts, why_not
from cluster.made import Made


@pytest.fixture(scope="module")
def cluster(require: Callable[[object, str], None]) -> Iterator[Made]:
    """Return three hosts with a Ray node each, which notice the loss of another within some 3 s."""
    reason = why_not()
    require(not reason, reason)
    folder = Path(tempfile.mkdtemp(prefix="hc", dir="/tmp"))  # Ray's sockets need a short path
    try:
        with Hosts(3) as hosts:
            made = Made(hosts, folder)
            made.start()
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)
