"""What the pages on suites show can be planned."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest

import harness
from harness.domain.handy import mlp, sgd
from harness.domain.setting import Setting
from harness.domain.suite import Suite, load_suite
from harness.plan import parse_override, plan

REPOSITORY = Path(__file__).parents[2]
BASE = Setting(dataset="mnist5k", model=mlp(128), optimizer=sgd(0.1))
PAGE = "\n".join(
    (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("suites", "workloads", "data", "published")
)


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_every_python_example_of_the_page_works(block: str, tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    (tmp_path / "flowers.csv").write_text("id,width,species\n1,0.2,iris\n2,0.4,rose\n")
    for named in re.findall(r"\{suite_dir\}/([\w.]+)", block):
        (tmp_path / named).touch()
    rest = "" if "suite = " in block else "\nsuite = Suite(name='s', base=Setting(dataset='mnist5k', model=mlp(8)))\n"
    file.write_text(f"from harness import *\n{block}{rest}")
    assert plan(load_suite(file)).trials


@pytest.mark.parametrize("line", re.findall(r"^harness plan .*$", PAGE, re.MULTILINE))
def test_every_command_of_the_page_works(line: str) -> None:
    _, _, file, *options = shlex.split(line)
    small = "--small" in options
    pairs = [(key, value) for key, value in itertools.pairwise(options) if key.startswith("--")]
    overrides = [parse_override(value) for key, value in pairs if key == "--set"]
    where = [value for key, value in pairs if key == "--where"]
    assert len(overrides) + len(where) + small == sum(option.startswith("--") for option in options)
    assert plan(load_suite(REPOSITORY / file), overrides=overrides, where=where, small=small).trials


def test_the_sizes_that_the_page_gives_are_right() -> None:
    lines = re.findall(r"^((?:product|zipped|cases).*?)  # .*?(\d+) points", PAGE, re.MULTILINE)
    assert len(lines) == 4
    names = {name: getattr(harness, name) for name in harness.__all__}
    for code, count in lines:
        assert plan(Suite(name="s", base=BASE, grid=eval(code, names))).settings == int(count), code
