"""A scripted NVML library, compiled once a session, for the tests that need GPUs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def scripted_nvml(tmp_path_factory: pytest.TempPathFactory, require: Callable[[object, str], None]) -> Path:
    """Return the folder of a library that speaks NVML; with it as LD_LIBRARY_PATH, a new process sees scripted GPUs."""
    compiler = shutil.which("gcc")
    require(compiler, "gcc is not installed: the scripted NVML library cannot be built")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    warnings = ["-Wall", "-Wextra", "-Werror"]
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([str(compiler), *warnings, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return folder
