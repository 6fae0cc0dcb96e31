"""The warnings that trials carry, as `show` and the end of `run` tell them, and trials left out because of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scripted import IdleBody

from harness import pipeline
from harness.domain.outcome import Energy, EpochRecord, Facts, Outcome, Stopwatches
from harness.domain.trial import Trial
from harness.record.tables import arrow_schema
from harness.schedule.inline import InlineExecutor
from harness.schedule.loop import Policy
from harness.terminal import show
from harness.terminal.doubts import unread
from harness.terminal.live import make_display

Say = Callable[..., Any]

SUITE = """
from harness import Setting, Suite, function, product


def learn(trial, recorder, rate=0.1):
    raise AssertionError("the tests have their own body")


suite = Suite(
    name="learn",
    base=Setting(workload=function(learn, kind="workload", rate=0.1), epochs=4),
    grid=product(**{"workload.rate": [0.1, 0.5]}),
    repeats=3,
    target=0.5,
)
"""
QUIET: dict[str, Any] = {"wall_s": 20.0, "clock_step_s": 0.0, "clock_drift": 0.0, "compilations": 0, "used": None}


class Worker(IdleBody):
    """Trials of 4 epochs of 2 s; those named, as "rate seed", have the figures that are given for them."""

    def __init__(self, odd: Mapping[str, Mapping[str, Any]]) -> None:
        self.odd = odd

    def run(self, trial: Trial, on_epoch: Any, on_progress: Any, **state: Any) -> Outcome:
        rate = trial.setting.workload.args["rate"]
        of = QUIET | self.odd.get("all", {}) | self.odd.get(f"{rate} {trial.seed}", {})
        epochs = tuple(
            EpochRecord(
                epoch=number, train_s=2.0, eval_s=0.01, elapsed_train_s=2.0 * number, samples=100, steps=1, chunks=1,
                loss=1.0, accuracy=0.5, val_loss=1.0, val_accuracy=1 - (1 - rate) ** number, user_cpu_s=0.1,
                system_cpu_s=0.0, started_at=1e9 + 2 * number, ended_at=1e9 + 2 * number + 2,
                compilations=of["compilations"], energy=of["used"],
            )
            for number in range(1, 5)
        )  # fmt: skip
        facts = Facts(cores=(0,), clock_step_s=of["clock_step_s"], clock_drift=of["clock_drift"], energy=of["used"])
        return Outcome(
            status="completed", epochs=epochs, facts=facts, watches=Stopwatches(wall_s=of["wall_s"]), started_at=1e9,
            ended_at=1e9 + 20,
        )  # fmt: skip


Record = Callable[..., Path]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Record:
    monkeypatch.chdir(tmp_path)

    def record(odd: Mapping[str, Mapping[str, Any]]) -> Path:
        """Run the suite with trials that are odd, and return its folder."""
        Path("suite.py").write_text(SUITE)
        report = pipeline.run(
            pipeline.Request(
                suite=Path("suite.py"), command=("harness", "run", "suite.py"), policy=Policy(calibrate=False)
            ),
            make_executor=lambda trials, seed: InlineExecutor(Worker(odd), telemetry_hz=0),
            display=make_display(quiet_stdout=True),
        )
        capsys.readouterr()
        return report.folder

    return record


def lines(said: Any) -> list[str]:
    assert said.code == 0, said.err
    return [" ".join(line.split()) for line in said.out.splitlines()]


ODD = {"0.1 0": {"compilations": 2}, "0.1 2": {"clock_step_s": 5.0}, "0.5 1": {"compilations": 1, "clock_drift": 0.01}}


def test_each_warning_has_its_meaning_and_the_trials_that_carry_it(record: Record, say: Say) -> None:
    record(ODD)
    told = lines(say("show"))
    heading, slow, fast = told[1:4]
    assert heading.endswith("trials doubts")
    assert slow.endswith("3/3 1 clock_drift, 1 recompiled")
    assert fast.endswith("3/3 1 clock_drift, 1 recompiled")
    assert told.count(
        "2 × recompiled: a program was compiled within the timed span (workload.rate=0.1 seed=0; "
        "workload.rate=0.5 seed=1)"
    )


def test_many_trials_with_the_same_warning_are_counted_and_three_are_named(record: Record, say: Say) -> None:
    record({"all": {"compilations": 1}})
    (line,) = [one for one in lines(say("show")) if one.startswith("6 × recompiled: ")]
    assert line.endswith("; and 3 more)")
    assert line.count("seed=") == 3


def test_what_could_not_be_judged_is_one_line_with_the_reason(record: Record, say: Say) -> None:
    record({})
    (line,) = [one for one in lines(say("show")) if one.startswith("not judged")]
    assert line == "not judged: contended, stolen, swapped of 6 trials: sampler: switched off (0 Hz)"


def test_what_a_worker_itself_could_not_tell_is_not_put_down_to_the_readings(record: Record, say: Say) -> None:
    record({"0.1 0": {"clock_step_s": None, "clock_drift": None}})
    told = [one for one in lines(say("show")) if one.startswith("not judged")]
    assert told == [
        "not judged: contended, stolen, swapped of 6 trials: sampler: switched off (0 Hz)",
        "not judged: clock_drift of 1 trial: the worker could not compare the clocks",
    ]


def test_nothing_is_said_where_all_is_well(record: Record, say: Say) -> None:
    folder = record({})
    path = folder / "trials.parquet"
    table = pq.read_table(path)
    judged = pa.array([[]] * len(table), table.schema.field("unjudged").type)
    pq.write_table(table.set_column(table.schema.get_field_index("unjudged"), "unjudged", judged), path)
    told = "\n".join(lines(say("show")))
    assert "doubts" not in told
    assert "judged" not in told
    assert "left out" not in told


def test_trials_can_be_left_out_for_their_warnings_and_it_is_said_which(record: Record, say: Say) -> None:
    record(ODD)
    told = lines(say("show", "--discard", "recompiled"))
    assert any(line.endswith("2/2 1 clock_drift") for line in told)
    assert any(line.endswith("2/2") for line in told)
    (line,) = [one for one in told if one.startswith("left out")]
    assert line == ("left out: 2 of 6 trials for recompiled (workload.rate=0.1 seed=0; workload.rate=0.5 seed=1)")
    assert not any("× recompiled" in one for one in told)


def test_a_setting_whose_trials_are_all_left_out_is_counted(record: Record, say: Say) -> None:
    record({f"0.5 {seed}": {"compilations": 1} for seed in range(3)})
    told = lines(say("show", "--discard", "recompiled"))
    (line,) = [one for one in told if one.startswith("left out")]
    assert line.startswith("left out: 3 of 6 trials for recompiled (")
    assert line.endswith("; 1 setting without a trial left")
    assert told[2].startswith("0.1 ")
    assert told[2].endswith(" 3/3")
    assert told[3].split() == ["0.5", "–", "–", "–", "–", "–", "0/3"]
    rows = json.loads(say("show", "--discard", "recompiled", "--json").out)["settings"]
    assert [(row["workload.rate"], row["completed"], row["trials"]) for row in rows] == [(0.1, 3, 3), (0.5, 0, 3)]


def test_that_a_warning_could_not_be_judged_is_said_with_what_is_left_out(record: Record, say: Say) -> None:
    record(ODD)
    (line,) = [one for one in lines(say("show", "--discard", "contended")) if one.startswith("left out")]
    assert (
        line == "left out: none of 6 trials: no one carries contended; kept although it could not be judged: 6 trials"
    )


def test_an_unknown_warning_is_answered_with_those_there_are(record: Record, say: Say) -> None:
    record({})
    told = say("show", "--discard", "contended,slow")
    assert told.code == 2
    assert told.err.startswith("harness: there is no warning 'slow'; the warnings are clock_drift, contended, ")
    assert "Traceback" not in told.err


@pytest.mark.parametrize("names", ["", "contended,,noisy"])
def test_an_empty_warning_is_refused_as_an_unknown_one_is(record: Record, say: Say, names: str) -> None:
    record({})
    told = say("show", "--discard", names)
    assert told.code == 2
    assert "there is no warning ''" in told.err


def test_reasons_are_counted_for_the_trials_that_have_them(tmp_path: Path) -> None:
    at = pd.to_datetime([1e9, 2e9, 3e9], unit="s", utc=True)
    trials = pd.DataFrame({
        "trial_id": ["a", "b", "c"], "arm": "default", "node": "n", "cores": [[0]] * 3, "gpu_uuids": [[]] * 3,
        "started_at": at, "ended_at": at + pd.Timedelta(seconds=0.2),
        "unjudged": [["stolen"], ["swapped"], ["swapped"]],
    })  # fmt: skip
    keys = [("cpu0", "steal_percent", 1e9), ("cpu0", "cpu_percent", 2e9), ("host", "swap_in_bytes", 4e9)]
    rows: list[dict[str, Any]] = [
        {"run_id": "r", "node": "n", "time": int(s * 1e6), "device": device, "metric": metric, "value": 0.0}
        for device, metric, s in keys
    ]
    schema = arrow_schema("telemetry")
    columns = {name: [row[name] for row in rows] for name in schema.names}
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in schema]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), tmp_path / "telemetry.parquet")
    (tmp_path / "run.json").write_text(json.dumps({"schema_version": 3, "run_id": "r", "state": "completed"}))
    absent = {"sampler": "switched off (0 Hz)", "swap_out_bytes": "the kernel does not count pswpout"}
    found = unread(tmp_path, {"sampling": {"n": {"absent": absent, "gaps": []}}}, trials)
    assert "less than half of the second around them" in found["a", "default"]["stolen"]
    assert found["b", "default"] == {"swapped": "swap_out_bytes: the kernel does not count pswpout"}
    assert found["c", "default"] == {"swapped": "sampler: switched off (0 Hz)"}


def test_leaving_out_every_trial_is_refused_with_the_way_out(record: Record, say: Say) -> None:
    record({"all": {"compilations": 1}})
    told = say("show", "--discard", "recompiled")
    assert told.code == 2
    assert "all 6 trials carry a warning that is to be discarded (recompiled)" in told.err
    assert "fewer warnings" in told.err


def test_json_has_the_warnings_of_each_setting_and_trial_and_what_was_left_out(record: Record, say: Say) -> None:
    record(ODD)
    document = json.loads(say("show", "--json").out)
    assert [one["warnings"] for one in document["settings"]] == [{"clock_drift": 1, "recompiled": 1}] * 2
    carried = {one["seed"]: one["warnings"] for one in document["trials"] if one["warnings"]}
    assert carried == {0: ["recompiled"], 1: ["clock_drift", "recompiled"], 2: ["clock_drift"]}
    assert all(one["unjudged"] == ["contended", "stolen", "swapped"] for one in document["trials"])
    assert document["discarded"] is None
    left = json.loads(say("show", "--json", "--discard", "recompiled").out)
    assert len(left["trials"]) == 4
    assert left["discarded"]["warnings"] == ["recompiled"]
    assert (len(left["discarded"]["trials"]), left["discarded"]["of"]) == (2, 6)


def test_the_document_without_trials_has_the_same_parts(record: Record) -> None:
    folder = record({})
    assert show.summary(folder).document().keys() == show.NOTHING.keys()


def test_a_run_of_an_older_version_says_that_nothing_was_judged(say: Say) -> None:
    golden = Path(__file__).parents[1] / "golden" / "results_v1"
    (line,) = [one for one in lines(say("show", golden)) if one.startswith("not judged")]
    assert line.startswith("not judged: any warning of ")
    assert line.endswith("recorded before there were warnings")


def test_what_was_never_judged_is_not_said_to_carry_nothing(say: Say) -> None:
    golden = Path(__file__).parents[1] / "golden" / "results_v1"
    (line,) = [one for one in lines(say("show", golden, "--discard", "contended")) if one.startswith("left out")]
    assert "kept although it could not be judged: " in line


def test_energy_is_shown_where_it_was_measured(record: Record, say: Say) -> None:
    folder = record({"all": {"used": Energy(gpu_j=300.0, gpu_coverage=1.0)}})
    told = lines(say("show"))
    assert "s/epoch GPU J/sample GPU J to target trials" in told[1]
    # 3 J a sample; at rate 0.5 the target of 0.5 is met at the end of epoch 1, at 0.1 never.
    rows = json.loads(say("show", "--json", folder).out)["settings"]
    assert [row["median_gpu_j_per_sample"] for row in rows] == [3.0, 3.0]
    assert [row["median_gpu_j_to_target"] for row in rows] == ["Infinity", 300.0]
    assert [row["median_cpu_j_per_sample"] for row in rows] == [None, None]


def test_energy_that_is_doubtful_is_not_shown(record: Record, say: Say) -> None:
    record({"all": {"used": Energy(gpu_j=300.0, gpu_coverage=0.5)}})
    assert "J/sample" not in "\n".join(lines(say("show")))
