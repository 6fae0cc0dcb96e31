from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "results" / "example"


def test_a_table_for_a_pull_request_is_printed(say: Callable[..., object]) -> None:
    said = say("export", EXAMPLE, "--to", "markdown", "--where", "batch_size < 64", "--target", 0.92)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("### batch_size\n")
    assert said.out.count("`batch_size=") == 2
    assert "time to val_accuracy ≥ 0.92" in said.out


def test_an_export_says_what_it_wrote(say: Callable[..., object], tmp_path: Path) -> None:
    said = say("export", "--results", EXAMPLE, "--to", "csv", "--table", "trials", "--output", tmp_path / "x.csv")
    assert (said.code, said.err, said.out) == (0, "", f"{tmp_path}/x.csv: 12 rows\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "harness: say what to write with --to FORMAT: csv, tensorboard, pytest-benchmark, markdown"),
        (["--to", "csv"], "harness: --to csv writes files: say where with --output PATH"),
        (["--to", "csv", "--output", "/proc/x"], "harness: /proc/x: cannot be written"),
        (["--to", "markdown", "--where", "batch_size > 1000"], "selects none of 12 trials"),
        (["--to", "markdown", "--discard", "loud"], "harness: there is no warning 'loud'; the warnings are"),
        (["--to", "markdown", "--target", "soon"], "harness: --target 'soon': expected a val_accuracy such as 0.9, or"),
    ],
)
def test_a_wrong_request_is_one_message(say: Callable[..., object], words: list[str], message: str) -> None:
    said = say("export", EXAMPLE, *words)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert said.err.count("\n") == 1
