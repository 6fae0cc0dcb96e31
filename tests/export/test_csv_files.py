from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from export.recorded import EXAMPLE, HOSTILE, diverged, hostile

import harness
from harness.answer.export import export
from harness.domain.errors import ResultsError, SuiteError


def by_python(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def same(found: Any, recorded: Any) -> bool:
    """Tell whether pandas read what was recorded; it takes an empty text for null, as for any CSV file."""
    if isinstance(recorded, list):
        return bool(json.loads(found) == recorded)
    if (
        recorded is pd.NA
        or recorded is None
        or recorded == ""
        or (isinstance(recorded, float) and math.isnan(recorded))
    ):
        return bool(pd.isna(found))
    return bool(found == recorded)


def test_all_tables_read_back_equal_with_pandas(tmp_path: Path) -> None:
    told = export([str(EXAMPLE)], to="csv", output=tmp_path / "out")
    assert "trials.csv (12 rows), epochs.csv (240 rows)" in told
    results = harness.load(EXAMPLE)
    for table in ("trials", "epochs", "nodes", "telemetry"):
        recorded = getattr(results, table)
        times = [name for name in recorded if str(recorded[name].dtype).startswith("timestamp")]
        texts = {name: str for name in recorded if "string" in str(recorded[name].dtype)}  # such as a worker "0"
        read = pd.read_csv(tmp_path / "out" / f"{table}.csv", parse_dates=times, dtype=texts)
        assert len(read) == len(recorded)
        for name in recorded:
            cells = zip(read[name], recorded[name], strict=True)
            assert all(same(found, value) for found, value in cells), (table, name)


def test_trials_also_say_of_which_suite_they_are_and_what_ran_them(tmp_path: Path) -> None:
    export([str(EXAMPLE)], to="csv", table="trials", output=tmp_path / "trials.csv")
    read = pd.read_csv(tmp_path / "trials.csv")
    assert set(read["suite"]) == {"batch_size"}
    assert read["hardware"].str.contains("1 core").all()


def test_hostile_text_reads_back_equal(tmp_path: Path) -> None:
    export([str(hostile(tmp_path / "results"))], to="csv", table="trials", output=tmp_path / "trials.csv")
    assert [row["error"] for row in by_python(tmp_path / "trials.csv")] == list(HOSTILE)
    read = pd.read_csv(tmp_path / "trials.csv", keep_default_na=False)
    assert read["error"].tolist() == read["note"].tolist() == list(HOSTILE)


def test_a_spreadsheet_is_given_no_text_that_begins_as_a_formula(tmp_path: Path) -> None:
    run = str(hostile(tmp_path / "results"))
    export([run], to="csv", table="trials", output=tmp_path / "trials.csv", spreadsheet=True)
    read = pd.read_csv(tmp_path / "trials.csv", keep_default_na=False)
    assert (tmp_path / "trials.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    expected = [f"'{text}" if text[:1] in ("=", "+", "@", "-") else text for text in HOSTILE]
    assert read["error"].tolist() == expected
    assert not any(str(cell).startswith(("=", "+", "@", "\t", "\r")) for column in read for cell in read[column])


def test_null_is_empty_and_what_is_not_a_number_says_so(tmp_path: Path) -> None:
    export([str(diverged(tmp_path / "results"))], to="csv", output=tmp_path / "out")
    first, second = by_python(tmp_path / "out" / "epochs.csv")
    assert (first["loss"], second["loss"]) == ("nan", "")
    assert (first["f1"], first["val_f1"], second["f1"], second["val_f1"]) == ("0.5", "0.25", "inf", "")
    assert (first["gpu_counter_j"], first["warmup"]) == ("", "true")
    done, lost = by_python(tmp_path / "out" / "trials.csv")
    assert done["cores"] == "[0, 1]"
    assert done["started_at"].startswith("2023-11-14 22:13:20")
    assert (lost["started_at"], lost["label"]) == ("", "")


def test_numbers_keep_all_their_digits(tmp_path: Path) -> None:
    export([str(EXAMPLE)], to="csv", table="epochs", output=tmp_path / "epochs.csv")
    recorded = harness.load(EXAMPLE).epochs["train_s"].to_numpy(dtype=float)
    assert np.array_equal([float(row["train_s"]) for row in by_python(tmp_path / "epochs.csv")], recorded)


def test_only_the_trials_asked_for_are_written_with_their_epochs(tmp_path: Path) -> None:
    export([str(EXAMPLE)], to="csv", output=tmp_path / "out", where=["batch_size == 16 and seed == 0"])
    counts = {path.stem: len(by_python(path)) for path in (tmp_path / "out").iterdir()}
    assert (counts["trials"], counts["epochs"], counts["nodes"]) == (1, 20, 1)
    assert counts["telemetry"] == len(harness.load(EXAMPLE).telemetry)


def test_runs_with_different_targets_are_written_together(tmp_path: Path) -> None:
    runs = [str(EXAMPLE), str(diverged(tmp_path / "results"))]
    export(runs, to="csv", table="trials", output=tmp_path / "trials.csv")
    assert len(by_python(tmp_path / "trials.csv")) == 14


def test_nothing_is_overwritten_and_nothing_half_written_is_left(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "mine.txt").write_text("mine")
    with pytest.raises(ResultsError, match="there: is a folder with something in it; choose another place, or remove"):
        export([str(EXAMPLE)], to="csv", output=there)
    with pytest.raises(ResultsError, match=r"mine.txt: is a file, and a folder is to be written"):
        export([str(EXAMPLE)], to="csv", output=there / "mine.txt")
    with pytest.raises(ResultsError, match=r"mine.txt: exists already; choose another place, or remove it first"):
        export([str(EXAMPLE)], to="csv", table="trials", output=there / "mine.txt")
    with pytest.raises(ResultsError, match=r"mine.txt/x.csv: cannot be written \(.*\); choose another"):
        export([str(EXAMPLE)], to="csv", table="trials", output=there / "mine.txt" / "x.csv")
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "mine.txt"]
    assert (there / "mine.txt").read_text() == "mine"


def test_an_empty_folder_is_filled_and_a_missing_one_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "new" / "folder"):
        export([str(EXAMPLE)], to="csv", output=place)
        assert sorted(path.name for path in place.iterdir()) == [
            "epochs.csv",
            "nodes.csv",
            "telemetry.csv",
            "trials.csv",
        ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"to": "xml"}, "--to 'xml': what can be written are csv, tensorboard, pytest-benchmark, markdown"),
        ({"to": "csv"}, "--to csv writes files: say where with --output PATH"),
        ({"to": "csv", "table": "trial"}, "--table 'trial': the tables are trials, epochs, telemetry, nodes"),
        ({"to": "csv", "target": "0.9"}, "judged by no target"),
        ({"to": "markdown", "table": "trials"}, "--table and --spreadsheet go with --to csv"),
        ({"to": "tensorboard", "spreadsheet": True}, "--table and --spreadsheet go with --to csv"),
    ],
)
def test_words_that_do_not_go_together_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        export([str(EXAMPLE)], output=None, **words)
