"""The command as a user starts it: in a process of its own, in a folder of its own, watched for what it leaves."""

from __future__ import annotations

import io
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.record.runs import RunStatus, list_runs

ROOT = Path(__file__).parents[2]
FUNCTIONS = Path(__file__).with_name("functions.py")

_MARK = "HARNESS_TESTED_AS"


@dataclass(frozen=True, kw_only=True)
class Command:
    """Starts `harness` in `folder`; its temporary files go to `temporary`, and all its processes carry a mark."""

    folder: Path
    temporary: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def __call__(self, *words: object, timeout_s: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, *words: object, **environment: str) -> subprocess.Popen[str]:
        """Start the command as a terminal would: in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *map(str, words)],
            cwd=self.folder,
            env={**os.environ, "TMPDIR": str(self.temporary), _MARK: self.mark, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def here(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a command that starts no process of its own within this one, which has imported all that it needs."""
        from harness import cli

        out, err, argv = io.StringIO(), io.StringIO(), ["harness", *map(str, words)]
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", argv)
            patch.setattr(os, "_exit", sys.exit)  # by which a run ends
            patch.setenv("KERAS_BACKEND", "none")  # so that what --inline sets is not left behind
            with pytest.raises(SystemExit) as ended:
                cli.main()
        code: Any = ended.value.code
        return subprocess.CompletedProcess(argv, int(code or 0), out.getvalue(), err.getvalue())

    def again(self, printed: str) -> subprocess.CompletedProcess[str]:
        """Run the command that a run's end, or `harness status`, tells the user to go on with."""
        return self(*told(printed))

    def again_here(self, printed: str, *words: object) -> subprocess.CompletedProcess[str]:
        """Do so, with these words more, within this process."""
        return self.here(*told(printed), *words)

    def run_of(self, suite: str) -> RunStatus:
        """Return the latest run of a suite."""
        return list_runs(self.folder / "results" / suite)[-1]

    def wait(self, driver: subprocess.Popen[str], until: Callable[[], bool], *, timeout_s: float = 120) -> None:
        """Return once something has come about while the driver runs."""
        deadline = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > deadline or driver.poll() is not None:
                driver.kill()
                pytest.fail("the driver did not come that far: " + "\n".join(driver.communicate()))
            time.sleep(0.05)

    def left(self, *, patience_s: float = 60) -> list[str]:
        """Return the processes and temporary files that are still there after a while."""
        deadline = time.monotonic() + patience_s
        while (found := self._processes() + [str(path) for path in self.temporary.iterdir()]) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.1)
        return found

    def _processes(self) -> list[str]:
        marked = f"{_MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and marked in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(f"{entry.name} {(entry / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()}")
            except OSError:
                continue
        return found

    def end_all(self) -> None:
        """End whatever of this command still runs: only after a test that failed is there anything."""
        for told in self._processes():
            os.kill(int(told.split()[0]), signal.SIGKILL)


def told(printed: str) -> list[str]:
    """Return the words of the command that is told."""
    return shlex.split(printed.split("-m harness ")[-1].splitlines()[0])


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The command, in an empty folder that the tests of a module share."""
    temporary = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # short, for the sockets in it
    command = Command(folder=tmp_path_factory.mktemp("user"), temporary=temporary)
    yield command
    command.end_all()
    shutil.rmtree(temporary, ignore_errors=True)
