"""Recorded rows → tables: pure functions of data frames with the columns of docs/results.md."""
