from __future__ import annotations

import pytest

from harness.record.page import document
from harness.record.schema import SCHEMA_VERSION, TABLES, Table


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_column_stands_on_the_page_with_its_unit_what_null_means_and_since_when(table: Table) -> None:
    part = document().split(f"\n## {table.name}.parquet\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines() if line.startswith("|")
    ]
    head, _, *told = rows
    assert head == ["column", "type", "unit", "what it is", "null means", "since"]
    assert [row[0] for row in told] == [f"`{column.name}`" for column in table.columns]
    for row, column in zip(told, table.columns, strict=True):
        assert row[1:3] == [column.type, column.unit or ""], column.name
        assert row[4:] == [column.null or "never null", str(column.since)], column.name
        assert 1 <= column.since <= SCHEMA_VERSION
