"""docs/analysis.md: its code runs as it stands, and it names all that there is."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from record.finished import INFO, finished

from harness import analyse, cli
from harness.record.recorder import Recorder
from harness.report import figures

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "analysis.md").read_text(encoding="utf-8")


def blocks() -> list[tuple[str, str]]:
    """Return the language and the code of each block, in their order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a repository with the example, a suite with other axes, and runs of older versions."""
    shutil.copytree(ROOT / "results" / "example", tmp_path / "results" / "example")
    for older in (1, 2):
        shutil.copytree(ROOT / "tests" / "golden" / f"results_v{older}", tmp_path / "results" / "older" / str(older))
    axes = (("optimizer.learning_rate", 0.1), ("note", "a text"))
    with Recorder.create(tmp_path / "results", suite="rates", run_id="20261101-120000-abcd", info=INFO) as recorder:
        recorder.add_node({"node": "here"})
        recorder.write(finished(0, axes=axes))
        recorder.finish("completed")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code, words


def test_every_block_of_code_runs_as_it_stands(
    root: Path, monkeypatch: pytest.MonkeyPatch, require: Callable[[object, str], None]
) -> None:
    for package in ("polars", "duckdb", "tensorboard"):
        require(find_spec(package), f"{package} is not installed")
    known: dict[str, object] = {"__name__": "page"}
    for language, code in blocks():
        if language == "python":
            exec(compile(code, "docs/analysis.md", "exec"), known)
        else:
            assert language == "sh"
            for line in code.splitlines():
                run(shlex.split(line), monkeypatch)
    written = {path.name for path in root.iterdir()}
    assert {"time_accuracy.png", "figures", "report.html", "tables", "epochs.csv", "board", "example.json"} <= written


def test_every_function_and_every_figure_is_named() -> None:
    rows = re.findall(r"^\| (.+?) \|", PAGE, flags=re.MULTILINE)
    told = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert set(analyse.__all__) <= told
    helpers = {"Figure", "theme", "spec", "render"}
    assert set(figures.__all__) - helpers <= told
    assert told <= set(analyse.__all__) | set(figures.__all__)


def test_the_exports_that_are_explained_are_those_that_there_are() -> None:
    from harness.answer.export import FORMATS

    assert set(re.findall(r"--to ([\w-]+)", PAGE)) == set(FORMATS)
