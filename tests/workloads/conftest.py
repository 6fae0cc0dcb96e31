"""What the back ends measure of themselves, each in a process of its own beside other tests of this folder.

Most of it is compiling, on one core each; `test_backends.py`, which judges it, comes last of all tests.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).parent / "backend_worker.py"
BACKENDS = ("jax", "tensorflow", "torch")
BESIDE = ("test_torch_engine.py", "test_training_engine.py", "test_training_options.py")  # which look for no processes
OF_TENSORFLOW = ("flops", "compilations", "first_steps", "resumed")
Measured = dict[str, Any]


def asked(name: str, folder: Path) -> Measured:
    """Have a process measure a back end."""
    checks = OF_TENSORFLOW if name == "tensorflow" else ()
    log = folder / f"{name}.log"
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"), "1")
    kept = {"JAX_COMPILATION_CACHE_DIR": str(folder / name), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    ran = subprocess.run(
        [sys.executable, str(WORKER), *checks],
        env={
            **os.environ,
            **one_thread,
            **kept,
            "KERAS_BACKEND": name,
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "0",
            "TF_CPP_VMODULE": "device_compilation_profiler=1",
        },
        stdout=subprocess.PIPE,
        stderr=log.open("wb"),  # a file, as a worker has it
        text=True,
        timeout=900,  # it shares the cores
    )
    assert ran.returncode == 0, log.read_text(errors="replace")[-3000:]
    return dict(json.loads(ran.stdout.splitlines()[-1]))


@pytest.fixture(scope="session")
def measure(
    tmp_path_factory: pytest.TempPathFactory, require: Callable[[object, str], None]
) -> Iterator[Callable[[str], Measured]]:
    """Return what a back end measures; each is asked once, as many at a time as there are cores."""
    there = [name for name in BACKENDS if importlib.util.find_spec(name)]
    folder = tmp_path_factory.mktemp("backends")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        going = {name: pool.submit(asked, name, folder) for name in there}

        def measure(name: str) -> Measured:
            require(name in going, f"the back end {name} is not installed")
            return going[name].result()

        yield measure


def judges(item: pytest.Item) -> bool:
    return item.path.name == "test_backends.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=judges)


@pytest.fixture(scope="module", autouse=True)
def _begun(request: pytest.FixtureRequest) -> None:
    """Have the back ends begin with the first of these files, if any test is to judge them."""
    if request.path.name in BESIDE and any(map(judges, request.session.items)):
        request.getfixturevalue("measure")
