"""The script of a job: as it is read, and what no text in it can do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.domain.errors import SetupError
from harness.slurm.job import Job
from harness.slurm.profile import Profile

GOLDEN = Path(__file__).parents[1] / "golden/slurm"
SITE = {
    "partition": "gpu", "account": "lab-7", "constraint": "a100&nvlink", "nodes": 4, "time": "2:00:00",
    "gpus_per_node": "a100:4", "modules": ["gcc/12", "cuda/12.4"], "setup": ["ulimit -n 65536"],
    "environment": {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "GREETING": "it's $HOME"},
    "container": ["apptainer", "exec", "--nv", "image.sif"], "warn": "5m", "sbatch": ["--mail-type=END"],
}  # fmt: skip


def job(**changed: Any) -> Job:
    values = {
        "version": "0.1.0",
        "profile": Profile(),
        "name": "batch_size",
        "suite": "batch_size",
        "suite_file": "suites/batch_size.py",
        "run_id": "20261122-101500-7f3a",
        "folder": Path("/home/ada/results/batch_size/20261122-101500-7f3a"),
        "cwd": Path("/home/ada"),
        "command": ["/opt/harness/bin/harness"],
        "run_words": ["--results", "results", "--run", "20261122-101500-7f3a", "--resume"],
    }
    return Job(**(values | changed))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("plain", job()),
        ("site", job(profile=Profile(**SITE), command=["apptainer", "exec", "--nv", "image.sif", "harness"])),
        ("array", job(shards=100, array="0-99%20", profile=Profile(requeue=False, cpus_per_node=2))),
    ],
)
def test_the_script_is_the_one_that_was_read_and_found_good(name: str, made: Job) -> None:
    """To accept a change: write `made.render()` into the file, and read it."""
    assert made.render() == (GOLDEN / f"{name}.sh").read_text()


def test_bash_and_shellcheck_have_nothing_against_it(require: Callable[[object, str], None]) -> None:
    require(shutil.which("shellcheck"), "shellcheck is not installed")
    for path in GOLDEN.glob("*.sh"):
        subprocess.run(["bash", "-n", str(path)], check=True)
        words = ["shellcheck", "--shell=bash", "--severity=warning", "--exclude=SC1091", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("odd", ["a b", "it's", '"', "$(touch evil)", "`touch evil`", "a;touch evil", "*", "é %j"])
def test_a_text_that_is_odd_stays_one_word(odd: str, tmp_path: Path) -> None:
    made = job(folder=tmp_path / odd, suite_file=odd, run_words=["--where", odd], name=odd, command=["harness", odd])
    lines = made.render().splitlines()
    wanted = ("run=", "harness=(", "suite=", "options=(")
    script = "\n".join(line for line in lines if line.startswith(wanted))
    script += '\nprintf "%s\\0" "$run" "${harness[@]}" "$suite" "${options[@]}"'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == [str(tmp_path / odd), "harness", odd, odd, "--where", odd]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["name", "suite_file", "folder", "cwd", "run_words"])
def test_a_newline_is_refused_where_it_could_end_a_line_of_the_script(where: str) -> None:
    odd = "a\n#SBATCH --nodes=100"
    value: Any = {"folder": Path(odd), "cwd": Path(odd), "run_words": [odd]}.get(where, odd)
    with pytest.raises(SetupError, match="newlines and control characters"):
        job(**{where: value})
