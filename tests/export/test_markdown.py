from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from export.recorded import EXAMPLE, HOSTILE, diverged, record
from markdown_it import MarkdownIt
from record.finished import finished

from harness.answer.export import export
from harness.domain.errors import ResultsError
from harness.export.markdown import escape


def written(*runs: Path, **words: Any) -> str:
    return export([str(run) for run in runs], to="markdown", output=None, **words)


def cells(text: str) -> list[list[str]]:
    """Return the cells of the table as a page shows them."""
    page = MarkdownIt("commonmark").enable("table").render(text)
    rows = re.findall(r"<tr>(.*?)</tr>", page, flags=re.DOTALL)
    plain = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, flags=re.DOTALL) for row in rows]
    return [[unescape(re.sub(r"</?code>", "", cell)) for cell in row] for row in plain]


def test_the_quickest_setting_stands_first_with_its_interval() -> None:
    head, first, *rest = cells(written(EXAMPLE))
    assert head[:4] == ["setting", "time to val_accuracy ≥ 0.9", "reached", "best val_accuracy"]
    assert first[0] == "batch_size=16"
    assert re.fullmatch(r"0\.\d+ s \(0\.\d+ s to 0\.\d+ s\)", first[1])
    assert [first[2], first[-1]] == ["3/3", "3/3"]
    assert [row[0] for row in rest] == ["batch_size=32", "batch_size=64", "batch_size=128"]


def test_it_says_where_the_figures_are_from_and_what_is_doubtful() -> None:
    text = written(EXAMPLE)
    assert text.startswith("### batch_size\n\nrun 2026")
    assert "× 1 core" in text
    assert re.search(r"- \d+ trials? with the warning \w+", text)
    assert "left out for noisy" in written(EXAMPLE, discard=["noisy"])


def test_another_target_changes_the_time_and_a_miss_is_never() -> None:
    table = cells(written(EXAMPLE, target="val_accuracy >= 0.999"))
    assert {row[1] for row in table[1:]} == {"never"}
    assert {row[2] for row in table[1:]} == {"0/3"}


def test_without_a_target_the_best_stands_first(tmp_path: Path) -> None:
    table = cells(written(record(tmp_path, finished(0), finished(1), axes={"batch_size": [32]})))
    assert table[0] == ["setting", "best val_accuracy", "an epoch", "samples/s", "trials"]
    assert table[1] == ["batch_size=32", "0.9000", "0.125 s", "32,000", "2/2"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_it_is(tmp_path: Path, text: str) -> None:
    run = record(tmp_path, finished(0, axes=(("note", text),)), finished(1, axes=(("note", "x"),)), axes={"note": []})
    table = cells(written(run))
    assert {len(row) for row in table} == {5}
    assert " ".join(f"note={text}".split()) in {row[0] for row in table[1:]}
    shown = MarkdownIt("commonmark").enable("table").render(f"- {escape(text)}\n")
    assert unescape(shown).strip() in (f"<ul>\n<li>{' '.join(text.split())}</li>\n</ul>", "<ul>\n<li></li>\n</ul>")


def test_what_was_not_measured_is_a_dash(tmp_path: Path) -> None:
    run = record(tmp_path, finished(0, epochs=0, status="failed", error="no"), axes={"batch_size": [32]})
    assert cells(written(run))[1] == ["batch_size=32", "–", "–", "–", "0/1"]


def test_a_diverged_run_has_a_table_too(tmp_path: Path) -> None:
    assert cells(written(diverged(tmp_path)))[1][:3] == ["batch_size=32", "never", "0/1"]


def test_it_is_written_to_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    told = export([str(EXAMPLE)], to="markdown", output=tmp_path / "table.md")
    assert told == f"{tmp_path}/table.md: 4 settings"
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == written(EXAMPLE) + "\n"
    with pytest.raises(ResultsError, match="exists already"):
        export([str(EXAMPLE)], to="markdown", output=tmp_path / "table.md")
