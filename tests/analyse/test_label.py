"""Human names in tables, and the names that `harness.analyse` has."""

from __future__ import annotations

import subprocess
import sys
from types import FunctionType

import pandas as pd
import pytest
from small_tables import run

import harness.analyse
from harness.analyse.label import label
from harness.analyse.target import time_to_accuracy


def test_rows_are_called_by_the_axes_of_their_setting() -> None:
    rows, measured = run(("s", [0.9]), ("t", [0.5]))
    rows["batch_size"] = [16, 32]
    table = time_to_accuracy(rows, measured, at_least=0.9)
    assert label(table, rows, ["batch_size"])["label"].tolist() == ["batch_size=16", "batch_size=32"]
    assert label(table, rows, {"batch": "batch_size"}).columns[0] == "label"
    assert label(table, rows, {"batch": "batch_size"})["label"].tolist() == ["batch=16", "batch=32"]
    assert label(table, rows, [])["label"].tolist() == ["s", "t"]


def test_arm_and_hardware_are_named_where_there_are_several() -> None:
    rows, _ = run(("s", [0.9]), ("s", [0.5]))
    rows = rows.assign(batch_size=16, arm=["cpus=1", "cpus=2"], hardware="one")
    assert label(rows, rows, ["batch_size"])["label"].tolist() == ["batch_size=16 cpus=1", "batch_size=16 cpus=2"]


def test_an_axis_that_makes_an_arm_tells_the_arms_of_a_setting_apart() -> None:
    rows, measured = run(("s", [0.9]), ("s", [0.5]))
    rows = rows.assign(batch_size=16, cpus=[1, 2], arm=["cpus=1", "cpus=2"])
    measured = measured.assign(arm=["cpus=1", "cpus=2"])
    table = time_to_accuracy(rows, measured, at_least=0.9)
    naming = ["batch_size", "cpus"]
    assert label(table, rows, naming)["label"].tolist() == ["batch_size=16 cpus=1", "batch_size=16 cpus=2"]
    by_setting = time_to_accuracy(rows, measured, at_least=0.9, by=["setting_id"])
    assert label(by_setting, rows, naming)["label"].tolist() == ["batch_size=16"]
    own = table.assign(arm=["backend=a", "backend=b"])  # as of scaling over CPUs
    assert label(own, rows, naming)["label"].tolist() == ["batch_size=16 backend=a", "batch_size=16 backend=b"]


def test_settings_that_no_axis_tells_apart_have_their_identity_in_their_names() -> None:
    rows, _ = run(("s", [0.9]), ("t", [0.5]), ("u", [0.5]))
    assert label(rows, rows.assign(batch_size=[16, 16, 32]), ["batch_size"])["label"].tolist() == [
        "batch_size=16 s", "batch_size=16 t", "batch_size=32",
    ]  # fmt: skip


def test_a_table_that_is_not_by_setting_cannot_be_labelled() -> None:
    rows, _ = run(("s", [0.9]))
    with pytest.raises(ValueError, match="no column 'setting_id'"):
        label(pd.DataFrame({"hardware": ["one"]}), rows, [])


def test_categories_and_arrow_columns_are_labelled_alike() -> None:
    rows, _ = run(("s", [0.9]), ("t", [0.5]))
    rows = rows.assign(rate=[0.1, None]).convert_dtypes(dtype_backend="pyarrow")
    table = pd.DataFrame({"setting_id": pd.Categorical(["t", "s"])})
    assert label(table, rows, ["rate"])["label"].tolist() == ["rate=–", "rate=0.1"]


@pytest.mark.parametrize("name", harness.analyse.__all__)
def test_every_public_name_is_a_function(name: str) -> None:
    assert isinstance(getattr(harness.analyse, name), FunctionType)


def test_a_function_is_not_hidden_by_the_module_of_its_name() -> None:
    code = (
        "import harness.analyse.front; from harness.analyse.front import epoch_front; "
        "from harness.analyse import front; print(type(front).__name__, 'pandas' in __import__('sys').modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert said.stdout.split() == ["function", "True"]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = harness.analyse.nonsense
