"""Own functions and what lies beside their file: what travels, what it is known by, and where it can run."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.domain import beside, sources
from harness.domain.errors import SuiteError
from harness.domain.handy import function
from harness.domain.suite import load_suite

HEAD = "from harness import Setting, Suite\n"
SUITE = """
from harness import Setting, Suite, function
from {module} import helped
def own(x): return helped(x)
suite = Suite(name="s", base=Setting(workload=function(own)))
"""

# Another process, on a machine that has none of the files.
RUN = """
import pickle, sys
texts, name, sha256 = pickle.load(open(sys.argv[1], "rb"))
from harness.domain import sources
print(sources.resolve(name, sha256, texts)(1))
"""


def write(folder: Path, files: dict[str, str] | None = None, **more: str) -> Path:
    """Write modules, by their paths without ".py", and return the first of `more`, or of `files`."""
    paths = []
    for name, text in {**more, **(files or {})}.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path)
    return paths[0]


def named(suite: Path) -> dict[str, str]:
    """Load a suite and return what its function is known by."""
    args = load_suite(suite).suite.base.workload.args
    return {"function": args["function"], "sha256": args["sha256"]}


def elsewhere(known: dict[str, str], folder: Path, tmp_path: Path) -> str:
    """Call the function in another process, its files gone; return what that prints."""
    shutil.rmtree(folder)
    given = tmp_path / "given"
    given.write_bytes(pickle.dumps((sources.collected(), known["function"], known["sha256"])))
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(given)], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize(
    "files",
    [
        {"helpers": "from further import N\ndef helped(x): return x + N\n", "further": "N = 41\n"},
        {
            "helpers": "def helped(x):\n    import further as f\n    return x + f.N\n",
            "further": "N = 41\n",
        },  # when called
        {"helpers": "import a.b\ndef helped(x): return x + a.b.N\n", "a/b": "N = 41\n"},  # no __init__.py
        {
            "helpers": "from a import *\nfrom a import b\n",
            "a/__init__": "from .c import N\ndef helped(x): return x + N\n",
            "a/b": "from a import c\nfrom . import c as d\nassert c is d\n",
            "a/c": "from __future__ import annotations\nimport json\nN = json.loads('41')\n",
        },
        {
            "helpers": "import other\ndef helped(x): return x + other.N\n",
            "other": "import helpers\nN = 41\n",
        },  # in a ring
    ],
)
def test_modules_beside_the_suite_travel_with_its_functions(files: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "suites"
    known = named(write(folder, files, suite=SUITE.format(module="helpers")))
    assert elsewhere(known, folder, tmp_path) == "42"


def test_a_function_in_a_package_beside_the_suite_runs_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "suites"
    text = f"{HEAD}from nets.deep import own\nsuite = Suite(name='s', base=Setting(workload=own))\n"
    files = {
        "nets/__init__": "",
        "nets/deep": "from .parts import N\ndef own(x): return x + N\n",
        "nets/parts": "N = 41\n",
    }
    assert elsewhere(named(write(folder, files, suite=text)), folder, tmp_path) == "42"


def test_a_function_is_known_by_its_file_and_the_modules_that_this_imports(tmp_path: Path) -> None:
    text = SUITE.format(module="helpers")
    first = named(write(tmp_path / "1", suite=text, helpers="def helped(x): return x\n"))
    again = named(write(tmp_path / "2", suite=text, helpers="def helped(x): return x\n", unused="1\n"))
    other = named(write(tmp_path / "3", suite=text, helpers="def helped(x): return x + 1\n"))
    assert first == again
    assert first["sha256"] != other["sha256"]


def test_a_function_that_needs_nothing_beside_it_is_known_by_its_file_alone(tmp_path: Path) -> None:
    import hashlib

    text = SUITE.format(module="helpers").replace("from helpers import helped\n", "import json, numpy\n")
    known = named(write(tmp_path, suite=text, helpers="1\n"))
    assert known["sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_two_suites_may_have_different_modules_of_one_name_in_one_process(tmp_path: Path) -> None:
    def calls(number: int) -> Callable[..., Any]:
        text = SUITE.format(module="helpers")
        late = f"def helped(x):\n    from further import N\n    return N + {number}\n"
        known = named(write(tmp_path / str(number), suite=text, helpers=late, further=f"N = {number * 10}\n"))
        return sources.resolve(known["function"], known["sha256"], sources.collected())

    first, second = calls(1), calls(2)
    assert (first(0), second(0), first(0)) == (11, 22, 11)
    assert "helpers" not in sys.modules


def test_a_module_beside_the_suite_is_in_nobody_elses_way(tmp_path: Path) -> None:
    files = {"colorsys": "raise SystemExit\n", "yaml": "def helped(x): return 'mine'\n"}
    known = named(write(tmp_path, files, suite=SUITE.format(module="yaml") + "import colorsys\n"))
    assert sources.resolve(known["function"], known["sha256"], sources.collected())(1) == "mine"
    import yaml

    assert Path(yaml.__file__).parent.parent != tmp_path


def test_a_file_named_like_a_package_that_it_imports_means_the_package(tmp_path: Path) -> None:
    load_suite(
        write(
            tmp_path,
            numpy=f"{HEAD}import numpy as np\nnp.ones(1)\nsuite = Suite(name='s', base=Setting())\n",
        )
    )


def test_what_is_missing_is_called_by_the_name_that_the_text_says(tmp_path: Path) -> None:
    suite = write(
        tmp_path,
        suite=SUITE.format(module="helpers"),
        helpers="import nets.deep\nimport nets.missing\n",
        **{"nets/deep": ""},
    )
    with pytest.raises(SuiteError, match=r"No module named 'nets\.missing'$"):
        load_suite(suite)
    write(tmp_path, helpers="")
    with pytest.raises(SuiteError, match=r"cannot import name 'helped' from 'helpers' \("):
        load_suite(suite)


def test_an_error_shows_the_lines_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    known = named(
        write(
            tmp_path / "s", suite=SUITE.format(module="helpers"), helpers="def helped(x):\n    return 1 / 0  # here\n"
        )
    )
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(ZeroDivisionError) as caught:
        sources.resolve(known["function"], known["sha256"], sources.collected())(1)
    assert "# here" in "".join(traceback.format_exception(caught.value))


def test_modules_that_are_too_large_to_travel_are_refused(tmp_path: Path) -> None:
    text = f"'''{'x' * beside.MOST_BYTES}'''\ndef helped(x): return x\n"
    with pytest.raises(SuiteError, match=r"4\.0 MiB of files from its folder, and at most 4 MiB travel"):
        load_suite(write(tmp_path, suite=SUITE.format(module="helpers"), helpers=text))


def test_functions_of_installed_packages_bring_nothing_along() -> None:
    import yaml

    known = function(yaml.safe_load).args
    assert sources.collected()[known["sha256"]].beside == ()
