"""What is imported, and what is not: the heavy packages cost seconds, and a worker is to hold nothing but its work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.domain import sources
from harness.domain.setting import Setting
from harness.domain.suite import load_suite
from harness.domain.trial import Trial
from harness.schedule.launch import Launch
from harness.schedule.node import Node

BATCH_SIZE = Path(__file__).parents[2] / "suites" / "batch_size.py"

HEAVY = (
    "tensorflow",
    "keras",
    "ray",
    "pandas",
    "numpy",
    "pyarrow",
    "scipy",
    "sklearn",
    "psutil",
    "pydantic",
    "rich",
    "typer",
)

WATCHED = """
import sys
sys.argv = ["harness", *{words!r}]
from harness import cli
try:
    cli.main()
except SystemExit as ended:
    assert not ended.code, ended.code
finally:
    print("IMPORTED", *[name for name in {heavy!r} if name in sys.modules])
"""


def imported_by(*words: str) -> set[str]:
    """Return the heavy packages that a command imports, but for Typer, which reads the command."""
    code = WATCHED.format(words=words, heavy=HEAVY)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(said.stdout.rpartition("IMPORTED")[2].split()) - {"typer"}


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_imports_no_heavy_package(words: list[str]) -> None:
    assert imported_by(*words) == set()


def test_help_on_a_command_imports_what_typer_checks_options_with_at_most() -> None:
    assert imported_by("run", "--help") <= {"pydantic"}


def test_a_plan_imports_no_back_end_no_ray_and_nothing_that_reads_or_writes_tables() -> None:
    assert imported_by("plan", str(BATCH_SIZE)) <= {"pydantic", "rich", "numpy"}


def test_the_status_of_runs_needs_no_tables_either(tmp_path: Path) -> None:
    assert not imported_by("status", "--results", str(tmp_path)) & {"tensorflow", "keras", "ray", "pandas", "scipy"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import harness, sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


def test_no_name_for_suites_is_that_of_a_package_inside() -> None:
    """Once imported, a package inside would stand in the place of such a name."""
    inside = {path.stem for path in Path(harness.__file__).parent.iterdir()}
    assert not inside & set(harness.__all__)


# A worker. A function of the user's tells what its process holds, in the error that comes back; for a worker that
# trains, see `test_failing_trials.py`. ---------------------------------------------------------------------------

TELLS = """
import sys

from harness import Setting, Suite, function


def tells(trial):
    raise RuntimeError(" ".join(name for name in {heavy!r} if name in sys.modules) or "nothing")


suite = Suite(name="tells", base=Setting(workload=function(tells, kind="workload")))
"""


def test_a_worker_for_functions_holds_no_back_end(tmp_path: Path) -> None:
    (tmp_path / "suite.py").write_text(TELLS.format(heavy=HEAVY))
    setting: Setting = load_suite(tmp_path / "suite.py").suite.base
    node = Node(sources=sources.collected(), telemetry_hz=0)
    try:
        node.launch([Launch(name="0", body="harness.measure:Body", backend="none")])
        node.ready("0")
        told = node.run("0", Trial(setting=setting, seed=0, repeat=0)).outcome.error or ""
    finally:
        node.stop()
    assert told.startswith("RuntimeError: ")
    assert not {"tensorflow", "keras", "ray", "pandas", "pyarrow", "sklearn", "scipy"} & set(told.split())
