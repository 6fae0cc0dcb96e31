"""A real Slurm for the tests that need one, and its commands as scripts for those that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm.daemons import Slurm, why_not
from slurm.fake import FakeSlurm


@pytest.fixture(scope="module")
def cluster(require: Callable[[object, str], None]) -> Iterator[Slurm]:
    """A Slurm of four nodes that the tests of a file share; up within 2 s, and gone before other files look for what
    they have left running."""
    reason = why_not()
    require(not reason, reason)
    with Slurm() as slurm:
        yield slurm


@pytest.fixture
def slurm(cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """The Slurm that the tests share, for this process's own commands too; what a test leaves in its queue is ended."""
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    yield cluster
    left = cluster.says("squeue", "-h", "-t", "PENDING,RUNNING,SUSPENDED", "-o", "%A").split()
    if left:
        cluster.says("scancel", *left)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Slurm's commands, as scripts."""
    return FakeSlurm.on_path(tmp_path / "bin", monkeypatch)
