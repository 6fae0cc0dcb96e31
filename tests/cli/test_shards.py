"""Runs that were submitted, whole or in shards, as the jobs' own commands go on with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import harness as api
from harness import pipeline
from harness.record import shards
from harness.record.recorder import Recorder
from harness.record.runs import read_run, read_run_file

FUNCTIONS = Path(__file__).with_name("functions.py")
INLINE = ("--inline", "--telemetry", "0", "--no-calibrate")
OK = ("workload.mode=ok", "repeats=5")
SET = [word for text in OK for word in ("--set", text)]


def reserve(results: Path, run: str, *, suite: Path = FUNCTIONS, **more: Any) -> Path:
    """Make a run as its submission does."""
    request = pipeline.Request(suite=suite, results=results, overrides=OK, command=["harness", "run", str(suite)])
    loaded, made = pipeline.make_plan(request)
    info = pipeline.run_info(request, loaded, made) | more
    again = ["harness", "submit", "--again", run]
    return Recorder.reserve(results, suite="functions", info=info, run_id=run, again=again)


def go(harness: Any, run: str, *words: object, suite: Path = FUNCTIONS) -> Any:
    return harness.here("run", suite, *SET, *INLINE, "--run", run, *words)


def test_a_submitted_run_is_begun_by_its_name(harness: Any) -> None:
    top = reserve(harness.folder / "results", "whole")
    listed = harness.here("status")
    assert "submitted" in listed.stdout
    assert "0/5" in listed.stdout
    for command in (("show", "whole"), ("report", "whole"), ("export", "csv", "whole")):
        said = harness.here(*command)
        assert "Traceback" not in said.stderr, command
        assert said.returncode in (0, 2), command
    said = go(harness, "whole", "--resume")
    assert said.returncode == 0, said.stderr
    content = read_run_file(top)
    assert (content["state"], len(content["attempts"])) == ("completed", 1)
    assert content["command"][:2] == ["harness", "run"]


def test_a_new_run_can_be_named_once(harness: Any) -> None:
    said = go(harness, "by name")
    assert said.returncode == 0, said.stderr
    assert (harness.folder / "results" / "functions" / "by name" / "trials.parquet").exists()
    again = go(harness, "by name")
    assert again.returncode == 2
    assert "this run exists already; go on with it by --resume --run 'by name'" in again.stderr


def test_shards_are_run_one_by_one_and_the_last_writes_the_run_s_tables(harness: Any) -> None:
    top = reserve(harness.folder / "results", "sharded", shards=2)
    first = go(harness, "sharded", "--resume", "--shard", "1/2")
    assert first.returncode == 0, first.stderr
    assert "shard 1 of 2 (from 0): 2 trials of 1 setting" in first.stdout
    assert len(api.load(top).trials) == 2
    assert not (top / "trials.parquet").exists()
    shown = harness.here("show", "sharded")
    assert shown.returncode == 0, shown.stderr
    assert "3 left" in shown.stdout
    assert "2/5" in harness.here("status").stdout
    last = go(harness, "sharded", "--resume", "--shard", "0/2")
    assert last.returncode == 0, last.stderr
    assert read_run_file(top)["state"] == "completed"
    trials = api.load(top).trials
    assert trials["seed"].tolist() == [0, 2, 4, 1, 3]
    assert trials["trial_id"].is_unique
    assert harness.here("show", "sharded").returncode == 0


def test_a_shard_that_is_asked_for_once_more_has_nothing_to_do_and_the_run_stays_whole(harness: Any) -> None:
    top = reserve(harness.folder / "results", "twice", shards=1)
    for _ in range(2):
        said = go(harness, "twice", "--resume", "--shard", "0/1")
        assert said.returncode == 0, said.stderr
    assert read_run_file(top)["merged"]
    assert len(api.load(top).trials) == 5


def test_a_run_in_shards_is_not_resumed_without_and_not_with_other_ones(harness: Any) -> None:
    reserve(harness.folder / "results", "refused", shards=2)
    for words, message in [
        ((), "this run is in 2 shards, each with records of its own; go on with it by `harness submit --again refu"),
        (("--shard", "0/3"), "--shard 0/3: this run is in 2 shards; ask for --shard K/2, K from 0 to 1"),
    ]:
        said = go(harness, "refused", "--resume", *words)
        assert said.returncode == 2
        assert message in said.stderr


def test_a_suite_that_was_edited_before_its_job_began_is_refused_by_its_shards(harness: Any) -> None:
    own = harness.folder / "edited.py"
    shutil.copy(FUNCTIONS, own)
    top = reserve(harness.folder / "results", "edited", suite=own, shards=2)
    own.write_text(own.read_text().replace("epochs=3", "epochs=4"))
    said = go(harness, "edited", "--resume", "--shard", "0/2", suite=own)
    assert said.returncode == 2
    assert "the suite has changed since this run was submitted" in said.stderr
    assert [one.state for one in shards.standing(top)] == ["submitted", "submitted"]


@pytest.mark.parametrize("sharded", [False, True])
def test_a_job_that_cannot_begin_its_run_leaves_word_of_why(
    harness: Any, monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
    from harness.domain.errors import SetupError
    from harness.schedule.inline import InlineExecutor

    def refuse(*given: object) -> None:
        raise SetupError("no disk is left")

    monkeypatch.setattr(InlineExecutor, "start", refuse)
    run = f"wrong {sharded}"
    top = reserve(harness.folder / "results", run, **({"shards": 1} if sharded else {}))
    said = go(harness, run, "--resume", *(("--shard", "0/1") if sharded else ()))
    assert said.returncode == 2
    content = read_run(top)
    assert (content["state"], content["wrong"], content["counts"], content["pending"]) == (
        "failed", "no disk is left", {}, 5,
    )  # fmt: skip
    assert "It could not begin: no disk is left" in harness.here("status", run).stdout
