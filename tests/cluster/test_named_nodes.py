"""Nodes with names of their own on one machine, and a run that is there before they are."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.hosts import HARNESS

_SUITE = """
from harness import Setting, Suite, function, product

def nap(trial, recorder, meet):
    import os
    import pathlib
    import time
    pathlib.Path(meet, str(os.getpid())).touch()
    while len(list(pathlib.Path(meet).iterdir())) < 2:  # workers, one a node
        time.sleep(0.05)
    for epoch in recorder.epochs():
        with epoch.training():
            time.sleep(0.01)
        epoch.report(samples=1, loss=1.0)

suite = Suite(name="naps", base=Setting(workload=function(nap, meet="meet")), grid=product(batch_size=[1, 2, 4, 8]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a path short enough for Ray's sockets."""
    made = Path(tempfile.mkdtemp(prefix="hn", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_a_run_waits_for_the_nodes_it_expects_and_calls_them_by_their_names(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_TOKEN": "of these nodes alone", "TMPDIR": str(folder)}
    (folder / "naps.py").write_text(_SUITE.replace('"meet"', repr(str(folder / "meet"))))
    (folder / "meet").mkdir()
    head = f"127.0.0.2:{port}"
    words = ["run", "naps.py", "--address", head, "--expect-nodes", "2", "--no-calibrate", "--no-resident"]
    how = {"cwd": folder, "env": environment, "text": True, "stdin": subprocess.DEVNULL}
    nodes: list[subprocess.Popen[str]] = []
    run = subprocess.Popen([HARNESS, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how)  # type: ignore[call-overload]
    try:
        for name, ip, place in (("a", 2, ["--head", "--port", str(port)]), ("b", 3, ["--join", head])):
            command = [HARNESS, "node", *place, "--ip", f"127.0.0.{ip}", "--name", name, "--num-cpus", "1"]
            with (folder / f"{name}.log").open("w") as log:
                started = subprocess.Popen(
                    [*command, "--temp-dir", str(folder / name)], stdout=log, stderr=subprocess.STDOUT, **how
                )  # type: ignore[call-overload]
            nodes.append(started)
        said, _ = run.communicate(timeout=240)
    finally:
        for one in (run, *nodes):
            one.terminate()
        for one in nodes:
            one.wait(60)
    assert run.returncode == 0, said + (folder / "a.log").read_text() + (folder / "b.log").read_text()
    assert "4 completed" in said
    assert {line.split(" on ")[1][0] for line in said.splitlines() if "epochs in" in line} == {"a", "b"}
