"""The section of a report on the nodes of a run, and what else is told of them: made-up runs over several nodes."""

from __future__ import annotations

from pathlib import Path

from answer.recorded import record
from report.pages import Page

from harness.answer.report import report


def test_a_run_over_nodes_has_them_side_by_side_and_names_the_slow_one(tmp_path: Path) -> None:
    run = record(
        tmp_path, "one", repeats=3, nodes={"n1": 1.0, "n2": 1.0, "n3": 1.2},
        at_the_end={"lost_nodes": [{"node": "n2", "why": "Ray has lost it"}, {"node": "n4", "why": "it has failed"}]},
    )  # fmt: skip
    page = Page(report([str(run)], results=tmp_path).read_text(encoding="utf-8"))
    assert page.wrong == []
    assert "nodes" in page.data["figures"]
    assert "n3 is 2" in page.text  # so many percent
    assert "slower than the fleet's median" in page.text
    assert "without a result: n4" in page.text
    assert "n2 was lost in the course of the run: Ray has lost it" in page.text


def test_a_run_on_one_node_has_none_beside_it(tmp_path: Path) -> None:
    run = record(tmp_path, "one", repeats=1)
    page = Page(report([str(run)], results=tmp_path).read_text(encoding="utf-8"))
    assert "nodes" not in page.data["figures"]
    assert "Nodes side by side" not in page.text
