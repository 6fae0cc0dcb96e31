"""Outcomes ↔ files: the log, the Parquet tables and their version, who may write, and reading them back.

`recorder` writes a run; `reading` loads any number of them; `runs` lists them without opening a table;
`schema` declares every column once. Only `tables` (and what builds on it) imports PyArrow.
"""
