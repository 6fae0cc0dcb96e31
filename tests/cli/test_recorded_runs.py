"""`show` and `status` of what is on disk: old versions, odd names, and files that are damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from record.finished import INFO, epoch, finished

from harness.domain.outcome import Finished
from harness.record.recorder import Recorder

Say = Callable[..., Any]

GOLDEN = Path(__file__).parents[1] / "golden"
TARGET = {"metric": "val_accuracy", "at_least": 0.9, "at_most": None}
ODD = ('<b onclick="x()">&amp;</b>', 'a,"b";c', "two\nlines", "x" * 200, "it's `rm`", "\x1b[31mred", "[bold]no[/bold]")


def recorded(
    results: Path,
    trials: Sequence[Finished],
    *,
    suite: str = "s",
    run_id: str = "r",
    state: str = "completed",
    **info: Any,
) -> Path:
    """Return the folder of a run; without a state it is left as a killed driver leaves it."""
    with Recorder.create(results, suite=suite, run_id=run_id, info=INFO | info) as recorder:
        recorder.add_node({"node": "here"})
        for one in trials:
            recorder.write(one)
        if state:
            recorder.finish(state)
    return recorder.folder


def refused(say: Say, *words: object) -> str:
    """Return the one line with which a command refuses."""
    answer = say(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("harness: ")
    assert answer.err.count("\n") == 1
    return str(answer.err)


def states(listed: str) -> dict[str, str]:
    """Return the state of each run of suite "s" that `status` lists."""
    rows = [line.split() for line in listed.splitlines()]
    return {row[1]: row[2] for row in rows if row[:1] == ["s"]}


@pytest.mark.parametrize("version", ["results_v1", "results_v2"])
def test_runs_of_older_versions_are_shown_and_listed(tmp_path: Path, say: Say, version: str) -> None:
    folder = tmp_path / "batch_size" / "old"
    shutil.copytree(GOLDEN / version, folder)
    shown = say("show", folder)
    assert (shown.code, shown.err) == (0, "")
    assert "time to val_accuracy ≥ 0.85" in shown.out
    assert "recorded before there were warnings" in shown.out
    assert len(json.loads(say("show", folder, "--json").out)["settings"]) == 2
    assert "completed  2/2" in say("status", "--results", tmp_path).out


def test_a_run_of_a_newer_version_is_refused_and_does_not_hide_the_others(tmp_path: Path, say: Say) -> None:
    recorded(tmp_path, [finished(0)], run_id="good")
    folder = recorded(tmp_path, [finished(0)], run_id="newer")
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(content | {"schema_version": 99}))
    assert f"{folder}/run.json: has schema version 99" in refused(say, "show", folder)
    listed = say("status", "--results", tmp_path)
    assert listed.code == 0
    assert states(listed.out) == {"good": "completed", "newer": "unreadable"}


def test_names_with_markup_quotes_and_line_breaks_keep_one_line_each(tmp_path: Path, say: Say) -> None:
    trials = [
        finished(seed, axes=(("label", name), ("<i>axis</i>", name)), batch_size=16 + place)
        for place, name in enumerate(ODD)
        for seed in range(2)
    ]
    trials.append(finished(2, status="failed", error='<script>\n"no"\x1b[31m', epochs=0, axes=(("label", "f"),)))
    folder = recorded(tmp_path, trials, axes={"label": list(ODD), "<i>axis</i>": list(ODD)}, target=TARGET)
    told = say("show", folder).out
    assert "\x1b" not in told
    assert "two?lines" in told
    assert "<b onclick" in told
    assert "[bold]no[/bold]" in told
    assert 'failed: <script>?"no"?[31m' in told
    assert len([line for line in told.splitlines() if line.endswith("2/2")]) == len(ODD)
    document = json.loads(say("show", folder, "--json").out)
    assert {row["<i>axis</i>"] for row in document["settings"]} == {None, *ODD}


def test_a_run_without_a_finished_trial_says_so(tmp_path: Path, say: Say) -> None:
    folder = recorded(tmp_path, [])
    assert f"{folder}: no trial is recorded in this run yet" in refused(say, "show", folder)
    killed = recorded(tmp_path, [], run_id="killed", state="")
    assert "no trial is recorded in this run yet; its state is 'dead'" in refused(say, "show", killed)
    assert states(say("status", "--results", tmp_path).out) == {"r": "completed", "killed": "dead"}


def test_a_run_in_which_nothing_was_measured_is_shown(tmp_path: Path, say: Say) -> None:
    lost = finished(1, status="lost", error="gone", epochs=0)
    nan = finished(2, epochs=[epoch(1, loss=float("nan"), val_accuracy=None)])
    folder = recorded(tmp_path, [finished(0, status="failed", error="no", epochs=0), lost, nan], target=TARGET)
    shown = say("show", folder)
    assert (shown.code, shown.err) == (0, "")
    assert "1/3" in shown.out
    (row,) = json.loads(say("show", folder, "--json").out)["settings"]
    assert row["best"] is None


def test_show_of_a_killed_run_needs_none_of_its_tables(tmp_path: Path, say: Say) -> None:
    folder = recorded(tmp_path, [finished(0), finished(1)], state="", target=TARGET)
    shutil.rmtree(folder / "parts", ignore_errors=True)
    assert "2/2" in say("show", folder).out


@pytest.mark.parametrize("table", ["trials", "epochs"])
def test_a_table_cut_off_anywhere_is_one_clear_line(tmp_path: Path, say: Say, table: str) -> None:
    folder = recorded(tmp_path, [finished(0), finished(1)])
    path = folder / f"{table}.parquet"
    whole = path.read_bytes()
    for left in (0, 1, 4, 8, len(whole) // 3, len(whole) - 9, len(whole) - 4, len(whole) - 1):
        path.write_bytes(whole[:left])
        message = refused(say, "show", folder)
        assert f"{path}: is cut off or damaged (" in message
        assert "the log can rebuild it" in message
    path.unlink()
    assert f"{path}: is missing; the log can rebuild it" in refused(say, "show", folder)


def test_run_json_cut_off_anywhere_is_one_clear_line(tmp_path: Path, say: Say) -> None:
    recorded(tmp_path, [finished(0)], run_id="good")
    folder = recorded(tmp_path, [finished(0)], run_id="bad")
    path = folder / "run.json"
    whole = path.read_bytes()
    for left in (0, 1, 20, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:left])
        assert f"{path}: is damaged (" in refused(say, "show", folder)
        listed = say("status", "--results", tmp_path)
        assert (listed.code, listed.err) == (0, "")
        assert states(listed.out) == {"bad": "unreadable", "good": "completed"}
        assert "restore it from a copy" in listed.out
    for other in ("[]", '"text"', "null"):
        path.write_text(other)
        assert f"{path}: is not a JSON object" in refused(say, "show", folder)


def test_folders_without_runs_are_named(tmp_path: Path, say: Say) -> None:
    assert "no run is recorded" in refused(say, "show", tmp_path)
    (tmp_path / "file").write_text("text")
    assert f"{tmp_path}/file" in refused(say, "show", "--results", tmp_path / "file")
    assert f"{tmp_path}/file: there is no such folder" in refused(say, "status", "--results", tmp_path / "file")
    assert "no run is recorded here yet" in say("status", "--results", tmp_path).out
