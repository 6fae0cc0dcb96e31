"""Published values beside measured ones, from a suite's file to what `harness show` prints."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from scripted import IdleBody

from harness import pipeline
from harness.domain.outcome import EpochRecord, Outcome, Stopwatches
from harness.domain.trial import Trial
from harness.schedule.inline import InlineExecutor
from harness.schedule.loop import Policy
from harness.terminal import show
from harness.terminal.live import make_display

Say = Callable[..., Any]

SUITE = '''"""Do the published values come out?"""
from harness import Setting, Suite, alike, direction, function, product, reference

def learn(trial, recorder, rate=0.1):
    for epoch in recorder.epochs():
        with epoch.training():
            good = 1 - (1 - rate) ** epoch.number
        epoch.report(samples=100, loss=1 - good, val_loss=1 - good, val_accuracy=good)

def at(rate, value, **more):
    given = {"metric": "val_accuracy", "epoch": 2, "tolerance": 0.01, "source": "A page somewhere, table 3"}
    return reference("A1", where=f"workload.rate == {rate}", value=value, **given | more)

suite = Suite(
    name="learn",
    base=Setting(workload=function(learn, rate=0.1), epochs=3),
    grid=product({"workload.rate": [0.1, 0.2, 0.5]}),
    repeats=3,
    small={"epochs": 2, "repeats": 1},
    references=[
        REFERENCES
    ],
)
'''
ALL = """at(0.1, 0.195), at(0.2, 0.39), at(0.5, 0.75, tolerance=None),
        reference("A2", metric="train_s", epoch="all", at_most=0.2, hardware="Celeron N2840"),
        direction("A3", metric="val_accuracy", epoch=1, higher="workload.rate > 0.2", lower="workload.rate <= 0.2"),"""
REPRODUCED = "at(0.1, 0.19), at(0.5, 0.75)"


@dataclass
class Learning(IdleBody):
    """A body that measures nothing: its trials learn as fast as their rate says, or fail."""

    fails: str = ""

    def run(self, trial: Trial, on_epoch: Any, on_progress: Any, **state: Any) -> Outcome:
        rate = trial.setting.workload.args["rate"]
        if f"{rate} {trial.seed}" == self.fails:
            return Outcome(status="failed", error="it diverged", watches=Stopwatches(wall_s=1.0))
        good = [1 - (1 - rate) ** epoch for epoch in range(1, trial.setting.epochs + 1)]
        epochs = tuple(
            EpochRecord(
                epoch=number, train_s=0.125, eval_s=0.01, elapsed_train_s=0.125 * number, samples=100, steps=1,
                chunks=1, loss=1 - value, accuracy=value, val_loss=1 - value, val_accuracy=value, user_cpu_s=0.1,
                system_cpu_s=0.0, started_at=1e9, ended_at=1e9 + 1,
            )
            for number, value in enumerate(good, 1)
        )  # fmt: skip
        return Outcome(status="completed", epochs=epochs, watches=Stopwatches(wall_s=1.0))


Record = Callable[..., Path]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Record:
    monkeypatch.chdir(tmp_path)

    def record(references: str = ALL, *, fails: str = "", **request: Any) -> Path:
        """Run a suite with these references, and return its folder."""
        Path("suite.py").write_text(SUITE.replace("REFERENCES", references))
        report = pipeline.run(
            pipeline.Request(
                suite=Path("suite.py"),
                command=("harness", "run", "suite.py"),
                policy=Policy(calibrate=False),
                **request,
            ),
            make_executor=lambda trials, seed: InlineExecutor(Learning(fails), telemetry_hz=0),
            display=make_display(quiet_stdout=True),
        )
        capsys.readouterr()
        return report.folder

    return record


def test_published_stands_beside_measured_with_a_verdict(record: Record, say: Say) -> None:
    record()
    told = say("show")
    assert told.code == 0
    lines = [" ".join(line.split()) for line in told.out.splitlines()]
    assert "A1 workload.rate=0.1 val_accuracy, epoch 2 0.195 ± 0.01 0.1900 ± 0.0000 3 reproduced" in lines
    assert "A1 workload.rate=0.2 val_accuracy, epoch 2 0.39 ± 0.01 0.3600 ± 0.0000 3 missed by 0.0200" in lines
    assert "A1 workload.rate=0.5 val_accuracy, epoch 2 0.75 0.7500 ± 0.0000 3 – for comparison" in lines
    assert "A2 workload.rate=0.1 train_s, median epoch ≤ 0.2 s 0.125 ± 0.000 s 3 – for Celeron N2840" in lines
    direction = "A3 workload.rate > 0.2 > workload.rate <= 0.2 val_accuracy, epoch 1 higher > lower 0.5000 > 0.1500"
    assert f"{direction} 3 reproduced" in lines
    assert lines.count("A1: A page somewhere, table 3") == 1
    assert lines[-1] == "References: 2 reproduced, 1 missed, 4 without verdict"


def test_a_miss_is_exit_code_1_only_if_that_is_asked_for(record: Record, say: Say) -> None:
    record()
    assert say("show").code == 0
    assert say("show", "--check").code == 1
    record(REPRODUCED)
    told = say("show", "--check")
    assert told.code == 0
    assert told.out.splitlines()[-1] == "References: 2 reproduced, 0 missed"


def test_a_reference_whose_trials_failed_fails_the_check(record: Record, say: Say) -> None:
    record(REPRODUCED, fails="0.5 1")
    told = say("show", "--check")
    assert told.code == 1
    assert "not measured (1 of 3 failed)" in told.out
    assert told.out.splitlines()[-1] == "References: 1 reproduced, 0 missed, 1 not measured"
    record(f"{REPRODUCED.partition(', at')[0]}", fails="0.5 1")
    assert say("show", "--check").code == 0  # what failed is not published


@pytest.mark.parametrize("request_", [{"small": True}, {"overrides": ["epochs=2"]}])
def test_other_settings_than_the_published_ones_are_not_compared(
    record: Record, say: Say, request_: dict[str, Any]
) -> None:
    record(REPRODUCED, **request_)
    told = say("show", "--check")
    assert told.out.count("– not run (other settings)") == 2
    assert told.out.splitlines()[-1] == "References: 0 reproduced, 0 missed, 2 without verdict; nothing could be judged"
    assert told.code == 1


def test_some_trials_other_seeds_and_other_arms_are_still_the_published_settings(record: Record, say: Say) -> None:
    record(REPRODUCED, overrides=["seeds=7,8", "dispatch=step"], where=["workload.rate == 0.5"])
    document = json.loads(say("show", "--json").out)
    told = [(one["verdict"], one["reason"], one["arm"], one["repeats"]) for one in document["references"]]
    assert told == [(None, "not run (other settings)", None, 0), ("reproduced", None, "dispatch=step", 2)]


def test_what_holds_for_which_settings_is_kept_with_the_run(record: Record) -> None:
    folder = record(small=True)
    kept = json.loads((folder / "run.json").read_text())["references"]
    assert [(one["kind"], one["name"], len(one["settings"])) for one in kept] == [
        ("reference", "A1", 1),
        ("reference", "A1", 1),
        ("reference", "A1", 1),
        ("reference", "A2", 3),
        ("direction", "A3", 2),
    ]
    (folder / "run.json").write_text((folder / "run.json").read_text().replace('"kind": "direction"', '"kind": "no"'))
    with pytest.raises(Exception, match=r"run\.json: its references cannot be read"):
        show.summary(folder)


def test_without_references_nothing_can_be_checked(record: Record, say: Say) -> None:
    record("")
    told = say("show", "--check")
    assert (told.code, told.out.splitlines()[-1]) == (1, "References: none; nothing could be judged")
    told = say("show")
    assert told.code == 0
    assert "eferences" not in told.out


def test_json_holds_the_settings_and_the_references(record: Record, say: Say) -> None:
    record()
    told = say("show", "--json", "--check")
    assert told.code == 1
    assert told.err == "References: 2 reproduced, 1 missed, 4 without verdict\n"
    document = json.loads(told.out)
    assert [row["workload.rate"] for row in document["settings"]] == [0.1, 0.2, 0.5]
    missed = document["references"][1]
    assert {"name": "A1", "value": 0.39, "tolerance": 0.01, "repeats": 3, "verdict": "missed"}.items() <= missed.items()
    assert missed["by"] == pytest.approx(-0.02)
    assert missed["axes"] == {"workload.rate": 0.2}
    assert document["references"][-1]["measured_lower"] == pytest.approx(0.15)


def test_a_file_of_ones_own_is_held_against_whatever_the_run_holds(record: Record, say: Say) -> None:
    folder = record("", small=True)
    Path("node.toml").write_text(
        '[[reference]]\nname = "this node"\nmetric = "train_s"\nepoch = "all"\nat_most = 0.2\n'
        '[[reference]]\nname = "in vain"\nmetric = "train_s"\nepoch = "all"\nwhere = "batch_size == 7"\nat_most = 0.2\n'
    )
    told = say("show", folder, "--references", "node.toml", "--check")
    assert told.code == 0
    assert told.out.count("  met\n") == 3
    assert "– no trial of this run meets it" in told.out
    Path("node.toml").write_text(Path("node.toml").read_text().replace("0.2", "0.1"))
    told = say("show", folder, "--references", "node.toml", "--check")
    assert told.code == 1
    assert told.out.count("exceeds by 0.0250 s") == 3


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("at_most = 'x'", "node.toml: [[reference]] number 1: reference 'n': at_most must be a number, got 'x'"),
        (
            "at_most = 1\nwhere = 'batch_sise == 1'",
            "node.toml: reference 'n': expression 'batch_sise == 1': unknown path",
        ),
    ],
)
def test_a_wrong_file_of_ones_own_is_one_message(record: Record, say: Say, line: str, says: str) -> None:
    record("", small=True)
    Path("node.toml").write_text(f'[[reference]]\nname = "n"\nmetric = "train_s"\nepoch = 1\n{line}\n')
    told = say("show", "--references", "node.toml")
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith(f"harness: {says}")


def test_a_plan_says_how_many_references_there_are_and_refuses_those_that_hold_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suite.py").write_text(SUITE.replace("REFERENCES", ALL))
    assert "references: 5\n" in say("plan", "suite.py", "--small").out
    assert len(json.loads(say("plan", "suite.py", "--json").out)["references"]) == 5
    Path("suite.py").write_text(SUITE.replace("REFERENCES", "at(0.7, 0.9)"))
    for words in (["plan", "suite.py"], ["plan", "suite.py", "--small"], ["run", "suite.py", "--inline"]):
        told = say(*words)
        assert told.code == 2
        assert "suite.py: reference 'A1': no setting of the suite meets 'workload.rate == 0.7'" in told.err
    assert not Path("results/learn").exists()
    Path("suite.py").write_text(SUITE.replace("REFERENCES", "at(0.1, '0.9')"))
    assert "suite.py:12: reference 'A1': value must be a number, got '0.9'" in say("plan", "suite.py").err


def test_a_narrow_terminal_gets_a_few_lines_for_each_reference(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = record()
    paper = Console(file=io.StringIO(), width=70, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr("harness.terminal.text.Console", lambda **_: paper)
    show.summary(folder).references.print()
    drawn = [line.rstrip() for line in paper.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    place = drawn.index("A1  workload.rate=0.2: val_accuracy, epoch 2")
    assert drawn[place + 1 : place + 3] == [
        "    published 0.39 ± 0.01, measured 0.3600 ± 0.0000 of 3 repeats",
        "    missed by 0.0200",
    ]
    assert max(map(len, drawn)) <= 70


def test_a_likeness_is_told_by_how_far_its_settings_lie_apart(record: Record, say: Say) -> None:
    record('alike("A4", metric="val_accuracy", epoch=1, within=1.5), alike("A5", metric="wall_s", within=0.25)')
    told = say("show").out
    assert "all 3     val_accuracy, epoch 1" in told
    assert "≤ 2.5 × apart  0.1000 to 0.5000: 5.00 ×        3  missed by 2.50 ×" in told
    assert "≤ 1.25 × apart    1.00 to 1.00 s: 1.00 ×        3  reproduced" in told
    first, second = json.loads(say("show", "--json").out)["references"]
    assert (first["kind"], first["verdict"], first["by"], first["within"]) == (
        "alike",
        "missed",
        pytest.approx(2.5),
        1.5,
    )
    assert (first["measured_lower"], first["measured"], first["ratio"]) == pytest.approx((0.1, 0.5, 5.0))
    assert (second["verdict"], second["by"], len(second["setting_ids"])) == ("reproduced", None, 3)


def test_a_real_run_tells_its_verdicts_at_the_end_and_can_be_checked(harness: Any) -> None:
    suite = harness.folder / "suite.py"
    suite.write_text(SUITE.replace("REFERENCES", REPRODUCED))
    said = harness.here("run", suite, "--inline", "--telemetry", 0, "--no-calibrate", "--check")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == "References: 2 reproduced, 0 missed"
    suite.write_text(SUITE.replace("REFERENCES", ALL))
    said = harness.here("run", suite, "--inline", "--telemetry", 0, "--no-calibrate", "--check", "--json")
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1] == "References: 2 reproduced, 1 missed, 4 without verdict"
    assert json.loads(said.stdout)["references"][1]["verdict"] == "missed"
