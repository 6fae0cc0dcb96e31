from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pyarrow as pa

from harness.domain.outcome import Energy, EpochRecord, Facts, Outcome, Placement, Stopwatches
from harness.record.page import document
from harness.record.schema import ENERGY_COLUMNS, EPOCHS, JOINED, NODES, TABLES, TELEMETRY, TRIALS
from harness.record.tables import arrow_schema
from harness.telemetry.join import GAP_PERIODS, LEAST_COVERAGE, LEAST_COVERED, LEAST_GAP_S, LEAST_SPAN_S

DOCS = Path(__file__).parents[2] / "docs"

_UNITS = {"s": "s", "bytes": "B", "j": "J", "w": "W", "hz": "Hz", "percent": "%"}  # by the end of a column's name

FIXED = {
    "epochs": "run_id trial_id setting_id arm epoch train_s eval_s elapsed_train_s samples samples_per_s loss "
    "accuracy val_loss val_accuracy",
    "trials": "run_id trial_id setting_id arm seed status error engine backend compile_s build_s data_s train_s "
    "eval_s wall_s unattributed_s position worker neighbours node",
}


def test_the_columns_page_says_what_the_schema_says() -> None:
    assert (DOCS / "results.md").read_text() == document(), "run: python -m harness.record > docs/results.md"


def test_the_columns_page_names_the_limits_that_readings_are_joined_by() -> None:
    page = document()
    assert f"more than {GAP_PERIODS:g} times the usual spacing of readings, and of more than {LEAST_GAP_S:g} s" in page
    assert f"less than {LEAST_SPAN_S:g} s" in page
    assert f"the coverage is below {LEAST_COVERAGE:g}" in page
    assert LEAST_COVERED == 0.5  # "half of the span"


def test_everything_a_worker_reports_has_a_column() -> None:
    renamed = {"gpus": "gpu_uuids", "files": "artifacts", "others": "other_nodes"}
    for kind in (Facts, Stopwatches, Placement, Outcome):
        for field in fields(kind):
            if field.name not in ("epochs", "watches", "facts", "energy", "remark"):
                assert renamed.get(field.name, field.name) in TRIALS.names()
    assert {field.name for field in fields(EpochRecord)} - {"energy"} <= set(EPOCHS.names())
    assert {field.name for field in fields(Energy)} == set(ENERGY_COLUMNS.values())
    for table in (TRIALS, EPOCHS):
        assert set(ENERGY_COLUMNS) <= set(table.names())


def test_what_is_made_of_readings_are_columns_that_no_worker_fills() -> None:
    for name, columns in JOINED.items():
        assert set(columns) <= set(TABLES[name].names())
        assert not set(columns) & set(ENERGY_COLUMNS)


def test_the_fixed_names_are_there() -> None:
    for table, names in FIXED.items():
        assert set(names.split()) <= set(TABLES[table].names())


def test_no_column_is_declared_twice_and_keys_are_columns() -> None:
    for table in TABLES.values():
        assert len(set(table.names())) == len(table.names())
        assert set(table.key) <= set(table.names())


def test_units_stand_in_names_and_in_the_files() -> None:
    for table in (TRIALS, EPOCHS, TELEMETRY, NODES):
        for column in table.columns:
            stem, _, ending = column.name.rpartition("_")
            if stem.endswith("_per") and ending == "s":
                assert column.unit == ("B/s" if "bytes" in stem else "1/s"), column.name
            elif column.unit is not None or ending in _UNITS:
                assert column.unit == _UNITS.get(ending, column.unit), column.name
    schema = arrow_schema("epochs")
    assert schema.metadata[b"harness_schema_version"] == b"4"
    assert schema.field("train_s").metadata[b"unit"] == b"s"
    assert b"timed span" in schema.field("train_s").metadata[b"description"]


def test_an_axis_becomes_a_column_of_its_kind() -> None:
    schema = arrow_schema("trials", {"optimizer.learning_rate": "float64", "model": "json", "model.depth": "int64"})
    assert schema.field("optimizer.learning_rate").type == pa.float64()
    assert schema.field("model").type == pa.string()
    assert schema.field("model.depth").type == pa.int64()
