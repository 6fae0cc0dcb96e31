from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurm.daemons import Slurm
from slurm.submitted import Submitted

from harness.domain.errors import SetupError
from harness.slurm.quoting import in_shell, output_path, quoted

ODD = (
    "a b", " a ", "it's", 'say "hi"', '"', "'", "''", "\\", "end\\", "\\\\", '\\"', "a\\nb", "$(touch evil)",
    "`touch evil`", "$HOME", "a # b", "#a", "%j %% %", "-x", "--x=y", "a;b|c&d", "~", "*", "grün – 日本 🙂", "a\u2028b",
    "packjob", "hetjob", ": x",
)  # fmt: skip
WRITABLE = st.characters(exclude_categories=("Cc", "Cs"))


@pytest.mark.parametrize(
    ("value", "line"), [("gpu", '"gpu"'), ("", '""'), ('a "b"', r'"a \"b\""'), ("a\\", r'"a\\"'), ("$(x)", '"$(x)"')]
)
def test_a_value_stands_in_double_quotes(value: str, line: str) -> None:
    assert quoted(value) == line


@given(st.text(alphabet=WRITABLE))
def test_a_quoted_value_reads_back_as_itself(value: str) -> None:
    # shlex knows, within double quotes, the two escapes that sbatch does; the test below asks sbatch itself.
    assert shlex.split(quoted(value)) == [value]


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\t", "\x1b", "\x7f", "\x85", "\udcff"])
def test_what_no_line_can_hold_is_refused(character: str) -> None:
    with pytest.raises(SetupError, match=r"cannot be written in a job's script; choose another") as refused:
        quoted(f"a{character}b")
    assert str(refused.value).isprintable()


def test_words_reach_the_shell_one_by_one() -> None:
    told = subprocess.run(["bash", "-c", f"printf '%s\\0' {in_shell(ODD)}"], capture_output=True, check=True)
    assert told.stdout.decode().split("\0")[:-1] == list(ODD)


def test_a_log_of_each_task_in_a_folder_with_a_backslash_is_refused() -> None:
    with pytest.raises(SetupError, match=r"holds a backslash, .* choose a results folder without"):
        output_path("/r/a\\b", "job-%a.log")


def test_slurm_reads_every_value_back(slurm: Slurm) -> None:
    jobs = {_submitted(slurm, f"#SBATCH --hold --comment={quoted(value)}"): value for value in ODD}
    told = slurm.run("squeue", "-h", "-o", "%i=%k").stdout.split("\n")
    slurm.run("scancel", *jobs)
    assert [value for job, value in jobs.items() if f"{job}={value}" not in told] == []


def test_slurm_writes_the_log_where_it_was_meant_to_be(slurm: Slurm, tmp_path: Path) -> None:
    meant = []
    for folder in ("it's $(touch x) `y` # grün %j %% %", "back\\slash \\\\ 100% %j", 'say "hi"'):
        (tmp_path / folder).mkdir()
        log = output_path(str(tmp_path / folder), "job.log")
        _submitted(slurm, f"#SBATCH --output={quoted(log)}")
        meant.append(tmp_path / folder / "job.log")
    tasks = output_path(str(tmp_path), "%%job-%a.log")
    _submitted(slurm, f"#SBATCH --array=1-2 --output={quoted(tasks)}")
    meant += [tmp_path / "%job-1.log", tmp_path / "%job-2.log"]
    Submitted(slurm, tmp_path, "").waits(lambda: all(log.exists() for log in meant))
    assert sorted(tmp_path.rglob("*.log")) == sorted(meant)


def _submitted(slurm: Slurm, line: str, *words: str) -> str:
    """Submit a script with this line, and return the job's id."""
    done = slurm.run("sbatch", "--parsable", "--chdir=/tmp", *words, input=f"#!/bin/sh\n{line}\ntrue\n", timeout_s=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
