"""A scripted powercap; the scripted NVML library is in tests/conftest.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from telemetry.powercap import Powercap


@pytest.fixture
def powercap(tmp_path: Path) -> Powercap:
    """Return a kernel's energy counters with nothing in them yet."""
    counters = Powercap(root=tmp_path / "root")
    counters.folder.mkdir(parents=True)
    return counters
