from __future__ import annotations

import re
from pathlib import Path

import harness
from harness.record.runs import list_runs

EXAMPLE = Path(__file__).parents[1] / "results" / "example"


def test_the_example_is_one_whole_run() -> None:
    (run,) = list_runs(EXAMPLE)
    assert (run.suite, run.state, run.counts) == ("batch_size", "completed", {"completed": 12})
    results = harness.load(EXAMPLE)
    assert len(results.epochs) == 240
    assert len(results.telemetry) > 0


def test_the_example_is_small_and_names_no_folder_of_the_machine_it_ran_on() -> None:
    files = [path for path in EXAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    texts = [path.read_text() for path in files if path.suffix in (".json", ".log")]
    nodes = harness.load(EXAMPLE).nodes.to_dict("records")
    for text in [*texts, str(nodes)]:
        assert not re.search(r"/(work|home|root|tmp|usr|opt)/", text)
    assert harness.load(EXAMPLE).runs[0]["command"] == ["harness", "run", "suites/batch_size.py"]
