"""`harness plot`: which figures it writes, where to, and what it refuses."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from answer.recorded import record

from harness.answer.gather import gather
from harness.answer.plot import FIGURES, _coloured, draw
from harness.answer.tables import tables
from harness.cli.plot import plot


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    record(folder, "r", repeats=3, slower={16: 3.0})
    return folder


def test_one_figure_goes_to_the_file_that_is_named(say: Callable[..., Any], results: Path, tmp_path: Path) -> None:
    path = tmp_path / "front.SVG"
    said = say("plot", results, "--figure", "front", "--output", path, "--dark", "--width", 300, "--height", 200)
    assert (said.code, said.out, said.err) == (0, f"{path}\n", "")
    assert ET.parse(path).getroot().tag.endswith("svg")
    assert [one.name for one in tmp_path.iterdir()] == ["front.SVG"]


def test_all_figures_that_make_sense_go_to_a_folder(say: Callable[..., Any], results: Path, tmp_path: Path) -> None:
    said = say("plot", results, "--output", tmp_path / "new" / "folder", "--format", "svg")
    names = [
        "time-accuracy",
        "front",
        "learning-curves",
        "time-to-accuracy",
        "heat-map",
        "hardware",
        "effects",
        "levels",
    ]
    assert said.code == 0
    assert said.out.split() == [str(tmp_path / "new" / "folder" / f"{name}.svg") for name in names]


def test_without_an_output_figures_go_to_the_runs_folder(say: Callable[..., Any], results: Path) -> None:
    said = say("plot", "--results", results, "--figure", "levels", "--scale", 1)
    folder = results / "suite" / "r" / "figures"
    assert said.out == f"{folder / 'levels.png'}\n"
    assert (folder / "levels.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--figure", "frnt"],
            "--figure 'frnt': there is no such figure; did you mean 'front'? the figures are time-a",
        ),
        (["--figure", "scaling"], "--figure scaling: nothing ran on several numbers of CPUs, GPUs or nodes"),
        (["--figure", "energy,front"], "--figure energy: no valid energy was measured"),
        (["--output", "x.jpg"], "--output x.jpg: figures are written as .png, .svg, .pdf, not as .jpg"),
        (["--format", "gif"], "--format 'gif': there is no such format; the formats are png, svg, pdf"),
        (["--figure", "front", "--output", "x.png", "--format", "svg"], "contradict each other"),
        (["--output", "x.svg"], "--output x.svg: one file does not hold all figures"),
        (["--figure", "front,levels", "--output", "x.svg"], "one file does not hold 2 figures"),
        (["--figure", "front", "--output", "nowhere/x.svg"], "there is no folder nowhere"),
        (["--output", "/proc/nowhere"], "/proc/nowhere: cannot be made"),
        (["--figure", "front", "--output", "/proc/x.svg"], "/proc/x.svg: cannot be written"),
        (["--scale", "0"], "--scale 0: must be a number from 0.25 to 4"),
        (["--where", "batch_size > 99"], "--where 'batch_size > 99' selects none of 6 trials"),
        (["--target", "x"], "--target 'x': expected a val_accuracy such as 0.9"),
    ],
)
def test_a_wrong_request_is_one_message(
    say: Callable[..., Any],
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = say("plot", results, *words)
    assert said.code == 2
    assert message in said.err
    assert said.err.startswith("harness: ")
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_target_can_be_given_one(say: Callable[..., Any], tmp_path: Path) -> None:
    record(tmp_path, "r", repeats=2, target=None)
    refused = say("plot", tmp_path, "--figure", "time-to-accuracy", "--output", tmp_path)
    assert "have no target; give one: --target 0.9" in refused.err
    words = ("--figure", "time-to-accuracy", "--output", tmp_path, "--format", "svg", "--target", "0.8")
    assert say("plot", tmp_path, *words).code == 0


def test_the_help_names_all_figures() -> None:
    assert all(name in plot.__annotations__["figure"] for name in FIGURES)


def test_a_setting_has_one_colour_in_all_figures(tmp_path: Path) -> None:
    # The second is on no front, so that the figure of it draws the groups in another order.
    record(tmp_path, "r", batch_sizes=(16, 32, 64), repeats=2, slower={16: 1.0, 32: 3.0, 64: 2.0})
    found = _coloured(tables(gather([str(tmp_path / "suite" / "r")], results=tmp_path)))
    along = json.dumps({"range": found.settings.sort_values("shade")["colour"].tolist()})
    drawn = draw(found, ("time-accuracy", "front", "learning-curves", "time-to-accuracy"))
    assert [name for name, figure in drawn.items() if along not in json.dumps(figure.to_dict())] == []
