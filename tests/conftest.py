"""What all tests share: parts of the machine that not every machine has, and scripted GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A busy machine takes long for an example, now and then.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is cached for all tests out of the user's own folder, and the user's resident workers out of the tests;
    processes that tests start have it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        yield


@pytest.fixture(scope="session")
def require() -> Callable[[object, str], None]:
    """Skip the test, for the reason given, unless the part is there; continuous integration must have every part."""

    def require(part: object, reason: str) -> None:
        if not part:
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)

    return require


@pytest.fixture(scope="session")
def scripted_nvml(tmp_path_factory: pytest.TempPathFactory, require: Callable[[object, str], None]) -> Path:
    """Return the folder of a library that speaks NVML; with it as LD_LIBRARY_PATH, a new process sees scripted GPUs."""
    compiler = shutil.which("gcc")
    require(compiler, "gcc is not installed: the scripted NVML library cannot be built")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("telemetry") / "fake_nvml.c"
    warnings = ["-Wall", "-Wextra", "-Werror"]
    library = folder / "libnvidia-ml.so.1"
    shared = ["-shared", "-fPIC", "-o", str(library), str(source), "-lm"]
    subprocess.run([str(compiler), *warnings, *shared], check=True)
    return folder


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command that runs nothing said, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line in this very process, for what ends before anything is started."""
    from harness import cli

    def say(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        code: Any = ended.value.code
        return Said(code=int(code or 0), out=told.out, err=told.err)

    return say
