from __future__ import annotations

from pathlib import Path

import pytest
from answer.recorded import record
from report.pages import Page

from harness.answer.report import NAME, report
from harness.domain.errors import ResultsError, SuiteError


def read(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.wrong == []
    return page


def test_a_run_gets_its_report_beside_its_tables_and_a_newer_one_replaces_it(tmp_path: Path) -> None:
    run = record(tmp_path, "one", repeats=3)
    (run / NAME).write_text("an older one")
    path = report([str(run)], results=tmp_path)
    assert path == run / NAME
    page = read(path)
    assert {setting["label"] for setting in page.data["settings"]} == {"batch_size=16", "batch_size=32"}
    assert "val_accuracy ≥ 0.8" in page.text
    assert {"accuracy", "curves", "times", "grid"} <= set(page.data["figures"])
    assert not list(run.glob(".report*"))


def test_one_trial_without_a_target_is_worth_a_report(tmp_path: Path) -> None:
    run = record(tmp_path, "one", batch_sizes=(16,), repeats=1, target=None)
    page = read(report([str(run)], results=tmp_path, output=tmp_path / "page.html"))
    assert len(page.data["settings"]) == 1
    assert "times" not in page.data["figures"]
    assert "Reached" not in page.text


def test_trials_that_failed_are_told_and_so_is_a_run_that_goes_on(tmp_path: Path) -> None:
    run = record(tmp_path, "one", repeats=2, status={32: "failed"})
    content = (run / "run.json").read_text().replace('"state": "completed"', '"state": "running"')
    (run / "run.json").write_text(content)
    page = read(report([str(run)], results=tmp_path))
    assert "had not ended when this page was made" in page.text
    assert "2 of 4 trials did not complete" in page.text
    assert "2 × failed" in page.text
    assert "batch_size=32 seed=1" in page.text


def test_several_runs_make_one_page_in_the_folder_that_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run_id, model in (("one", "a CPU"), ("two", "another CPU")):
        record(tmp_path / "results", run_id, repeats=2, cpu_model=model)
    monkeypatch.chdir(tmp_path)
    path = report(["results"], results=Path("results"))
    assert path.resolve() == tmp_path / NAME
    page = read(path)
    assert len(page.data["settings"]) == 4
    assert "hardware" in page.data["figures"]


def test_what_was_chosen_is_said(tmp_path: Path) -> None:
    run = record(tmp_path, "one", repeats=2)
    page = read(report([str(run)], results=tmp_path, where=["batch_size == 16"], target=0.7))
    assert "Only trials where batch_size == 16: 2 of 4" in page.text
    assert "The target is val_accuracy ≥ 0.7, as asked for" in page.text


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    run = record(tmp_path, "one", repeats=1)
    with pytest.raises(ResultsError, match="is a folder; name a file"):
        report([str(run)], results=tmp_path, output=tmp_path)
    with pytest.raises(ResultsError, match="there is no folder"):
        report([str(run)], results=tmp_path, output=tmp_path / "none" / "page.html")
    with pytest.raises(ResultsError, match="no run"):
        report(["none"], results=tmp_path)
    with pytest.raises(SuiteError):
        report([str(run)], results=tmp_path, target="val_accuracy")
