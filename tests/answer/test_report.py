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


def test_an_axis_of_texts_of_any_kind_gives_a_report_that_names_each_setting_in_one_line(tmp_path: Path) -> None:
    names = ['line1\nline2\ttab, "x"', 'line1 line2 tab, "x"', "x" * 200, "x" * 199 + "y", ""]
    run = record(tmp_path, "odd", names=names, repeats=2)
    page = read(report([str(run)], results=tmp_path))
    labels = [setting["label"] for setting in page.data["settings"]]
    assert len(set(labels)) == 5
    assert all(label.isprintable() and len(label) < 80 for label in labels)
    assert "name=" + "x" * 200 in [attributes.get("title") for tag, attributes in page.tags if tag == "a"]
    assert "could not be drawn" not in page.text


def test_a_figure_that_cannot_be_drawn_says_so_and_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = record(tmp_path, "one", repeats=2)

    def wrong(*_: object, **__: object) -> None:
        raise KeyError("a mistake")

    monkeypatch.setattr("harness.report.figures.time_accuracy", wrong)
    page = read(report([str(run)], results=tmp_path))
    assert "could not be drawn, which is a mistake of harness: KeyError: 'a mistake'" in page.text
    assert {"curves", "times", "grid"} <= set(page.data["figures"])


def test_runs_that_are_not_alike_are_told(tmp_path: Path) -> None:
    for run_id, slower in (("one", 1.0), ("two", 3.6)):
        record(tmp_path / "results", run_id, repeats=4, slower=slower)
    results = tmp_path / "results"
    page = read(report([str(results)], results=results, output=tmp_path / NAME))
    assert page.text.count("These runs are not alike: against one, two takes 3.6") == 2
    assert "2, with 8 repeats each, from 2 runs" in page.text


def test_one_setting_is_counted_as_one(tmp_path: Path) -> None:
    run = record(tmp_path, "one", batch_sizes=(16,), repeats=1)
    assert "1, with 1 repeat" in read(report([str(run)], results=tmp_path)).texts
